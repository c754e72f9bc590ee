"""The evaluation stage with engines that answer at once: what is kept, resumed and refused."""

import importlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import pipelines.stage
from cluster.rundir import RunDirectory
from eval.checkers import texts
from eval.generation.generate import Request
from eval.generation.samples import read_samples, samples_path
from nlirg.errors import InputError
from pipelines.evaluate import cases as case_checks
from pipelines.evaluate.cases import check_cases, evaluation_cases
from pipelines.evaluate.flips import read_flips
from pipelines.recipe import Recipe
from pipelines.score.stage import Score
from pipelines.train.stage import Train
from tests.fake_engine import name_and_adapter
from tests.pipelines.conftest import CASES
from tests.road import evaluate, run_command

pytestmark = pytest.mark.usefixtures("fleet")


def files(run: RunDirectory) -> dict[str, str]:
    folder = run.path / "eval"
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent != folder  # the stage's own marker holds seconds
    }


def test_every_variant_answers_every_case_once(make_run, fleet) -> None:
    recipe, run = make_run()
    summary = evaluate(recipe, run)
    asked = fleet.asked
    assert len(set(asked)) == len(asked) == summary.answered
    by_variant = {name: {row[1:] for row in asked if row[0] == name} for name in ("base", "nlirg")}
    assert by_variant["base"] == by_variant["nlirg"]
    domain = {name: v["suites"]["domain"] for name, v in summary.variants.items()}
    assert (domain["base"]["accuracy"], domain["nlirg"]["accuracy"]) == (0, 1)
    assert domain["base"]["cases_hash"] == domain["nlirg"]["cases_hash"]
    results = json.loads(files(run)["nlirg/results_all.json"])["suites"]["domain"]
    assert (results["n"], results["errors"], results["stop_rate"]) == (CASES, 0, 1)


@pytest.mark.parametrize("stop_after", [0, 1, 4, 9])
def test_a_stopped_evaluation_asks_only_for_what_is_missing(make_run, fleet, stop_after) -> None:
    recipe, quiet = make_run("quiet")
    evaluate(recipe, quiet)
    expected = fleet.asked

    fleet.asked, fleet.stop_after = [], stop_after
    recipe, run = make_run("stopped")
    with pytest.raises(KeyboardInterrupt):
        evaluate(recipe, run)
    assert not run.evaluation("base").marker.exists()
    torn = samples_path(run.evaluation("base").path, "domain")
    if torn.is_file():
        torn.write_bytes(torn.read_bytes()[:-7])
    lost = 1 if torn.is_file() else 0

    fleet.stop_after = 10**6
    evaluate(recipe, run)
    assert sorted(set(fleet.asked)) == sorted(expected)
    assert len(fleet.asked) == len(expected) + lost
    assert files(run) == files(quiet)


def test_a_finished_evaluation_asks_nothing(make_run, fleet) -> None:
    recipe, run = make_run()
    first = evaluate(recipe, run)
    before = files(run)
    fleet.asked = []
    again = evaluate(recipe, run)
    assert fleet.asked == []
    assert (again.answered, again.variants) == (0, first.variants)
    assert files(run) == before


def test_bounds_of_the_report_do_not_make_answers_stale(make_run) -> None:
    recipe, run = make_run()
    evaluate(recipe, run)
    looser, _ = make_run(bootstrap=100, gates={"domain_accuracy_min": 0.1}, engines=2)
    assert evaluate(looser, run).answered == 0


@pytest.mark.parametrize("stop_after", [2, 10**6])
def test_answers_of_other_settings_are_refused(make_run, fleet, stop_after) -> None:
    recipe, run = make_run()
    fleet.stop_after = stop_after
    with suppress(KeyboardInterrupt):
        evaluate(recipe, run)
    longer, _ = make_run(max_new_tokens=7)
    with pytest.raises(InputError, match="other settings"):
        evaluate(longer, run)
    other, _ = make_run(engine="transformers")
    with pytest.raises(InputError, match="other settings"):
        evaluate(other, run)
    more, _ = make_run(cases=CASES + 1)
    with pytest.raises(InputError, match="other settings"):
        evaluate(more, run)


