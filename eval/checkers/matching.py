"""Finding values, patterns and JSON in an answer."""

from __future__ import annotations

import json
import math
from time import monotonic
from typing import Any

import regex

from eval.text import UNSPACED
from nlirg.errors import InputError

REGEX_TIMEOUT_S = 1.0
LETTER = rf"[\p{{L}}--[{UNSPACED}]]"  # of a script that parts words; needs regex.V1
_FENCE = "```"
_LONG_NUMBER = regex.compile(r"(?<![\d.,])(?:\d{1,3}(?:,\d{3})+|\d{4,})(?!,?\d)")
_GROUPS = regex.compile(r"(?<=\d)(?=(?:\d{3})+$)")


def whole(value: str, cased: bool = False) -> regex.Pattern[str]:
    """Return a pattern for a normalised value that does not match inside a longer word or number.

    1234 and 1,234 match each other; in "1,2,3" the commas part numbers.
    """
    pattern = _before(value) + _escaped(value) + _after(value[-1])
    return regex.compile(pattern, regex.V1 | (0 if cased else regex.IGNORECASE))


def _before(value: str) -> str:
    if value[0].isdigit():
        # Three digits after a comma may be thousands of what stands before it.
        thousands = r"|\d," if regex.match(r"\d{3}(?!\d)", value) else ""
        return rf"(?<!\d|\d\.{thousands})"
    return f"(?<!{LETTER})" if _is_letter(value[0]) else ""


def _after(last: str) -> str:
    if last.isdigit():
        return r"(?!\d|\.\d|,\d{3}(?!\d))"
    return f"(?!{LETTER})" if _is_letter(last) else ""


def _is_letter(character: str) -> bool:
    return regex.match(rf"(?V1){LETTER}", character) is not None


def _escaped(value: str) -> str:
    """Return the value as a pattern, its long numbers with or without thousands separators."""
    pattern, end = "", 0
    for number in _LONG_NUMBER.finditer(value):
        grouped = _GROUPS.sub(",?", number[0].replace(",", ""))
        pattern += regex.escape(value[end : number.start()]) + grouped
        end = number.end()
    return pattern + regex.escape(value[end:])


class TimedSearch:
    """Searches of a user's patterns in one answer, which together may take `REGEX_TIMEOUT_S`."""

    def __init__(self) -> None:
        self.left = REGEX_TIMEOUT_S

    def finds(self, pattern: str, text: str) -> bool:
        """Return whether the pattern matches somewhere.

        Raises:
            InputError: if the pattern is none, or the time is over.
        """
        start = monotonic()
        try:
            return compiled(pattern).search(text, timeout=max(self.left, 0.001)) is not None
        except TimeoutError:
            raise InputError(
                f"pattern {pattern!r} took more than {REGEX_TIMEOUT_S:g} s on one answer; "
                "write it without nested repetition"
            ) from None
        finally:
            self.left -= monotonic() - start


def compiled(pattern: str) -> regex.Pattern[str]:
    """Compile a user's pattern.

    Raises:
        InputError: if it is none.
    """
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise InputError(f"pattern {pattern!r}: {error}") from None


def parse_json(text: str) -> Any:
    """Return the JSON value that a text, or the one code block it consists of, is.

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
