"""From columns of numbers to estimates and paired differences with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.schema.report import Estimate, Paired
from eval.statistics import inference
from eval.statistics.inference import Flags, Ints, Jackknife

Statistic = Callable[[Flags], float]


@dataclass(frozen=True)
class ComparisonConfig:
    """What every estimate of a comparison has in common.

    Attributes:
        baseline: name of the variant that the others are compared with.
        bootstrap: number of resamples.
        confidence: coverage of the intervals.
        seed: of resampling.
    """

    baseline: str
    bootstrap: int
    confidence: float
    seed: int


@dataclass(frozen=True)
class Difference:
    """A tuned variant's difference from the baseline, before other metrics are considered.

    Attributes:
        delta: variant - baseline.
        low: lower end of its interval.
        high: upper end of its interval.
        n: cases.
        p_value: of no difference.
        detectable: the smallest difference that a test shows with 80 % power, by its alpha.
    """

    delta: float
    low: float
    high: float
    n: int
    p_value: float
    detectable: Callable[[float], float]

    def paired(self, p_holm: float, confidence: float, tests: int) -> Paired:
        """Return the difference as one of `tests` of the same variant.

        The minimum detectable effect is that of Holm's hardest step, alpha / tests.
        """
        return Paired(
            delta=self.delta,
            low=self.low,
            high=self.high,
            n=self.n,
            p_value=self.p_value,
            p_holm=p_holm,
            minimum_detectable=self.detectable((1 - confidence) / tests),
            confidence=confidence,
        )


@dataclass(frozen=True)
class Estimates:
    """A metric's values by variant, and each tuned variant's difference from the baseline."""

    values: dict[str, Estimate]
    against: dict[str, Difference]


def share(right: Flags, clusters: Ints, confidence: float) -> Estimate:
    """Return a share with Wilson's interval, each cluster counted once (conservative)."""
    value = float(right.mean())
    low, high = inference.wilson(value, len(np.unique(clusters)), confidence)
    return Estimate(value=value, low=low, high=high, n=len(right))


def of_columns(
    columns: Mapping[str, NDArray[Any]], clusters: Ints, config: ComparisonConfig
) -> Estimates:
    """Estimate means by variant, and their differences from the baseline if it is among them.

    Args:
        columns: variant -> one value a case; booleans are shares (Wilson, McNemar), numbers are
            means (cluster bootstrap, cluster-robust t test).
        clusters: shape `[cases]`.
        config: of the comparison.
    """
    values = np.stack([column.astype(np.float64) for column in columns.values()], axis=1)
    means = inference.bootstrap_means(values, clusters, config.bootstrap, config.seed)
    at = {name: i for i, name in enumerate(columns)}
    estimates = {}
    for name, column in columns.items():
        if column.dtype == np.bool_:
            estimates[name] = share(column, clusters, config.confidence)
        else:
            low, high = inference.percentile_interval(means[:, at[name]], config.confidence)
            value = float(column.mean())
            estimates[name] = Estimate(value=value, low=low, high=high, n=len(column))
    base = config.baseline
    against = {
        name: _difference(
            columns[base], columns[name], means[:, at[name]] - means[:, at[base]], clusters, config
        )
        for name in columns
        if base in columns and name != base
    }
    return Estimates(estimates, against)


def _difference(
    base: NDArray[Any],
    variant: NDArray[Any],
    replicates: inference.Floats,
    clusters: Ints,
    config: ComparisonConfig,
) -> Difference:
    change = variant.astype(np.float64) - base.astype(np.float64)
    low, high = inference.percentile_interval(replicates, config.confidence)
    p_value, detectable = _test(change, clusters, shares=base.dtype == np.bool_)
    return Difference(float(change.mean()), low, high, len(change), p_value, detectable)


def _test(
    change: inference.Floats, clusters: Ints, shares: bool
) -> tuple[float, Callable[[float], float]]:
    """Return the p-value of a mean change, and its minimum detectable effect by alpha."""
    count = int(clusters.max()) + 1
    if shares and count == len(change):  # independent pairs: the exact test is at hand
        gains, losses = int((change > 0).sum()), int((change < 0).sum())
        churn = (gains + losses) / count
        return inference.mcnemar(gains, losses), partial(inference.mcnemar_detectable, churn, count)
    error = inference.mean_error(change, clusters)

    def detectable(alpha: float) -> float:
        least = inference.minimum_detectable(error, count, alpha)
        return max(least, inference.mcnemar_detectable(0.0, count, alpha)) if shares else least

    return inference.t_test(float(change.mean()), error, count), detectable


def of_statistics(
    statistics: Mapping[str, Statistic],
    clusters: Ints,
    config: ComparisonConfig,
    upper: float,
    *,
    binomial: bool = False,
) -> Estimates:
    """Estimate statistics of whole sets of answers, by the jackknife.

    Args:
        statistics: variant -> the statistic of the answers in a mask of shape `[cases]`.
        clusters: shape `[cases]`.
        config: of the comparison.
        upper: the largest possible value (the smallest is 0): intervals end there.
        binomial: whether they are shares of the answers, with no less error than such have.
    """
    groups = inference.jackknife_groups(clusters, config.seed)
    jackknives = {name: Jackknife.of(each, groups) for name, each in statistics.items()}
    if binomial:
        count = int(clusters.max()) + 1
        jackknives = {
            name: replace(each, least_error=math.sqrt(each.value * (1 - each.value) / count))
            for name, each in jackknives.items()
        }
    estimates = {}
    for name, jackknife in jackknives.items():
        low, high = np.clip(jackknife.interval(config.confidence), 0, upper)
        estimates[name] = Estimate(value=jackknife.value, low=low, high=high, n=len(clusters))
    against = {}
    base = jackknives.get(config.baseline)
    for name, jackknife in jackknives.items():
        if base is None or name == config.baseline:
            continue
        change = jackknife - base
        low, high = np.clip(change.interval(config.confidence), -upper, upper)
        detectable = partial(inference.minimum_detectable, change.error, len(change.left_out))
        against[name] = Difference(
            change.value, low, high, len(clusters), change.p_value, detectable
        )
    return Estimates(estimates, against)
