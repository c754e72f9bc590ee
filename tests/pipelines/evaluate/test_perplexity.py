"""Losses and KL of a run's arms: kept, resumed per arm, and part of the report's metrics."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from eval.metrics.perplexity import TextDivergence
from eval.verdict.compare import compare
from nlirg.errors import InputError
from pipelines.evaluate import perplexity
from pipelines.evaluate.answers import Variant
from pipelines.evaluate.generation import BASE
from pipelines.evaluate.perplexity import FILE, perplexity_measures
from pipelines.recipe import validate
from pipelines.report.stage import evaluated_samples
from tests.road import evaluate, trained

pytestmark = pytest.mark.usefixtures("fleet")


@pytest.fixture
def measured(monkeypatch) -> list[str]:
    """Arms that were measured, in this process instead of in a Ray task."""
    names: list[str] = []

    def in_process(recipe, name, variants, work, *arguments):
        for variant in variants:
            names.append(variant.name)
            yield variant, work(variant, "cpu", *arguments)

    monkeypatch.setattr(perplexity, "run_each", in_process)
    return names


@pytest.fixture
def run_of_two(make_run, tmp_path):
    """Arm `one` is an adapter that does nothing yet, arm `two` one that does something."""
    texts = tmp_path / "texts.txt"
    texts.write_text("one two three four\n\nthe answer is yes\n\nthe question is no")

    def make(**more):
        settings = {"perplexity": True, "general": str(texts), "template_cases": 3}
        recipe, run = make_run(arms=("one", "two"), perturbations=[], **settings | more)
        path = run.arm("two").path / "model" / "adapter_model.safetensors"
        torch.manual_seed(0)
        tensors = {name: torch.randn_like(t) for name, t in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
        return recipe, run

    return make


def test_an_adapter_that_does_nothing_has_moved_nowhere(run_of_two, measured) -> None:
    recipe, run = run_of_two()
    evaluate(recipe, run)
    assert measured == ["one", "two"]
    found = {m.key: m for m in perplexity_measures(recipe, run)}
    assert list(found) == ["domain_loss", "domain_kl", "general_loss", "general_kl"]
    kept = json.loads((run.evaluation("one").path / FILE).read_text())
    domain, general = kept["summary"]["domain"], kept["summary"]["general"]
    assert (domain["texts"], general["texts"]) == (12, 3)
    assert domain["kl"] == general["kl"] == 0
    assert domain["loss"] == domain["base_loss"]
    assert domain["perplexity"] == pytest.approx(2.718281828 ** domain["loss"])
    moved = json.loads((run.evaluation("two").path / FILE).read_text())["summary"]
    assert moved["domain"]["kl"] > 0
    assert moved["domain"]["base_loss"] == domain["base_loss"]


def test_metrics_stand_beside_the_others_and_count_in_holms_adjustment(run_of_two, measured):
    recipe, run = run_of_two()
    evaluate(recipe, run)
    samples = {name: evaluated_samples(run, name) for name in (BASE, "one", "two")}
    measures = perplexity_measures(recipe, run)
    without = compare(samples, BASE, recipe.evaluate, 0).metrics
    judged = compare(samples, BASE, recipe.evaluate, 0, measures).metrics
    assert [m.key for m in judged] == [m.key for m in without] + [m.key for m in measures]
    by_key = {metric.key: metric for metric in judged}
    assert by_key["domain_loss"].against["one"].delta == 0
    assert by_key["domain_loss"].family == "domain"
    assert by_key["general_loss"].family == "ood", "though there are no such cases"
    assert by_key["general_kl"].values["two"].value > 0
    before, now = (next(m for m in ms if m.key == "domain_accuracy") for ms in (without, judged))
    assert now.against["two"].p_holm >= before.against["two"].p_holm


def test_only_what_is_missing_is_measured(run_of_two, measured, tmp_path) -> None:
    recipe, run = run_of_two()
    evaluate(recipe, run)
    first = (run.evaluation("one").path / FILE).read_text()
    evaluate(recipe, run)
    assert measured == ["one", "two"]
    (run.evaluation("one").path / FILE).unlink()
    evaluate(recipe, run)
    assert measured == ["one", "two", "one"]
    assert (run.evaluation("one").path / FILE).read_text() == first
    (tmp_path / "texts.txt").write_text("no\n\nyes two")
    evaluate(recipe, run)
    assert measured[3:] == ["one", "two"], "other texts"


def test_interrupted_it_keeps_what_is_there(run_of_two, measured, monkeypatch) -> None:
    recipe, run = run_of_two()
    whole = perplexity._measure

    def breaks(variant: Variant, *more) -> list[TextDivergence]:
        if variant.name == "two":
            raise InputError("broken")
        return whole(variant, *more)

    monkeypatch.setattr(perplexity, "_measure", breaks)
    with pytest.raises(InputError, match="broken"):
        evaluate(recipe, run)
    with pytest.raises(InputError, match=r"two/perplexity.json: missing; evaluate"):
        perplexity_measures(recipe, run)
    monkeypatch.setattr(perplexity, "_measure", whole)
    evaluate(recipe, run)
    assert measured == ["one", "two", "two"]


def test_a_full_model_is_loaded_beside_its_base(make_run, measured, tiny_model_dir) -> None:
    recipe, run = make_run(perplexity=True, perturbations=[], template_cases=3)
    folder = run.arm("nlirg").path / "model"
    shutil.rmtree(folder)
    shutil.copytree(tiny_model_dir, folder)
    run.arm("nlirg").succeed("mark", trained(kind="full"))
    evaluate(recipe, run)
    kept = json.loads((run.evaluation("nlirg").path / FILE).read_text())
    assert kept["summary"]["general"]["texts"] >= 40
    assert kept["summary"]["general"]["kl"] == 0


def test_switched_off_nothing_is_measured(run_of_two, measured) -> None:
    recipe, run = run_of_two(perplexity=False)
    evaluate(recipe, run)
    assert (measured, perplexity_measures(recipe, run)) == ([], [])


def test_cases_without_references_leave_general_text(make_run, measured, tmp_path) -> None:
    recipe, run = make_run(perplexity=True, perturbations=[], template_cases=3)
    path = tmp_path / "bare.jsonl"
    rows = [
        {
            "id": str(i),
            "messages": [{"role": "user", "content": f"one {i}"}],
            "checker": {"kind": "exact", "values": ["x"]},
        }
        for i in range(3)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    raw = recipe.model_dump(mode="json")
    raw["evaluate"]["domain"] = str(path)
    recipe = validate(raw, "recipe")
    evaluate(recipe, run)
    assert [m.key for m in perplexity_measures(recipe, run)] == ["general_loss", "general_kl"]


@pytest.mark.parametrize("content", ["", "{", "{}", "[" * 20_000, '{"fingerprint": 1}'])
def test_a_damaged_file_is_named_with_what_to_do(run_of_two, measured, content) -> None:
    recipe, run = run_of_two()
    evaluate(recipe, run)
    (run.evaluation("one").path / FILE).write_text(content)
    for read in (evaluate, perplexity_measures):
        with pytest.raises(
            InputError, match=r"one/perplexity\.json: damaged \(.*delete it"
        ) as told:
            read(recipe, run)
        assert len(str(told.value).splitlines()) == 1
        assert "errors.pydantic.dev" not in str(told.value)
    (run.evaluation("one").path / FILE).unlink()
    evaluate(recipe, run)
    assert measured == ["one", "two", "one"]
