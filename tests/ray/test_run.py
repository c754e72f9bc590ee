"""The whole road on the demo world at a small budget, and a sweep on the same run."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cluster.rundir import RunDirectory
from eval.generation.samples import read_samples, samples_path
from eval.schema.report import Report
from nlirg.errors import InputError
from nlirg.models.loading import load_model, load_tokenizer
from pipelines.recipe import Recipe, load_recipe
from pipelines.store import open_run
from pipelines.tune.stage import trials
from tests.road import read_report, report, run_command

pytestmark = [pytest.mark.ray, pytest.mark.vllm, pytest.mark.timeout(1200)]

DEMO = Path(__file__).parents[2] / "pipelines" / "demo"
SMALL = [
    f"model={DEMO / 'base_model'}",
    f"data=[{DEMO / 'data' / 'train.jsonl'}]",
    f"evaluate.domain={DEMO / 'data' / 'domain_cases.jsonl'}",
    f"evaluate.ood={DEMO / 'data' / 'ood_cases.jsonl'}",
    "name=small",
    "cluster.score_actors=1",
    "train.num_workers=1",
    "train.max_steps=12",
    "evaluate.max_cases=16",
    "evaluate.max_new_tokens=24",
    "train.token_batch=10",
    "evaluate.scales=[0.5]",
    "tune.max_tokens=320",
    "tune.max_cases=8",
    "tune.grid={weighting.x0: [0.8, 1.2]}",
]


@pytest.fixture(scope="module")
def done(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    storage = tmp_path_factory.mktemp("runs")
    recipe = load_recipe(DEMO / "recipe.yaml", [*SMALL, f"storage={storage}"])
    run = open_run(recipe)
    run_command("run", recipe, run)
    return recipe, run, read_report(run)


def test_the_report_compares_base_and_both_arms(done: Any) -> None:
    recipe, run, result = done
    assert result.variants == ["base", "uniform", "nlirg"]
    written = Report.model_validate_json((run.report.path / "results.json").read_text())
    assert written == result
    page = (run.report.path / "index.html").read_text(encoding="utf-8")
    assert "uniform" in page
    assert "<script src" not in page
    assert (run.report.path / "report.md").stat().st_size
    keys = {metric.key for metric in result.metrics}
    assert {"domain_accuracy", "distinct_2", "robustness_accuracy", "ood_accuracy"} <= keys
    for arm in recipe.arms:
        assert result.training[arm].optimizer_steps == 12
        assert result.training[arm].trained_tokens > 0
    assert result.corpus is not None
    assert result.corpus.rows == 400


def test_both_arms_trained_the_same_tokens(done: Any) -> None:
    _, _, result = done
    uniform, nlirg = (result.training[arm] for arm in ("uniform", "nlirg"))
    assert uniform.trained_tokens == nlirg.trained_tokens
    assert uniform.loss[0] == pytest.approx(nlirg.loss[0], rel=0.2), "the same first windows"
    assert uniform.weighted_loss != nlirg.weighted_loss


def test_a_trained_adapter_answers_in_peft_as_it_did_in_vllm(done: Any) -> None:
    recipe, run, _ = done
    from peft import PeftModel

    tokenizer = load_tokenizer(recipe.model)
    base = load_model(recipe.model, torch.float32)
    model = PeftModel.from_pretrained(base, run.arm("nlirg").path / "model").eval()
    samples = list(read_samples(samples_path(run.evaluation("nlirg").path, "ood")))[:4]
    assert samples
    for sample in samples:
        ids = torch.tensor([tokenizer.encode(sample.prompt, add_special_tokens=False)])
        with torch.no_grad():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=recipe.evaluate.max_new_tokens,
            )
        answer = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        assert answer == sample.answer


def test_every_arm_has_a_curve_over_its_scales(done: Any) -> None:
    _, run, result = done
    assert {
        arm: [point.scale for point in curve.points] for arm, curve in result.scales.items()
    } == {arm: [0, 0.5, 1] for arm in ("uniform", "nlirg")}
    assert result.variants == ["base", "uniform", "nlirg"], "scales are no variants of the tables"
    assert len(result.between) == 1
    half = list(read_samples(samples_path(run.evaluation("nlirg@0.5").path, "ood")))
    whole = list(read_samples(samples_path(run.evaluation("nlirg").path, "ood")))
    assert [one.prompt_sha256 for one in half] == [one.prompt_sha256 for one in whole]


def test_a_second_run_does_nothing_again(done: Any) -> None:
    recipe, run, result = done
    watched = [run.scores, run.encoded, run.arm("nlirg"), run.evaluation("base")]
    before = [stage.marker.stat().st_mtime_ns for stage in watched]
    run_command("run", recipe, run)
    again = read_report(run)
    assert [stage.marker.stat().st_mtime_ns for stage in watched] == before
    assert again.metrics == result.metrics


def test_a_report_without_an_evaluation_is_refused(done: Any, tmp_path: Path) -> None:
    recipe, _, _ = done
    with pytest.raises(InputError, match="not complete"):
        report(recipe, RunDirectory(str(tmp_path), "none"))


def test_a_sweep_of_a_scored_run_selects_its_corpus_and_does_every_point(
    done: Any, tmp_path: Path
) -> None:
    words = [*SMALL, f"storage={tmp_path}", "order=mixed", "select={dedup: row}"]
    recipe = load_recipe(DEMO / "recipe.yaml", words)
    run = open_run(recipe)
    # The scores know nothing of the run's name, its order or its selection.
    shutil.copytree(done[1].scores.path, run.scores.path)
    name = run_command("tune", recipe, run).summaries["tune"].best
    assert run.selected.marker.is_file()
    sweep = run.sweep()
    with (sweep.path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["weighting.x0"] for row in rows] == ["0.8", "1.2"]
    assert not any(row["error"] for row in rows)
    best = next(row for row in rows if row["trial"] == name)
    assert float(best["objective"]) == max(float(row["objective"]) for row in rows)
    for row in rows:
        summary = sweep.arm(row["trial"]).summary()
        assert 320 <= summary["trained_tokens"] < 320 + 8 * 10, "the last step fills the budget"
    written = load_recipe(sweep.path / "best.yaml", ["name=again"])
    assert written.train.weighting.x0 == float(best["weighting.x0"])
    assert list(written.arms) == ["best"]
    assert written.train.max_steps == 12, "the best recipe runs at the full budget"


def test_trials_of_different_windows_train_the_same_number_of_tokens() -> None:
    recipe = load_recipe(
        DEMO / "recipe.yaml", ["tune.grid={token_batch: [5, all]}", "tune.max_tokens=800"]
    )
    plan = trials(recipe)
    assert [plan.arm(name).max_tokens for name in plan.arms] == [800, 800]
    shorter = recipe.model_copy(update={"train": recipe.train.model_copy(update={"max_tokens": 9})})
    plan = trials(shorter)
    assert [plan.arm(name).max_tokens for name in plan.arms] == [9, 9]


def test_a_grid_point_that_is_no_setting_is_refused_before_anything_runs() -> None:
    raw = yaml.safe_load((DEMO / "recipe.yaml").read_text())
    raw["tune"] = {"grid": {"weighting.x00": [1, 2]}}
    with pytest.raises(InputError, match="unknown key"):
        trials(Recipe.model_validate(raw))


def test_metrics_files_hold_each_logged_step_once(done: Any) -> None:
    _, run, _ = done
    for arm in ("uniform", "nlirg"):
        lines = (run.arm(arm).path / "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in lines]
        assert steps == sorted(set(steps))
        assert steps[-1] == 12
