"""The report stage: everything a run directory holds, judged and drawn."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.rundir import RunDirectory, fingerprint
from eval.compare import compare, read_samples
from eval.report import write_report
from eval.schema import CorpusSummary, Report, TrainingCurve
from nlirg.config import ZONES, TrainConfig
from pipelines.evaluate import BASE
from pipelines.recipe import Recipe


def report(recipe: Recipe, run: RunDirectory) -> Report:
    """Judge the variants of a run and write `report/`.

    Returns:
        The report, as written to `report/results.json`.

    Raises:
        InputError: if an evaluation is missing or its samples cannot be paired.
    """
    variants = [BASE, *recipe.arms]
    marks = [run.evaluation(variant).summary() for variant in variants]
    samples = {variant: read_samples(run.evaluation(variant).path) for variant in variants}
    judged = compare(samples, BASE, recipe.evaluate, recipe.seed)
    result = Report(
        title=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        variants=variants,
        baseline=BASE,
        metrics=judged.metrics,
        by_task=judged.by_task,
        by_perturbation=judged.by_perturbation,
        gates=judged.gates,
        verdicts=judged.verdicts,
        openings=judged.openings,
        phrases=judged.phrases,
        samples=judged.samples,
        training={arm: training_curve(run, arm, recipe.arm(arm)) for arm in recipe.arms},
        corpus=_corpus(run.scores.summary()),
        recipe=(run.path / "recipe.yaml").read_text(encoding="utf-8"),
        environment=json.loads((run.path / "env.json").read_text(encoding="utf-8")),
    )
    stage = run.report
    stage.marker.unlink(missing_ok=True)
    write_report(result, stage.path)
    stage.succeed(fingerprint(marks), {"passed": passed(result)})
    return result


def passed(result: Report) -> bool:
    """Whether every gate of every variant held."""
    return all(gate.passed for gate in result.gates)


def training_curve(run: RunDirectory, arm: str, train: TrainConfig) -> TrainingCurve:
    """Read one arm's `metrics.jsonl`."""
    rows = _logged(run.arm(arm).path / "metrics.jsonl")
    summary = run.arm(arm).summary()
    return TrainingCurve(
        steps=[row["step"] for row in rows],
        loss=[row["loss"] for row in rows],
        weighted_loss=[row["weighted_loss"] for row in rows],
        zones={zone: [row[zone] for row in rows] for zone in ZONES},
        trained_tokens=summary["trained_tokens"],
        optimizer_steps=summary["optimizer_steps"],
        settings={
            "weighting": train.weighting.name,
            "token_batch": str(train.token_batch),
            "batch_size": str(train.batch_size),
            "learning_rate": f"{train.learning_rate:g}",
            "epochs": str(train.epochs),
            "parameters": f"LoRA rank {train.lora.rank}" if train.lora else "all",
        },
    )


def _logged(path: Path) -> list[dict[str, Any]]:
    """Records of a metrics file; where every step was skipped there is no loss to draw."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in records if None not in (row["loss"], row["weighted_loss"])]


def _corpus(summary: dict[str, Any]) -> CorpusSummary:
    """The part of the scoring summary that a reader of the report wants."""
    return CorpusSummary(**{key: summary[key] for key in CorpusSummary.model_fields})
