"""Spans of trained tokens as ranges of characters in what the user wrote."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from nlirg.chat.conversation import trained_turns
from nlirg.labels import IGNORE
from nlirg.scoring.divergence import Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BROKEN = "\N{REPLACEMENT CHARACTER}"  # what bytes decode to that are not a whole character


class TrainedAnswer(NamedTuple):
    """An answer that is trained.

    Attributes:
        turn: of the assistant's turns, which one it is.
        content: what the row has it say.
    """

    turn: int
    content: str


class _Part(NamedTuple):
    """Consecutive tokens, and the answer they are the rendering of."""

    start: int
    stop: int
    answer: TrainedAnswer


def trained_answers(
    messages: Sequence[Mapping[str, Any]], loss_on: Literal["all", "last"]
) -> list[TrainedAnswer]:
    """The answers that `nlirg.chat.encoder.ChatEncoder.encode` trains, in order.

    Args:
        messages: turns with `role` and `content`.
        loss_on: as `encode` was given it.
    """
    turns = [turn for turn, message in enumerate(messages) if message["role"] == "assistant"]
    return [
        TrainedAnswer(turns.index(turn), messages[turn]["content"])
        for turn in trained_turns(messages, loss_on)
    ]


def character_spans(
    tokenizer: PreTrainedTokenizerBase,
    input_ids: np.ndarray,
    labels: np.ndarray,
    answers: Sequence[TrainedAnswer],
    spans: Sequence[Span],
) -> list[dict[str, Any]]:
    """Where spans stand in the answers of a conversation.

    The template's own text is left out: a span that lies in it wholly (in an empty think block,
    on the end of the turn) is the empty range where the content begins or ends. A character whose
    bytes are split over several tokens belongs to each of them. (Of a U+FFFD in the content, which
    such bytes alone decode to as well, that is not known: there a range may be a character off.)

    Args:
        tokenizer: that the conversation was encoded with.
        input_ids: [T] token ids.
        labels: [T] the same where a token is trained, `IGNORE` elsewhere.
        answers: see `trained_answers`; those that were cut off may be among them.
        spans: see `nlirg.scoring.divergence.analyse`.

    Returns:
        For each span, in their order, and each answer it touches: answer (its turn), start and
        end (characters of its content, end exclusive), score, mean_loss, mean_entropy, pattern.
    """
    trained = np.asarray(labels) != IGNORE
    trained[:1] = False
    borders = np.flatnonzero(np.diff(trained, prepend=False, append=False)).reshape(-1, 2)
    parts = [
        _Part(start, stop, answer)
        for (start, stop), answer in zip(borders.tolist(), answers, strict=False)
    ]
    return _located(tokenizer, input_ids, labels, parts, spans)


def text_spans(
    tokenizer: PreTrainedTokenizerBase,
    input_ids: np.ndarray,
    labels: np.ndarray,
    text: str,
    spans: Sequence[Span],
) -> list[dict[str, Any]]:
    """Where spans stand in a document; `character_spans` with its text as answer 0."""
    whole = [_Part(0, len(input_ids), TrainedAnswer(0, text))]
    return _located(tokenizer, input_ids, labels, whole, spans)


def _located(
    tokenizer: PreTrainedTokenizerBase,
    input_ids: np.ndarray,
    labels: np.ndarray,
    parts: Sequence[_Part],
    spans: Sequence[Span],
) -> list[dict[str, Any]]:
    """The spans as ranges of the parts that they touch."""
    positions = np.flatnonzero(np.asarray(labels)[1:] != IGNORE) + 1
    ranges = [(int(positions[span.start]), int(positions[span.end - 1]) + 1) for span in spans]
    found = []
    for part in parts:
        inside = [
            (number, max(start, part.start) - part.start, min(stop, part.stop) - part.start)
            for number, (start, stop) in enumerate(ranges)
            if start < part.stop and part.start < stop
        ]
        if not inside:
            continue
        ids = np.asarray(input_ids)[part.start : part.stop].tolist()
        places = _characters(tokenizer, ids, part.answer.content, [pair for _, *pair in inside])
        for (number, *_), (start, end) in zip(inside, places, strict=True):
            found.append((number, {"answer": part.answer.turn, "start": start, "end": end}))
    found.sort(key=lambda item: item[0])
    return [place | _said(spans[number]) for number, place in found]


def _said(span: Span) -> dict[str, Any]:
    """What is known of a span beside its place."""
    return {key: value for key, value in span._asdict().items() if key not in ("start", "end")}


def _characters(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], content: str, ranges: list[list[int]]
) -> list[tuple[int, int]]:
    """Ranges of characters of the content from ranges of the tokens it was rendered to."""
    # The end of the turn is no text, and its name must not be taken for some.
    special = set(tokenizer.all_special_ids)
    while ids and ids[-1] in special:
        ids = ids[:-1]
    ranges = [[min(border, len(ids)) for border in pair] for pair in ranges]
    decoded = _decoded(tokenizer, ids)
    borders = sorted({border for pair in ranges for border in pair})
    before = dict(zip(borders, _lengths(tokenizer, ids, decoded, borders), strict=True))
    alignment = _Alignment(decoded, content)
    places = []
    for first, last in ranges:
        start = alignment.place(before[first][0])
        length, whole = before[last]
        places.append((start, max(start, alignment.place(length + (not whole)))))
    return places


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)  # one text of one list of ids
    return text


def _lengths(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], decoded: str, borders: list[int]
) -> Iterator[tuple[int, bool]]:
    """Whole characters that the tokens before each border give, and whether they give no more.

    Only what lies between two borders is decoded, and what lies before them with it, since some
    tokenizers drop the space a text begins with.

    Args:
        tokenizer: of the tokens.
        ids: of the whole text.
        decoded: the whole text.
        borders: ascending.
    """
    begin = token = length = 0

    def text(stop: int) -> str:
        """What the tokens from `token` on say."""
        return _decoded(tokenizer, ids[begin:stop])[len(_decoded(tokenizer, ids[begin:token])) :]

    for border in borders:
        whole = border  # the last place up to here that is not within a character
        while not decoded.startswith(text(whole), length):
            whole -= 1
        length += len(text(whole))
        if whole > token:
            begin, token = token, whole
        rest = text(border)
        pairs = zip(rest, decoded[length : length + len(rest)], strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        yield length + common, whole == border


class _Alignment:
    """Finds content in the text that a template made of it, whatever it did to white space.

    Args:
        decoded: the template's text; if it was cut, the beginning of it.
        content: what the row says.
    """

    def __init__(self, decoded: str, content: str) -> None:
        self._theirs, text = _dark(decoded)
        self._mine, wanted = _dark(content)
        self._length = len(content)
        self._shift = _begin(text, wanted)

    def place(self, position: int) -> int:
        """Characters of the content before a position of the decoded text."""
        index = bisect_left(self._theirs, position)
        count = index - self._shift
        if not 0 <= count <= len(self._mine):
            return 0 if count < 0 else self._length
        blanks = position - (self._theirs[index - 1] + 1 if index else 0)
        least = self._mine[count - 1] + 1 if count else 0
        most = self._mine[count] if count < len(self._mine) else self._length
        return min(least + blanks, most)


def _dark(text: str) -> tuple[list[int], str]:
    """Places of the characters that are not white space, and the characters."""
    places = [place for place, character in enumerate(text) if not character.isspace()]
    return places, "".join(text.split())


def _begin(text: str, content: str) -> int:
    """Where the content begins in a text that holds it, or ends within it; the end if neither."""
    if (place := text.rfind(content)) >= 0:
        return place
    text = text.rstrip(BROKEN)
    place = text.find(content[0])
    while place >= 0 and not content.startswith(text[place:]):
        place = text.find(content[0], place + 1)
    return place if place >= 0 else len(text)