def test_too_long_prompts_are_errors_and_the_rest_is_answered(make_run) -> None:
    recipe, run = make_run(max_prompt_tokens=24, perturbations=["paraphrase"], max_error_share=1)
    evaluate(recipe, run)
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
        evaluate(recipe, run)


def test_max_cases_bounds_every_suite(make_run) -> None:
    recipe, run = make_run(max_cases=3, perturbations=["typos"])
    cases = evaluation_cases(recipe, run)
    counts = {name: sum(c.suite == name for c in cases) for name in ("domain", "template")}
    assert counts == {"domain": 3, "template": 3}


def test_held_out_rows_are_the_domain_without_a_file_of_cases(make_run) -> None:
    recipe, run = make_run(domain=None)
    with pytest.raises(InputError, match=r"set evaluate\.domain .* or holdout"):
        evaluate(recipe, run)
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "the answer"}]
    row = {"id": "h1", "task_type": "t", "messages": turns}
    run.holdout.write_text(json.dumps(row) + "\n")
    case = evaluation_cases(recipe, run)[0]
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
        evaluate(recipe, run)
    assert len(fleet.asked) == 2 * CASES + 10
    summary = run.paraphrases.summary()
    assert (summary["asked"], summary["kept"]) == (2 * CASES, CASES)
    assert summary["dropped"] == {"number changed": CASES}

    fleet.asked, fleet.stop_after = [], 10**6
    evaluate(recipe, run)
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
        evaluate(more, run)


def test_a_base_model_that_rewords_nothing_leaves_no_cases(make_run) -> None:
    recipe, run = make_run(model_paraphrases=1, perturbations=[])
    summary = evaluate(recipe, run)
    assert "robustness" not in summary.variants["base"]["suites"]
    assert run.paraphrases.summary()["kept"] == 0


def test_an_arm_that_is_not_trained_is_an_error(make_run) -> None:
    recipe, run = make_run()
    run.arm("nlirg").marker.unlink()
    with pytest.raises(InputError, match="is not complete"):
        evaluate(recipe, run)


