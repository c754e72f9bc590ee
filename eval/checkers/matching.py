"""Finding values and JSON in an answer."""

from __future__ import annotations

import json
import math
import unicodedata
from typing import Any

import regex

from eval.text import UNSPACED

_FENCE = "```"
LETTER = rf"[\p{{L}}--[{UNSPACED}]]"  # of a script that parts words; needs regex.V1
_LONG_NUMBER = regex.compile(r"(?<![\d.,])(?:\d{1,3}(?:,\d{3})+|\d{4,})(?!,?\d)")
_APOSTROPHES = str.maketrans("‘’ʼ", "'''")


def collapse(text: str) -> str:
    """NFKC, straight apostrophes, and every run of white space one blank."""
    return " ".join(unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).split())


def whole(value: str, cased: bool = False) -> regex.Pattern[str]:
    """A pattern for a collapsed value that does not match inside a longer word or number.

    1234 and 1,234 match each other; in "1,2,3" the commas part numbers.
    """

    def letter(character: str) -> bool:
        return regex.match(rf"(?V1){LETTER}", character) is not None

    before, after = "", ""
    if value[0].isdigit():
        # Three digits after a comma may be thousands of what stands before it.
        thousands = r"|\d," if regex.match(r"\d{3}(?!\d)", value) else ""
        before = rf"(?<!\d|\d\.{thousands})"
    elif letter(value[0]):
        before = f"(?<!{LETTER})"
    if value[-1].isdigit():
        after = r"(?!\d|\.\d|,\d{3}(?!\d))"
    elif letter(value[-1]):
        after = f"(?!{LETTER})"
    flags = regex.V1 | (0 if cased else regex.IGNORECASE)
    return regex.compile(before + _escaped(value) + after, flags)


def _escaped(value: str) -> str:
    """The value as a pattern, its long numbers with or without thousands separators."""
    pattern, end = "", 0
    for number in _LONG_NUMBER.finditer(value):
        digits = number[0].replace(",", "")
        grouped = regex.sub(r"(?<=\d)(?=(?:\d{3})+$)", ",?", digits)
        pattern += regex.escape(value[end : number.start()]) + grouped
        end = number.end()
    return pattern + regex.escape(value[end:])


def parse_json(text: str) -> Any:
    """The JSON value that a text, or the one code block it consists of, is.

    Raises:
        ValueError: if it is none; `NaN`, `Infinity` and numbers beyond a float are not taken.
    """
    text = text.strip()
    if len(text) >= 2 * len(_FENCE) and text.startswith(_FENCE) and text.endswith(_FENCE):
        text = text[len(_FENCE) : -len(_FENCE)].strip()
        text = text[4:] if text[:4].lower() == "json" else text
    try:
        return json.loads(text.strip(), parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is beyond a float")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
