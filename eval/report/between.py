"""Tuned variants compared with each other, in words."""

from __future__ import annotations

from dataclasses import dataclass

from eval.report import wording
from eval.schema.report import Contrast, Estimate, Metric, Pairing, Report


@dataclass(frozen=True)
class ContrastText:
    """One metric of a pair: both values, and the second's difference from the first."""

    label: str
    first: str
    second: wording.Cell


@dataclass(frozen=True)
class PairText:
    """Two variants: a sentence that sums up, and a row for every metric."""

    first: str
    second: str
    summary: str
    rows: list[ContrastText]


def pair_texts(report: Report) -> list[PairText]:
    """Put every pair of tuned variants into words; metrics in the order of the report's table."""
    ordered = [metric for _, metrics in wording.by_family(report) for metric in metrics]
    return [_pair(pairing, ordered) for pairing in report.between]


def _pair(pairing: Pairing, metrics: list[Metric]) -> PairText:
    found = {contrast.key: contrast for contrast in pairing.contrasts}
    rows = [_row(m, found[m.key], pairing) for m in metrics if m.key in found]
    return PairText(pairing.first, pairing.second, _summary(rows, pairing), rows)


def _row(metric: Metric, contrast: Contrast, pairing: Pairing) -> ContrastText:
    """Write one row, as if the first variant were the base."""

    def alone(value: float) -> Estimate:
        return Estimate(value=value, low=value, high=value, n=contrast.paired.n)

    values = {
        pairing.first: alone(contrast.first),
        pairing.second: alone(contrast.second),
    }
    two = metric.model_copy(update={"values": values, "against": {pairing.second: contrast.paired}})
    cell = wording.cell(two, pairing.second, pairing.first)
    assert cell is not None  # both are in it
    label = metric.label + wording.DIRECTION_SIGNS[metric.better]
    return ContrastText(label, wording.value(contrast.first, metric.unit), cell)


def _summary(rows: list[ContrastText], pairing: Pairing) -> str:
    counts = {
        effect: sum(row.second.effect == effect for row in rows)
        for effect in ("better", "worse", "changed")
    }
    told = [f"{count} {effect}" for effect, count in counts.items() if count]
    if not told:
        return f"no difference shown in {len(rows)} metrics"
    return f"of {len(rows)} metrics {', '.join(told)}"
