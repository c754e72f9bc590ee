"""A conversation as one template can express it.

What a template does not print is said as text, as the field does: a system turn at the beginning of
the first question, tools at the end of the system turn, calls in the assistant's own words and
their results in the user's, thinking between `<think>` tags.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nlirg.chat.template import REASONING_KEYS, ChatTemplate, Messages, Tools
from nlirg.chat.thinking import split_thinking, thinking_text
from nlirg.errors import BadRowError

LISTS_TOOLS = "the chat template prints no tools: they are listed in the system turn"
WRITES_CALLS = "the chat template prints no function calls: they are written as JSON"
WRITES_RESULTS = "the chat template prints no tools' turns: their results are written as the user's"
MERGES_SYSTEM = "the chat template has no system turn: it is put before the first question"
WRITES_BESIDE = (
    "the chat template prints no text beside a call: where it is trained it is put before"
)
DROPS_SYSTEM = "the chat template leaves out the system turn where no question is open"
WRITES_REASONING = "the chat template does not read reasoning: it is written between <think> tags"


@dataclass(frozen=True)
class TemplateTurn:
    """One turn as the template is given it.

    Attributes:
        message: what the template reads.
        trained: whether it is an answer to train.
        content: of an assistant's turn, what it says after its thinking.
        reasoning: of an assistant's turn, its thinking; "" without.
    """

    message: dict[str, Any]
    trained: bool = False
    content: str = ""
    reasoning: str = ""

    @property
    def role(self) -> str:
        """Who speaks."""
        role: str = self.message["role"]
        return role

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The calls that the template prints."""
        calls: list[dict[str, Any]] = self.message.get("tool_calls", [])
        return calls


@dataclass(frozen=True)
class Conversation:
    """Turns and tools as the template is given them, and what of them it does not know."""

    turns: list[TemplateTurn]
    tools: Tools
    notes: tuple[str, ...]

    def messages(self, stop: int | None = None) -> list[dict[str, Any]]:
        """Return the first `stop` turns as the template reads them."""
        return [turn.message for turn in self.turns[:stop]]


def trained_turns(messages: Messages, loss_on: Literal["all", "last"]) -> list[int]:
    """Return which turns are trained: those of the assistant that answer somebody.

    Args:
        messages: as `nlirg.corpus.records.Record` has them.
        loss_on: every answer, or the last alone; a turn with `trained: False` is context.
    """
    roles = [message["role"] for message in messages]
    asked = next((turn for turn, role in enumerate(roles) if role in ("user", "tool")), len(roles))
    found = [
        turn
        for turn, message in enumerate(messages)
        if turn > asked and message["role"] == "assistant" and message.get("trained", True)
    ]
    return found if loss_on == "all" else found[-1:]


def adapt(
    template: ChatTemplate, messages: Messages, tools: Tools, trained: Sequence[int] = ()
) -> Conversation:
    """Put a conversation into what the template can express.

    Args:
        template: to render it with.
        messages: as `nlirg.corpus.records.Record` has them.
        tools: functions that may be called, as OpenAI writes them.
        trained: which turns are answers to train.

    Raises:
        BadRowError: if the conversation spells a special token.
    """
    notes: dict[str, None] = {}
    turns = [
        _adapted_turn(template, message, number in trained, notes)
        for number, message in enumerate(messages)
    ]
    _refuse_special(template.special, turns, messages, tools)
    turns = _with_results(template, turns, notes)
    turns, tools = _with_tools(template, turns, tools, notes)
    return Conversation(_with_system(template, turns, notes), tools, tuple(notes))


