"""The options of a choice question as token ids that follow its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nlirg.chat.encoder import ChatEncoder
from nlirg.errors import BadRowError

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Options:
    """The options of one question.

    Attributes:
        texts: as the case has them.
        lead: ids of what the chat template writes before any answer, between the prompt's and an
            option's; they are context.
        ids: of every option, its end-of-turn token not included.
    """

    texts: tuple[str, ...]
    lead: Ids
    ids: tuple[Ids, ...]


def encode_options(
    chat: ChatEncoder, messages: Sequence[Mapping[str, str]], texts: Sequence[str]
) -> Options:
    """Encode options as training encodes an answer: after the prompt, and after the lead.

    Args:
        chat: of the base model.
        messages: of the question, ending on the user's turn.
        texts: the options.

    Raises:
        BadRowError: if an option holds a special token, is empty or has the tokens of another
            option, or the chat template refuses an answer.
    """
    encoded = []
    for text in texts:
        try:
            encoded.append(chat.answer([*messages, {"role": "assistant", "content": text.strip()}]))
        except BadRowError as error:
            raise BadRowError(f"option {text!r}: {error}") from None
    leads = {tuple(lead) for lead, _ in encoded}
    if len(leads) == 1:
        lead, ids = leads.pop(), [tuple(each) for _, each in encoded]
    else:  # a space, say, that is one token with the first letters of some options
        lead, ids = (), [(*before, *each) for before, each in encoded]
    for i, each in enumerate(ids):
        if each in ids[:i]:
            raise BadRowError(
                f"options {texts[ids.index(each)]!r} and {texts[i]!r} are the same tokens"
            )
    return Options(tuple(texts), lead, tuple(ids))
