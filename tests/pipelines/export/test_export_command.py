"""Exports: what is written, how it is evaluated, what is read when the command is given again."""

import json
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from cluster.rundir import RunDirectory
from eval.generation.samples import read_samples, samples_path
from nlirg.errors import InputError
from nlirg.models.loading import load_model
from pipelines.cli import app
from pipelines.export.agreement import Agreement, agreement
from pipelines.export.command import export, open_export
from pipelines.store import open_run
from tests.eval.made_samples import suite_of
from tests.pipelines.conftest import train_whole
from tests.road import evaluate

pytestmark = pytest.mark.usefixtures("fleet", "written_models")
IDS = torch.arange(5, 30)[None]


@pytest.fixture
def evaluated(make_run, fleet, tiny_tokenizer, tiny_model_dir):
    """A run of an adapter and of a full model, both evaluated; nobody's answers differ."""
    fleet.answer = lambda request, adapter: f"{request.key[1]} nlirg"
    recipe, run = make_run(
        arms=("nlirg", "full"), gates={"domain_accuracy_min": 0.5}, perturbations=["typos"]
    )
    open_run(recipe)
    tiny_tokenizer.save_pretrained(run.arm("nlirg").path / "model")
    train_whole(run, "full", tiny_model_dir)
    evaluate(recipe, run)
    fleet.asked = []
    return run


def export_of(run: RunDirectory, arm: str, scale: float, merge: bool = False):
    recipe, opened, known = open_export(run.path, arm, scale)
    assert opened.path == run.path
    return export(recipe, opened, arm, known, merge)


def logits(base: Path, folder: Path, adapter: bool):
    if adapter:
        model = peft.PeftModel.from_pretrained(load_model(str(base), torch.float32), folder)
    else:
        model = load_model(str(folder), torch.float32)
    return model(IDS).logits


def test_an_adapter_is_written_with_its_card_and_answers_as_written(
    evaluated, fleet, tiny_model_dir
) -> None:
    report = export_of(evaluated, "nlirg", 0.7)
    folder = evaluated.path / "export" / "nlirg@0.7"
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["lora_alpha"] == pytest.approx(0.7 * 8)
    assert "Scale 0.7 of what was trained" in (folder / "README.md").read_text()
    assert logits(tiny_model_dir, folder, adapter=True).isfinite().all()
    trained_file = evaluated.arm("nlirg").path / "model" / "adapter_model.safetensors"
    assert not trained_file.samefile(folder / "adapter_model.safetensors")
    assert report.variants == ["base", "nlirg", "nlirg@0.7"]
    assert {suite for _, suite, _ in fleet.asked} == {"domain", "template"}
    assert {name for name, _, _ in fleet.asked} == {"nlirg@0.7"}
    assert report.cases["domain"] == 12
    assert {gate.variant for gate in report.gates} == {"nlirg", "nlirg@0.7"}
    assert not (evaluated.path / "eval" / "nlirg@0.7").exists()


def test_the_same_command_again_reads_what_is_done(evaluated, fleet, written_models) -> None:
    export_of(evaluated, "nlirg", 0.7, merge=True)
    assert len(fleet.asked) > 0
    fleet.asked, before = [], list(written_models)
    export_of(evaluated, "nlirg", 0.7, merge=True)
    assert fleet.asked == []
    assert written_models == before
    assert [kind for kind, _ in before] == ["merge"]


def test_a_stopped_export_goes_on(evaluated, fleet) -> None:
    fleet.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        export_of(evaluated, "nlirg", 0.7)
    fleet.stop_after = 10**6
    export_of(evaluated, "nlirg", 0.7)
    assert len(set(fleet.asked)) == len(fleet.asked)


def test_a_merged_model_stands_alone_and_is_compared_with_its_adapter(
    evaluated, fleet, capfd, tiny_model_dir
) -> None:
    report = export_of(evaluated, "nlirg", 0.7, merge=True)
    folder = evaluated.path / "export" / "nlirg@0.7"
    assert not (folder / "adapter_config.json").exists()
    assert report.variants == ["base", "nlirg", "nlirg@0.7", "nlirg@0.7-merged"]
    told = " ".join("".join(capfd.readouterr()).split())
    assert "adapter and merged model answer 0 of 32 prompts differently (0%)" in told
    assert "WARNING" not in told
    adapter = evaluated.path / "export" / "answers" / "nlirg@0.7" / "weights"
    torch.testing.assert_close(
        logits(tiny_model_dir, folder, adapter=False),
        logits(tiny_model_dir, next(adapter.glob("scaled-*")), adapter=True),
        atol=1e-4,
        rtol=1e-4,
    )
    assert "merged" in (folder / "README.md").read_text()


