"""Rows of a corpus to conversations or documents, each row by its own format.

Conversations: `messages` (OpenAI: role, content, tool_calls of every turn), `conversations`
(ShareGPT: from and value of every turn), or one of `PAIRS`, a question and its answer: Alpaca
(with an optional `input`), prompt-completion, question-answer, query-response; all of them with an
optional `history`, a list of earlier [question, answer]. In every format `system` is the row's
system turn and `tools` are the functions that may be called. Documents: `text` or `content`. Other
keys are ignored, and so is a format whose keys are null or empty where another has values, as in
tables, where every row has every column.

What is no text in JSON may be its JSON text, as it must be in CSV (`messages`, `conversations`,
`history`, `tools`); where text is expected a number stands for its digits. What a turn may say is
in `nlirg.corpus.formats.turns`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from nlirg.corpus.formats.columns import DOCUMENTS, FORMATS, PAIRS, unread_keys
from nlirg.corpus.formats.turns import (
    OPENAI,
    SHAREGPT,
    Messages,
    check_weights,
    link_calls,
    read_turns,
    turn,
    without_untrained_end,
)
from nlirg.corpus.formats.values import as_text, from_json, key_list, key_text, kind
from nlirg.errors import HALF_SURROGATE, BadRowError


class NoFormatError(BadRowError):
    """The row's keys do not say what it is."""


@dataclass(frozen=True)
class Record:
    """One conversation to train on.

    Attributes:
        id: the row's `id` as text, or a hash of its file name, line and content.
        messages: `role` and `content` of every turn; the last is an assistant's that is trained.
            An assistant's turn that calls functions has `tool_calls` too, as OpenAI writes them
            but with the `arguments` parsed; one that was thought about has `reasoning`, a text;
            one that is only context has `trained`, which is False.
        task_type: the row's `task_type`, "" if it has none.
        tools: functions the assistant may call, as OpenAI writes them.
        notes: what of the row is not read, sorted; worded alike in all rows that have it.
    """

    id: str
    messages: Messages
    task_type: str
    tools: list[dict[str, Any]] = field(default_factory=list)
    notes: tuple[str, ...] = ()


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
        NoFormatError: if its keys do not say what it is.
        BadRowError: if the row cannot be trained on; the reason names the key.
    """
    row, notes = _object(value), set[str]()
    messages = without_untrained_end(link_calls(_messages(row, notes)))
    check_weights(row, notes)
    name, tools = identity(row, source, line), _tools(row)
    record = Record(name, messages, _task_type(row), tools, tuple(sorted(notes)))
    _check_turns(messages)
    _check_text(record)
    return record


def parse_document(value: Any, source: str, line: int) -> Document:
    """Turn a row with `text` or `content` into a document; arguments as of `parse_row`.

    Raises:
        NoFormatError: if it has no such key.
        BadRowError: if the row has no text; the reason names the key.
    """
    row = _object(value)
    key = next((key for key in DOCUMENTS if key in _given(row)), None)
    if key is None:
        raise NoFormatError("row has neither text nor content (conversations are encode.task: sft)")
    document = Document(identity(row, source, line), key_text(row, key), _task_type(row))
    if not document.text.strip():
        raise BadRowError(f"{key} is empty")
    _check_text(document)
    return document


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadRowError(f"row is {kind(value)}, not an object")
    return value


def _check_text(record: Record | Document) -> None:
    try:
        json.dumps(vars(record), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadRowError(HALF_SURROGATE) from None


def _messages(row: Mapping[str, Any], notes: set[str]) -> Messages:
    """The row's turns, its own `system` first."""
    turns, system = _turns(row, notes), key_text(row, "system")
    if not system.strip():
        return turns
    if not turns or turns[0]["role"] != "system":
        return [turn("system", system), *turns]
    given = turns[0]["content"]
    both = given if given.strip() == system.strip() else f"{system}\n\n{given}"
    return [turn("system", both), *turns[1:]]


def _turns(row: Mapping[str, Any], notes: set[str]) -> Messages:
    given = _given(row)
    if "messages" in given:
        return read_turns(key_list(row, "messages"), OPENAI, notes)
    if "conversations" in given:
        return read_turns(key_list(row, "conversations"), SHAREGPT, notes)
    question, answer = _pair_of(row, given)
    turns = []
    for asked, answered in _history(row):
        turns += [turn("user", asked), turn("assistant", answered)]
    return [*turns, *_asked(row, question, answer, notes), *_said(row, answer, notes)]


