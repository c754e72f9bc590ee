"""What the page of a scored corpus is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from eval.report.corpus.histogram import Histogram
from nlirg.corpus.profile import CorpusProfile


class TextPiece(NamedTuple):
    """A stretch of an answer as the heat map shows it: a token, or a few that make one character.

    Attributes:
        text: what it says.
        loss: largest loss of its tokens, nats; None if none of them was scored.
        entropy: entropy of the token with that loss, nats; None if entropies were not kept.
        span: index of the flagged span it lies in, -1 if it lies in none.
    """

    text: str
    loss: float | None
    entropy: float | None = None
    span: int = -1


@dataclass(frozen=True)
class SpokenTurn:
    """One turn of a sample: plain text, or scored pieces.

    Attributes:
        role: who speaks; "text" for a document.
        text: a turn that was not scored, shortened.
        pieces: a scored turn, or the part of it that is shown.
        before: tokens left out in front of the pieces.
        after: tokens left out behind them.
    """

    role: str
    text: str = ""
    pieces: list[TextPiece] = field(default_factory=list)
    before: int = 0
    after: int = 0


class Flag(NamedTuple):
    """One flagged span: its pattern, and mean loss and entropy of its tokens in nats."""

    pattern: str
    mean_loss: float
    mean_entropy: float


@dataclass(frozen=True)
class TokenHeatmap:
    """A suspicious row in full: its turns, the spans marked in them, why it stands out."""

    turns: list[SpokenTurn]
    flags: list[Flag]
    reasons: list[str]


class Repeats(NamedTuple):
    """Sizes of the groups a row shares its prompt, its answer or both with; 0 if with none."""

    prompt: int = 0
    answer: int = 0
    row: int = 0


@dataclass(frozen=True)
class ListedRow:
    """One row of the list.

    Attributes:
        id: of the row.
        source: file it stands in.
        line: its line there.
        task_type: "" if it has none.
        band: of its similarity.
        language: of its answer or text.
        prompt: its beginning ("" for a document).
        answer: its beginning, or that of the text.
        scores: score -> value; every row has the same ones.
        repeats: what it shares with other rows, near copies included.
        sample: the row in full, for the most suspicious ones.
    """

    id: str
    source: str
    line: int
    task_type: str
    band: str
    language: str
    prompt: str
    answer: str
    scores: dict[str, float]
    repeats: Repeats
    sample: TokenHeatmap | None = None


@dataclass
class TypeScores:
    """Sums over the rows of one task type."""

    rows: int = 0
    tokens: int = 0
    loss: float = 0.0
    bands: dict[str, int] = field(default_factory=dict)
    repeated_answers: int = 0
    repeated_rows: int = 0

    @property
    def mean_loss(self) -> float:
        """Nats per trained token."""
        return self.loss / max(1, self.tokens)


@dataclass(frozen=True)
class CorpusReport:
    """One scored corpus.

    Attributes:
        title: heading of the page.
        model: the model whose losses these are.
        all: sums over all rows.
        types: task type -> sums.
        zones: zone -> share of trained tokens.
        truncated: rows cut at the context length.
        flagged: rows with at least one flagged span.
        histograms: of the scores and lengths.
        profile: duplicates, commonest answers, lengths, languages.
        quarantined: reason -> rows set aside.
        listed: rows of the list, the most suspicious first; all rows, or the first of them.
    """

    title: str
    model: str
    all: TypeScores
    types: dict[str, TypeScores]
    zones: dict[str, float]
    truncated: int
    flagged: int
    histograms: list[Histogram]
    profile: CorpusProfile
    quarantined: dict[str, int]
    listed: list[ListedRow]
