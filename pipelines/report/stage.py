"""The report stage: everything a run directory holds, judged and drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cluster.rundir import RunDirectory, StageFolder
from eval.metrics.flips import summarize_flips
from eval.report import gate_lines, scale_lines, terminal_table, write_report
from eval.schema.report import CorpusSummary, Report, ScaleCurve
from eval.schema.sample import Sample
from eval.verdict.compare import compare, read_samples
from eval.verdict.gates import unjudged
from eval.verdict.scales import scale_curves
from nlirg.errors import InputError
from pipelines.evaluate.flips import read_flips
from pipelines.evaluate.generation import BASE
from pipelines.evaluate.judge import judge_measures
from pipelines.evaluate.lm_tasks import lm_eval_measures
from pipelines.evaluate.perplexity import perplexity_measures
from pipelines.evaluate.scaled import scale_names
from pipelines.recipe import Recipe
from pipelines.report.training_curve import training_curve
from pipelines.score.stage import Score, ScoreSummary
from pipelines.stage import Stage, Summary


class ReportSummary(Summary):
    """Whether every gate of every variant that applies was judged and held."""

    passed: bool


class WriteReport(Stage[ReportSummary]):
    """Judge the variants of a run and draw the report, into `report/`."""

    name = "report"
    summary_type = ReportSummary
    attempt = "always"

    def folder(self, run: RunDirectory) -> StageFolder:
        """Return `report/`."""
        return run.report

    def settings(self, recipe: Recipe, run: RunDirectory) -> list[Any]:
        """Return what every variant's evaluation says of itself."""
        variants = [BASE, *recipe.arms, *_scaled(recipe)]
        return [run.evaluation(variant).summary() for variant in variants]

    def work(self, recipe: Recipe, run: RunDirectory, resumed: bool) -> ReportSummary:
        """Compare, judge and draw.

        Raises:
            InputError: if an evaluation is missing or its samples cannot be paired.
        """
        result = build_report(recipe, run)
        write_report(result, run.report.path)
        return ReportSummary(
            passed=all(gate.state in ("passed", "not_applicable") for gate in result.gates)
        )

    def conclude(self, recipe: Recipe, run: RunDirectory, summary: ReportSummary) -> int:
        """Print the table, the gates that were not kept, and the report's path.

        Returns:
            1 if a gate failed, whatever the others say; else 0.

        Raises:
            InputError: if none failed and one cannot be judged.
        """
        from rich.console import Console

        text = (run.report.path / "results.json").read_text(encoding="utf-8")
        result = Report.model_validate_json(text)
        Console().print(terminal_table(result))
        for line in (*scale_lines(result), *gate_lines(result)):
            print(line)
        print(f"report: {run.report.path / 'index.html'}")
        if any(gate.state == "failed" for gate in result.gates):
            return 1
        if missing := unjudged(result.gates):
            raise InputError(f"cannot judge {'; '.join(missing)}; a gate set to null is not judged")
        return 0


def build_report(recipe: Recipe, run: RunDirectory) -> Report:
    """Return the report of everything the run directory holds.

    Raises:
        InputError: if an evaluation is missing or its samples cannot be paired.
    """
    variants = [BASE, *recipe.arms]
    samples = {variant: evaluated_samples(run, variant) for variant in variants}
    others = [
        *perplexity_measures(recipe, run),
        *lm_eval_measures(recipe, run, BASE),
        *judge_measures(recipe, run),
    ]
    comparison = compare(samples, BASE, recipe.evaluate, recipe.seed, others)
    flips = read_flips(run, list(recipe.arms)) if recipe.evaluate.flip_samples else []
    return Report(
        **dict(comparison),
        title=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        flips=flips,
        flip_summaries=summarize_flips(flips, BASE),
        scales=_scales(recipe, run, samples),
        training={arm: training_curve(run.arm(arm), recipe.arm(arm)) for arm in recipe.arms},
        corpus=_corpus(Score().summary(run)),
        recipe=(run.path / "recipe.yaml").read_text(encoding="utf-8"),
        environment=json.loads((run.path / "env.json").read_text(encoding="utf-8")),
    )


def _scaled(recipe: Recipe) -> list[str]:
    """Names of the arms at other scales."""
    return [name for of_arm in scale_names(recipe).values() for name in of_arm.values()]


def _scales(
    recipe: Recipe, run: RunDirectory, samples: Mapping[str, Sequence[Sample]]
) -> dict[str, ScaleCurve]:
    """Every arm's curve over its scales; none where no other scale was asked for."""
    if not (scaled := _scaled(recipe)):
        return {}
    everything = {**samples, **{name: evaluated_samples(run, name) for name in scaled}}
    return scale_curves(everything, BASE, scale_names(recipe), recipe.evaluate, recipe.seed)


def evaluated_samples(run: RunDirectory, variant: str) -> list[Sample]:
    """Read the samples of a variant's complete evaluation.

    Raises:
        InputError: if it is not complete, or its files are not as it left them.
    """
    stage = run.evaluation(variant)
    counts = {suite: entry["n"] for suite, entry in stage.summary()["suites"].items()}
    return read_samples(stage.path, counts)


def _corpus(summary: ScoreSummary) -> CorpusSummary:
    """Return the part of the scoring summary that a reader of the report wants."""
    return CorpusSummary(**summary.model_dump(include=set(CorpusSummary.model_fields)))
