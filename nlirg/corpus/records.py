"""Rows of a corpus to conversations or documents, each row by its own format.

Conversations: `messages` (OpenAI: role, content, tool_calls of every turn), `conversations`
(ShareGPT: from and value of every turn), or one of `PAIRS`, a question and its answer: Alpaca
(with an optional `input`), prompt-completion, question-answer, query-response; all of them with an
optional `history`, a list of earlier [question, answer]. In every format `system` is the row's
system turn and `tools` are the functions that may be called. Documents: `text` or `content`. Other
keys are ignored, and so is a format whose keys are null or empty where another has values, as in
tables, where every row has every column.

What is no text in JSON may be its JSON text, as it must be in CSV (`messages`, `conversations`,
`history`, `tools`); where text is expected a whole number stands for its digits.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import Any

from nlirg.errors import HALF_SURROGATE, BadRowError

ROLES = ("system", "user", "assistant", "tool")
# ShareGPT's names; what a `function_call` says, the assistant says.
SPEAKERS = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}
PAIRS = {
    "instruction": "output",
    "prompt": "completion",
    "question": "answer",
    "query": "response",
}
DOCUMENTS = ("text", "content")
# Keys that decide a row's format, and those that any format may have.
FORMATS = ("messages", "conversations", *PAIRS, *PAIRS.values(), "input", *DOCUMENTS)
EXTRAS = ("system", "history", "tools", "task_type", "id")
OPTIONAL = ("input", *EXTRAS)
LINKS = ("tool_call_id", "name")  # what a tool's turn may say about the call it answers

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Record:
    """One conversation to train on.

    Attributes:
        id: the row's `id` as text, or a hash of its file name, line and content.
        messages: `role` and `content` of every turn; the last is the assistant's. An assistant's
            turn that calls functions has `tool_calls` too, as OpenAI writes them but with the
            `arguments` parsed.
        task_type: the row's `task_type`, "" if it has none.
        tools: functions the assistant may call, as OpenAI writes them.
    """

    id: str
    messages: Messages
    task_type: str
    tools: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Document:
    """One plain text to train on; `id` and `task_type` as a `Record`'s."""

    id: str
    text: str
    task_type: str


def as_json(value: Any) -> str:
    """What stands in JSON for a value of a table that JSON lacks: bytes as base64, dates as text.

    An argument of `json.dumps`: its `default`.
    """
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def parse_row(value: Any, source: str, line: int) -> Record:
    """Recognise a row's format and turn it into a conversation.

    Args:
        value: the parsed JSON of the row.
        source: file the row stands in.
        line: its number there. File name and line are part of the id of a row without one, so
            that a row that occurs twice does not get the same id twice.

    Raises:
        BadRowError: if the row cannot be trained on; the reason names the key.
    """
    row = _object(value)
    messages = _linked(_messages(row))
    record = Record(_identity(row, source, line), messages, _task_type(row), _tools(row))
    _check_turns(messages)
    _check_text(record)
    return record


def parse_document(value: Any, source: str, line: int) -> Document:
    """Turn a row with `text` or `content` into a document; arguments as of `parse_row`.

    Raises:
        BadRowError: if the row has no text; the reason names the key.
    """
    row = _object(value)
    key = next((key for key in DOCUMENTS if key in _given(row)), None)
    if key is None:
        raise BadRowError("row has neither text nor content (conversations are encode.task: sft)")
    document = Document(_identity(row, source, line), _text(row, key), _task_type(row))
    if not document.text.strip():
        raise BadRowError(f"{key} is empty")
    _check_text(document)
    return document


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadRowError(f"row is {_kind(value)}, not an object")
    return value


def _check_text(record: Record | Document) -> None:
    try:
        json.dumps(asdict(record), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadRowError(HALF_SURROGATE) from None


def _messages(row: Mapping[str, Any]) -> Messages:
    """The row's turns, its own `system` first."""
    turns, system = _turns(row), _text(row, "system")
    if not system.strip():
        return turns
    if not turns or turns[0]["role"] != "system":
        return [_turn("system", system), *turns]
    given = turns[0]["content"]
    both = given if given.strip() == system.strip() else f"{system}\n\n{given}"
    return [_turn("system", both), *turns[1:]]


def _turns(row: Mapping[str, Any]) -> Messages:
    given = _given(row)
    if "messages" in given:
        return [_message(n, turn) for n, turn in _numbered(row, "messages")]
    if "conversations" in given:
        return [_said(n, turn) for n, turn in _numbered(row, "conversations")]
    for question, answer in PAIRS.items():
        if question in given or answer in given:
            return _pair(row, question, answer)
    pairs = ", ".join(f"{question} with {answer}" for question, answer in PAIRS.items())
    raise BadRowError(
        f"row has none of the keys messages, conversations, {pairs}"
        + (" (plain text is encode.task: cpt)" if "text" in row else "")
    )


def _given(row: Mapping[str, Any]) -> set[str]:
    """Keys that decide the row's format: those that say something, or if none does all of them."""
    present = {key for key in FORMATS if key in row}
    return {key for key in present if row[key] is not None and row[key] != ""} or present


def _numbered(row: Mapping[str, Any], key: str) -> list[tuple[int, Mapping[str, Any]]]:
    """The turns of a list, counted from 1."""
    turns = _list(row, key)
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict):
            raise BadRowError(f"message {number} is {_kind(turn)}, not an object")
    return list(enumerate(turns, start=1))


