"""Arms at a scale: what is asked of them, kept, resumed, and made for it."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from eval.generation.samples import read_samples, samples_path
from nlirg.errors import InputError
from pipelines.evaluate.stage import Evaluate
from tests.fake_engine import name_and_adapter
from tests.pipelines.conftest import train_whole
from tests.pipelines.evaluate.test_answers import files
from tests.road import evaluate

pytestmark = pytest.mark.usefixtures("fleet", "written_models")
SUITES = {"domain", "template"}


def full_run(make_run, base, **evaluate):
    """A run whose arm `full` was trained whole: the base with every weight a little larger."""
    recipe, run = make_run(arms=("nlirg", "full"), **evaluate)
    train_whole(run, "full", base)
    return recipe, run


def test_scaled_adapters_answer_what_gates_and_plane_need_beside_the_base(make_run, fleet) -> None:
    recipe, run = make_run(scales=[0.25, 0.5, 1.0], perturbations=["typos"], flip_samples=4)
    summary = evaluate(recipe, run)
    assert list(summary.variants) == ["base", "nlirg", "nlirg@0.25", "nlirg@0.5"]
    assert summary.variants["nlirg@0.5"]["suites"].keys() == SUITES
    assert {suite for name, suite, _ in fleet.asked if "@" in name} == SUITES
    by_name = {n: {row[1:] for row in fleet.asked if row[0] == n} for n in summary.variants}
    assert by_name["nlirg@0.25"] == by_name["nlirg@0.5"] < by_name["nlirg"]
    assert not (run.evaluation("nlirg@0.5").path / "flips.jsonl").exists()
    for scale in (0.25, 0.5):
        (folder,) = run.evaluation(f"nlirg@{scale}").path.glob("scaled-*")
        alpha = json.loads((folder / "adapter_config.json").read_text())["lora_alpha"]
        assert alpha == scale * 8  # peft's default


def test_one_engine_holds_base_arms_and_all_scales(make_run, monkeypatch, fleet) -> None:
    groups = []
    call = type(fleet).__call__

    def noted(self, given, *resources):
        groups.append(given)
        return call(self, given, *resources)

    monkeypatch.setattr(type(fleet), "__call__", noted)
    recipe, run = make_run(arms=("one", "two"), scales=[0.5, 0.75])
    evaluate(recipe, run)
    ((group,),) = groups
    names = ["one", "two", "one@0.5", "one@0.75", "two@0.5", "two@0.75"]
    assert [adapter.name for adapter in group.spec.adapters] == names


def test_scales_may_change_and_only_new_ones_are_answered(make_run, fleet) -> None:
    recipe, run = make_run()
    evaluate(recipe, run)
    before = files(run)
    fleet.asked = []
    more, _ = make_run(scales=[0.5])
    assert evaluate(more, run).answered == len(fleet.asked) > 0
    assert {name for name, _, _ in fleet.asked} == {"nlirg@0.5"}
    fleet.asked = []
    others, _ = make_run(scales=[0.5, 0.75])
    evaluate(others, run)
    assert {name for name, _, _ in fleet.asked} == {"nlirg@0.75"}
    assert before == {name: (run.path / "eval" / name).read_text() for name in before}
    fleet.asked = []
    assert list(evaluate(recipe, run).variants) == ["base", "nlirg"]
    assert fleet.asked == []


@pytest.mark.parametrize("stop_after", [7, 8, 12])
def test_a_stopped_evaluation_goes_on_with_what_is_missing(
    make_run, fleet, tiny_model_dir, stop_after
) -> None:
    settings = {"scales": [0.5], "perturbations": []}
    fleet.stop_after = stop_after
    recipe, run = full_run(make_run, tiny_model_dir, **settings)
    with pytest.raises(KeyboardInterrupt):
        evaluate(recipe, run)
    fleet.stop_after = 10**6
    evaluate(recipe, run)
    assert len(set(fleet.asked)) == len(fleet.asked)
    assert {row[0] for row in fleet.asked} == {"base", "nlirg", "full", "nlirg@0.5", "full@0.5"}


def test_a_full_model_at_a_scale_is_there_while_it_answers(
    make_run, fleet, tiny_model_dir, written_models
) -> None:
    """One at a time, halfway between base and tuned weights, and gone afterwards."""
    seen = []

    def look(request, adapter):
        found = sorted(run.path.glob("eval/full@*/scaled-*/model.safetensors"))
        if found and [path.parts[-3] for path in found] not in [names for names, _ in seen]:
            seen.append(([path.parts[-3] for path in found], load_file(found[0])))
        return name_and_adapter(request, adapter)

    recipe, run = full_run(make_run, tiny_model_dir, scales=[0.5, 0.75])
    fleet.answer = look
    evaluate(recipe, run)
    assert [names for names, _ in seen] == [["full@0.5"], ["full@0.75"]]
    assert [variant for _, variant in written_models] == ["full@0.5", "full@0.75"]
    base = load_file(tiny_model_dir / "model.safetensors")
    for name, weight in seen[0][1].items():
        assert weight.allclose(1.05 * base[name], rtol=1e-5)
    assert not list(run.path.glob("eval/full@*/scaled-*"))
    again = evaluate(recipe, run)
    assert again.answered == 0
    # Nothing is made for what is done.
    assert [variant for _, variant in written_models] == ["full@0.5", "full@0.75"]


def test_a_full_arm_of_other_weights_is_refused_before_anything_is_asked(
    make_run, fleet, tiny_model_dir
) -> None:
    recipe, run = full_run(make_run, tiny_model_dir, scales=[0.5])
    file = run.arm("full").path / "model" / "model.safetensors"
    save_file({**load_file(file), "more.weight": load_file(file)["model.norm.weight"]}, file)
    with pytest.raises(InputError, match=r"holds no weight more.weight, .* evaluate.scales"):
        evaluate(recipe, run)
    assert fleet.asked == []


def test_the_scale_is_part_of_what_answers_are_of(make_run, fleet) -> None:
    """Answers of a folder that was renamed to another scale are refused, not taken for its own."""
    recipe, run = make_run(scales=[0.5])
    evaluate(recipe, run)
    shutil.move(run.evaluation("nlirg@0.5").path, run.evaluation("nlirg@0.75").path)
    other, _ = make_run(scales=[0.75])
    with pytest.raises(InputError, match="other settings"):
        evaluate(other, run)


def test_scaled_answers_are_compared_on_the_prompts_of_the_base(make_run) -> None:
    recipe, run = make_run(scales=[0.5])
    evaluate(recipe, run)
    prompts = {
        name: [s.prompt_sha256 for s in read_samples(samples_path(run.evaluation(name).path, s))]
        for name in ("base", "nlirg@0.5")
        for s in ("domain",)
    }
    assert prompts["base"] == prompts["nlirg@0.5"]


@pytest.mark.parametrize(("scales", "told"), [([0.5, 1.25, 1.5], 1), ([0.5, 1.0], 0)])
def test_a_scale_beyond_the_trained_one_is_warned_about_once(
    make_run, capfd, monkeypatch, scales, told
) -> None:
    monkeypatch.setattr("pipelines.evaluate.stage.check_cases", lambda recipe: None)
    recipe, _ = make_run(scales=scales)
    Evaluate().check(recipe)
    text = " ".join("".join(capfd.readouterr()).split())
    assert text.count("evaluate.scales: 1.25, 1.5 is beyond what was trained") == told
