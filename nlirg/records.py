"""Rows of a corpus to conversations, each row by its own format.

Formats: `messages` (role and content of every turn), Alpaca (`instruction`, `output`, optional
`input`, `system`, `history`), and `prompt` with `completion`. Other keys are ignored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from nlirg.errors import BadRowError

ROLES = ("system", "user", "assistant")

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Record:
    """One conversation to train on.

    Attributes:
        id: the row's `id` as text, or a hash of its file name, line and content.
        messages: `role` and `content` of every turn; the last is the assistant's.
        task_type: the row's `task_type`, "" if it has none.
    """

    id: str
    messages: Messages
    task_type: str


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
    if not isinstance(value, dict):
        raise BadRowError(f"row is {_kind(value)}, not an object")
    record = Record(_identity(value, source, line), _messages(value), _task_type(value))
    _check_turns(record.messages)
    try:
        "".join([record.id, record.task_type, *(m["content"] for m in record.messages)]).encode()
    except UnicodeEncodeError:
        raise BadRowError("text holds half a surrogate pair, which is no character") from None
    return record


def _messages(row: Mapping[str, Any]) -> Messages:
    if "messages" in row:
        return _given_messages(row["messages"])
    if "instruction" in row or "output" in row:
        return _alpaca(row)
    if "prompt" in row or "completion" in row:
        return [_turn("user", _text(row, "prompt")), _turn("assistant", _text(row, "completion"))]
    raise BadRowError(
        "row has none of the keys messages, instruction with output, prompt with completion"
    )


def _given_messages(messages: Any) -> Messages:
    if not isinstance(messages, list):
        raise BadRowError(f"messages is {_kind(messages)}, not a list")
    turns = []
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict):
            raise BadRowError(f"message {number} is {_kind(message)}, not an object")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise BadRowError(f"message {number}: role {role!r} is not one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise BadRowError(f"message {number}: content is {_kind(content)}, not text")
        turns.append(_turn(role, content))
    return turns


def _alpaca(row: Mapping[str, Any]) -> Messages:
    system = _text(row, "system")
    turns = [_turn("system", system)] if system.strip() else []
    for question, answer in _history(row):
        turns += [_turn("user", question), _turn("assistant", answer)]
    parts = [text for key in ("instruction", "input") if (text := _text(row, key)).strip()]
    if not parts:
        raise BadRowError("no instruction")
    return [*turns, _turn("user", "\n".join(parts)), _turn("assistant", _text(row, "output"))]


def _history(row: Mapping[str, Any]) -> list[list[str]]:
    history = row.get("history") or []
    fits = isinstance(history, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in history
    )
    if not fits:
        raise BadRowError("history is not a list of [question, answer] pairs")
    result: list[list[str]] = history
    return result


def _check_turns(messages: Messages) -> None:
    roles = [message["role"] for message in messages]
    if "user" not in roles:
        raise BadRowError("no instruction" if roles else "messages is empty")
    if roles[-1] != "assistant":
        raise BadRowError(f"messages end on the {roles[-1]}")
    if "system" in roles[1:]:
        raise BadRowError("a system message stands after the first turn")
    for message in messages:
        if message["role"] != "system" and not message["content"].strip():
            raise BadRowError(
                "answer is empty" if message["role"] == "assistant" else "no instruction"
            )


def _identity(row: Mapping[str, Any], source: str, line: int) -> str:
    given = row.get("id")
    if isinstance(given, dict | list):
        raise BadRowError(f"id is {_kind(given)}, not text or a number")
    if given is not None and given != "":
        return str(given)
    content = json.dumps([PurePath(source).name, line, row], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _task_type(row: Mapping[str, Any]) -> str:
    given = row.get("task_type")
    parts = given if isinstance(given, list) else [given]
    if any(isinstance(part, dict | list) for part in parts):
        raise BadRowError("task_type is neither text nor a list of texts")
    return "/".join(str(part) for part in parts if part is not None)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _text(row: Mapping[str, Any], key: str) -> str:
    """Text of a key; an absent or null one is empty."""
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRowError(f"{key} is {_kind(value)}, not text")
    return value


def _kind(value: Any) -> str:
    """What a reader of the file would call a JSON value."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")