def change_cases(recipe: Recipe, **fields: Any) -> None:
    """Give every domain case other fields."""
    path = Path(str(recipe.evaluate.domain))
    rows = [json.loads(line) | fields for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def function(tmp_path, monkeypatch) -> Callable[[str], None]:
    """Write the body of `own_checker:right`, as a user would before the next command."""
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "own_checker.py"
    written = []

    def write(body: str) -> None:
        source.write_text(f"def right(answer, reference):\n    {body}\n")
        written.append(body)
        os.utime(source, (len(written), len(written)))  # else Python takes it for the old one
        importlib.invalidate_caches()
        sys.modules.pop("own_checker", None)
        texts.imported.cache_clear()

    return write


OWN = {"kind": "python", "values": ["own_checker:right"]}


def domain(summary: dict[str, Any], variant: str = "nlirg") -> dict[str, Any]:
    return summary.variants[variant]["suites"]["domain"]


def test_answers_are_kept_and_judged_again_by_a_function_that_was_edited(
    make_run, fleet, function
) -> None:
    recipe, run = make_run()
    change_cases(recipe, checker=OWN)
    function("return 0")
    assert domain(evaluate(recipe, run))["accuracy"] == 0
    before, fleet.asked = files(run), []
    function("return float('nlirg' in answer)")
    summary = evaluate(recipe, run)
    assert fleet.asked == []
    assert [domain(summary, name)["accuracy"] for name in ("base", "nlirg")] == [0, 1]
    samples = read_samples(samples_path(run.evaluation("nlirg").path, "domain"))
    assert all(sample.correct for sample in samples)
    function("return 0")
    evaluate(recipe, run)
    assert files(run) == before
    assert fleet.asked == []


def test_answers_that_a_function_broke_on_are_judged_once_it_is_mended(
    make_run, fleet, function
) -> None:
    recipe, run = make_run()
    change_cases(recipe, checker=OWN)
    function("return 1 if answer in ('', reference) else 1 / 0")
    broken = domain(evaluate(recipe, run), "base")
    assert broken["errors"] == CASES
    fleet.asked = []
    function("return float(answer == reference)")
    summary = evaluate(recipe, run)
    assert fleet.asked == []
    assert (domain(summary, "base")["errors"], domain(summary, "base")["stop_rate"]) == (0, 1)


def test_a_stopped_evaluation_goes_on_with_a_function_that_was_edited(
    make_run, fleet, function
) -> None:
    recipe, run = make_run()
    change_cases(recipe, checker=OWN)
    function("return 0")
    fleet.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        evaluate(recipe, run)
    function("return 1")
    fleet.stop_after = 10**6
    assert domain(evaluate(recipe, run), "base")["accuracy"] == 1


def test_answers_are_judged_again_by_other_checkers_of_the_same_questions(make_run, fleet) -> None:
    recipe, run = make_run()
    change_cases(recipe, checker={"kind": "exact", "values": ["never"]})
    assert domain(evaluate(recipe, run))["accuracy"] == 0
    fleet.asked = []
    change_cases(recipe, checker={"kind": "exact"}, task_type="sums")
    assert domain(evaluate(recipe, run))["accuracy"] == 1
    assert fleet.asked == []
    recipe, quiet = make_run("quiet")
    change_cases(recipe, task_type="sums")
    evaluate(recipe, quiet)
    assert files(run) == files(quiet)


RANKED = {"kind": "choice", "values": ["yes", "no"], "answer_by": "likelihood"}


def test_ranked_questions_are_stopped_continued_judged_again_and_never_sampled(
    make_run, fleet
) -> None:
    """The base model finds `yes` likeliest and the tuned one `no`."""
    settings = {"perturbations": ["paraphrase"], "template_cases": 6, "flip_samples": 4}
    recipe, quiet = make_run("quiet", **settings)
    change_cases(recipe, checker=RANKED, reference="no")
    summary = evaluate(recipe, quiet)
    assert [domain(summary, name)["accuracy"] for name in ("base", "nlirg")] == [0, 1]
    assert (domain(summary)["stop_rate"], domain(summary)["tokens"]) == (None, 0)
    assert summary.variants["nlirg"]["suites"]["template"]["tokens"] == 2 * 6
    assert summary.tokens == 2 * 2 * 6, "of the sampled answers alone"
    assert not any("@" in case for _, _, case in fleet.asked), "its flips are no draws"
    assert read_flips(quiet, ["nlirg"]) == []
    samples = read_samples(samples_path(quiet.evaluation("nlirg").path, "robustness"))
    assert {(s.answer, s.correct, s.generated) for s in samples} == {("no", True, False)}

    fleet.stop_after = 3
    recipe, run = make_run("stopped", **settings)
    change_cases(recipe, checker=RANKED, reference="no")
    with pytest.raises(KeyboardInterrupt):
        evaluate(recipe, run)
    fleet.stop_after = 10**6
    evaluate(recipe, run)
    assert files(run) == files(quiet)

    fleet.asked = []
    change_cases(recipe, reference="yes")
    summary = evaluate(recipe, run)
    assert [domain(summary, name)["accuracy"] for name in ("base", "nlirg")] == [1, 0]
    assert fleet.asked == [], "the kept log-probabilities tell"
    change_cases(recipe, checker=RANKED | {"answer_by": "text"})
    evaluate(recipe, run)
    assert {suite for _, suite, _ in fleet.asked} == {"domain", "robustness"}


def test_options_too_long_are_errors_until_they_are_shorter(make_run, fleet) -> None:
    """And what fits is not asked again."""
    long = {**RANKED, "values": ["yes", "no " * 80]}
    settings = {"max_new_tokens": 16, "max_error_share": 1, "perturbations": []}
    recipe, run = make_run(**settings, max_prompt_tokens=64)
    change_cases(recipe, checker=long, reference="yes")
    assert domain(evaluate(recipe, run))["errors"] == CASES
    for sample in read_samples(samples_path(run.evaluation("base").path, "domain")):
        assert sample.error.startswith("prompt and longest option have ")
    fleet.asked = []
    change_cases(recipe, checker=RANKED)
    assert domain(evaluate(recipe, run))["errors"] == 0
    assert {suite for _, suite, _ in fleet.asked} == {"domain"}


NO_GATES = dict.fromkeys(
    ("instruction_following_min", "commonsense_drop_max", "retention_drop_max")
)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"max_prompt_tokens": 8}, "'domain': 12 of 12 prompts cannot be answered, more than"),
        ({"max_prompt_tokens": 8, "max_error_share": 1}, "suite 'domain' has 0 independent case"),
        ({"cases": 1}, r"suite 'domain' has 1 independent case.*evaluate\.domain or holdout"),
        ({"max_cases": 1}, r"suite 'domain' has 1 independent.*evaluate\.max_cases"),
        ({"template_cases": 1}, r"suite 'template' has 1 .*evaluate\.template_cases"),
        (
            {"max_prompt_tokens": 24, "perturbations": ["paraphrase"], "max_error_share": 1},
            r"suite 'robustness' has 0 .*evaluate\.perturbations",
        ),
    ],
)
def test_what_cannot_be_compared_is_told_before_anything_is_trained(
    make_run, settings, told
) -> None:
    fine, _ = make_run(gates=NO_GATES, perturbations=[])
    check_cases(fine)
    recipe, _ = make_run(gates=NO_GATES, **{"perturbations": [], **settings})
    with pytest.raises(InputError, match=told) as error:
        check_cases(recipe)
    assert len(str(error.value).splitlines()) == 1


