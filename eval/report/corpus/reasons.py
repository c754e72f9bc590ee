"""Why a row is among the suspicious ones, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eval.report.corpus.histogram import HistogramCounts
from eval.report.corpus.model import Repeats
from eval.report.wording import percent

UNUSUAL = 0.95  # share of rows that must lie below a value worth a word
PATTERNS = {
    "overconfident_error": "the model was sure of something else",
    "suspicious_certainty": "the model was very sure, and somewhat surprised",
    "hard": "the model was unsure and wrong",
    "lucky": "the model was unsure and right",
}


def reasons(
    row: Mapping[str, Any],
    spans: Sequence[Mapping[str, Any]],
    repeats: Repeats,
    histograms: Mapping[str, HistogramCounts],
) -> list[str]:
    """Everything about a row that is out of the ordinary; says so if only its anomaly score is."""
    found = [
        *_spans(spans),
        *_scores(row, histograms),
        *_repeats(repeats),
        *(["cut at the context length"] if row["truncated"] else []),
    ]
    return found or [f"anomaly score {row['anomaly']:.3g}; nothing else is out of the ordinary"]


def _spans(spans: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    counts = Counter(span["pattern"] for span in spans)
    for pattern, count in counts.most_common():
        worst = next(span for span in spans if span["pattern"] == pattern)
        where = f"in {count} places " if count > 1 else ""
        yield (
            f"{where}{PATTERNS.get(pattern, pattern.replace('_', ' '))} "
            f"(loss {worst['mean_loss']:.1f}, entropy {worst['mean_entropy']:.1f} nats)"
        )


def _scores(row: Mapping[str, Any], histograms: Mapping[str, HistogramCounts]) -> Iterator[str]:
    if row["band"] == "suspect":
        yield f"loss and entropy hardly run alike (similarity {row['similarity']:.2f}, suspect)"
    below = histograms["mean_loss"].share_below(row["mean_loss"])
    if below >= UNUSUAL:
        yield f"mean loss {row['mean_loss']:.2f} nats, above {percent(below)} of the rows"
    if row["zone_discarded"] > 0:
        share = percent(row["zone_discarded"])
        yield f"{share} of its tokens out of reach (loss of 15 nats or more)"
    longer = histograms["n_trained"].share_below(row["n_trained"])
    if longer >= UNUSUAL:
        yield f"{row['n_trained']:,} trained tokens, more than {percent(longer)} of the rows"


def _repeats(repeats: Repeats) -> Iterator[str]:
    if repeats.row > 1:
        yield f"(nearly) the same row occurs {repeats.row:,} times"
    elif repeats.answer > 1:
        yield f"(nearly) the same answer occurs {repeats.answer:,} times"
    elif repeats.prompt > 1:
        yield f"(nearly) the same prompt occurs {repeats.prompt:,} times"
