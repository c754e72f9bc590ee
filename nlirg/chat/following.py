"""An answer as text after its prompt, and where that begins in what a template renders."""

from __future__ import annotations

import json
from dataclasses import dataclass
from os.path import commonprefix

from nlirg.chat.conversation import Conversation
from nlirg.chat.template import ChatTemplate
from nlirg.chat.thinking import CLOSED, OPENED


@dataclass(frozen=True)
class AnswerText:
    """One answer to train.

    Attributes:
        prompt: what the template renders before it, with the generation prompt.
        lead: what the template writes before the answer's own words (thinking, say).
        content: its own words, or the calls it makes.
        end: the end of the turn.
        notes: what the template does not know of the turn.
    """

    prompt: str
    lead: str
    content: str
    end: str
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What is trained."""
        return self.lead + self.content + self.end


def written_after(
    template: ChatTemplate, conversation: Conversation, number: int, prompt: str, text: str
) -> tuple[str, bool]:
    """Return what a text says after the turns before an answer.

    Args:
        template: that rendered it.
        conversation: of the answer.
        number: the answer's turn.
        prompt: from which the answer is generated.
        text: the conversation up to and with the answer, or the beginning of that.

    Returns:
        The end of the text, and whether it is what follows the generation prompt. If not, the
        template writes an answer without what its prompt adds (thinking, say), or ("") so that
        its prompt cannot be found.
    """
    if text.startswith(prompt):
        return text[len(prompt) :], True
    asked = conversation.turns[number - 1].message["content"] or ""
    begun, tail = end_of(asked, text), prompt[end_of(asked, prompt) :]
    if tail and text.startswith(tail, begun):
        return text[begun + len(tail) :], True
    for begin in dict.fromkeys([tail, CLOSED.sub("", OPENED.sub("", tail))]):
        if begin.strip() and text.startswith(begin.rstrip(), begun):
            return text[begun + len(begin.rstrip()) :].lstrip(), False
    before = template.render(conversation.messages(number), conversation.tools, prompt=False)
    if text.startswith(before):
        shared = text[len(before) :][: common_length(text[len(before) :], prompt[len(before) :])]
        # Not within a word: "<think>" and "<tool_call>" share two letters.
        borders = [0, *(token.end() for token in template.special.finditer(shared))]
        borders += [place for place, letter in enumerate(shared, 1) if letter.isspace()]
        return text[len(before) + max(borders) :], False
    # What follows a result may depend on whether it is the last turn (Hermes').
    begin = prompt.removeprefix(before) if prompt.startswith(before) else ""
    between, found, after = text[begun:].partition(begin) if begin else ("", "", "")
    words = "".join(template.special.sub("", between).split())
    return (after, False) if found and words in "".join(tail.split()) else ("", False)


def common_length(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    return len(commonprefix([one, other]))  # noqa: RUF071 - these are no paths


def end_of(content: str, text: str) -> int:
    """Return where a turn's content ends in a text; 0 if it does not stand there."""
    content = content.strip()
    escaped = json.dumps(content, ensure_ascii=False)[1:-1]  # as some render tools' turns
    ends = [text.rfind(form) + len(form) for form in (content, escaped) if form and form in text]
    return max(ends, default=0)
