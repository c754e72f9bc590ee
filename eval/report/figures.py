"""Which charts a report shows, and from which of its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from eval.report import wording
from eval.report.charts.plots import Bar, Format, Ranged, bars
from eval.schema.report import Estimate, PhraseShare, Report
from eval.statistics.pairing import HUMAN

ZONE_STYLES = {zone: f"z-{zone}" for zone in ("low", "mid", "high", "discarded")}
BAND_STYLES = {"high": "z-low", "good": "z-mid", "fair": "z-high", "suspect": "z-discarded"}
COLOURS = 7  # Okabe-Ito: black or white for the baseline, and six hues; see report.css
_written_share = partial(wording.value, unit="share")


@dataclass(frozen=True)
class Figure:
    """One chart with its title, a sentence on how to read it, and the variants it colours."""

    title: str
    note: str
    svg: Markup
    legend: list[str]


def styles(report: Report) -> dict[str, str]:
    """Return the colour class of every variant and arm; the seeds of an arm share one."""
    arm_of = {variant: arm for arm, seeds in report.seeds.items() for variant in seeds}
    arms = dict.fromkeys(arm_of.get(name, name) for name in report.tuned)
    hues = {arm: f"s{1 + i % (COLOURS - 1)}" for i, arm in enumerate(arms)}
    variants = {name: hues[arm_of.get(name, name)] for name in report.tuned}
    return {report.baseline: "s0", **hues, **variants, HUMAN: "human"}


def ranged(estimate: Estimate) -> Ranged:
    """Return an estimate as charts draw it."""
    return Ranged(estimate.value, estimate.low, estimate.high)


def _grouped(
    report: Report,
    title: str,
    note: str,
    rows: Mapping[str, Mapping[str, Ranged]],
    written: Format = _written_share,
) -> Figure:
    """Draw a group of bars for each row, one bar for each variant that the row has.

    Where variants share a colour, names at the bars take the place of the legend.
    """
    colour = styles(report)
    used = [v for v in wording.columns(report) if any(v in row for row in rows.values())]
    groups = {
        name: [Bar(v, colour[v], row[v]) for v in used if v in row] for name, row in rows.items()
    }
    alike = len({colour[v] for v in used}) < len(used)
    return Figure(title, note, bars(groups, written, title, alike), [] if alike else used)


def _all_ranged(values: Mapping[str, Estimate]) -> dict[str, Ranged]:
    return {variant: ranged(estimate) for variant, estimate in values.items()}


def task_keys(report: Report) -> tuple[list[str], list[str]]:
    """Return the metrics measured per task type: the first of every family, and the others."""
    family = {metric.key: metric.family for metric in report.metrics}
    first: dict[str, str] = {}
    keys = list(dict.fromkeys(row.key for row in report.by_task))
    for key in keys:
        first.setdefault(family.get(key, ""), key)
    return list(first.values()), [key for key in keys if key not in first.values()]


def per_task(report: Report, keys: Sequence[str]) -> Iterator[Figure]:
    """Draw a grouped bar chart for each of these metrics."""
    metrics = {metric.key: metric for metric in report.metrics}
    for key in keys:
        metric = metrics.get(key)
        unit = metric.unit if metric else "number"
        better = {"higher": "Longer is better.", "lower": "Shorter is better."}
        note = better.get(metric.better if metric else "", "")
        yield _grouped(
            report,
            f"{metric.label if metric else key} per task",
            f"{note} Thin lines are the intervals.",
            {
                row.task_type or "no task type": _all_ranged(row.values)
                for row in report.by_task
                if row.key == key
            },
            partial(wording.value, unit=unit),
        )


def rewordings(report: Report) -> Iterator[Figure]:
    """Draw accuracy under every kind of rewording."""
    rows = {
        wording.plain_name(row.perturbation): _all_ranged(row.values)
        for row in report.by_perturbation
        if row.key == "robustness_accuracy"
    }
    if rows:
        note = "Longer is better. Thin lines are the intervals."
        yield _grouped(report, "Accuracy per kind of rewording", note, rows)


def _phrases(report: Report, title: str, note: str, shares: list[PhraseShare]) -> Iterator[Figure]:
    rows = {
        f"“{row.phrase}”": {v: Ranged(share, share, share) for v, share in row.shares.items()}
        for row in shares
    }
    if rows:
        yield _grouped(report, title, note, rows)


def phrases(report: Report) -> Iterator[Figure]:
    """Draw the commonest openings, closings and phrases, as shares of answers."""
    yield from _phrases(
        report, "Commonest openings", "Share of answers that start so.", report.openings
    )
    yield from _phrases(
        report, "Commonest closings", "Share of answers that end so.", report.closings
    )
    yield from _phrases(
        report, "Commonest phrases", "Share of answers that contain it.", report.phrases
    )


def corpus(report: Report) -> Iterator[Figure]:
    """Draw similarity bands and loss zones of the corpus."""
    if report.corpus is not None:
        yield from corpus_shares(report.corpus.bands, report.corpus.zones)


def corpus_shares(bands: Mapping[str, int], zones: Mapping[str, float]) -> Iterator[Figure]:
    """Draw rows per similarity band and tokens per loss zone; either may be empty."""
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
