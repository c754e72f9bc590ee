"""From columns of numbers to estimates and paired differences with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval import stats
from eval.config import EvaluateConfig
from eval.schema import Estimate, Paired
from eval.stats import Flags, Ints, Jackknife

Statistic = Callable[[Flags], float]


@dataclass(frozen=True)
class Setting:
    """What every estimate of a comparison has in common."""

    baseline: str
    config: EvaluateConfig
    seed: int

    @property
    def confidence(self) -> float:
        """Coverage of the intervals."""
        return self.config.confidence


@dataclass(frozen=True)
class Estimates:
    """A metric's values by variant, and each tuned variant's difference from the baseline."""

    values: dict[str, Estimate]
    against: dict[str, Paired]


def share(right: Flags, clusters: Ints, confidence: float) -> Estimate:
    """A share with Wilson's interval; clusters count once, which is on the safe side."""
    value = float(right.mean())
    low, high = stats.wilson(value, len(np.unique(clusters)), confidence)
    return Estimate(value=value, low=low, high=high, n=len(right))


def of_columns(
    columns: Mapping[str, NDArray[Any]], clusters: Ints, setting: Setting, extra: str = ""
) -> Estimates:
    """Means by variant.

    Args:
        columns: variant -> one value a case; booleans are shares (Wilson, McNemar), numbers are
            means (cluster bootstrap, cluster-robust t test).
        clusters: shape `[cases]`.
        setting: baseline, repeats, confidence, seed.
        extra: a column that is shown but not compared (the human answers).
    """
    values = np.stack([column.astype(np.float64) for column in columns.values()], axis=1)
    means = stats.bootstrap_means(values, clusters, setting.config.bootstrap, setting.seed)
    at = {name: i for i, name in enumerate(columns)}
    estimates = {}
    for name, column in columns.items():
        if column.dtype == np.bool_:
            estimates[name] = share(column, clusters, setting.confidence)
        else:
            low, high = stats.percentile_interval(means[:, at[name]], setting.confidence)
            value = float(column.mean())
            estimates[name] = Estimate(value=value, low=low, high=high, n=len(column))
    base = setting.baseline
    against = {
        name: _difference(
            columns[base], columns[name], means[:, at[name]] - means[:, at[base]], clusters, setting
        )
        for name in columns
        if name not in (base, extra)
    }
    return Estimates(estimates, against)


def _difference(
    base: NDArray[Any],
    variant: NDArray[Any],
    replicates: stats.Floats,
    clusters: Ints,
    setting: Setting,
) -> Paired:
    difference = variant.astype(np.float64) - base.astype(np.float64)
    error = stats.mean_error(difference, clusters)
    count = int(clusters.max()) + 1
    detectable = stats.minimum_detectable(error, setting.confidence)
    p_value = stats.t_test(float(difference.mean()), error, count)
    if base.dtype == np.bool_:
        detectable = max(detectable, stats.fewest_discordant(setting.confidence) / count)
        if count == len(difference):  # independent pairs: the exact test is at hand
            p_value = stats.mcnemar(int((difference > 0).sum()), int((difference < 0).sum()))
    low, high = stats.percentile_interval(replicates, setting.confidence)
    return Paired(
        delta=float(difference.mean()),
        low=low,
        high=high,
        n=len(difference),
        p_value=p_value,
        p_holm=p_value,
        minimum_detectable=detectable,
    )


def of_statistics(
    statistics: Mapping[str, Statistic],
    clusters: Ints,
    setting: Setting,
    upper: float,
    extra: str = "",
) -> Estimates:
    """Values of statistics of whole sets of answers, by the jackknife.

    Args:
        statistics: variant -> the statistic of the answers in a mask of shape `[cases]`.
        clusters: shape `[cases]`.
        setting: baseline, confidence, seed.
        upper: the largest possible value (the smallest is 0): intervals end there.
        extra: a variant that is shown but not compared (the human answers).
    """
    groups = stats.jackknife_groups(clusters, setting.seed)
    jackknives = {name: Jackknife.of(each, groups) for name, each in statistics.items()}
    estimates = {}
    for name, jackknife in jackknives.items():
        low, high = np.clip(jackknife.interval(setting.confidence), 0, upper)
        estimates[name] = Estimate(value=jackknife.value, low=low, high=high, n=len(clusters))
    base = jackknives[setting.baseline]
    against = {}
    for name in statistics:
        if name in (setting.baseline, extra):
            continue
        change = jackknives[name] - base
        low, high = np.clip(change.interval(setting.confidence), -upper, upper)
        against[name] = Paired(
            delta=change.value,
            low=low,
            high=high,
            n=len(clusters),
            p_value=change.p_value,
            p_holm=change.p_value,
            minimum_detectable=stats.minimum_detectable(change.error, setting.confidence),
        )
    return Estimates(estimates, against)
