"""Heat maps: the scored tokens of a sample as pieces of text, with the flagged spans marked."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from eval.report.corpus.model import Flag, SpokenTurn, TextPiece, TokenHeatmap
from nlirg.labels import IGNORE
from nlirg.scoring.spans import trained_answers

MOST_TOKENS = 400  # of an answer; a longer one is shown around its worst span
MOST_PENDING = 8  # tokens that make no character yet; more are shown as they are
ANCHOR = 16  # characters by which an answer is found in what the template made of it

Decode = Callable[[list[int]], str]
Span = Mapping[str, Any]


class Scored(NamedTuple):
    """The tokens of one row.

    Attributes:
        ids: [T] token ids.
        loss: float [T], nats; NaN where a token was not scored.
        entropy: float [T], nats; NaN where it is not known.
        spans: `answer` (which of the assistant's turns; 0 of a document), `start` and `end`
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


def chat_heatmap(
    scored: Scored,
    messages: Sequence[Mapping[str, Any]],
    loss_on: Literal["all", "last"],
    decode: Decode,
    reasons: list[str],
) -> TokenHeatmap:
    """The heat map of a conversation: its scored answers as pieces, the other turns as text."""
    answers = trained_answers(messages, loss_on)  # those that were cut off are the last
    runs = {a.turn: run for a, run in zip(answers, _runs(scored), strict=False)}
    turns, answer = [], -1
    for message in messages:
        answer += message["role"] == "assistant"
        run = runs.get(answer) if message["role"] == "assistant" else None
        if run is None:
            turns.append(SpokenTurn(str(message["role"]), str(message["content"])))
            continue
        mine = {index for index, span in enumerate(scored.spans) if span["answer"] == answer}
        turns.append(_turn("assistant", scored, run, message["content"], mine, decode))
    return _heatmap(turns, scored, reasons)


def text_heatmap(scored: Scored, text: str, decode: Decode, reasons: list[str]) -> TokenHeatmap:
    """The heat map of a document."""
    everywhere, every = range(len(scored.ids)), set(range(len(scored.spans)))
    turn = _turn("text", scored, everywhere, text, every, decode)
    return _heatmap([turn], scored, reasons)


def _heatmap(turns: list[SpokenTurn], scored: Scored, reasons: list[str]) -> TokenHeatmap:
    """The turns with the spans that are seen in them, numbered anew; the worst stay first."""
    seen = sorted({piece.span for turn in turns for piece in turn.pieces} - {-1})
    number = {-1: -1, **{span: index for index, span in enumerate(seen)}}
    numbered = [
        replace(turn, pieces=[piece._replace(span=number[piece.span]) for piece in turn.pieces])
        for turn in turns
    ]
    worst_first = [scored.spans[span] for span in seen]
    flags = [Flag(s["pattern"], s["mean_loss"], s["mean_entropy"]) for s in worst_first]
    return TokenHeatmap(numbered, flags, reasons)


def spelled(ids: list[int], decode: Decode) -> Iterator[tuple[int, int, str]]:
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
) -> SpokenTurn:
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
    end = reached + len(decode(shown))
    marks = [mark for mark in marks if mark[0] < end and mark[1] > reached]
    pieces = []
    for start, stop, text in spelled(shown, decode):
        low, reached = reached, reached + len(text)
        span = next((i for start, end, i in marks if start < reached and low < end), -1)
        tokens = slice(run.start + first + start, run.start + first + stop)
        pieces.append(_piece(text, scored.loss[tokens], scored.entropy[tokens], span))
    return SpokenTurn(role, "", pieces, first, len(ids) - first - len(shown))


def _first_shown(ids: list[int], character: int, decode: Decode) -> int:
    """First token to show, so that the one at a character is in the middle of a long answer."""
    if len(ids) <= MOST_TOKENS:
        return 0
    token = bisect_left(range(len(ids)), character, key=lambda stop: len(decode(ids[:stop])))
    first = min(max(0, token - MOST_TOKENS // 2), len(ids) - MOST_TOKENS)
    while first and decode(ids[:first]).endswith("\ufffd"):  # not in the middle of a character
        first -= 1
    return first


def _piece(text: str, loss: np.ndarray, entropy: np.ndarray, span: int) -> TextPiece:
    """The piece that tokens make together, with the largest of their losses."""
    if not np.isfinite(loss).any():
        return TextPiece(text, None, None, span)
    worst = int(np.nanargmax(loss))
    known = float(entropy[worst]) if np.isfinite(entropy[worst]) else None
    return TextPiece(text, float(loss[worst]), known, span)
