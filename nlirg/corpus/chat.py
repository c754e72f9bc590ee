"""Chat conversations to token ids and labels.

A conversation is cut into segments, alternately untrained (up to and including the generation
prompt) and trained (the answer and its end-of-turn token). Every segment is tokenized on its own,
in training and for generation alike: so a model generates from exactly the token prefix it was
trained on, where tokenizing the whole text could merge the prompt's end with the answer's start.

Some templates render earlier turns differently once later ones follow (Qwen3's drops their
thinking). Such a conversation has no one text on which all its answers could be trained, but its
last answer can: its prompt is then one segment, rendered as at generation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jinja2 import TemplateError

from nlirg.errors import BadRowError
from nlirg.labels import IGNORE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]

NO_END = "chat template puts no end-of-turn token after the answer"


class OverlongError(BadRowError):
    """The row is refused for its length alone."""


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
    *,
    tools: Tools = (),
    loss_on: Literal["all", "last"] = "all",
) -> EncodedSample:
    """Encode a conversation for training; an answer is trained to its end-of-turn.

    An assistant's turn that opens the conversation is context: nothing asks for it.

    Args:
        tokenizer: has a chat template.
        messages: the turns as `nlirg.corpus.records.Record` has them; the last is the assistant's.
        max_length: tokens a sample may have.
        overlong: cut a longer sample (`truncate`) or refuse it (`skip`).
        options: further variables of the chat template.
        tools: functions the assistant may call.
        loss_on: train `all` of the assistant's turns, or the `last` alone.

    Raises:
        OverlongError: if the conversation is too long and may not be cut, or its prompt is.
        BadRowError: if it does not end on an answer, an answer is empty, or the chat template
            cannot be used for it.
    """
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise BadRowError("messages do not end on the assistant")
    chat = _Chat(tokenizer, messages, tools, options)
    ids: list[int] = []
    labels: list[int] = []
    for segment in chat.trained() if loss_on == "all" else chat.last_trained():
        tokens = _tokenize(tokenizer, segment.text)
        ids += tokens
        labels += tokens if segment.trained else [IGNORE] * len(tokens)
    prompt = next(i for i, label in enumerate(labels) if label != IGNORE)
    if prompt >= max_length:
        raise OverlongError(
            f"prompt has {prompt} tokens and the limit is {max_length}: no room for an answer"
        )
    if len(ids) > max_length and overlong == "skip":
        raise OverlongError(f"sample has {len(ids)} tokens and the limit is {max_length}")
    # A cut within a later prompt leaves nothing to train after the answer before it.
    trained = [i for i, label in enumerate(labels[:max_length]) if label != IGNORE]
    stop = trained[-1] + 1
    return EncodedSample(ids[:stop], labels[:stop], len(ids) > max_length)


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase,
    messages: Messages,
    options: Mapping[str, Any],
    *,
    tools: Tools = (),
) -> tuple[str, list[int]]:
    """Encode a conversation that the model is to answer.

    Args:
        tokenizer: has a chat template.
        messages: as `encode_chat` takes them, the last not being the assistant's.
        options: further variables of the chat template.
        tools: functions the assistant may call.

    Returns:
        The rendered text up to and including the generation prompt, and its token ids: the ids
        before the last answer in `encode_chat` of the same conversation with an answer.

    Raises:
        BadRowError: if there is nothing to answer, or the chat template cannot be used for it.
    """
    if not messages or messages[-1]["role"] == "assistant":
        raise BadRowError("messages end on the assistant: nothing is left to answer")
    chat = _Chat(tokenizer, messages, tools, options)
    segments = chat.kept(chat.context(len(messages)))
    ids = [token for segment in segments for token in _tokenize(tokenizer, segment.text)]
    return "".join(segment.text for segment in segments), ids


class _Chat:
    """A conversation as the chat template of one tokenizer renders it.

    The texts of the segments it is cut into, concatenated, are what the template renders; only
    what stands after the last end-of-turn (a newline, say) is left out.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        messages: Messages,
        tools: Tools,
        options: Mapping[str, Any],
    ) -> None:
        self.tokenizer, self.options = tokenizer, options
        self.special = special_tokens(tokenizer)
        _refuse_special(self.special, messages, tools)
        self.messages, self.tools = _for_template(tokenizer, messages, tools)
        if any("tool_calls" in message for message in self.messages) and self._joins_arguments():
            self.messages = [_with_written_arguments(message) for message in self.messages]

    def trained(self) -> list[_Segment]:
        """Every answer trained.

        Raises:
            BadRowError: if the template is not prefix-stable on this conversation.
        """
        return self.kept(list(self._turns(len(self.messages))))

    def last_trained(self) -> list[_Segment]:
        """The last answer trained, everything before it context."""
        last = len(self.messages) - 1
        context = self.context(last)
        return self.kept([*context, self._answer(last, "".join(part.text for part in context))])

    def context(self, turns: int) -> list[_Segment]:
        """The first turns and the generation prompt, untrained."""
        whole = self._render(turns, prompt=True)
        try:
            parts = [part.text for part in self._turns(turns)]
            parts.append(_after("".join(parts), whole))
        except BadRowError:  # its answers could not be trained, but need not be
            parts = [whole]
        return [_Segment(part, trained=False) for part in parts]

    def kept(self, segments: list[_Segment]) -> list[_Segment]:
        """The segments, once no turn that was given is found missing in them."""
        text = "".join(segment.text for segment in segments)
        for message in self.messages:
            content = message["content"].strip()
            escaped = json.dumps(content, ensure_ascii=False)[1:-1]  # as some render tools' turns
            if message["role"] != "assistant" and content not in text and escaped not in text:
                raise BadRowError(f"chat template drops a {message['role']} message")
        return segments

    def _turns(self, stop: int) -> Iterator[_Segment]:
        """Prompt and answer of every assistant's turn before `stop`."""
        done = ""
        for turn in range(1, stop):
            if self.messages[turn]["role"] != "assistant":
                continue
            prompt = self._render(turn, prompt=True)
            yield _Segment(_after(done, prompt), trained=False)
            answer = self._answer(turn, prompt)
            yield answer
            done = prompt + answer.text

    def _answer(self, turn: int, prompt: str) -> _Segment:
        """The assistant's turn as it follows its prompt, to its end-of-turn."""
        message, whole = self.messages[turn], self._render(turn + 1, prompt=False)
        if not whole.startswith(prompt):
            raise BadRowError(
                "chat template is not prefix-stable: an answer does not begin with its own "
                "generation prompt; change encode.template_options (enable_thinking, say)"
            )
        answer = whole[len(prompt) :]
        calls = message.get("tool_calls")
        if not calls:
            end = _end_of_turn(answer, message["content"], self.special)
        elif all(call["function"]["name"] in answer for call in calls):
            # What stands there whether or not the conversation goes on belongs to the turn.
            following = self._render(turn + 1, prompt=True)[len(prompt) :]
            end = _last_end(_common_prefix(answer, following), self.special)
        else:
            raise BadRowError("chat template drops a function call")
        return _Segment(answer[:end], trained=True)

    def _joins_arguments(self) -> bool:
        """Whether the template joins a call's arguments to text (DeepSeek's), so needs text."""
        try:
            self._apply(len(self.messages), prompt=False)
        except TypeError:
            return True
        except TemplateError:
            return False  # rendering will tell
        return False

    def _render(self, turns: int, *, prompt: bool) -> str:
        """The template's text of the first turns, with or without a generation prompt."""
        try:
            return self._apply(turns, prompt=prompt)
        except (TemplateError, TypeError) as error:
            raise BadRowError(f"chat template refuses the messages: {error}") from None

    def _apply(self, turns: int, *, prompt: bool) -> str:
        text = self.tokenizer.apply_chat_template(
            [dict(message) for message in self.messages[:turns]],
            tools=[dict(tool) for tool in self.tools] or None,
            tokenize=False,
            add_generation_prompt=prompt,
            **self.options,
        )
        return str(text)


