"""The kinds of checker: each registers itself with what its settings need and one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from eval.schema.case import Checker
from nlirg.errors import InputError

Judge = Callable[[Checker, str, str], float]
Validate = Callable[[Checker, str], None]


@dataclass(frozen=True)
class Kind:
    """One kind of checker.

    Attributes:
        judge: returns the score in [0, 1] of (checker, answer, reference), and raises InputError
            for settings it cannot judge by.
        right_if: when an answer is right, in the words of the README's table.
        values: what `values` are, in the words of that table; empty if the kind takes none.
        values_are: texts that stand in answers, patterns, or the name of the user's code.
        keys: the settings it reads beside `threshold`.
        validate: refuses settings that judging a plausible answer does not show to be unusable.
    """

    judge: Judge
    right_if: str
    values: str
    values_are: Literal["texts", "patterns", "code"]
    keys: frozenset[str]
    validate: Validate | None


KINDS: dict[str, Kind] = {}


def checker(
    name: str,
    right_if: str,
    *,
    values: str = "",
    values_are: Literal["texts", "patterns", "code"] = "texts",
    key: str = "values",
    validate: Validate | None = None,
) -> Callable[[Judge], Judge]:
    """Register a function as the judge of one kind; see `Kind`. It reads only the setting `key`."""

    def register(judge: Judge) -> Judge:
        KINDS[name] = Kind(judge, right_if, values, values_are, frozenset({key}), validate)
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
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
    return InputError(f"{what} {name!r} is unknown; {hint}")
