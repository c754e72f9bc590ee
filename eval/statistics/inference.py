"""Paired statistics: exact tests, clustered intervals, and what a sample could have shown.

Cases that stem from one root (variants of a prompt, repeats of it) are not independent. They form
a *cluster*, and clusters, not cases, are resampled or left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from nlirg.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

GROUPS = 20  # of the jackknife: 19 degrees of freedom widen an interval by 7 %
POWER = 0.8  # of "could have shown"
_DRAWS_AT_ONCE = 4_000_000  # bounds the memory of resampling


def mcnemar(gains: int, losses: int) -> float:
    """Return the p-value of the exact two-sided McNemar test; 1 without discordant pairs.

    The binomial test on the discordant pairs (McNemar 1947); statsmodels' `mcnemar` computes the
    same numbers from a table.
    """
    if gains + losses == 0:
        return 1.0
    return float(stats.binomtest(gains, gains + losses).pvalue)


def wilson(share: float, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval for a share of n independent cases (Wilson 1927).

    Raises:
        InputError: if n is 0.
    """
    if n == 0:
        raise InputError("zero cases: a share of nothing has no interval")
    z = float(stats.norm.ppf((1 + confidence) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # Rounding must not push the ends past the share itself.
    return max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p-values by Holm's step-down procedure (Holm 1979): any false alarm has chance alpha.

    statsmodels' `multipletests` gives the same numbers, but collects garbage in every call: 46 ms
    alone, seconds in a process that holds a model.
    """
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        highest = max(highest, min((len(p_values) - rank) * p_values[key], 1.0))
        adjusted[key] = highest
    return {key: adjusted[key] for key in p_values}


def number_clusters(names: Sequence[Hashable]) -> Ints:
    """Number the clusters 0, 1, ... in order of appearance; shape `[cases]`.

    Raises:
        InputError: if there are no cases, or all are of one cluster: nothing says how much chance
            there is in them.
    """
    known: dict[Hashable, int] = {}
    clusters = np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)
    if len(known) < 2:
        few = "one independent case" if known else "zero pairs"
        raise InputError(f"{few}: a comparison needs at least two cases answered by every variant")
    return clusters


def bootstrap_means(values: Floats, clusters: Ints, repeats: int, seed: int) -> Floats:
    """Return means of resampled clusters (cluster bootstrap; Cameron, Gelbach & Miller 2008).

    Args:
        values: one row a case, one column a variant, shape `[cases, variants]`. A resample takes
            the same cases of every variant, so differences of columns are paired.
        clusters: from `number_clusters`, shape `[cases]`.
        repeats: number of resamples.
        seed: equal seeds give equal resamples.

    Returns:
        Shape `[repeats, variants]`.
    """
    count = int(clusters.max()) + 1
    sizes = np.bincount(clusters).astype(np.float64)
    sums = cluster_sums(values, clusters)
    rng = np.random.default_rng(seed)
    means = np.empty((repeats, values.shape[1]))
    step = max(_DRAWS_AT_ONCE // count, 1)
    for start in range(0, repeats, step):
        rows = min(step, repeats - start)
        drawn = rng.integers(count, size=(rows, count)) + np.arange(rows)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        times = times.astype(np.float64)
        means[start : start + rows] = times @ sums / (times @ sizes)[:, None]
    return means


def cluster_sums(values: Floats, clusters: Ints) -> Floats:
    """Sum the rows of each cluster; `[cases, variants]` to `[clusters, variants]`."""
    sums = np.zeros((int(clusters.max()) + 1, values.shape[1]))
    np.add.at(sums, clusters, values)
    return sums


def percentile_interval(replicates: Floats, confidence: float) -> tuple[float, float]:
    """Return the ends of the middle `confidence` of bootstrap replicates, shape `[repeats]`."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def mean_error(values: Floats, clusters: Ints) -> float:
    """Return the standard error of a mean of clustered values, shape `[cases]`.

    The linearised ratio estimator: sqrt(G/(G-1) * sum_g (S_g - n_g * mean)^2) / n.
    """
    sizes = np.bincount(clusters)
    excess = cluster_sums(values[:, None], clusters)[:, 0] - sizes * values.mean()
    count = len(sizes)
    return float(np.sqrt(count / (count - 1) * np.square(excess).sum()) / len(values))


def t_test(difference: float, error: float, units: int) -> float:
    """Return the two-sided p-value of a difference with its standard error from `units` units.

    Never below 2^(1-units), the smallest p-value a sign test on that many units can give: a
    difference that is the same everywhere has no spread, yet few units prove little.
    """
    floor = 0.5 ** (units - 1)
    if error > 0:
        return max(float(2 * stats.t.sf(abs(difference) / error, units - 1)), floor)
    return 1.0 if difference == 0 else floor


def minimum_detectable(error: float, units: int, alpha: float, power: float = POWER) -> float:
    """Return the smallest true difference of means that `t_test` would have shown at `alpha`.

    (t_{1-alpha/2} + t_power) * standard error, each with units - 1 degrees of freedom: about 2.8
    standard errors at .05 (Bloom 1995, Evaluation Review 19(5), 547-556).
    """
    quantiles = stats.t.ppf([1 - alpha / 2, power], units - 1)
    return float(quantiles.sum() * error)


def mcnemar_power(effect: float, churn: float, n: int, alpha: float) -> float:
    """Return the chance that an exact McNemar test shows a net change in its true direction.

    Exact: the sum over the number of changed pairs, which is binomial, of the chance that the test
    rejects given that number.

    Args:
        effect: share of the pairs that change one way.
        churn: share that changes by chance alone, as often one way as the other.
        n: pairs.
        alpha: the test rejects where its p-value is below.
    """
    changed = min(churn + effect, 1.0)
    spread = 10 * math.sqrt(n * changed * (1 - changed)) + 10  # no chance worth adding beyond it
    least, largest = max(n * changed - spread, 0), min(n * changed + spread, n)
    counts = np.arange(math.floor(least), math.ceil(largest) + 1)
    # The most pairs that may have changed the other way: P(X <= most) < alpha / 2.
    most = stats.binom.ppf(alpha / 2, counts, 0.5) - 1
    other_way = (changed - effect) / 2 / changed if changed else 0.5
    rejects = stats.binom.cdf(most, counts, other_way)
    return float((stats.binom.pmf(counts, n, changed) * rejects).sum())


def mcnemar_detectable(churn: float, n: int, alpha: float, power: float = POWER) -> float:
    """Return the smallest net change of a share that an exact McNemar test shows at `alpha`.

    Above 1, which no share can reach, where n pairs can show nothing.
    """
    fewest = fewest_discordant(alpha)
    if fewest > n:
        return fewest / n

    def lacking(effect: float) -> float:
        return mcnemar_power(effect, churn, n, alpha) - power

    return float(optimize.brentq(lacking, 0.0, 1.0, xtol=1e-4))


def fewest_discordant(alpha: float) -> int:
    """Count the pairs, all changed in one direction, that a McNemar test needs: 6 at .05."""
    return math.floor(1 - math.log2(alpha)) + 1


@dataclass(frozen=True)
class Jackknife:
    """A statistic of a whole set of answers, and what it is without each group of clusters.

    Means can be bootstrapped; distinct-n cannot: a resample holds answers twice and so always
    looks less diverse than the sample. The delete-a-group jackknife (Kott 2001, Journal of
    Official Statistics 17(4), 521-526) leaves answers out instead. Differences of two statistics
    with the same groups are paired.

    Attributes:
        value: of all answers.
        left_out: without each group, shape `[groups]`.
        least_error: what the standard error is at least. Where two answers tie for the commonest,
            leaving one out changes nothing, and the jackknife would see no spread at all.
    """

    value: float
    left_out: Floats
    least_error: float = 0.0

    @classmethod
    def of(cls, statistic: Callable[[Flags], float], groups: Ints) -> Jackknife:
        """Compute a statistic, given a mask of the answers to use, for `jackknife_groups`."""
        left_out = [statistic(groups != group) for group in range(int(groups.max()) + 1)]
        return cls(statistic(np.ones(len(groups), dtype=bool)), np.array(left_out))

    def __sub__(self, other: Jackknife) -> Jackknife:
        least = math.hypot(self.least_error, other.least_error)
        return Jackknife(self.value - other.value, self.left_out - other.left_out, least)

    @property
    def error(self) -> float:
        """Standard error: sqrt((G-1)/G * sum of squared deviations of the left-out values)."""
        count = len(self.left_out)
        deviations = self.left_out - self.left_out.mean()
        spread = float(np.sqrt((count - 1) / count * np.square(deviations).sum()))
        return max(spread, self.least_error)

    @property
    def p_value(self) -> float:
        """Two-sided, against 0."""
        return t_test(self.value, self.error, len(self.left_out))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Student's t interval with one degree of freedom less than there are groups."""
        half = float(stats.t.ppf((1 + confidence) / 2, len(self.left_out) - 1)) * self.error
        return self.value - half, self.value + half


def jackknife_groups(clusters: Ints, seed: int) -> Ints:
    """Deal whole clusters at random into at most 20 groups of nearly equal size.

    Returns:
        The group of every case, shape `[cases]`.
    """
    count = int(clusters.max()) + 1
    order = np.random.default_rng(seed).permutation(count)
    groups: Ints = (order % min(GROUPS, count))[clusters]
    return groups
