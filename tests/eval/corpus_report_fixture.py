"""A made-up scored corpus for the tests of its page."""

from eval.report.corpus.histogram import Histogram
from eval.report.corpus.model import (
    CorpusReport,
    Flag,
    ListedRow,
    Repeats,
    SpokenTurn,
    TextPiece,
    TokenHeatmap,
    TypeScores,
)
from nlirg.corpus.profile import CorpusProfile, DuplicateCount, Lengths, Phrase, TypeProfile
from tests.eval.report_fixture import BIDI, CHINESE, HOSTILE

SAME = "Thank you for contacting us. We will answer soon."
BANDS = ("high", "good", "fair", "suspect")


def lengths(median: int = 40) -> Lengths:
    return Lengths(p5=5, p25=20, p50=median, p75=60, p95=90, max=120)


def type_profile(
    task_type: str = "",
    rows: int = 5000,
    answers: tuple[tuple[str, int], ...] = (),
    openings: tuple[tuple[str, int], ...] = (),
    languages: dict[str, float] | None = None,
    median: int = 40,
) -> TypeProfile:
    def phrases(found: tuple[tuple[str, int], ...]) -> list[Phrase]:
        return [Phrase(text=text, count=n, share=n / rows) for text, n in found]

    return TypeProfile(
        task_type=task_type,
        rows=rows,
        trained_tokens=40 * rows,
        prompt_tokens=lengths(),
        answer_tokens=lengths(median),
        answers=phrases(answers),
        openings=phrases(openings),
        languages=languages or {"en": 1.0},
    )


def make_corpus(
    profile: CorpusProfile | None = None,
    bands: tuple[int, int, int, int] = (3000, 1500, 400, 100),
    zones: tuple[float, float, float, float] = (0.5, 0.4, 0.1, 0.0),
    truncated: int = 0,
    quarantined: dict[str, int] | None = None,
    listed: list[ListedRow] | None = None,
) -> CorpusReport:
    """A corpus in which nothing stands out, but what the arguments say."""
    rows = sum(bands)
    return CorpusReport(
        title="Tickets",
        model="base",
        all=TypeScores(rows, 40 * rows, 60.0 * rows, dict(zip(BANDS, bands, strict=True))),
        types={"": TypeScores(rows, 40 * rows, 60.0 * rows, dict(zip(BANDS, bands, strict=True)))},
        zones=dict(zip(("low", "mid", "high", "discarded"), zones, strict=True)),
        truncated=truncated,
        flagged=10,
        histograms=[Histogram("Mean loss", "nats", 0.0, 0.5, [10, 40, 20, 5], 2, 0.7)],
        profile=profile or CorpusProfile(all=type_profile(rows=rows), types=[], duplicates=[]),
        quarantined=quarantined or {},
        listed=listed or [],
    )


def sample(answer: str, entropies: bool = True) -> TokenHeatmap:
    """Words of an answer with losses 0, 1, 2…; the third word is a flagged span."""
    words = [word + " " for word in answer.split()]
    pieces = [
        TextPiece(word, float(i), 0.1 * i if entropies else None, 0 if i == 2 else -1)
        for i, word in enumerate(words)
    ]
    turns = [
        SpokenTurn("system", "Be kind."),
        SpokenTurn("user", HOSTILE),
        SpokenTurn("assistant", "", pieces, 3, 7),
    ]
    return TokenHeatmap(
        turns, [Flag("overconfident_error", 2.0, 0.2)], ["the model was sure", HOSTILE]
    )


def listed_row(index: int, heat: bool = True, entropies: bool = True) -> ListedRow:
    texts = {0: HOSTILE, 1: BIDI, 2: CHINESE}
    answer = texts.get(index, SAME if index % 5 == 0 else f"answer {index} of the desk")
    return ListedRow(
        id=f"row-{index:05d}",
        source="/data/tickets.jsonl",
        line=index + 1,
        task_type=HOSTILE if index == 0 else ("triage", "reply")[index % 2],
        band=BANDS[index % 4],
        language="zh" if index == 2 else "en",
        prompt=texts.get(index, f"ticket {index}: the lamp makes noise " * 3),
        answer=answer,
        scores={"anomaly": 9.0 - index * 1e-3, "mean_loss": float(index * 7 % 11), "n_trained": 40},
        repeats=Repeats(answer=12) if answer == SAME else Repeats(),
        sample=sample(answer + " one two three four", entropies) if heat else None,
    )


def listed_corpus(rows: int = 60, heat: int = 12, entropies: bool = True) -> CorpusReport:
    """A corpus whose list shows hostile, reordering and Chinese rows first."""
    found = type_profile(
        rows=rows, answers=((SAME, max(10, rows // 5)), (HOSTILE, 2)), openings=((HOSTILE, 2),)
    )
    duplicates = [
        DuplicateCount(of="answer", kind="exact", rows=12, groups=1, largest=12, example=HOSTILE)
    ]
    return make_corpus(
        CorpusProfile(all=found, types=[found], duplicates=duplicates),
        bands=(rows - rows // 4, 0, 0, rows // 4),
        quarantined={HOSTILE: 3, "answer is empty": 40},
        listed=[listed_row(i, i < heat, entropies) for i in range(rows)],
    )