def _message(number: int, message: Mapping[str, Any]) -> dict[str, Any]:
    """One turn of `messages`."""
    role, content, calls = (message.get(key) for key in ("role", "content", "tool_calls"))
    if role not in ROLES:
        raise BadRowError(f"message {number}: role {role!r} is not one of {', '.join(ROLES)}")
    if calls and role != "assistant":
        raise BadRowError(f"message {number}: tool_calls in a turn of the {role}")
    content = "" if content is None and calls else content
    if not isinstance(content, str):
        raise BadRowError(f"message {number}: content is {_kind(content)}, not text")
    turn = _turn(role, content)
    if calls:
        turn["tool_calls"] = _calls(number, calls)
    if role == "tool":
        turn |= {key: message[key] for key in LINKS if isinstance(message.get(key), str)}
    return turn


def _said(number: int, turn: Mapping[str, Any]) -> dict[str, Any]:
    """One turn of `conversations`."""
    speaker, value = turn.get("from"), turn.get("value")
    if not isinstance(speaker, str) or speaker not in SPEAKERS:
        raise BadRowError(f"message {number}: from {speaker!r} is not one of {', '.join(SPEAKERS)}")
    if not isinstance(value, str):
        raise BadRowError(f"message {number}: value is {_kind(value)}, not text")
    if speaker == "function_call":
        calls = _calls(number, _json(value, f"message {number}: function_call"))
        return _turn("assistant", "") | {"tool_calls": calls}
    return _turn(SPEAKERS[speaker], value)


def _calls(number: int, given: Any) -> list[dict[str, Any]]:
    """Calls of one turn in one form, whether or not they are wrapped in `function`."""
    calls = []
    for call in given if isinstance(given, list) else [given]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRowError(f"message {number}: a function call is an object with name")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            arguments = _json(arguments, f"message {number}: arguments of {function['name']!r}")
        if not isinstance(arguments, dict):
            raise BadRowError(
                f"message {number}: arguments of {function['name']!r} are {_kind(arguments)}, "
                "not an object"
            )
        link = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
        called = {"name": function["name"], "arguments": arguments}
        calls.append({**link, "type": "function", "function": called})
    return calls


def _linked(messages: Messages) -> Messages:
    """Number the calls that have no id, and let tools' turns answer them in order.

    Some templates print the ids, and refuse fewer than nine characters.
    """
    count = 0
    unanswered: list[str] = []
    for message in messages:
        for call in message.get("tool_calls", ()):
            call.setdefault("id", f"call{count:05d}")
            unanswered.append(call["id"])
            count += 1
        if message["role"] == "tool" and unanswered:
            answered = message.setdefault("tool_call_id", unanswered[0])
            unanswered = [call for call in unanswered if call != answered]
    return messages


def _tools(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The row's `tools`, a list or its JSON, each wrapped as OpenAI does."""
    given = row.get("tools") or []
    if isinstance(given, str):
        given = _json(given, "tools") if given.strip() else []
    tools = given if isinstance(given, list) else [given]
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRowError("tools is not a list of functions with name")
    return [
        tool if "function" in tool else {"type": "function", "function": tool} for tool in tools
    ]


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadRowError(f"{what}: not JSON") from None


def _pair(row: Mapping[str, Any], question: str, answer: str) -> Messages:
    """A question and its answer, after those of the row's history."""
    turns = []
    for asked, answered in _history(row):
        turns += [_turn("user", asked), _turn("assistant", answered)]
    keys = (question, "input") if question == "instruction" else (question,)
    parts = [text for key in keys if (text := _text(row, key)).strip()]
    if not parts:
        raise BadRowError("no instruction" if question == "instruction" else f"no {question}")
    return [*turns, _turn("user", "\n".join(parts)), _turn("assistant", _text(row, answer))]


def _history(row: Mapping[str, Any]) -> list[list[str]]:
    history = _list(row, "history")
    fits = all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in history
    )
    if not fits:
        raise BadRowError("history is not a list of [question, answer] pairs")
    return history


def _list(row: Mapping[str, Any], key: str) -> list[Any]:
    """A list, or its JSON text; an absent, null or empty one is empty."""
    value = row.get(key)
    if isinstance(value, str) and value.strip():
        value = _json(value, key)
    value = value or []
    if not isinstance(value, list):
        raise BadRowError(f"{key} is {_kind(value)}, not a list")
    return value


def _check_turns(messages: Messages) -> None:
    roles = [message["role"] for message in messages]
    if "user" not in roles:
        raise BadRowError("no instruction" if roles else "messages is empty")
    if roles[-1] != "assistant":
        raise BadRowError(f"messages end on the {roles[-1]}")
    if "system" in roles[1:]:
        raise BadRowError("a system message stands after the first turn")
    for message in messages:
        spoken = message["content"].strip() or "tool_calls" in message
        if message["role"] in ("user", "assistant") and not spoken:
            raise BadRowError(
                "answer is empty" if message["role"] == "assistant" else "no instruction"
            )


def _identity(row: Mapping[str, Any], source: str, line: int) -> str:
    given = row.get("id")
    if isinstance(given, dict | list):
        raise BadRowError(f"id is {_kind(given)}, not text or a number")
    if given is not None and given != "":
        return str(given)
    content = json.dumps([PurePath(source).name, line, row], sort_keys=True, default=as_json)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _task_type(row: Mapping[str, Any]) -> str:
    given = row.get("task_type")
    parts = given if isinstance(given, list) else [given]
    if any(isinstance(part, dict | list) for part in parts):
        raise BadRowError("task_type is neither text nor a list of texts")
    return "/".join(str(part) for part in parts if part is not None)


def _turn(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _text(row: Mapping[str, Any], key: str) -> str:
    """Text of a key; an absent or null one is empty, a whole number its digits."""
    value = row.get(key)
    if value is None:
        return ""
    if type(value) is int:  # not true or false, which Python counts among them
        return str(value)
    if not isinstance(value, str):
        raise BadRowError(f"{key} is {_kind(value)}, not text")
    return value


def _kind(value: Any) -> str:
    """What a reader of the file would call a value."""
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")
