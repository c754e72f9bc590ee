"""The evaluation stage with engines that answer at once: what is kept, resumed and refused."""

import json
from contextlib import suppress

import pytest

from cluster.rundir import RunDirectory
from eval.generate import Request
from eval.samples import read_samples, samples_path
from nlirg.errors import InputError
from pipelines import evaluate as stage
from tests.fake_engine import name_and_adapter
from tests.pipelines.conftest import CASES

pytestmark = pytest.mark.usefixtures("fleet")


def files(run: RunDirectory) -> dict[str, str]:
    folder = run.path / "eval"
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_variant_answers_every_case_once(make_run, fleet) -> None:
    recipe, run = make_run()
    summary = stage.evaluate(recipe, run)
    asked = fleet.asked
    assert len(set(asked)) == len(asked) == summary["answered"]
    by_variant = {name: {row[1:] for row in asked if row[0] == name} for name in ("base", "nlirg")}
    assert by_variant["base"] == by_variant["nlirg"]
    domain = {name: v["suites"]["domain"] for name, v in summary["variants"].items()}
    assert (domain["base"]["accuracy"], domain["nlirg"]["accuracy"]) == (0, 1)
    assert domain["base"]["cases_hash"] == domain["nlirg"]["cases_hash"]
    results = json.loads(files(run)["nlirg/results_all.json"])["suites"]["domain"]
    assert (results["n"], results["errors"], results["stop_rate"]) == (CASES, 0, 1)


@pytest.mark.parametrize("stop_after", [0, 1, 4, 9])
def test_a_stopped_evaluation_asks_only_for_what_is_missing(make_run, fleet, stop_after) -> None:
    recipe, quiet = make_run("quiet")
    stage.evaluate(recipe, quiet)
    expected = fleet.asked

    fleet.asked, fleet.stop_after = [], stop_after
    recipe, run = make_run("stopped")
    with pytest.raises(KeyboardInterrupt):
        stage.evaluate(recipe, run)
    assert not run.evaluation("base").marker.exists()
    torn = samples_path(run.evaluation("base").path, "domain")
    if torn.is_file():
        torn.write_bytes(torn.read_bytes()[:-7])
    lost = 1 if torn.is_file() else 0

    fleet.stop_after = 10**6
    stage.evaluate(recipe, run)
    assert sorted(set(fleet.asked)) == sorted(expected)
    assert len(fleet.asked) == len(expected) + lost
    assert files(run) == files(quiet)


def test_a_finished_evaluation_asks_nothing(make_run, fleet) -> None:
    recipe, run = make_run()
    first = stage.evaluate(recipe, run)
    before = files(run)
    fleet.asked = []
    again = stage.evaluate(recipe, run)
    assert fleet.asked == []
    assert (again["answered"], again["variants"]) == (0, first["variants"])
    assert files(run) == before


def test_bounds_of_the_report_do_not_make_answers_stale(make_run) -> None:
    recipe, run = make_run()
    stage.evaluate(recipe, run)
    looser, _ = make_run(bootstrap=100, gates={"domain_accuracy_min": 0.1}, engines=2)
    assert stage.evaluate(looser, run)["answered"] == 0


@pytest.mark.parametrize("stop_after", [2, 10**6])
def test_answers_of_other_settings_are_refused(make_run, fleet, stop_after) -> None:
    recipe, run = make_run()
    fleet.stop_after = stop_after
    with suppress(KeyboardInterrupt):
        stage.evaluate(recipe, run)
    longer, _ = make_run(max_new_tokens=7)
    with pytest.raises(InputError, match="other settings"):
        stage.evaluate(longer, run)
    other, _ = make_run(engine="transformers")
    with pytest.raises(InputError, match="other settings"):
        stage.evaluate(other, run)
    more, _ = make_run(cases=CASES + 1)
    with pytest.raises(InputError, match="other settings"):
        stage.evaluate(more, run)


