"""The charts of a scored corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from markupsafe import Markup

from eval.report.charts.plots import histogram
from eval.report.charts.svg import drawing, tag
from eval.report.corpus.findings import rows
from eval.report.corpus.model import CorpusReport
from eval.report.figures import BAND_STYLES, Figure, corpus_shares
from eval.report.wording import percent

STRIP_WIDTH, STRIP_HEIGHT = 120.0, 12.0


def distributions(report: CorpusReport) -> Iterator[Figure]:
    """A histogram of every score and length."""
    for found in report.histograms:
        axis = f"{found.label}, {found.unit}" if found.unit else found.label
        beyond = f"; {rows(found.beyond)} beyond the axis" if found.beyond else ""
        yield Figure(
            found.label,
            f"Median {found.median:.4g}{beyond}.",
            histogram(found.start, found.width, found.counts, found.beyond, axis, "rows"),
            [],
        )


def shares(report: CorpusReport) -> Iterator[Figure]:
    """Bands and zones."""
    ordered = {band: report.all.bands.get(band, 0) for band in BAND_STYLES}
    yield from corpus_shares(ordered, report.zones)


def band_strip(bands: Mapping[str, int]) -> Markup:
    """The shares of the bands as one thin bar, for a cell of a table."""
    total = max(1, sum(bands.values()))
    parts, left = [], 0.0
    for band, style in BAND_STYLES.items():
        share = bands.get(band, 0) / total
        title = tag("title", f"{band}: {percent(share)}")
        parts.append(
            tag(
                "rect",
                title,
                class_=f"bar {style}",
                x=left,
                y=0,
                width=share * STRIP_WIDTH,
                height=STRIP_HEIGHT,
            )
        )
        left += share * STRIP_WIDTH
    said = ", ".join(f"{band} {percent(bands.get(band, 0) / total)}" for band in BAND_STYLES)
    return drawing(STRIP_WIDTH, STRIP_HEIGHT, said, *parts)
