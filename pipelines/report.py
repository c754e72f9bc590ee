"""The report stage: everything a run directory holds, judged and drawn."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from cluster.rundir import RunDirectory, fingerprint
from eval.compare import compare, read_samples
from eval.report import write_report
from eval.schema import CorpusSummary, Report
from pipelines.evaluate import BASE
from pipelines.recipe import Recipe
from pipelines.training_curve import training_curve


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
        training={arm: training_curve(run.arm(arm), recipe.arm(arm)) for arm in recipe.arms},
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


def _corpus(summary: dict[str, Any]) -> CorpusSummary:
    """The part of the scoring summary that a reader of the report wants."""
    return CorpusSummary(**{key: summary[key] for key in CorpusSummary.model_fields})
