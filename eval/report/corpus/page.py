"""A scored corpus as one HTML file that needs nothing else and runs nothing a corpus says."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from eval.report.corpus import figures
from eval.report.corpus.findings import findings
from eval.report.corpus.model import CorpusReport, ListedRow, SpokenTurn, TokenHeatmap
from eval.report.figures import BAND_STYLES
from eval.report.page import embedded_json, render_page
from eval.report.wording import percent, quoted, shortened, visible
from nlirg.corpus.profile import TypeProfile

# Shown of a row's prompt and answer in the list, in bytes: 10,000 rows stay a few megabytes in
# any script.
PROMPT_BYTES, ANSWER_BYTES = 160, 320
CONTEXT_BYTES = 4000  # of a turn above a heat map
MOST_TYPES, MOST_PHRASED = 50, 20  # task types in the table, and with answers and openings


def render_corpus(report: CorpusReport) -> str:
    """Render the page of one scored corpus.

    Everything that came from the corpus is escaped by Jinja's autoescape or, in the list and the
    heat maps, written through `textContent`; see `eval.report.page` for the rest.
    """
    profiles = {profile.task_type: profile for profile in report.profile.types}
    return render_page(
        "eval.report.corpus",
        "corpus.html.j2",
        styles=["corpus.css"],
        scripts=["corpus.js"],
        report=report,
        findings=findings(report),
        distributions=[*figures.distributions(report)],
        shares=[*figures.shares(report)],
        types=sorted(report.types.items(), key=lambda item: -item[1].rows)[:MOST_TYPES],
        profiles=profiles,
        repeated=_repeated(report),
        band_styles=BAND_STYLES,
        band_strip=figures.band_strip,
        percent=percent,
        quoted=quoted,
        data=_data(report),
    )


def _repeated(report: CorpusReport) -> list[TypeProfile]:
    """Whose commonest answers and openings are shown: every task type's, or all rows'."""
    types = report.profile.types
    return types[:MOST_PHRASED] if len(types) > 1 else [report.profile.all]


def _data(report: CorpusReport) -> Markup:
    """Rows, scores and heat maps for the page's script; names that recur are numbered."""
    sources: dict[str, int] = {}
    scores = list(report.listed[0].scores) if report.listed else []
    return embedded_json(
        {
            "scores": scores,
            "rows": [_row(row, sources) for row in report.listed],
            "samples": [_sample(row.sample) for row in report.listed if row.sample],
            "sources": [visible(source) for source in sources],
        }
    )


def _row(row: ListedRow, sources: dict[str, int]) -> list[Any]:
    """One row as the page's script reads it."""
    return [
        visible(row.id),
        sources.setdefault(row.source, len(sources)),
        row.line,
        visible(row.task_type),
        row.band,
        visible(row.language),
        _beginning(row.prompt, PROMPT_BYTES),
        _beginning(row.answer, ANSWER_BYTES),
        list(row.repeats),
        [float(f"{value:.4g}") for value in row.scores.values()],
    ]


def _beginning(text: str, limit: int) -> str:
    """Shorten a text to `limit` bytes of UTF-8."""
    return visible(shortened(text, limit, lambda part: len(part.encode())))


def _sample(sample: TokenHeatmap) -> dict[str, Any]:
    return {
        "turns": [_turn(turn) for turn in sample.turns],
        "flags": [
            [flag.pattern, round(flag.mean_loss, 2), round(flag.mean_entropy, 2)]
            for flag in sample.flags
        ],
        "reasons": [visible(reason) for reason in sample.reasons],
    }


def _turn(turn: SpokenTurn) -> dict[str, Any]:
    if not turn.pieces:
        return {"role": turn.role, "text": _beginning(turn.text, CONTEXT_BYTES)}
    pieces = [
        [visible(piece.text), _rounded(piece.loss), _rounded(piece.entropy), piece.span]
        for piece in turn.pieces
    ]
    return {"role": turn.role, "pieces": pieces, "before": turn.before, "after": turn.after}


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 2)
