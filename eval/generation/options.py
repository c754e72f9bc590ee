"""The options of a choice question as token ids that follow its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

from jinja2 import TemplateError

from nlirg.corpus.chat import special_tokens
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
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    prompt: str,
    texts: Sequence[str],
    template_options: Mapping[str, Any],
) -> Options:
    """Encode options as training encodes an answer: apart from the prompt, after the lead.

    So the prompt's ids stay as they are whatever its last characters and an option's first would
    merge to, and a space that the template or the tokenizer puts before an answer is there.

    Args:
        tokenizer: of the base model.
        messages: of the question, ending on the user's turn.
        prompt: their rendered text, with the generation prompt.
        texts: the options.
        template_options: further variables of the chat template.

    Raises:
        BadRowError: if an option holds a special token, has no tokens or those of another option,
            or the chat template refuses an answer.
    """
    for text in texts:
        if special := special_tokens(tokenizer).search(text):
            raise BadRowError(f"option {text!r} contains the special token {special[0]!r}")
    before = _lead(tokenizer, messages, prompt, template_options)
    lead = _encode(tokenizer, before)
    ids = [_encode(tokenizer, before + text.strip()) for text in texts]
    if all(each[: len(lead)] == lead for each in ids):
        ids = [each[len(lead) :] for each in ids]
    else:  # a space, say, that is one token with the option's first letters
        lead = ()
    for i, each in enumerate(ids):
        if not each:
            raise BadRowError(f"option {texts[i]!r} has no tokens")
        if each in ids[:i]:
            raise BadRowError(
                f"options {texts[ids.index(each)]!r} and {texts[i]!r} are the same tokens"
            )
    return Options(tuple(texts), lead, tuple(ids))


def _lead(
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    prompt: str,
    template_options: Mapping[str, Any],
) -> str:
    """Return what the chat template writes between a prompt and any answer.

    Mostly nothing; a space, or an empty thinking block, for some. Nothing, too, where an answer
    does not begin with its own generation prompt.
    """
    try:
        answered = [
            tokenizer.apply_chat_template(
                [*messages, {"role": "assistant", "content": content}],
                tokenize=False,
                **template_options,
            )
            for content in ("0", "1")
        ]
    except TemplateError as error:
        raise BadRowError(f"chat template refuses an answer: {error}") from None
    if not answered[0].startswith(prompt):
        return ""
    return commonprefix(answered).removeprefix(prompt)  # noqa: RUF071 - these are no paths


def _encode(tokenizer: Any, text: str) -> Ids:
    return tuple(tokenizer.encode(text, add_special_tokens=False, verbose=False))
