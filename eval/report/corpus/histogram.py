"""Histograms of values that come in batches: counts in fine bins, drawn in coarse ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MOST_BINS = 1 << 20  # values beyond the last fine bin count there
SHOWN_BINS = 40
TAIL = 0.995  # share of values drawn in bins of their own; the rest share the last bin


class Histogram(NamedTuple):
    """Counts of values in bins of equal width.

    Attributes:
        label: what was counted.
        unit: of the values.
        start: lower edge of the first bin.
        width: of a bin.
        counts: values per bin.
        beyond: values above the last bin.
        median: of all values.
    """

    label: str
    unit: str
    start: float
    width: float
    counts: list[int]
    beyond: int
    median: float


class HistogramCounts:
    """Counts of non-negative values in bins `[i * width, (i + 1) * width)`.

    Memory does not grow with the number of values, only with the largest of them.
    """

    def __init__(self, width: float) -> None:
        self.width = width
        self.counts = np.zeros(0, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Count values [n]; those that are not finite are left out, those below 0 count as 0."""
        finite = values[np.isfinite(values)]
        # The nudge keeps a value that should be a bin's lower edge from falling below it.
        bins = np.clip(np.floor(finite / self.width + 1e-9), 0, MOST_BINS - 1).astype(np.int64)
        counts = np.bincount(bins, minlength=len(self.counts))
        counts[: len(self.counts)] += self.counts
        self.counts = counts

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """Lower edge of the bin below which at most `share` of the values lie; 0 of none."""
        if not self.total:
            return 0.0
        cumulated = np.cumsum(self.counts)
        return float(np.searchsorted(cumulated, share * self.total, side="right")) * self.width

    def share_below(self, value: float) -> float:
        """Share of the values in bins below that of `value`; 0 of none."""
        index = min(int(value / self.width + 1e-9), len(self.counts))
        return float(self.counts[:index].sum() / max(1, self.total))

    def histogram(self, label: str, unit: str) -> Histogram:
        """Coarse bins of a round width over all but the longest tail."""
        occupied = np.flatnonzero(self.counts)
        first = int(occupied[0]) if occupied.size else 0
        last = max(round(self.quantile(TAIL) / self.width), first)
        step = _round_up((last - first + 1) / SHOWN_BINS)
        first = first // step * step
        stop = first + -(-(last - first + 1) // step) * step
        shown = self.counts[first:stop]
        shown = np.pad(shown, (0, stop - first - len(shown)))
        return Histogram(
            label,
            unit,
            first * self.width,
            step * self.width,
            shown.reshape(-1, step).sum(axis=1).tolist(),
            int(self.counts[stop:].sum()),
            self.quantile(0.5),
        )


def _round_up(number: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50 and so on."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if factor * power >= number:
                return factor * power
        power *= 10
