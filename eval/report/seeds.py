"""Arms that were trained several times: the mean over their seeds, and how much seeds differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from eval.report import wording
from eval.schema.report import Metric, Report


@dataclass(frozen=True)
class OverSeeds:
    """One metric of one arm.

    `low` and `high` are the ends of Student's t interval of the mean over `n` seeds, which says
    how far another set of seeds could lie from these; `delta` the mean difference to the baseline
    with its interval. NaN where one seed alone cannot say.
    """

    value: float
    low: float
    high: float
    delta: float
    delta_low: float
    delta_high: float
    n: int


def over_seeds(report: Report, metric: Metric) -> dict[str, OverSeeds]:
    """Average a metric over the seeds of every arm whose seeds all have it."""
    base = report.baseline if report.baseline in metric.values else ""
    means = {}
    for arm, variants in report.seeds.items():
        if all(variant in metric.values for variant in variants):
            values = [metric.values[variant].value for variant in variants]
            befores = [metric.base_value(v, base) if base else math.nan for v in variants]
            changes = [now - before for now, before in zip(values, befores, strict=True)]
            mean, change = (mean_interval(x, report.confidence) for x in (values, changes))
            means[arm] = OverSeeds(*mean, *change, len(values))
    return means


def mean_interval(values: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """Return a mean and the ends of its Student's t interval; NaN ends for one value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return mean, mean - half, mean + half


def seed_table(report: Report) -> list[tuple[Metric, dict[str, OverSeeds]]]:
    """Average the metrics of arms with seeds, in the order of the questions."""
    ordered = [metric for _, metrics in wording.by_family(report) for metric in metrics]
    rows = [(metric, over_seeds(report, metric)) for metric in ordered]
    return [(metric, arms) for metric, arms in rows if arms]
