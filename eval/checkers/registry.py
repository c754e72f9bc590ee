"""The kinds of checker: each registers itself with what its settings need and one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from eval.schema.case import Checker
from nlirg.errors import InputError

Judge = Callable[[Checker, str, str], float]
Validate = Callable[[Checker, str], None]


ValuesAre = Literal["texts", "patterns", "code"]
SHARE = "the score is the share kept"


@dataclass(frozen=True)
class Kind:
    """One kind of checker.

    Attributes:
        judge: returns the score in [0, 1] of (checker, answer, reference); raises InputError for
            settings it cannot judge by.
        right_if: when an answer is right, in the words of the README's table.
        values: what the values are, in the words of that table; empty if it takes none.
        values_are: texts of answers, patterns, or the name of the user's code.
        key: the one setting it reads beside `threshold`.
        validate: refuses what judging a plausible answer does not show to be unusable.
    """

    judge: Judge
    right_if: str
    values: str = ""
    values_are: ValuesAre = "texts"
    key: str = "values"
    validate: Validate | None = None


KINDS: dict[str, Kind] = {}


def checker(name: str, right_if: str, **needs: Any) -> Callable[[Judge], Judge]:
    """Register a function as the judge of one kind; the rest is as in `Kind`."""

    def register(judge: Judge) -> Judge:
        KINDS[name] = Kind(judge, right_if, **needs)
        return judge

    return register


def accepted(checker: Checker, reference: str) -> tuple[str, ...]:
    """Return the values, or else the reference alone.

    Raises:
        InputError: if one of them is blank.
    """
    texts = checker.values or (reference,)
    if not all(text.strip() for text in texts):
        raise InputError("no accepted answer: give non-empty values, or a reference")
    return texts


def unknown(what: str, name: str, known: Iterable[str]) -> InputError:
    """Make the error of a name that is not known, with the nearest ones that are."""
    names = list(known)
    near = get_close_matches(name, names)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
    return InputError(f"{what} {name!r} is unknown; {hint}")
