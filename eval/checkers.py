"""Judging one answer: a score in [0, 1] and whether it counts as correct."""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import Any

import regex

from eval.metrics import UNSPACED, normalize, units
from eval.schema import Checker
from nlirg.errors import InputError

REGEX_TIMEOUT_S = 1.0
NUMERIC_TOLERANCE = 1e-6
# A sign belongs to the number unless something stands before it: "5-3" ends on 3, "= -3" on -3.
_NUMBER = regex.compile(
    r"(?:(?<![A-Za-z0-9)])[-+−])?"
    r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?"
    r"|(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)"
)
_FENCE = regex.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", regex.DOTALL)
_LETTER = rf"[\p{{L}}--[{UNSPACED}]]"


def check(checker: Checker, answer: str, reference: str) -> tuple[float, bool]:
    """Judge one answer.

    - `exact`: equals one of the values after NFKC and collapsing of white space.
    - `choice`: the values are the options and the reference is the right one; the option named
      first in the answer counts.
    - `numeric`: the last number in the answer equals one of the values within 1e-6.
    - `contains`: every value is in the answer (as a substring, without case).
    - `slots`: the share of values in the answer, as whole words and whole numbers, without case.
    - `regex`: one of the patterns is found in the answer.
    - `json`: the answer (or its code block) is JSON; the share of the values that are its keys.
    - `f1`: F1 of the units (words, or characters for CJK) of answer and reference, as SQuAD.

    Without values, `exact`, `numeric`, `contains`, `slots` and `f1` use the reference. The answer
    is correct when the score reaches the checker's threshold.

    Raises:
        InputError: if the checker cannot judge anything (see `validate_checker`), or a pattern
            takes too long on this answer.
    """
    score = _CHECKS[checker.kind](checker, answer, reference)
    return score, score >= checker.threshold


def validate_checker(checker: Checker, reference: str, where: str) -> None:
    """Refuse a checker that would accept anything, nothing, or fail on every answer.

    Raises:
        InputError: naming `where` (file, line, case) and what to change.
    """
    try:
        if checker.threshold == 0:
            raise InputError("threshold 0 accepts every answer; use a number above 0")
        # Judging a plausible answer runs every check of the settings that judging makes.
        check(checker, reference or "0", reference)
    except InputError as error:
        raise InputError(f"{where}: checker {checker.kind!r}: {error}") from None


def collapse(text: str) -> str:
    """NFKC, and every run of white space one blank."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _accepted(checker: Checker, reference: str) -> tuple[str, ...]:
    accepted = checker.values or (reference,)
    if not all(value.strip() for value in accepted):
        raise InputError("no accepted answer: give non-empty values, or a reference")
    return accepted


def _exact(checker: Checker, answer: str, reference: str) -> float:
    accepted = {collapse(value) for value in _accepted(checker, reference)}
    return float(collapse(answer) in accepted)


def _choice(checker: Checker, answer: str, reference: str) -> float:
    options = {collapse(value) for value in checker.values}
    if len(options) < 2 or "" in options:
        raise InputError("give all the options as values, at least two different ones")
    if collapse(reference) not in options:
        raise InputError(f"the reference {reference!r} is not one of the options")
    named: list[tuple[int, int, str]] = []  # the earliest, and of two at one place the longest
    for option in options:
        # A lone letter is a label: "a" is also an article, so its case matters.
        found = _whole(option, cased=len(option) == 1).search(collapse(answer))
        if found:
            named.append((found.start(), -len(option), option))
    return float(bool(named) and min(named)[2] == collapse(reference))


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(unicodedata.normalize("NFKC", text))
    return float(found[-1].replace(",", "").replace("−", "-")) if found else None


def _numeric(checker: Checker, answer: str, reference: str) -> float:
    accepted = []
    for value in _accepted(checker, reference):
        number = _last_number(value)
        if number is None:
            raise InputError(f"{value!r} holds no number")
        accepted.append(number)
    got = _last_number(answer)
    close = NUMERIC_TOLERANCE
    return float(
        got is not None
        and any(math.isclose(got, number, rel_tol=close, abs_tol=close) for number in accepted)
    )


def _contains(checker: Checker, answer: str, reference: str) -> float:
    text = normalize(collapse(answer))
    return float(all(normalize(collapse(v)) in text for v in _accepted(checker, reference)))


def _slots(checker: Checker, answer: str, reference: str) -> float:
    values = _accepted(checker, reference)
    text = collapse(answer)
    found = sum(_whole(collapse(value)).search(text) is not None for value in values)
    return found / len(values)


def _whole(value: str, cased: bool = False) -> regex.Pattern[str]:
    """A pattern for the value that does not match inside a longer word or number."""

    def edge(character: str) -> str:
        if character.isdigit():
            return r"\d"
        return _LETTER if regex.match(rf"(?V1){_LETTER}", character) else ""

    first, last = edge(value[0]), edge(value[-1])
    before = rf"(?<!{first}|\d[.,])" if first == r"\d" else first and f"(?<!{first})"
    after = r"(?![.,]?\d)" if last == r"\d" else last and f"(?!{last})"
    flags = regex.V1 | (0 if cased else regex.IGNORECASE)
    return regex.compile(before + regex.escape(value) + after, flags)


def _regex(checker: Checker, answer: str, reference: str) -> float:
    if not checker.values:
        raise InputError("give at least one pattern as values")
    for pattern in [_compiled(value) for value in checker.values]:
        try:
            if pattern.search(answer, timeout=REGEX_TIMEOUT_S):
                return 1.0
        except TimeoutError:
            raise InputError(
                f"pattern {pattern.pattern!r} took more than {REGEX_TIMEOUT_S:g} s on one answer; "
                "write it without nested repetition"
            ) from None
    return 0.0


def _compiled(pattern: str) -> regex.Pattern[str]:
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise InputError(f"pattern {pattern!r}: {error}") from None


def _json(checker: Checker, answer: str, reference: str) -> float:
    fenced = _FENCE.fullmatch(answer)
    try:
        value = json.loads(fenced[1] if fenced else answer, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return 0.0
    if not checker.values:
        return 1.0
    if not isinstance(value, dict):
        return 0.0
    return sum(key in value for key in checker.values) / len(checker.values)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _f1(checker: Checker, answer: str, reference: str) -> float:
    return max(unit_f1(answer, value) for value in _accepted(checker, reference))


def unit_f1(answer: str, reference: str) -> float:
    """F1 of two bags of units (Rajpurkar et al. 2016, arXiv 1606.05250); articles count.

    Raises:
        InputError: if the reference has no word or character to compare with.
    """
    wanted, got = Counter(units(reference)), Counter(units(answer))
    if not wanted:
        raise InputError(f"the reference {reference!r} has no words")
    return 2 * (wanted & got).total() / (wanted.total() + got.total())


_CHECKS: dict[str, Callable[[Checker, str, str], float]] = {
    "exact": _exact,
    "choice": _choice,
    "numeric": _numeric,
    "contains": _contains,
    "slots": _slots,
    "regex": _regex,
    "json": _json,
    "f1": _f1,
}
