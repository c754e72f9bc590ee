"""The evaluation stage with engines that answer at once: what is kept, resumed and refused."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from cluster.plan import Pool
from cluster.rundir import RunDirectory
from eval.generate import Completion
from eval.samples import read_samples, samples_path
from nlirg.errors import InputError
from pipelines import evaluate as stage
from pipelines.recipe import validate

CASES = 12


class FakeFleet:
    """Answers with the case's id and the adapter; stops after `stop_after` chunks."""

    asked: list[tuple[str, str, str]] = []  # noqa: RUF012 - reset by the fixture
    stop_after = 10**6

    def __init__(self, groups, *resources) -> None:
        self.groups, self.replaced = groups, 0

    def run(self):
        chunks = [chunk for group in self.groups for chunk in group.chunks]
        for number, chunk in enumerate(chunks):
            if number == FakeFleet.stop_after:
                raise KeyboardInterrupt
            FakeFleet.asked += [(chunk.variant, *request.key) for request in chunk.requests]
            answers = [f"{request.key[1]} {chunk.adapter}" for request in chunk.requests]
            yield chunk, [Completion(text, (1, 2), "stop") for text in answers]


@pytest.fixture(autouse=True)
def fake_engines(monkeypatch):
    FakeFleet.asked, FakeFleet.stop_after = [], 10**6
    monkeypatch.setattr(stage, "Fleet", FakeFleet)
    monkeypatch.setattr(stage, "connect", lambda config: None)
    monkeypatch.setattr(stage, "model_pool", lambda engines, gpus: Pool(1, 1, 0))
    monkeypatch.setitem(stage.CHUNK_REQUESTS, "cpu", 5)


