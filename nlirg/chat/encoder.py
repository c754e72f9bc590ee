"""Conversations to token ids and labels: the tokens of the whole text, as generation sees them.

A conversation is one training sample as long as each of its answers follows on the text before it;
where the template renders earlier turns differently once later ones follow (Qwen3's drops their
thinking), a new sample begins. Every answer is trained in one of them, on the tokens from which it
is generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nlirg.chat.answers import AnswerText, find_answers, open_prompt
from nlirg.chat.template import (
    ANSWER_TURN,
    THOUGHT,
    USER_TURN,
    ChatTemplate,
    Messages,
    Tools,
)
from nlirg.errors import BadRowError
from nlirg.labels import IGNORE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Before an answer that merges with what stands before it: no tokenizer merges all of them with it,
# nor takes the text after them for the beginning of a text.
NEUTRAL = ("\n", ":", "a", "1")
NEARBY = 500  # characters in which the last special token is looked for first
MOST_HEADS = (
    1000  # mostly a speaker's marker, but templates without special tokens have whole texts
)


class OverlongError(BadRowError):
    """The row is refused for its length alone."""


class EncodedSample(NamedTuple):
    """Token ids of one text, ending on its last trained token.

    Attributes:
        input_ids: [T] token ids.
        labels: [T] the same ids where a token is trained, `IGNORE` elsewhere; aligned with
            `input_ids`, not shifted.
        exact: whether the ids are those of the whole text; if not, a token of it would reach over
            the border between a prompt and its answer, and the two are encoded apart.
    """

    input_ids: list[int]
    labels: list[int]
    exact: bool = True


@dataclass(frozen=True)
class EncodedChat:
    """A conversation as training samples.

    Attributes:
        samples: at least one; every answer is trained in one of them, in order.
        truncated: whether something was cut, or an answer left out, at the limit.
        notes: what the chat template does not know of the conversation, in words.
    """

    samples: list[EncodedSample]
    truncated: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class AnswerParts:
    """How a template that writes special tokens within an answer tells its parts apart.

    gpt-oss thinks and answers in channels, for instance.

    Attributes:
        markers: ids of those tokens.
        last: of them, the one that the answer's own words follow.
        lead: ids before an answer without thinking; none if there are no markers among them.
    """

    markers: frozenset[int]
    last: int
    lead: tuple[int, ...]

    def split(self, ids: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Split generated ids into thinking and answer, which is none if it was not reached."""
        places = [place for place, token in enumerate(ids, start=1) if token in self.markers]
        if not places:
            return ids[:0], ids
        head, answer = ids[: places[-1]], ids[places[-1] :]
        begun = len(head) - len(self.lead)
        if head[-1] != self.last or (tuple(head[max(0, begun) :]) != self.lead and self.lead):
            return ids, ids[:0]
        return (head if begun or not self.lead else ids[:0]), answer