def test_answers_that_differ_are_counted_and_warned_about(evaluated, fleet, capfd) -> None:
    fleet.answer = lambda request, adapter: (
        f"{request.key[1]} nlirg" if adapter or request.key[1] != "q03" else "other"
    )
    export_of(evaluated, "nlirg", 0.5, merge=True)
    told = " ".join("".join(capfd.readouterr()).split())
    assert "adapter and merged model answer 1 of 32 prompts differently (3.1%)" in told
    assert "WARNING" in told


def test_a_full_model_is_interpolated_with_or_without_merge(
    evaluated, written_models, tiny_model_dir
) -> None:
    report = export_of(evaluated, "full", 0.5)
    folder = evaluated.path / "export" / "full@0.5"
    base = load_file(tiny_model_dir / "model.safetensors")
    for name, weight in load_file(folder / "model.safetensors").items():
        assert weight.allclose(1.05 * base[name], rtol=1e-5)
    assert report.variants == ["base", "full", "full@0.5"]
    assert "base + scale" in (folder / "README.md").read_text()
    export_of(evaluated, "full", 0.5, merge=True)
    assert [kind for kind, _ in written_models] == ["interpolate"]


def test_another_layout_replaces_the_files_and_their_answers(evaluated, fleet) -> None:
    export_of(evaluated, "nlirg", 0.7)
    fleet.asked = []
    export_of(evaluated, "nlirg", 0.7, merge=True)
    folder = evaluated.path / "export" / "nlirg@0.7"
    assert (folder / "model.safetensors").is_file()
    assert not (folder / "adapter_model.safetensors").exists()
    assert {name for name, _, _ in fleet.asked} == {"nlirg@0.7", "nlirg@0.7-merged"}


def test_the_arm_itself_can_be_exported(evaluated) -> None:
    export_of(evaluated, "nlirg", 1.0)
    folder = evaluated.path / "export" / "nlirg@1"
    assert json.loads((folder / "adapter_config.json").read_text())["lora_alpha"] == 8
    assert "Scale" not in (folder / "README.md").read_text().split("##")[0]


def test_files_that_changed_since_they_answered_are_refused(evaluated) -> None:
    export_of(evaluated, "nlirg", 0.7)
    path = evaluated.path / "export" / "nlirg@0.7" / "adapter_config.json"
    path.write_text(path.read_text().replace("5.6", "5.5"))
    with pytest.raises(InputError, match="other settings"):
        export_of(evaluated, "nlirg", 0.7)


def test_the_command_prints_the_table_and_where_the_files_are(evaluated) -> None:
    words = ["export", str(evaluated.path), "--arm", "nlirg", "--scale", "0.7"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    for text in ("Domain accuracy", "nlirg@0.7", "Gates kept", "exported:"):
        assert text in result.output


@pytest.mark.parametrize(
    ("arm", "scale", "told"),
    [
        ("uniform", 0.5, r"--arm uniform: .* has no such arm; it has nlirg, full"),
        ("nlirg", 0, r"--scale: 0 is no scale: give numbers above 0 and up to 1.5"),
        ("nlirg", -1, r"--scale: -1 is no scale"),
        ("nlirg", 1.6, r"--scale: 1.6 is no scale"),
        ("nlirg", float("nan"), r"--scale: nan is no scale"),
    ],
)
def test_what_cannot_be_exported_is_one_clear_line(evaluated, arm, scale, told) -> None:
    with pytest.raises(InputError, match=told):
        open_export(evaluated.path, arm, scale)


def test_what_is_no_run_or_not_evaluated_is_refused(evaluated, tmp_path) -> None:
    with pytest.raises(InputError, match=r"holds no recipe.yaml; give the directory of a run"):
        open_export(tmp_path, "nlirg", 0.5)
    (evaluated.evaluation("nlirg").path / "_SUCCESS").unlink()
    with pytest.raises(InputError, match=r"nlirg is not complete: run evaluate first"):
        open_export(evaluated.path, "nlirg", 0.5)


def test_agreement_counts_only_what_both_answered() -> None:
    one = suite_of("domain", [True, True, False, True])
    other = [*suite_of("domain", [True, False, False])]
    failed = [one[0].model_copy(update={"error": "too long"}), *one[1:]]
    assert agreement(one, other) == Agreement(3, 1)
    assert agreement(failed, other) == Agreement(2, 1)
    assert str(Agreement(0, 0)).startswith("adapter and merged model answer 0 of 0")
    assert "WARNING" in str(Agreement(100, 4))
    assert "WARNING" not in str(Agreement(100, 3))


def test_answers_as_exported_are_kept_beside_the_files(evaluated) -> None:
    export_of(evaluated, "nlirg", 0.7)
    kept = evaluated.path / "export" / "answers" / "nlirg@0.7"
    assert len(read_samples(samples_path(kept / "adapter", "domain"))) == 12
    assert sorted(path.name for path in (kept / "report").iterdir()) == [
        "index.html", "report.md", "results.json",
    ]  # fmt: skip
    names = {path.name for path in (evaluated.path / "export" / "nlirg@0.7").iterdir()}
    assert "_SUCCESS" not in names
    assert "settings.json" not in names