@pytest.fixture(scope="module")
def adapter(tiny_model_dir, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    get_peft_model(model, LoraConfig(target_modules=["q_proj"])).save_pretrained(path)
    return path


@pytest.fixture
def make_run(tiny_model_dir, adapter, tmp_path):
    """Make a recipe and a run whose arm is trained."""

    def make(name: str = "r", cases: int = CASES, **evaluate):
        path = tmp_path / "cases.jsonl"
        rows = [
            {
                "id": f"q{i:02d}",
                "messages": [{"role": "user", "content": f"one {i}, two"}],
                "reference": f"q{i:02d} nlirg",
                "checker": {"kind": "exact"},
            }
            for i in range(cases)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        raw = {
            "name": name,
            "storage": str(tmp_path / "runs"),
            "model": str(tiny_model_dir),
            "data": ["none.jsonl"],
            "evaluate": {"domain": str(path), "template_cases": 20, **evaluate},
        }
        recipe = validate(raw, "recipe")
        run = RunDirectory(recipe.storage, recipe.name)
        shutil.copytree(adapter, run.arm("nlirg").path / "model", dirs_exist_ok=True)
        run.arm("nlirg").succeed("mark", {"kind": "lora"})
        return recipe, run

    return make


def files(run: RunDirectory) -> dict[str, str]:
    folder = run.path / "eval"
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_variant_answers_every_case_once(make_run) -> None:
    recipe, run = make_run()
    summary = stage.evaluate(recipe, run)
    asked = FakeFleet.asked
    assert len(set(asked)) == len(asked) == summary["answered"]
    by_variant = {name: {row[1:] for row in asked if row[0] == name} for name in ("base", "nlirg")}
    assert by_variant["base"] == by_variant["nlirg"]
    domain = {name: v["suites"]["domain"] for name, v in summary["variants"].items()}
    assert (domain["base"]["accuracy"], domain["nlirg"]["accuracy"]) == (0, 1)
    assert domain["base"]["cases_hash"] == domain["nlirg"]["cases_hash"]
    results = json.loads(files(run)["nlirg/results_domain.json"])
    assert (results["n"], results["errors"], results["stop_rate"]) == (CASES, 0, 1)


@pytest.mark.parametrize("stop_after", [0, 1, 4, 9])
def test_a_stopped_evaluation_asks_only_for_what_is_missing(make_run, stop_after) -> None:
    recipe, quiet = make_run("quiet")
    stage.evaluate(recipe, quiet)
    expected = FakeFleet.asked

    FakeFleet.asked, FakeFleet.stop_after = [], stop_after
    recipe, run = make_run("stopped")
    with pytest.raises(KeyboardInterrupt):
        stage.evaluate(recipe, run)
    assert not run.evaluation("base").marker.exists()
    torn = samples_path(run.evaluation("base").path, "domain")
    if torn.is_file():
        torn.write_bytes(torn.read_bytes()[:-7])
    lost = 1 if torn.is_file() else 0

    FakeFleet.stop_after = 10**6
    stage.evaluate(recipe, run)
    assert sorted(set(FakeFleet.asked)) == sorted(expected)
    assert len(FakeFleet.asked) == len(expected) + lost
    assert files(run) == files(quiet)


def test_a_finished_evaluation_asks_nothing(make_run) -> None:
    recipe, run = make_run()
    first = stage.evaluate(recipe, run)
    before = files(run)
    FakeFleet.asked = []
    again = stage.evaluate(recipe, run)
    assert FakeFleet.asked == []
    assert (again["answered"], again["variants"]) == (0, first["variants"])
    assert files(run) == before


def test_bounds_of_the_report_do_not_make_answers_stale(make_run) -> None:
    recipe, run = make_run()
    stage.evaluate(recipe, run)
    looser, _ = make_run(bootstrap=100, gates={"domain_accuracy_min": 0.1}, engines=2)
    assert stage.evaluate(looser, run)["answered"] == 0


@pytest.mark.parametrize("stop_after", [2, 10**6])
def test_answers_of_other_settings_are_refused(make_run, stop_after) -> None:
    recipe, run = make_run()
    FakeFleet.stop_after = stop_after
    with suppress(KeyboardInterrupt):
        stage.evaluate(recipe, run)
    longer, _ = make_run(max_new_tokens=7)
    with pytest.raises(InputError, match="other settings"):
        stage.evaluate(longer, run)
    more, _ = make_run(cases=CASES + 1)
    with pytest.raises(InputError, match="other settings"):
        stage.evaluate(more, run)


def test_too_long_prompts_are_errors_and_the_rest_is_answered(make_run) -> None:
    recipe, run = make_run(max_prompt_tokens=24, perturbations=["padding"])
    stage.evaluate(recipe, run)
    folder = run.evaluation("base").path
    assert all(s.finish_reason == "stop" for s in read_samples(samples_path(folder, "domain")))
    padded = read_samples(samples_path(folder, "robustness"))
    assert len(padded) == CASES
    assert all("the limit is 24" in sample.error for sample in padded)


def test_nothing_answerable_is_an_error(make_run) -> None:
    recipe, run = make_run(max_prompt_tokens=8)
    with pytest.raises(InputError, match=r"none of the .* prompts can be answered"):
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


class RewordingFleet(FakeFleet):
    """Rewords a case the first time it is asked to; loses the case's number the second time."""

    asked_for_rewordings = 0

    def run(self):
        for chunk, completions in super().run():
            texts = []
            for request, completion in zip(chunk.requests, completions, strict=True):
                name, _, number = request.key[1].partition("~model_paraphrase")
                if request.temperature and number:
                    RewordingFleet.asked_for_rewordings += 1
                    kept = "" if number == "0" else f" {int(name[1:])}"
                    completion = Completion(f"say two and one{kept}", (1, 2), "stop")
                texts.append(completion)
            yield chunk, texts


def test_rewordings_of_the_base_model_are_written_once(make_run, monkeypatch) -> None:
    monkeypatch.setattr(stage, "Fleet", RewordingFleet)
    monkeypatch.setattr(RewordingFleet, "asked_for_rewordings", 0)
    recipe, run = make_run(model_paraphrases=1, perturbations=[])
    FakeFleet.stop_after = 7  # five chunks of rewordings, then two of answers
    with pytest.raises(KeyboardInterrupt):
        stage.evaluate(recipe, run)
    assert RewordingFleet.asked_for_rewordings == 2 * CASES
    summary = run.paraphrases.summary()
    assert (summary["asked"], summary["kept"]) == (2 * CASES, CASES)
    assert summary["dropped"] == {"number changed": CASES}

    FakeFleet.stop_after = 10**6
    stage.evaluate(recipe, run)
    assert RewordingFleet.asked_for_rewordings == 2 * CASES
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