def _for_template(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, tools: Tools
) -> tuple[Messages, Tools]:
    """Say as text what the template does not know: function calls, and the tools there are.

    A call becomes the content of its turn, a JSON object a line; tools are listed likewise at the
    end of the system turn.
    """
    template = tokenizer.get_chat_template(tools=[dict(tool) for tool in tools] or None)
    if not re.search(r"\btool_calls\b", template):
        messages = [_spelled_out(message) for message in messages]
    if not tools or re.search(r"\btools\b", template):
        return messages, tools
    listed = "Tools:\n" + _json_lines([tool["function"] for tool in tools])
    if messages[0]["role"] != "system":
        return [{"role": "system", "content": listed}, *messages], ()
    system = messages[0]["content"] + "\n\n" + listed
    return [{"role": "system", "content": system}, *messages[1:]], ()


def _spelled_out(message: Mapping[str, Any]) -> Mapping[str, Any]:
    if "tool_calls" not in message:
        return message
    calls = _json_lines([call["function"] for call in message["tool_calls"]])
    content = message["content"] + "\n" + calls if message["content"].strip() else calls
    return {"role": message["role"], "content": content}


def _with_written_arguments(message: Mapping[str, Any]) -> Mapping[str, Any]:
    if "tool_calls" not in message:
        return message
    calls = [
        call | {"function": call["function"] | {"arguments": _json_lines([arguments])}}
        for call in message["tool_calls"]
        for arguments in [call["function"]["arguments"]]
    ]
    return {**message, "tool_calls": calls}