def test_too_long_prompts_are_errors_and_the_rest_is_answered(make_run) -> None:
    recipe, run = make_run(max_prompt_tokens=24, perturbations=["padding"], max_error_share=1)
    stage.evaluate(recipe, run)
    folder = run.evaluation("base").path
    assert all(s.finish_reason == "stop" for s in read_samples(samples_path(folder, "domain")))
    padded = read_samples(samples_path(folder, "robustness"))
    assert len(padded) == CASES
    assert all("the limit is 24" in sample.error for sample in padded)


def test_nothing_answerable_is_an_error(make_run) -> None:
    recipe, run = make_run(max_prompt_tokens=8)
    with pytest.raises(
        InputError, match=r"'domain': 12 of 12 prompts cannot be answered, more than"
    ):
        stage.evaluate(recipe, run)


def test_max_cases_bounds_every_suite(make_run) -> None:
    recipe, run = make_run(max_cases=3, perturbations=["typos"])
    cases = stage.evaluation_cases(recipe, run)
    counts = {name: sum(c.suite == name for c in cases) for name in ("domain", "template")}
    assert counts == {"domain": 3, "template": 3}


def test_held_out_rows_are_the_domain_without_a_file_of_cases(make_run) -> None:
    recipe, run = make_run(domain=None)
    with pytest.raises(InputError, match=r"set evaluate\.domain .* or holdout"):
        stage.evaluate(recipe, run)
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "the answer"}]
    row = {"id": "h1", "task_type": "t", "messages": turns}
    run.holdout.write_text(json.dumps(row) + "\n")
    case = stage.evaluation_cases(recipe, run)[0]
    assert (case.id, case.task_type, case.reference) == ("h1", "t", "the answer")


def rewording(request: Request, adapter: str | None) -> str:
    """Reword a case the first time it is asked to; lose the case's number the second time."""
    name, _, number = request.key[1].partition("~model_paraphrase")
    if not (request.temperature and number):
        return name_and_adapter(request, adapter)
    return "say two and one" + ("" if number == "0" else f" {int(name[1:])}")


def test_rewordings_of_the_base_model_are_written_once(make_run, fleet) -> None:
    fleet.answer = rewording
    recipe, run = make_run(model_paraphrases=1, perturbations=[])
    fleet.stop_after = 7  # five chunks of rewordings, then two of answers
    with pytest.raises(KeyboardInterrupt):
        stage.evaluate(recipe, run)
    assert len(fleet.asked) == 2 * CASES + 10
    summary = run.paraphrases.summary()
    assert (summary["asked"], summary["kept"]) == (2 * CASES, CASES)
    assert summary["dropped"] == {"number changed": CASES}

    fleet.asked, fleet.stop_after = [], 10**6
    stage.evaluate(recipe, run)
    wanted = [case for _, suite, case in fleet.asked if suite == "robustness"]
    assert len(wanted) == 2 * CASES, "one rewording a case and variant; none is written again"
    for variant in ("base", "nlirg"):
        folder = run.evaluation(variant).path
        samples = read_samples(samples_path(folder, "robustness"))
        assert [s.root_id for s in samples] == [f"q{i:02d}" for i in range(CASES)]
        assert {s.perturbation for s in samples} == {"model_paraphrase"}
        assert all("say two and one" in s.prompt for s in samples)

    more, _ = make_run(model_paraphrases=2, perturbations=[])
    with pytest.raises(InputError, match=r"paraphrases was made with other settings"):
        stage.evaluate(more, run)


def test_a_base_model_that_rewords_nothing_leaves_no_cases(make_run) -> None:
    recipe, run = make_run(model_paraphrases=1, perturbations=[])
    summary = stage.evaluate(recipe, run)
    assert "robustness" not in summary["variants"]["base"]["suites"]
    assert run.paraphrases.summary()["kept"] == 0


def test_an_arm_that_is_not_trained_is_an_error(make_run) -> None:
    recipe, run = make_run()
    run.arm("nlirg").marker.unlink()
    with pytest.raises(InputError, match="is not complete"):
        stage.evaluate(recipe, run)
