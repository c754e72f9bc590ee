"""One tokenizer's chat template, and what of a conversation it prints.

What a template can express is found out by rendering short conversations of words that occur
nowhere else: a template that mentions `tools` need not print them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError, UndefinedError

from nlirg.chat.thinking import CLOSED
from nlirg.errors import BadRowError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]

# What templates call the thinking before an answer: Qwen3 and most, gpt-oss, others.
REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
# What a template's own code can end in, besides its `raise_exception`.
FAULTS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)

# Words to look for in what a template renders.
ASKED, ANSWERED, SYSTEM, NAME, OTHER, KEY, VALUE, RESULT, THOUGHT = (
    f"zq{word}qz"
    for word in (
        "asked",
        "answered",
        "system",
        "name",
        "other",
        "key",
        "value",
        "result",
        "thought",
    )
)
USER_TURN = {"role": "user", "content": ASKED}
ANSWER_TURN = {"role": "assistant", "content": ANSWERED}
SYSTEM_TURN = {"role": "system", "content": SYSTEM}
TOOL = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": NAME,
        "parameters": {
            "type": "object",
            "properties": {KEY: {"type": "string", "description": KEY}},
            "required": [KEY],
        },
    },
}
MARKER = re.compile(r"<[|｜][^|｜\s]+[|｜]>")  # what most models' special tokens look like
CALL_ID = "call00000"  # some templates refuse ids of fewer than nine characters


@dataclass(frozen=True)
class CallForm:
    """How a template wants a call.

    Attributes:
        written: whether the arguments are their JSON text, and not an object.
        empty: the content of a turn that says nothing beside its calls.
        many: whether a turn may have more than one.
    """

    written: bool = False
    empty: str | None = ""
    many: bool = True


class ChatTemplate:
    """The chat template of one tokenizer.

    Args:
        tokenizer: has a chat template.
        options: further variables of the template.
        stops: ids of the tokens at which the model's own settings end a generation.
        today: what the template is told if it asks for the date; the time is midnight.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        options: Mapping[str, Any],
        stops: frozenset[int],
        today: date,
    ) -> None:
        self.tokenizer = tokenizer
        self.special = special_tokens(tokenizer)
        self.end_of_sequence = str(tokenizer.eos_token)
        self.ends = {str(tokenizer.convert_ids_to_tokens(token)) for token in stops}
        now = datetime.combine(today, time())
        self._variables = {"strftime_now": now.strftime, **options}
        self._prints_tools: dict[bool, bool] = {}
        # Templates of models that see, too, may take lists of parts alone for content.
        self._parts = False
        # Some ask how many tools there are without asking whether there are any.
        self._no_tools: list[Any] | None = None
        for self._parts, self._no_tools in ((False, None), (False, []), (True, None)):
            if ASKED in self._printed([USER_TURN]):
                break

    def render(self, messages: Messages, tools: Tools = (), *, prompt: bool) -> str:
        """Return the template's text of messages, with or without a generation prompt.

        Raises:
            BadRowError: if the template refuses them.
        """
        try:
            text = self.tokenizer.apply_chat_template(
                [_in_parts(message) if self._parts else dict(message) for message in messages],
                tools=[dict(tool) for tool in tools] or self._no_tools,
                tokenize=False,
                add_generation_prompt=prompt,
                **self._variables,
            )
        except UndefinedError as error:
            reason = first_line(error)
            if not reason.endswith("is undefined"):  # what the messages lack, not the template
                raise BadRowError(f"chat template refuses the messages: {reason}") from None
            raise BadRowError(
                f"chat template cannot be rendered: {reason} (variables of its own go into "
                "encode.template_options, special tokens into the tokenizer's settings)"
            ) from None
        except FAULTS as error:
            reason = first_line(error)
            raise BadRowError(f"chat template refuses the messages: {reason}") from None
        return str(text)

    def _printed(self, messages: Messages, tools: Tools = (), *, prompt: bool = True) -> str:
        """Return the template's text, "" if it refuses."""
        try:
            return self.render(messages, tools, prompt=prompt)
        except BadRowError:
            return ""

    def end_in(self, after: str) -> str:
        """Return the end of a turn from what is written after its words; "" if there is none.

        That is the first special token; or, where several stand there with nothing between them
        and do so when the conversation goes on, too, the first of them at which the model stops
        (Cohere's ends an answer, then the turn; what Phi-3's adds is the end of the text).
        """
        run: list[re.Match[str]] = []
        for token in self.special.finditer(after):
            if run and after[run[-1].end() : token.start()].strip():
                break
            run.append(token)
        for token in run:
            end = after[: token.end()]
            if token[0] in self.ends and (token is run[0] or self._goes_on.startswith(end)):
                return end
        return after[: run[0].end()] if run else ""

    @cached_property
    def end_of_words(self) -> str:
        """The end of a turn in words.

        Where the template writes none, that is what stands before the next question's marker; or
        this marker, if the model stops at it (GLM's does); or the end of sequence.
        """
        turns = [USER_TURN, ANSWER_TURN]
        if end := self.end_in(self._printed(turns, prompt=False).rpartition(ANSWERED)[2]):
            return end
        found = self.special.search(self._goes_on)
        if found and (found[0] in self.ends or found[0] != self._opens_question):
            return self._goes_on[: found.end()].lstrip()
        return self.end_of_sequence

    @cached_property
    def _goes_on(self) -> str:
        """What is written after an answer's words that a question follows."""
        turns = [USER_TURN, ANSWER_TURN, USER_TURN]
        return self._printed(turns, prompt=False).rpartition(ANSWERED)[2]

    @cached_property
    def _opens_question(self) -> str:
        """The special token that a question's turn begins with; "" without."""
        tokens = self.special.findall(self._printed([USER_TURN]).partition(ASKED)[0])
        return str(tokens[-1]) if tokens else ""

    @cached_property
    def foreign_markers(self) -> list[str]:
        """What it writes that looks like a special token, and is none of the tokenizer's."""
        text = self._printed([USER_TURN, ANSWER_TURN]) + self._printed([USER_TURN])
        vocabulary = self.tokenizer.get_vocab()
        return [name for name in dict.fromkeys(MARKER.findall(text)) if name not in vocabulary]

    @cached_property
    def thinking_option(self) -> str:
        """The option with which its prompt leaves thinking to the answer; "" if there is none."""
        for name in ("enable_thinking", "thinking"):
            given = self._variables
            self._variables = {**given, name: True}
            prompt = self._printed([USER_TURN])
            self._variables = given
            if prompt and not CLOSED.search(prompt):
                return name
        return ""

    @cached_property
    def has_system(self) -> bool:
        """Whether it prints a system turn before the first question."""
        return SYSTEM in self._printed([SYSTEM_TURN, USER_TURN])

    def prints_tools(self, *, after_system: bool) -> bool:
        """Whether it prints tools, in a conversation with or without a system turn."""
        if after_system not in self._prints_tools:
            turns = [SYSTEM_TURN, USER_TURN] if after_system else [USER_TURN]
            self._prints_tools[after_system] = NAME in self._printed(turns, [TOOL])
        return self._prints_tools[after_system]

    @cached_property
    def call_form(self) -> CallForm | None:
        """How it wants a call; None if it prints no calls.

        DeepSeek's joins arguments to text, others would print an object as Python does; and some
        begin a second turn for a content that is empty but not null.
        """
        written = f'{{"{KEY}": "{VALUE}"}}'
        for arguments in ({KEY: VALUE}, written):
            printed = {
                empty: self._printed_call(_call_turn(arguments, empty)) for empty in ("", None)
            }
            shortest = min((text for text in printed.values() if text), key=len, default="")
            if shortest:
                empty = next(empty for empty, text in printed.items() if text == shortest)
                turn = _call_turn(arguments, empty)
                other = _call_turn(arguments, empty, OTHER)["tool_calls"]
                text = self._printed_call({**turn, "tool_calls": [*turn["tool_calls"], *other]})
                return CallForm(arguments is written, empty, many=OTHER in text)
        return None

    def _printed_call(self, turn: Mapping[str, Any]) -> str:
        """Return what it prints of a call after a question; "" if not name and arguments."""
        text = self._printed([USER_TURN, turn], self._tools(), prompt=False).rpartition(ASKED)[2]
        misprinted = f"{{'{KEY}'" in text or f'\\"{KEY}\\"' in text
        return text if NAME in text and VALUE in text and not misprinted else ""

    @cached_property
    def has_results(self) -> bool:
        """Whether it prints a tool's turn."""
        turn: Mapping[str, Any] = ANSWER_TURN
        if (form := self.call_form) is not None:
            written = f'{{"{KEY}": "{VALUE}"}}'
            turn = _call_turn(written if form.written else {KEY: VALUE}, form.empty)
        result = {"role": "tool", "content": RESULT, "tool_call_id": CALL_ID, "name": NAME}
        return RESULT in self._printed([USER_TURN, turn, result], self._tools())

    @cached_property
    def reads_reasoning(self) -> bool:
        """Whether it prints an answer's thinking that is given apart from its content."""
        turn = {"role": "assistant", "content": ANSWERED, **dict.fromkeys(REASONING_KEYS, THOUGHT)}
        return THOUGHT in self._printed([USER_TURN, turn], prompt=False)

    def _tools(self) -> list[Mapping[str, Any]]:
        return [TOOL] if self.prints_tools(after_system=False) else []


def _call_turn(arguments: Any, content: str | None, name: str = NAME) -> dict[str, Any]:
    call = {"id": CALL_ID, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


def _in_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message whose content is a list of one part."""
    return {**message, "content": [{"type": "text", "text": message["content"] or ""}]}


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Compile a pattern of the tokens that only a template may write."""
    added = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
    tokens = added | set(tokenizer.all_special_tokens)
    return re.compile("|".join(re.escape(t) for t in sorted(tokens, key=len, reverse=True)))