def _json_lines(values: Sequence[Any]) -> str:
    return "\n".join(json.dumps(value, ensure_ascii=False) for value in values)


def _refuse_special(special: re.Pattern[str], messages: Messages, tools: Tools) -> None:
    """Refuse text that would be read as the template's own tokens."""
    texts = [(f"{message['role']} message", message["content"]) for message in messages]
    calls = [message["tool_calls"] for message in messages if "tool_calls" in message]
    texts += [("function call", _json_lines(calls)), ("tools", _json_lines(tools))]
    for name, text in texts:
        if found := special.search(text):
            raise BadRowError(f"{name} contains the special token {found[0]!r}")


def _after(prefix: str, text: str) -> str:
    """Return what `text` adds to `prefix`."""
    if not text.startswith(prefix):
        raise BadRowError(
            "chat template is not prefix-stable: it renders earlier turns differently once later "
            "ones follow; set encode.loss_on to last, which trains the last answer alone"
        )
    return text[len(prefix) :]


def _end_of_turn(answer: str, content: str, special: re.Pattern[str]) -> int:
    """Length of a rendered answer up to and including its end-of-turn token.

    That is the special token which ends the piece of text that holds the content: a template may
    put more of them before it (a channel's name) and after it (an end of sequence). White space
    is the template's to change (around an answer's thinking, say).
    """
    content = _squeezed(content)
    if not content:
        raise BadRowError("answer is empty")
    start = end = 0
    for token in special.finditer(answer):
        if content in _squeezed(answer[start : token.start()]):
            end = token.end()
        start = token.end()
    if not end:
        raise BadRowError(
            NO_END if content in _squeezed(answer) else "chat template rewrites the answer"
        )
    return end


def _last_end(text: str, special: re.Pattern[str]) -> int:
    """Length of a text up to and including its last special token."""
    ends = [token.end() for token in special.finditer(text)]
    if not ends:
        raise BadRowError(NO_END)
    return ends[-1]


def _common_prefix(a: str, b: str) -> str:
    differ = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return a[: next(differ, min(len(a), len(b)))]


def _squeezed(text: str) -> str:
    return "".join(text.split())


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Pattern of the tokens that only a template may write."""
    added = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
    tokens = added | set(tokenizer.all_special_tokens)
    return re.compile("|".join(re.escape(t) for t in sorted(tokens, key=len, reverse=True)))


def _tokenize(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # The template has written the special tokens itself.
    return list(tokenizer.encode(text, add_special_tokens=False, verbose=False))
