"""The keys of a row: those that we read, and what others call theirs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nlirg.corpus.formats.values import NOTHING, as_text
from nlirg.errors import BadRowError

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

Columns = Mapping[str, str | None]

# What corpora call the parts of a row, the likeliest name first; upper case counts as lower.
QUESTIONS = (
    *("instruction", "prompt", "question", "query", "problem", "human", "user", "ask", "task"),
    *("request", "q", "source", "问题", "指令", "提问", "input"),
)
INPUTS = (
    *("input", "context", "passage", "document", "article", "background", "evidence", "question"),
    *("query", "输入", "上下文"),
)
ANSWERS = (
    *("output", "completion", "answer", "response", "chosen", "solution", "reply", "assistant"),
    *("bot", "gpt", "target", "result", "a", "output_text", "回答", "答案", "输出"),
)
CHATS = (
    *("messages", "conversations", "conversation", "chat", "dialogue", "dialog", "turns"),
    *("chosen", "对话"),
)
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
# Beside a question and its answer the others belong to them; these may be about the row.
ABOUT = {"source", "target", "task", "user", "result", "chosen", "a", "q"}
TELLING = frozenset((*QUESTIONS, *INPUTS, *ANSWERS, *THOUGHTS)) - ABOUT
SHOWN = 12  # keys of a row that a reason names
LONGEST = 40  # characters of one
PLAIN = re.compile(r"[^\W\d]\w*")
YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def renamed(value: Any, columns: Columns) -> Any:
    """The row under our keys; where `columns` says what its format is, its own does not count.

    A key whose column is null is one that the row's source has not, whatever the row says.
    """
    if not isinstance(value, dict):
        return value
    for key, column in columns.items():
        if column is not None and column not in value and key not in OPTIONAL:
            raise BadRowError(
                f"row has no {column!r}, which columns names for {key}; its keys are "
                + listed_keys(value)
            )
    decided = any(key in FORMATS for key, column in columns.items() if column is not None)
    absent = {key for key, column in columns.items() if column is None}
    dropped = {*columns.values(), *absent, *(FORMATS if decided else ())}
    kept = {key: item for key, item in value.items() if key not in dropped}
    return kept | {key: value[column] for key, column in columns.items() if column in value}


def listed_keys(row: Mapping[str, Any]) -> str:
    """The keys of a row as a reason names them."""
    keys = [_scalar(str(key)[:LONGEST]) for key in row]
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return (", ".join(keys[:SHOWN]) or "none") + more


def possible_columns(row: Mapping[str, Any], columns: Columns) -> Iterator[dict[str, str | None]]:
    """What `columns` could say of a row whose own keys do not tell what it is.

    Args:
        row: as it stands in its source.
        columns: what they say of it so far.

    Yields:
        Complete settings, the likeliest first; whether the row can be used by one is to be tried.
    """
    extras = {key: column for key, column in columns.items() if key in EXTRAS}
    for key in _found(row, CHATS, ()):
        if _holds_turns(row[key]):
            yield {**extras, "messages": key}
    asked = [columns[key] for key in PAIRS if columns.get(key)]
    told = [columns[key] for key in PAIRS.values() if columns.get(key)]
    for question in asked or _found(row, QUESTIONS, ()):
        for answer in told or _found(row, ANSWERS, (question,)):
            given = columns.get("input")
            inputs = [given] if given else _found(row, INPUTS, (question, answer))
            texts = [key for key in inputs if key in row and _is_text(row[key])]
            between = {"input": texts[0]} if texts else {}
            yield {**extras, "instruction": question, **between, "output": answer}


def written(columns: Columns) -> str:
    """What `columns` are, as a recipe has them."""
    pairs = (f"{key}: {_scalar(column)}" for key, column in columns.items())
    return f"columns: {{{', '.join(pairs)}}}"


def unread_keys(row: Mapping[str, Any], used: Sequence[str]) -> list[str]:
    """Keys of text that belongs to a question and its answer, and are not among those used."""
    return [
        key
        for key, value in row.items()
        if key not in used
        and isinstance(key, str)
        and key.strip().casefold() in TELLING
        and _is_text(value)
    ]


def _found(row: Mapping[str, Any], names: Sequence[str], taken: Sequence[str | None]) -> list[str]:
    """The row's keys of these names that say something, in the order of the names."""
    own = {key.strip().casefold(): key for key in row if isinstance(key, str)}
    keys = (own[name] for name in names if name in own)
    return [key for key in keys if key not in taken and row[key] not in NOTHING]


def _is_text(value: Any) -> bool:
    try:
        return bool(as_text(value, "").strip())
    except BadRowError:
        return False


def _holds_turns(value: Any) -> bool:
    """Whether a value is a list of objects, or could be the JSON text of one."""
    if isinstance(value, str):
        return value.lstrip().startswith("[")
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _scalar(column: str | None) -> str:
    if column is None:
        return "null"
    plain = PLAIN.fullmatch(column) and column.casefold() not in YAML_WORDS
    return column if plain else json.dumps(column, ensure_ascii=not column.isprintable())
