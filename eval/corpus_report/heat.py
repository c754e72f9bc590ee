"""Heat maps: the scored tokens of a sample as pieces of text, with the flagged spans marked."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from eval.corpus_report.model import Flag, Piece, Sample, Turn
from nlirg.windows import IGNORE

MOST_TOKENS = 400  # of an answer; a longer one is shown around its worst span
MOST_PENDING = 8  # tokens that make no character yet; more are shown as they are
ANCHOR = 16  # characters by which an answer is found in what the template made of it

Decode = Callable[[Sequence[int]], str]
Span = Mapping[str, Any]


class Scored(NamedTuple):
    """The tokens of one row.

    Attributes:
        ids: [T] token ids.
        loss: float [T], nats; NaN where a token was not scored.
        entropy: float [T], nats; NaN where it is not known.
        spans: `answer` (index of the turn in messages, 0 of a document), `start` and `end`
            (characters of its content), `pattern`, `mean_loss`, `mean_entropy`; the worst first.
    """

    ids: list[int]
    loss: np.ndarray
    entropy: np.ndarray
    spans: Sequence[Span]


def scored_tokens(
    ids: Sequence[int],
    labels: Sequence[int],
    loss: Sequence[float],
    entropy: Sequence[float] | None,
    spans: Sequence[Span],
) -> Scored:
    """Lay the losses and entropies of the n trained tokens beside all T tokens.

    Args:
        ids: [T].
        labels: [T], `IGNORE` where a token is not trained.
        loss: [n] nats.
        entropy: [n] nats, if they were kept.
        spans: see `Scored`; in any order.
    """
    trained = np.asarray(labels) != IGNORE
    laid = np.full((2, len(ids)), np.nan)
    laid[0, trained] = loss
    if entropy is not None:
        laid[1, trained] = entropy
    return Scored(list(ids), laid[0], laid[1], sorted(spans, key=lambda span: -span["score"]))


def chat_sample(
    scored: Scored, messages: Sequence[Mapping[str, Any]], decode: Decode, reasons: list[str]
) -> Sample:
    """The heat map of a conversation: its scored answers as pieces, the other turns as text."""
    answers = [turn for turn, message in enumerate(messages) if message["role"] == "assistant"]
    placed = dict(_matched(scored, messages, answers, decode))
    turns = []
    for number, message in enumerate(messages):
        if number in placed:
            mine = {i for i, span in enumerate(scored.spans) if span["answer"] == number}
            run, content = placed[number], message["content"]
            turns.append(_turn("assistant", scored, run, content, mine, decode))
        else:
            turns.append(Turn(str(message["role"]), str(message["content"])))
    return Sample(turns, _flags(scored), reasons)


def text_sample(scored: Scored, text: str, decode: Decode, reasons: list[str]) -> Sample:
    """The heat map of a document."""
    everywhere, every = range(len(scored.ids)), set(range(len(scored.spans)))
    turn = _turn("text", scored, everywhere, text, every, decode)
    return Sample([turn], _flags(scored), reasons)


def _flags(scored: Scored) -> list[Flag]:
    return [Flag(s["pattern"], s["mean_loss"], s["mean_entropy"]) for s in scored.spans]


def spelled(ids: Sequence[int], decode: Decode) -> Iterator[tuple[int, int, str]]:
    """What each token adds to the text; tokens that make a character only together stay together.

    A token is decoded behind the one before it, since some tokenizers drop a leading space.

    Yields:
        First token, one past the last, and the text they add.
    """
    before, start = 0, 0
    for stop in range(1, len(ids) + 1):
        text, known = decode(ids[before:stop]), decode(ids[before:start])
        whole = len(text) > len(known) and not text.endswith("\ufffd")
        if whole or stop == len(ids) or stop - start >= MOST_PENDING:
            yield start, stop, text[len(known) :]
            before, start = start, stop


def _matched(
    scored: Scored, messages: Sequence[Mapping[str, Any]], answers: list[int], decode: Decode
) -> Iterator[tuple[int, range]]:
    """Which turn each run of scored tokens is: the next whose content it shows."""
    runs = _runs(scored)
    waiting = list(answers)
    for left, run in zip(range(len(runs), 0, -1), runs, strict=True):
        said = decode(scored.ids[run.start : run.stop])
        fitting = [turn for turn in waiting if _offset(said, messages[turn]["content"]) is not None]
        # Answers without text (calls of functions) show in none: theirs is the place from the end.
        turn = fitting[0] if fitting else waiting[max(0, len(waiting) - left)]
        yield turn, run
        waiting = [later for later in waiting if later > turn]
        if not waiting:
            return


def _runs(scored: Scored) -> list[range]:
    """The stretches of consecutive scored tokens: one per scored answer."""
    known = np.isfinite(scored.loss).astype(np.int8)
    steps = np.diff(known, prepend=0, append=0)
    starts, stops = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return [range(int(a), int(b)) for a, b in zip(starts, stops, strict=True)]


def _offset(said: str, content: str) -> int | None:
    """Where a content's first character stands in what the template made of it; may be < 0."""
    anchor = content.strip()[:ANCHOR]
    found = said.find(anchor) if anchor else -1
    return found - content.find(anchor) if found >= 0 else None


def _turn(
    role: str, scored: Scored, run: range, content: str, mine: set[int], decode: Decode
) -> Turn:
    """One scored turn: its pieces, with those of its spans marked, cut around the worst span."""
    ids = scored.ids[run.start : run.stop]
    offset = _offset(decode(ids), content)
    marks = [
        (span["start"] + offset, span["end"] + offset, index)
        for index, span in enumerate(scored.spans)
        if index in mine and offset is not None
    ]
    first = _first_shown(ids, marks[0][0] if marks else 0, decode)
    shown = ids[first : first + MOST_TOKENS]
    reached = len(decode(ids[:first]))
    pieces = []
    for start, stop, text in spelled(shown, decode):
        low, reached = reached, reached + len(text)
        span = next((i for start, end, i in marks if start < reached and low < end), -1)
        tokens = slice(run.start + first + start, run.start + first + stop)
        pieces.append(_piece(text, scored.loss[tokens], scored.entropy[tokens], span))
    return Turn(role, "", pieces, first, len(ids) - first - len(shown))


def _first_shown(ids: list[int], character: int, decode: Decode) -> int:
    """First token to show, so that the one at a character is in the middle of a long answer."""
    if len(ids) <= MOST_TOKENS:
        return 0
    token = bisect_left(range(len(ids)), character, key=lambda stop: len(decode(ids[:stop])))
    first = min(max(0, token - MOST_TOKENS // 2), len(ids) - MOST_TOKENS)
    while first and decode(ids[:first]).endswith("\ufffd"):  # not in the middle of a character
        first -= 1
    return first


def _piece(text: str, loss: np.ndarray, entropy: np.ndarray, span: int) -> Piece:
    """The piece that tokens make together, with the largest of their losses."""
    if not np.isfinite(loss).any():
        return Piece(text, None, None, span)
    worst = int(np.nanargmax(loss))
    known = float(entropy[worst]) if np.isfinite(entropy[worst]) else None
    return Piece(text, float(loss[worst]), known, span)
