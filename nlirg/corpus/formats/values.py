"""Values of a row: what counts as text, as a list, and how a fault calls the others."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from nlirg.errors import BadRowError

NOTHING: tuple[Any, ...] = (None, "", [], {})


def kind(value: Any) -> str:
    """What a reader of the file would call a value."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")


def as_text(value: Any, what: str) -> str:
    """Text as it stands; a number is its digits, as JSON writes them.

    Args:
        value: of a key.
        what: the key, as a fault names it.

    Raises:
        BadRowError: if the value is neither.
    """
    if isinstance(value, str):
        return value
    # True and false are no numbers, though Python counts them among them.
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return json.dumps(value)
    raise BadRowError(f"{what} is {kind(value)}, not text")


def as_content(value: Any, what: str) -> str:
    """What a turn says: text, a number, or a list of parts of text, which are joined.

    Raises:
        BadRowError: if it is none of these; of a part that is no text its type is named.
    """
    if not isinstance(value, list):
        return as_text(value, what)
    return "".join(_part(part, what) for part in value)


def _part(part: Any, what: str) -> str:
    if not isinstance(part, dict):
        raise BadRowError(f"{what} is a list of {kind(part)}, not of parts with type and text")
    if part.get("type") != "text":
        raise BadRowError(
            f"{what} has a part of type {part.get('type')!r}, and only text can be trained on"
        )
    return as_text(part.get("text"), f"{what}: text of a part")


def key_text(row: Mapping[str, Any], key: str) -> str:
    """Text of a key; an absent or null one is empty."""
    value = row.get(key)
    return "" if value is None else as_text(value, key)


def key_list(row: Mapping[str, Any], key: str) -> list[Any]:
    """A list, or its JSON text; an absent, null or empty one is empty."""
    value = row.get(key)
    if isinstance(value, str) and value.strip():
        value = from_json(value, key)
    value = value or []
    if not isinstance(value, list):
        raise BadRowError(f"{key} is {kind(value)}, not a list")
    return value


def from_json(text: str, what: str) -> Any:
    """The value that JSON text stands for.

    Raises:
        BadRowError: if it is no JSON; it says so of `what`.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadRowError(f"{what}: not JSON") from None