def _adapted_turn(
    template: ChatTemplate, message: Mapping[str, Any], trained: bool, notes: dict[str, None]
) -> TemplateTurn:
    """Return a turn whose thinking and calls the template can read."""
    given = {key: message[key] for key in message if key not in ("trained", "reasoning")}
    if message["role"] != "assistant":
        return TemplateTurn(given)
    reasoning, content = split_thinking(message["content"])
    apart = message.get("reasoning", "").strip()
    reasoning = "\n\n".join(part for part in (apart, reasoning) if part)
    calls = message.get("tool_calls", [])
    form = template.call_form if calls else None
    if not calls:
        given.pop("tool_calls", None)
    elif form is None:
        notes[WRITES_CALLS] = None
        written = json_lines([call["function"] for call in calls])
        content = f"{content}\n{written}" if content.strip() else written
        del given["tool_calls"]
    elif len(calls) > 1 and not form.many:
        raise BadRowError(f"chat template prints one call a turn, and one has {len(calls)}")
    elif form.written:
        given["tool_calls"] = [_with_written_arguments(call) for call in calls]
    given["content"] = content if form is None or content.strip() else form.empty
    if reasoning and template.reads_reasoning:
        given |= dict.fromkeys(REASONING_KEYS, reasoning)
    elif reasoning:
        if apart:
            notes[WRITES_REASONING] = None
        given["content"] = thinking_text(reasoning) + content
    return TemplateTurn(given, trained, content, reasoning)


def _with_written_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}


def _with_results(
    template: ChatTemplate, turns: list[TemplateTurn], notes: dict[str, None]
) -> list[TemplateTurn]:
    """Say tools' turns as the user, together with what the user says beside them."""
    if all(turn.role != "tool" for turn in turns) or template.has_results:
        return turns
    notes[WRITES_RESULTS] = None
    said: list[TemplateTurn] = []
    joined = False  # whether the last turn said holds a result
    for turn in turns:
        result = turn.role == "tool"
        content = turn.message["content"]
        content = f"Tool result:\n{content}" if result else content
        if said and said[-1].role == "user" and (result or (joined and turn.role == "user")):
            content = f"{said.pop().message['content']}\n\n{content}"
        new = {"role": "user", "content": content}
        said.append(TemplateTurn(new) if result or turn.role == "user" else turn)
        joined = result or (joined and turn.role == "user")
    return said


def _with_tools(
    template: ChatTemplate, turns: list[TemplateTurn], tools: Tools, notes: dict[str, None]
) -> tuple[list[TemplateTurn], Tools]:
    """List tools at the end of the system turn."""
    has_system = bool(turns) and turns[0].role == "system"
    if not tools or template.prints_tools(after_system=has_system and template.has_system):
        return turns, tools
    notes[LISTS_TOOLS] = None
    listed = "Tools:\n" + json_lines([tool["function"] for tool in tools])
    if not has_system:
        return [TemplateTurn({"role": "system", "content": listed}), *turns], ()
    system = turns[0].message["content"] + "\n\n" + listed
    return [TemplateTurn({"role": "system", "content": system}), *turns[1:]], ()


def _with_system(
    template: ChatTemplate, turns: list[TemplateTurn], notes: dict[str, None]
) -> list[TemplateTurn]:
    """Put the system turn before the first question."""
    if not turns or turns[0].role != "system" or template.has_system:
        return turns
    notes[MERGES_SYSTEM] = None
    system, *rest = turns
    first = next((number for number, turn in enumerate(rest) if turn.role == "user"), None)
    if first is None:
        raise BadRowError("chat template has no system turn, and no question to put it before")
    content = f"{system.message['content']}\n\n{rest[first].message['content']}"
    rest[first] = TemplateTurn({**rest[first].message, "content": content})
    return rest


def json_lines(values: Sequence[Any]) -> str:
    """Write values as JSON, one a line."""
    return "\n".join(json.dumps(value, ensure_ascii=False) for value in values)


def _refuse_special(
    special: re.Pattern[str], turns: Sequence[TemplateTurn], messages: Messages, tools: Tools
) -> None:
    """Refuse text that would be read as the template's own tokens."""
    calls = [message["tool_calls"] for message in messages if "tool_calls" in message]
    texts = [("function call", json_lines(calls)), ("tools", json_lines(tools))]
    for turn in turns:
        content = turn.content if turn.role == "assistant" else turn.message["content"]
        texts += [(f"{turn.role} message", content), ("reasoning", turn.reasoning)]
    for name, text in texts:
        if found := special.search(text):
            raise BadRowError(f"{name} contains the special token {found[0]!r}")
