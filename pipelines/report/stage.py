"""The report stage: everything a run directory holds, judged and drawn."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from cluster.rundir import RunDirectory, fingerprint
from eval.metrics.flips import summarize_flips
from eval.report import write_report
from eval.schema.report import CorpusSummary, Report
from eval.schema.sample import Sample
from eval.verdict.compare import compare, read_samples
from pipelines.evaluate.flips import read_flips
from pipelines.evaluate.generation import BASE
from pipelines.evaluate.judge import judge_measures
from pipelines.evaluate.lm_tasks import lm_eval_measures
from pipelines.evaluate.perplexity import perplexity_measures
from pipelines.recipe import Recipe
from pipelines.report.training_curve import training_curve


def report(recipe: Recipe, run: RunDirectory) -> Report:
    """Judge the variants of a run and write `report/`.

    Returns:
        The report, as written to `report/results.json`.

    Raises:
        InputError: if an evaluation is missing or its samples cannot be paired.
    """
    run.report.marker.unlink(missing_ok=True)  # an older report must not stand for this one
    variants = [BASE, *recipe.arms]
    parts = [run.evaluation(variant).summary() for variant in variants]
    samples = {variant: evaluated_samples(run, variant) for variant in variants}
    others = [
        *perplexity_measures(recipe, run),
        *lm_eval_measures(recipe, run, BASE),
        *judge_measures(recipe, run),
    ]
    comparison = compare(samples, BASE, recipe.evaluate, recipe.seed, others)
    flips = read_flips(run, list(recipe.arms)) if recipe.evaluate.flip_samples else []
    result = Report(
        **dict(comparison),
        title=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        flips=flips,
        flip_summaries=summarize_flips(flips, BASE),
        training={arm: training_curve(run.arm(arm), recipe.arm(arm)) for arm in recipe.arms},
        corpus=_corpus(run.scores.summary()),
        recipe=(run.path / "recipe.yaml").read_text(encoding="utf-8"),
        environment=json.loads((run.path / "env.json").read_text(encoding="utf-8")),
    )
    write_report(result, run.report.path)
    run.report.succeed(fingerprint(parts), {"passed": passed(result)})
    return result


def evaluated_samples(run: RunDirectory, variant: str) -> list[Sample]:
    """Read the samples of a variant's complete evaluation.

    Raises:
        InputError: if it is not complete, or its files are not as it left them.
    """
    stage = run.evaluation(variant)
    counts = {suite: entry["n"] for suite, entry in stage.summary()["suites"].items()}
    return read_samples(stage.path, counts)


def passed(result: Report) -> bool:
    """Return whether every gate of every variant that applies was judged and held."""
    return all(gate.state in ("passed", "not_applicable") for gate in result.gates)


def _corpus(summary: dict[str, Any]) -> CorpusSummary:
    """Return the part of the scoring summary that a reader of the report wants."""
    return CorpusSummary(**{key: summary[key] for key in CorpusSummary.model_fields})
