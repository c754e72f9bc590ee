"""Finding values, numbers and JSON in an answer."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import regex

from eval.metrics import UNSPACED

# A sign belongs to the number unless something stands before it: "5-3" ends on 3, "= -3" on -3.
_NUMBER = regex.compile(
    r"(?:(?<![A-Za-z0-9)])[-+−])?"
    r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?"
    r"|(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)"
)
_FENCE = regex.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", regex.DOTALL)
_LETTER = rf"[\p{{L}}--[{UNSPACED}]]"


def collapse(text: str) -> str:
    """NFKC, and every run of white space one blank."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def whole(value: str, cased: bool = False) -> regex.Pattern[str]:
    """A pattern for a collapsed value that does not match inside a longer word or number."""

    def edge(character: str) -> str:
        if character.isdigit():
            return r"\d"
        return _LETTER if regex.match(rf"(?V1){_LETTER}", character) else ""

    first, last = edge(value[0]), edge(value[-1])
    before = rf"(?<!{first}|\d[.,])" if first == r"\d" else first and f"(?<!{first})"
    after = r"(?![.,]?\d)" if last == r"\d" else last and f"(?!{last})"
    flags = regex.V1 | (0 if cased else regex.IGNORECASE)
    return regex.compile(before + regex.escape(value) + after, flags)


def last_number(text: str) -> float | None:
    """The last number in a text, thousands separators and signs understood."""
    found = _NUMBER.findall(unicodedata.normalize("NFKC", text))
    return float(found[-1].replace(",", "").replace("−", "-")) if found else None


def parse_json(text: str) -> Any:
    """The JSON value that a text, or the one code block it consists of, is.

    Raises:
        ValueError: if it is none; `NaN` and `Infinity` are not JSON.
    """
    fenced = _FENCE.fullmatch(text)
    try:
        return json.loads(fenced[1] if fenced else text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