def _given(row: Mapping[str, Any]) -> set[str]:
    """Keys that decide the row's format: those that say something, or if none does all of them."""
    present = {key for key in FORMATS if key in row}
    return {key for key in present if row[key] is not None and row[key] != ""} or present


def _pair_of(row: Mapping[str, Any], given: set[str]) -> tuple[str, str]:
    """The keys of the row's question and of its answer; either may be there and empty."""
    for question, answer in PAIRS.items():
        if question in given:
            if answer not in row:
                raise NoFormatError(f"row has {question} and no {answer}")
            return question, answer
    for question, answer in PAIRS.items():
        if answer in given:
            if question not in row and (question, "input" in given) != ("instruction", True):
                raise NoFormatError(f"row has {answer} and no {question}")
            return question, answer
    pairs = ", ".join(f"{question} with {answer}" for question, answer in PAIRS.items())
    raise NoFormatError(
        f"row has none of the keys messages, conversations, {pairs}"
        + (" (plain text is encode.task: cpt)" if "text" in row else "")
    )


def _asked(row: Mapping[str, Any], question: str, answer: str, notes: set[str]) -> Messages:
    """The question: text with its input, or a list of turns."""
    keys = (question, "input") if question == "instruction" else (question,)
    notes.update(f"row key {key!r} is not read" for key in unread_keys(row, (*keys, answer)))
    if _holds_turns(row.get(question)) and not row.get("input"):
        return read_turns(row[question], OPENAI, notes)
    parts = [text for key in keys if (text := key_text(row, key)).strip()]
    if not parts:
        raise BadRowError("no instruction" if question == "instruction" else f"no {question}")
    return [turn("user", "\n".join(parts))]


def _said(row: Mapping[str, Any], answer: str, notes: set[str]) -> Messages:
    """The answer: text, or a list of turns."""
    if _holds_turns(row.get(answer)):
        return read_turns(row[answer], OPENAI, notes)
    return [turn("assistant", key_text(row, answer))]


def _holds_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, dict) for x in value)


def _history(row: Mapping[str, Any]) -> list[list[str]]:
    history = key_list(row, "history")
    try:
        return [[as_text(text, "history") for text in (asked, said)] for asked, said in history]
    except (BadRowError, TypeError, ValueError):
        raise BadRowError("history is not a list of [question, answer] pairs") from None


def _tools(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The row's `tools`, a list or its JSON, each wrapped as OpenAI does."""
    given = row.get("tools") or []
    if isinstance(given, str):
        given = from_json(given, "tools") if given.strip() else []
    tools = given if isinstance(given, list) else [given]
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRowError("tools is not a list of functions with name")
    return [
        tool if "function" in tool else {"type": "function", "function": tool} for tool in tools
    ]


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
        if message["role"] == "user" and not spoken:
            raise BadRowError("no instruction")
        if message["role"] == "assistant" and not spoken:
            alone = ": it has reasoning alone" if message.get("reasoning") else ""
            raise BadRowError(f"answer is empty{alone}")


def identity(row: Mapping[str, Any], source: str, line: int) -> str:
    """The id of a row: its own, or one made of file name, line and content.

    Raises:
        BadRowError: if its own is neither text nor a number.
    """
    if given := own_id(row):
        return given
    content = json.dumps([PurePath(source).name, line, row], sort_keys=True, default=as_json)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def own_id(row: Mapping[str, Any]) -> str:
    """The id that stands in a row; "" if none does.

    Raises:
        BadRowError: if it is neither text nor a number.
    """
    given = row.get("id")
    if isinstance(given, dict | list):
        raise BadRowError(f"id is {kind(given)}, not text or a number")
    return "" if given is None else str(given)


def _task_type(row: Mapping[str, Any]) -> str:
    given = row.get("task_type")
    parts = given if isinstance(given, list) else [given]
    if any(isinstance(part, dict | list) for part in parts):
        raise BadRowError("task_type is neither text nor a list of texts")
    return "/".join(str(part) for part in parts if part is not None)
