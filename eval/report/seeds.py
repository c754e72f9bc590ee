"""Arms that were trained several times: the mean over their seeds, and how much seeds differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from eval import wording
from eval.schema.report import Metric, Report


class OverSeeds(NamedTuple):
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
    """A metric of every arm whose seeds all have it."""
    before = metric.values.get(report.baseline)
    base = before.value if before else float("nan")
    found = {}
    for arm, variants in report.seeds.items():
        if all(variant in metric.values for variant in variants):
            each = [metric.values[variant] for variant in variants]
            values = mean_interval([one.value for one in each], report.confidence)
            changes = [one.value - (base if one.before is None else one.before) for one in each]
            found[arm] = OverSeeds(*values, *mean_interval(changes, report.confidence), len(each))
    return found


def mean_interval(values: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """Mean of independent values and the ends of its Student's t interval; NaN ends for one."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return mean, mean - half, mean + half


def seed_table(report: Report) -> list[tuple[Metric, dict[str, OverSeeds]]]:
    """The metrics of arms with seeds, in the order of the questions; empty without seeds."""
    ordered = [metric for _, metrics in wording.by_family(report) for metric in metrics]
    rows = [(metric, over_seeds(report, metric)) for metric in ordered]
    return [(metric, arms) for metric, arms in rows if arms]
