"""Chat conversations to token ids and labels.

A conversation is cut into segments, alternately untrained (up to and including the generation
prompt) and trained (the answer and its end-of-turn token). Every segment is tokenized on its own,
in training and for generation alike: so a model generates from exactly the token prefix it was
trained on, where tokenizing the whole text could merge the prompt's end with the answer's start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jinja2 import TemplateError

from nlirg.errors import BadRowError
from nlirg.windows import IGNORE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[dict[str, str]]


class EncodedSample(NamedTuple):
    """Token ids of one conversation, ending on its last trained token.

    Attributes:
        input_ids: [T] token ids.
        labels: [T] the same ids where a token is trained, `IGNORE` elsewhere; aligned with
            `input_ids`, not shifted.
        truncated: whether the conversation was cut at the limit.
    """

    input_ids: list[int]
    labels: list[int]
    truncated: bool


class _Segment(NamedTuple):
    text: str
    trained: bool


def encode_chat(
    tokenizer: PreTrainedTokenizerBase,
    messages: Messages,
    max_length: int,
    overlong: Literal["truncate", "skip"],
    options: Mapping[str, Any],
) -> EncodedSample:
    """Encode a conversation for training; every assistant turn is trained to its end-of-turn.

    Args:
        tokenizer: has a chat template.
        messages: `role` (system, user, assistant) and `content` of every turn; the last is the
            assistant's.
        max_length: tokens a sample may have.
        overlong: cut a longer sample (`truncate`) or refuse it (`skip`).
        options: further variables of the chat template.

    Raises:
        BadRowError: if the conversation does not end on an answer, an answer is empty, the chat
            template cannot be used for it, or it is too long.
    """
    if not messages or messages[-1]["role"] != "assistant":
        raise BadRowError("messages do not end on the assistant")
    ids: list[int] = []
    labels: list[int] = []
    for segment in _segments(tokenizer, messages, options):
        tokens = _tokenize(tokenizer, segment.text)
        ids += tokens
        labels += tokens if segment.trained else [IGNORE] * len(tokens)
    prompt = next(i for i, label in enumerate(labels) if label != IGNORE)
    if prompt >= max_length:
        raise BadRowError(
            f"prompt has {prompt} tokens and the limit is {max_length}: no room for an answer"
        )
    if len(ids) > max_length and overlong == "skip":
        raise BadRowError(f"sample has {len(ids)} tokens and the limit is {max_length}")
    return EncodedSample(ids[:max_length], labels[:max_length], len(ids) > max_length)


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, options: Mapping[str, Any]
) -> tuple[str, list[int]]:
    """Encode a conversation that the model is to answer.

    Args:
        tokenizer: has a chat template.
        messages: as `encode_chat` takes them, the last not being the assistant's.
        options: further variables of the chat template.

    Returns:
        The rendered text up to and including the generation prompt, and its token ids: the ids
        before the answer in `encode_chat` of the same conversation with an answer.

    Raises:
        BadRowError: if there is nothing to answer, or the chat template cannot be used for it.
    """
    if not messages or messages[-1]["role"] == "assistant":
        raise BadRowError("messages end on the assistant: nothing is left to answer")
    segments = list(_segments(tokenizer, messages, options))
    ids = [token for segment in segments for token in _tokenize(tokenizer, segment.text)]
    return "".join(segment.text for segment in segments), ids


def _segments(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, options: Mapping[str, Any]
) -> Iterator[_Segment]:
    """Cut a conversation into segments; their texts concatenated are what the template renders.

    The template's text after the last end-of-turn (a newline, say) is left out. A conversation
    that does not end on the assistant ends with the segment of the generation prompt.
    """
    special = _special_tokens(tokenizer)
    for message in messages:
        found = special.search(message["content"])
        if found:
            raise BadRowError(f"{message['role']} message contains the special token {found[0]!r}")
    done = ""
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = _render(tokenizer, messages[:turn], options, prompt=True)
        yield _Segment(_after(done, prompt), trained=False)
        answer = _after(prompt, _render(tokenizer, messages[: turn + 1], options, prompt=False))
        answer = answer[: _end_of_turn(answer, message["content"], special)]
        yield _Segment(answer, trained=True)
        done = prompt + answer
    if messages[-1]["role"] != "assistant":
        prompt = _render(tokenizer, messages, options, prompt=True)
        yield _Segment(_after(done, prompt), trained=False)


def _render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Messages,
    options: Mapping[str, Any],
    *,
    prompt: bool,
) -> str:
    try:
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=prompt, **options
        )
    except TemplateError as error:
        raise BadRowError(f"chat template refuses the messages: {error}") from None
    return str(text)


def _after(prefix: str, text: str) -> str:
    """Return what `text` adds to `prefix`."""
    if not text.startswith(prefix):
        raise BadRowError(
            "chat template is not prefix-stable: it renders earlier turns differently once "
            "later ones follow, so training and generation would see different prompts"
        )
    return text[len(prefix) :]


def _end_of_turn(answer: str, content: str, special: re.Pattern[str]) -> int:
    """Length of a rendered answer up to and including its end-of-turn token.

    That is the special token which ends the piece of text that holds the content: a template may
    put more of them before it (a channel's name) and after it (an end of sequence).
    """
    content = content.strip()
    if not content:
        raise BadRowError("answer is empty")
    start = end = 0
    for token in special.finditer(answer):
        if content in answer[start : token.start()]:
            end = token.end()
        start = token.end()
    if not end and content in answer:
        raise BadRowError("chat template puts no end-of-turn token after the answer")
    if not end:
        raise BadRowError("chat template rewrites the answer")
    return end


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Pattern of the tokens that only a template may write."""
    added = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
    tokens = added | set(tokenizer.all_special_tokens)
    return re.compile("|".join(re.escape(t) for t in sorted(tokens, key=len, reverse=True)))


def _tokenize(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # The template has written the special tokens itself.
    return list(tokenizer.encode(text, add_special_tokens=False))