class ChatEncoder:
    """What turns conversations into tokens, for training and generation alike.

    Args:
        tokenizer: has a chat template.
        options: further variables of the template.
        stops: tokens at which the model's own settings end a generation, besides the tokenizer's
            end of sequence.
        today: what the template is told if it asks for the date.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        options: Mapping[str, Any] | None = None,
        stops: Sequence[int] = (),
        today: date | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.stops = frozenset({*stops, tokenizer.eos_token_id})
        self.template = ChatTemplate(tokenizer, options or {}, self.stops, today or date.today())
        self._heads: dict[str, list[int]] = {}  # ids of what texts were found to begin with

    @cached_property
    def end_of_turn(self) -> int:
        """The token that ends an answer in words.

        Raises:
            BadRowError: if the template cannot render a conversation.
        """
        turn = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
        return self.encode(turn).samples[-1].input_ids[-1]

    @cached_property
    def parts(self) -> AnswerParts | None:
        """How the parts of an answer are told apart; None where no special token stands in one.

        Raises:
            BadRowError: if the template cannot render a conversation.
        """
        turns = [USER_TURN, ANSWER_TURN]
        (plain,), _ = find_answers(self.template, turns, (), "last")
        thought = plain
        with suppress(BadRowError):  # the prompt may have ended the thinking
            turns = [USER_TURN, {**ANSWER_TURN, "reasoning": THOUGHT}]
            (thought,), _ = find_answers(self.template, turns, (), "last")
        markers = self.template.special.findall(plain.lead + thought.lead)
        if not markers:
            return None
        ids = [self._ids(marker)[0] for marker in markers]
        marked = self.template.special.search(plain.lead)
        lead = self._after(plain.prompt, plain.lead)[0] if marked else []
        return AnswerParts(frozenset(ids), ids[-1], tuple(lead))

    def encode(
        self,
        messages: Messages,
        tools: Tools = (),
        *,
        loss_on: Literal["all", "last"] = "all",
        max_length: int | None = None,
        overlong: Literal["truncate", "skip"] = "truncate",
    ) -> EncodedChat:
        """Encode a conversation for training; an answer is trained to the end of its turn.

        An assistant's turn that answers nobody is context, and so is one with `trained: False`.

        Args:
            messages: the turns as `nlirg.corpus.records.Record` has them; the last is the
                assistant's.
            tools: functions the assistant may call, as OpenAI writes them.
            loss_on: train `all` of the assistant's turns, or the `last` alone.
            max_length: tokens a sample may have; None for any number.
            overlong: cut a longer sample (`truncate`) or refuse the conversation (`skip`).

        Raises:
            OverlongError: if a sample is too long and may not be cut, or every prompt is.
            BadRowError: if the conversation does not end on an answer, an answer is empty, or the
                chat template cannot be used for it.
        """
        answers, notes = find_answers(self.template, messages, tools, loss_on)
        whole = EncodedChat(self._samples(answers), truncated=False, notes=notes)
        return whole if max_length is None else limited(whole, max_length, overlong)

    def prompt(self, messages: Messages, tools: Tools = ()) -> tuple[str, list[int]]:
        """Encode a conversation that the model is to answer.

        Args:
            messages: as `encode` takes them, the last not being the assistant's.
            tools: functions the assistant may call.

        Returns:
            The rendered text up to and including the generation prompt, and its token ids: the
            ids before the last answer in `encode` of the same conversation with an answer.

        Raises:
            BadRowError: if there is nothing to answer, or the chat template cannot be used for it.
        """
        text = open_prompt(self.template, messages, tools)
        return text, self._ids(text)

    def answer(self, messages: Messages) -> tuple[list[int], list[int]]:
        """Encode the last answer of a conversation, without the end of its turn.

        Returns:
            Ids of what the template writes before any answer; and of the answer, as training has
            them. The first are none if the two are one token.
        """
        (answer,), _ = find_answers(self.template, messages, (), "last")
        lead = self._after(answer.prompt, answer.lead)[0]
        whole = self._after(answer.prompt, answer.lead + answer.content)[0]
        shared = len(lead) if whole[: len(lead)] == lead else 0
        return whole[:shared], whole[shared:]

    def _samples(self, answers: Sequence[AnswerText]) -> list[EncodedSample]:
        """Join answers to samples while one follows on the text before it."""
        samples: list[EncodedSample] = []
        done = ""  # text of the last sample
        for answer in answers:
            follows = bool(samples) and samples[-1].exact and answer.prompt.startswith(done)
            context: list[int] = []
            if follows:
                context, follows = self._after(done, answer.prompt[len(done) :])
            before = samples.pop() if follows else EncodedSample([], [])
            context = context if follows else self._ids(answer.prompt)
            ids, exact = self._after(answer.prompt, answer.text)
            samples.append(
                EncodedSample(
                    [*before.input_ids, *context, *ids],
                    [*before.labels, *[IGNORE] * len(context), *ids],
                    exact,
                )
            )
            done = answer.prompt + answer.text
        return samples

    def _after(self, before: str, text: str) -> tuple[list[int], bool]:
        """Encode text that follows other text.

        Tokens never reach over a special token, so that what stands before the last one does not
        matter.

        Returns:
            The ids that the whole text has after those of `before`, and true; or where a token
            reaches over the border, ids of `text` as it stands within a line, and false.
        """
        anchor = self._from_last_special(before)
        if len(self._heads) > MOST_HEADS:
            self._heads.clear()
        for begin in (anchor, *NEUTRAL):
            if begin not in self._heads:
                self._heads[begin] = self._ids(begin)
            head, whole = self._heads[begin], self._ids(begin + text)
            if whole[: len(head)] == head:
                return whole[len(head) :], begin is anchor
        return self._ids(text), False

    def _from_last_special(self, text: str) -> str:
        """Return a text from its last special token on; all of it without one."""
        for beginning in (max(0, len(text) - NEARBY), 0):  # a long conversation is not read again
            found = list(self.template.special.finditer(text, beginning))
            if found:
                return text[found[-1].start() :]
        return text

    def _ids(self, text: str) -> list[int]:
        # The template has written the special tokens itself.
        return list(self.tokenizer.encode(text, add_special_tokens=False, verbose=False))


def limited(
    chat: EncodedChat, max_length: int, overlong: Literal["truncate", "skip"]
) -> EncodedChat:
    """Hold an encoded conversation to a limit; the arguments are those of `ChatEncoder.encode`.

    Raises:
        OverlongError: if a sample is too long and may not be cut, or every prompt is.
    """
    kept = _within(chat.samples, max_length)
    if not kept:
        prompt = next(i for i, label in enumerate(chat.samples[0].labels) if label != IGNORE)
        raise OverlongError(
            f"prompt has {prompt} tokens and the limit is {max_length}: no room for an answer"
        )
    longest = max(len(sample.input_ids) for sample in chat.samples)
    if longest > max_length and overlong == "skip":
        raise OverlongError(f"sample has {longest} tokens and the limit is {max_length}")
    return replace(chat, samples=kept, truncated=kept != chat.samples)


def _within(samples: Sequence[EncodedSample], limit: int) -> list[EncodedSample]:
    """Cut samples at a limit; answers that it leaves out are the last of the conversation."""
    kept = []
    for sample in samples:
        # A cut within a later prompt leaves nothing to train after the answer before it.
        trained = [i for i, label in enumerate(sample.labels[:limit]) if label != IGNORE]
        stop = trained[-1] + 1 if trained else 0
        if stop:
            kept.append(EncodedSample(sample.input_ids[:stop], sample.labels[:stop], sample.exact))
        if IGNORE in sample.labels[stop:]:
            break  # a whole answer is left out
    return kept
