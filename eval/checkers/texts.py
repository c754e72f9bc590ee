"""Checkers that look for texts and patterns in an answer, or ask the user's own function."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pkgutil import resolve_name

from eval.checkers.matching import TimedSearch, comparable, compiled, whole
from eval.checkers.registry import SHARE, accepted, checker
from eval.schema.case import Checker
from eval.text import normalize
from nlirg.errors import InputError


@checker(
    "exact",
    "it equals one of the values (or the reference); spaces, Unicode forms and kinds of apostrophe "
    "aside",
    values="accepted answers, or none",
)
def _exact(checker: Checker, answer: str, reference: str) -> float:
    wanted = {normalize(text, cased=True) for text in accepted(checker, reference)}
    return float(normalize(answer, cased=True) in wanted)


@checker("contains", "it contains every value", values="strings, or none")
def _contains(checker: Checker, answer: str, reference: str) -> float:
    text = normalize(answer)
    return float(all(normalize(value) in text for value in accepted(checker, reference)))


@checker(
    "slots",
    f"it contains every value as whole words (1234 and 1,234 are one); {SHARE}",
    values="strings, or none",
)
def _slots(checker: Checker, answer: str, reference: str) -> float:
    held = [bool(whole(value).search(comparable(answer))) for value in accepted(checker, reference)]
    return sum(held) / len(held)


@checker("regex", "a pattern matches somewhere", values="patterns", values_are="patterns")
def _regex(checker: Checker, answer: str, reference: str) -> float:
    if not checker.values:
        raise InputError("give at least one pattern as values")
    for value in checker.values:  # all of them, so that a bad one is refused when the case is read
        compiled(value)
    search = TimedSearch()
    return float(any(search.finds(value, answer) for value in checker.values))


@checker(
    "python",
    "your function returns ≥ `threshold`",
    values="`package.module:function`",
    values_are="code",
)
def _python(checker: Checker, answer: str, reference: str) -> float:
    if len(checker.values) != 1:
        raise InputError("give one value, package.module:function")
    path = checker.values[0]
    function = imported(path)
    try:
        score = function(answer, reference)
    except Exception as error:
        raise InputError(f"{path!r} failed: {type(error).__name__}: {error}") from None
    if not isinstance(score, int | float) or not 0 <= score <= 1:
        raise InputError(f"{path!r} returned {score!r}; it must return a number from 0 to 1")
    return float(score)


@cache
def imported(path: str) -> Callable[[str, str], object]:
    """Import a user's function, once.

    Raises:
        InputError: if the path is none of a function that can be imported.
    """
    if path.count(":") != 1:
        raise InputError(f"{path!r}: write it as package.module:function")
    try:
        function = resolve_name(path)
    except Exception as error:
        raise InputError(
            f"{path!r} cannot be imported ({type(error).__name__}: {error}); "
            "install its package or put its folder on PYTHONPATH"
        ) from None
    if not callable(function):
        raise InputError(f"{path!r} is not a function")
    return function
