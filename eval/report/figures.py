"""Which charts a report shows, and from which of its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from eval.report import wording
from eval.report.plots import Bar, Line, Point, Ranged, areas, bars, curves, scatter
from eval.schema import Estimate, Metric, PhraseShare, Report, Suite, TrainingCurve

MAX_POINTS = 120  # per curve: more cannot be told apart at the size they are drawn
ZONE_STYLES = {zone: f"z-{zone}" for zone in ("low", "mid", "high", "discarded")}
BAND_STYLES = {"high": "z-low", "good": "z-mid", "fair": "z-high", "suspect": "z-discarded"}
COLOURS = 7  # Okabe-Ito: black or white for the baseline, and six hues; see report.css
_written_share = partial(wording.value, unit="share")


class Figure(NamedTuple):
    """One chart with its title, a sentence on how to read it, and the variants it colours."""

    title: str
    note: str
    svg: Markup
    legend: list[str]


def styles(report: Report) -> dict[str, str]:
    """Colour class of every variant; the human answers have their own."""
    hues = {name: f"s{1 + i % (COLOURS - 1)}" for i, name in enumerate(wording.tuned(report))}
    return {report.baseline: "s0", **hues, "human": "human"}


def _ranged(estimate: Estimate) -> Ranged:
    return Ranged(estimate.value, estimate.low, estimate.high)


def _share(report: Report, family: Suite, preferred: str) -> Metric | None:
    """The share metric to plot for a family: the preferred one, else the first."""
    found = [m for m in report.metrics if m.family == family and m.unit == "share"]
    return next((m for m in found if m.key == preferred), found[0] if found else None)


def tradeoff(report: Report) -> Iterator[Figure]:
    """Out-of-domain accuracy against domain accuracy: learning against forgetting."""
    learned = _share(report, "domain", "domain_accuracy")
    kept = _share(report, "ood", "ood_accuracy")
    if not learned or not kept:
        return
    colour = styles(report)
    points = [
        Point(name, colour[name], _ranged(learned.values[name]), _ranged(kept.values[name]))
        for name in report.variants
        if name in learned.values and name in kept.values
    ]
    if points:
        yield Figure(
            "Learning against forgetting",
            "Further right: learned more. Further up: forgot less. Lines are the intervals.",
            scatter(points, learned.label, kept.label),
            [],
        )


def per_task(report: Report) -> Iterator[Figure]:
    """One grouped bar chart per metric that was measured per task type."""
    metrics = {metric.key: metric for metric in report.metrics}
    colour = styles(report)
    for key in dict.fromkeys(row.key for row in report.by_task):
        metric = metrics.get(key)
        unit = metric.unit if metric else "number"
        name = metric.label if metric else key
        rows = [row for row in report.by_task if row.key == key]
        used = [v for v in wording.columns(report) if any(v in row.values for row in rows)]
        groups = {
            row.task_type or "no task type": [
                Bar(v, colour[v], _ranged(row.values[v])) for v in used if v in row.values
            ]
            for row in rows
        }
        better = {"higher": "Longer is better.", "lower": "Shorter is better."}
        note = better.get(metric.better if metric else "", "")
        svg = bars(groups, partial(wording.value, unit=unit), f"{name} per task type")
        yield Figure(f"{name} per task", f"{note} Thin lines are the intervals.", svg, used)


def thinned(steps: Sequence[int], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Mean of consecutive bins, so that a curve has at most `MAX_POINTS` points.

    A bin without a finite value stays a gap (NaN).
    """
    parts = min(MAX_POINTS, len(steps))
    bins = np.array_split(np.asarray(values, dtype=float), parts)
    across = [float(part.mean()) for part in np.array_split(np.asarray(steps), parts)]
    finite = [part[np.isfinite(part)] for part in bins]
    return across, [float(part.mean()) if part.size else float("nan") for part in finite]


def _losses(report: Report, arms: dict[str, TrainingCurve]) -> Figure:
    colour = styles(report)
    lines = [
        Line(arm, colour.get(arm, "s0"), *thinned(curve.steps, curve.loss))
        for arm, curve in arms.items()
    ]
    note = "Mean unweighted loss of the tokens trained at each step; neighbouring steps averaged."
    return Figure("Training loss", note, curves(lines, "Optimizer step", "Loss in nats"), [])


def training(report: Report) -> Iterator[Figure]:
    """Loss of every arm in one chart, and the zones of its tokens in one chart per arm."""
    arms = {arm: curve for arm, curve in report.training.items() if curve.steps}
    if not arms:
        return
    yield _losses(report, arms)
    for arm, curve in arms.items():
        layers = [
            Line(zone, style, *thinned(curve.steps, curve.zones[zone]))
            for zone, style in ZONE_STYLES.items()
            if curve.zones.get(zone)
        ]
        if layers:
            svg = areas(layers[0].x, layers, "Optimizer step", "Share of trained tokens")
            note = "How hard the trained tokens were: from known (low) to out of reach (discarded)."
            yield Figure(f"Loss zones while training {arm}", note, svg, [])


def _phrases(report: Report, title: str, note: str, rows: list[PhraseShare]) -> Iterator[Figure]:
    if not rows:
        return
    colour = styles(report)
    used = [v for v in [*report.variants, "human"] if any(v in row.shares for row in rows)]
    groups = {
        f"“{row.phrase}”": [
            Bar(v, colour[v], Ranged(row.shares[v], row.shares[v], row.shares[v]))
            for v in used
            if v in row.shares
        ]
        for row in rows
    }
    yield Figure(title, note, bars(groups, _written_share, title), used)


def phrases(report: Report) -> Iterator[Figure]:
    """The commonest openings and phrases, as shares of answers."""
    yield from _phrases(
        report, "Commonest openings", "Share of answers that start so.", report.openings
    )
    yield from _phrases(
        report, "Commonest phrases", "Share of answers that contain it.", report.phrases
    )


def corpus(report: Report) -> Iterator[Figure]:
    """What scoring found: similarity bands and loss zones of the corpus."""
    found = report.corpus
    if found is not None:
        yield from corpus_shares(found.bands, found.zones)


def corpus_shares(bands: Mapping[str, int], zones: Mapping[str, float]) -> Iterator[Figure]:
    """Rows per similarity band, and share of tokens per loss zone; either may be empty."""
    if total := sum(bands.values()):
        shares = {band: rows / total for band, rows in bands.items()}
        note = "How alike a sample's loss and entropy run; suspect samples are worth a look."
        svg = _plain_bars(shares, BAND_STYLES, "Share of samples")
        yield Figure("Similarity bands", note, svg, [])
    if zones:
        note = "How hard the answers' tokens are for the base model before any training."
        svg = _plain_bars(zones, ZONE_STYLES, "Share of tokens")
        yield Figure("Loss zones", note, svg, [])


def _plain_bars(shares: Mapping[str, float], colour: Mapping[str, str], description: str) -> Markup:
    groups = {
        name: [Bar(name, colour[name], Ranged(share, share, share))]
        for name, share in shares.items()
    }
    return bars(groups, _written_share, description)
