"""Finding values, patterns and JSON in an answer."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from time import monotonic
from typing import Any

import regex

from eval.text import UNSPACED, normalize
from nlirg.errors import InputError

REGEX_TIMEOUT_S = 1.0
LETTER = rf"[\p{{L}}--[{UNSPACED}]]"  # of a script that parts words; needs regex.V1
_BOUNDS = {
    "digit": (r"(?<!\d|\d\.)", r"(?!\d|\.\d)"),
    "letter": (f"(?<!{LETTER})", f"(?!{LETTER})"),
    "other": ("", ""),
}
_FENCE = "```"
_GROUPED = regex.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!,?\d)")


def comparable(text: str) -> str:
    """Return a text normalised with its case, without separators of thousands (1,234 is 1234)."""
    return _GROUPED.sub(lambda number: number[0].replace(",", ""), normalize(text, cased=True))


@lru_cache(maxsize=4096)
def whole(value: str, cased: bool = False) -> regex.Pattern[str]:
    """Return a pattern that finds a value in comparable texts, but not inside words or numbers."""
    value = comparable(value)
    before, after = _BOUNDS[_sort(value[0])][0], _BOUNDS[_sort(value[-1])][1]
    flags = regex.V1 | (0 if cased else regex.IGNORECASE)
    return regex.compile(before + regex.escape(value) + after, flags)


def _sort(character: str) -> str:
    if character.isdigit():
        return "digit"
    return "letter" if regex.match(rf"(?V1){LETTER}", character) else "other"


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
