"""What jumps out of a scored corpus, in sentences; the most severe first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from eval.report.corpus.model import CorpusReport
from eval.report.wording import percent, quoted
from nlirg.corpus.profile import UNDETERMINED, DuplicateCount, Phrase, TypeProfile

# A share below these is not worth a sentence.
SAME_ANSWER, SAME_OPENING, REPEATED = 0.05, 0.2, 0.02
SUSPECT, SET_ASIDE, CUT, OUT_OF_REACH = 0.1, 0.01, 0.02, 0.01
KNOWN = 0.8  # share of tokens in the low zone from which little is left to learn
ODD_LANGUAGE = (0.002, 0.2)  # smaller is chance, larger is a bilingual corpus
UNKNOWN = ("", UNDETERMINED)  # no letters, or too few to tell
FEW_ROWS = 10
MOST_PHRASES = 3  # sentences about answers, and about openings
LABEL_TOKENS = 8  # answers of at most this median length may be labels, which must repeat


Counts = dict[tuple[str, str], DuplicateCount]


@dataclass(frozen=True)
class Finding:
    """One sentence of the headline.

    Attributes:
        severity: orders the findings, in [0, 1].
        lead: what is the matter.
        proof: numbers or an example, and what to do.
        anchor: section of the page that shows more.
    """

    severity: float
    lead: str
    proof: str
    anchor: str


def findings(report: CorpusReport) -> list[Finding]:
    """Return every finding, the most severe first; none if nothing stands out."""
    found = chain(
        _answers(report),
        _openings(report),
        _repeats(report),
        _suspects(report),
        _set_aside(report),
        _cut(report),
        _zones(report),
        _languages(report),
    )
    return sorted(found, key=lambda finding: -finding.severity)


def rows(count: int) -> str:
    """`1 row`, `1,000 rows`."""
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def _where(found: TypeProfile) -> str:
    return f" in {found.task_type}" if found.task_type else ""


def _of_types(report: CorpusReport) -> list[TypeProfile]:
    """All rows, and the task types where there is more than one."""
    types = report.profile.types
    return [report.profile.all, *(types if len(types) > 1 else [])]


def _commonest(
    report: CorpusReport, kind: Literal["answers", "openings"], share: float
) -> list[tuple[TypeProfile, Phrase]]:
    """The phrases that take the largest shares, each with the rows where it is commonest."""
    first = [
        (found, phrases[0]) for found in _of_types(report) if (phrases := getattr(found, kind))
    ]
    first = [pair for pair in first if pair[1].share >= share and pair[1].count >= FEW_ROWS]
    widest = sorted(first, key=lambda pair: (-pair[1].share, -pair[1].count))
    unique: dict[str, tuple[TypeProfile, Phrase]] = {}
    for pair in widest:
        unique.setdefault(pair[1].text, pair)
    return [*unique.values()][:MOST_PHRASES]


def _answers(report: CorpusReport) -> Iterator[Finding]:
    for found, answer in _commonest(report, "answers", SAME_ANSWER):
        label = found.answer_tokens.p50 <= LABEL_TOKENS
        advice = (
            "fine if answers are labels; if so, check that the classes are balanced"
            if label
            else "training on it teaches the model to parrot; keep a few (select.per_answer)"
        )
        yield Finding(
            answer.share / 2 + (0.0 if label else 0.5),
            f"{answer.count:,} of {rows(found.rows)}{_where(found)} have the same answer",
            f"{quoted(answer.text)}: {advice}.",
            "repeats",
        )


def _openings(report: CorpusReport) -> Iterator[Finding]:
    for found, opening in _commonest(report, "openings", SAME_OPENING):
        same = found.answers[0].count if found.answers else 0
        if same >= 0.8 * opening.count:  # equal answers open equally: no second sentence
            continue
        yield Finding(
            opening.share * 0.4,
            f"{percent(opening.share)} of the answers{_where(found)} open alike",
            f"{opening.count:,} begin with {quoted(opening.text)}.",
            "repeats",
        )


def _repeats(report: CorpusReport) -> Iterator[Finding]:
    counts: Counts = {(count.of, count.kind): count for count in report.profile.duplicates}
    total = max(1, report.all.rows)
    for of, what in (("row", "repeat another row"), ("prompt", "repeat a prompt")):
        near = counts.get((of, "near")) or counts.get((of, "exact"))
        if near is None or near.rows / total < REPEATED:
            continue
        exact = counts.get((of, "exact"))
        if of == "prompt" and _same_rows(counts, near):
            continue
        same = exact.rows if exact else 0
        yield Finding(
            near.rows / total * (0.9 if of == "row" else 0.4),
            f"{near.rows:,} of {rows(total)} {what}{', or nearly' if same < near.rows else ''}",
            f"{rows(same)} exactly; the largest group has {rows(near.largest)}: "
            f"{quoted(near.example)}.",
            "repeats",
        )


def _same_rows(counts: Counts, prompts: DuplicateCount) -> bool:
    """Whether repeated prompts are little more than the repeated rows already reported."""
    same = counts.get(("row", prompts.kind))
    return same is not None and same.rows >= 0.8 * prompts.rows


def _suspects(report: CorpusReport) -> Iterator[Finding]:
    total = max(1, report.all.rows)
    suspect = report.all.bands.get("suspect", 0)
    if suspect / total >= SUSPECT:
        yield Finding(
            suspect / total,
            f"{percent(suspect / total)} of the rows are suspect",
            f"{rows(suspect)}: loss is high where the model is sure. New knowledge, or errors; "
            "read the ones below.",
            "suspicious",
        )


def _set_aside(report: CorpusReport) -> Iterator[Finding]:
    reasons = sorted(report.quarantined.items(), key=lambda item: -item[1])
    count = sum(report.quarantined.values())
    if not count:
        return
    share = count / (count + report.all.rows)
    named = [f"{number:,} for “{reason}”" for reason, number in reasons[:2]]
    rest = count - sum(number for _, number in reasons[:2])
    named += [f"{rest:,} for other reasons"] if rest else []
    yield Finding(
        max(share, 0.02) if share >= SET_ASIDE else 0.01,
        f"{rows(count)} set aside ({percent(share)})",
        f"{', '.join(named)}; quarantine.jsonl names file and line.",
        "set-aside",
    )


def _cut(report: CorpusReport) -> Iterator[Finding]:
    share = report.truncated / max(1, report.all.rows)
    if share >= CUT:
        yield Finding(
            share * 0.6,
            f"{rows(report.truncated)} cut at the context length",
            f"{percent(share)} lose the end of an answer; raise encode.max_length.",
            "numbers",
        )


def _zones(report: CorpusReport) -> Iterator[Finding]:
    lost, known = report.zones.get("discarded", 0.0), report.zones.get("low", 0.0)
    if lost >= OUT_OF_REACH:
        yield Finding(
            min(1.0, lost * 2),
            f"{percent(lost)} of the answer tokens are out of reach",
            "Their loss is 15 nats or more: garbled text, a foreign script, or another tokenizer.",
            "numbers",
        )
    if known >= KNOWN:
        yield Finding(
            0.3 * known,
            f"The model knows {percent(known)} of the answer tokens already",
            "Their loss is below 1.45 nats: there is little left to learn.",
            "numbers",
        )


def _languages(report: CorpusReport) -> Iterator[Finding]:
    for found in _of_types(report)[1:] or [report.profile.all]:
        known = {name: share for name, share in found.languages.items() if name not in UNKNOWN}
        shares = sorted(known.items(), key=lambda item: -item[1])
        other = sum(share for _, share in shares[1:])
        if not ODD_LANGUAGE[0] <= other <= ODD_LANGUAGE[1] or other * found.rows < FEW_ROWS:
            continue
        named = ", ".join(f"{name} {percent(share)}" for name, share in shares[1:4])
        yield Finding(
            other * 0.5,
            f"{percent(other)} of the answers{_where(found)} are not in {shares[0][0]}",
            f"{named}: wanted, or rows that went astray? Short answers may be misjudged.",
            "numbers",
        )