def test_variants_of_one_question_are_one_independent_case(make_run) -> None:
    recipe, _ = make_run(gates=NO_GATES, perturbations=[])
    change_cases(recipe, root_id="one")
    with pytest.raises(InputError, match="cases with one root_id count as one"):
        check_cases(recipe)


def test_one_held_out_row_is_too_few(make_run) -> None:
    recipe, _ = make_run(gates=NO_GATES, domain=None)
    with pytest.raises(InputError, match="suite 'domain' has 1 independent case"):
        check_cases(recipe.model_copy(update={"holdout": 1}))
    check_cases(recipe.model_copy(update={"holdout": 2}))


def held_out(run: RunDirectory, question: str) -> None:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "the answer"}]
    rows = [{"id": f"h{i}", "task_type": "t", "messages": turns} for i in range(2)]
    run.holdout.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def test_held_out_rows_are_lines_whatever_their_text_holds(make_run) -> None:
    recipe, run = make_run(domain=None)
    held_out(run, "one\u2028two\x85three")
    assert evaluation_cases(recipe, run)[0].messages[0].content == "one\u2028two\x85three"
    run.holdout.write_text("{half")
    with pytest.raises(InputError, match=r"holdout\.jsonl: damaged; delete it and .*encoded"):
        evaluation_cases(recipe, run)


def reached_stages(monkeypatch) -> list[str]:
    """Let stages before the evaluation only note their names, in the list returned."""
    reached: list[str] = []
    real = pipelines.stage.run_stage

    def noted(stage, recipe, run):
        if stage.name == "evaluate":
            return real(stage, recipe, run)
        reached.append(stage.name)
        return None

    monkeypatch.setattr(pipelines.stage, "run_stage", noted)
    for stage in (Score, Train):
        monkeypatch.setattr(stage, "check", lambda *_: None)
        monkeypatch.setattr(stage, "check_corpus", lambda *_: None)
    return reached


def test_held_out_rows_that_do_not_fit_are_told_before_training(make_run, monkeypatch) -> None:
    recipe, run = make_run(gates=NO_GATES, domain=None, max_prompt_tokens=24, perturbations=[])
    recipe = recipe.model_copy(update={"holdout": 2})
    held_out(run, "one two three four " * 9)
    reached = reached_stages(monkeypatch)
    with pytest.raises(InputError, match="'domain': 2 of 2 prompts cannot be answered"):
        run_command("run", recipe, run)
    assert reached == ["score", "select", "encode"]


def test_a_model_that_is_still_to_be_fetched_is_not_fetched_for_a_check(
    make_run, tiny_model_dir, monkeypatch
) -> None:
    recipe, run = make_run(gates=NO_GATES, max_prompt_tokens=8, perturbations=[])
    for name in ("none/such", "no/path/there"):
        check_cases(recipe.model_copy(update={"model": name}))
    reached = reached_stages(monkeypatch)
    monkeypatch.setattr(case_checks, "_at_hand", lambda model: False)
    with pytest.raises(InputError, match="'domain': 12 of 12 prompts cannot be answered"):
        run_command("run", recipe, run)
    assert reached == ["score", "select", "encode"]
