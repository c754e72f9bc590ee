"""Judging one answer: a score in [0, 1] and whether it counts as correct.

Every module of this folder is imported, so that the kinds in it register themselves.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from eval.checkers.registry import KINDS, Kind, unknown
from eval.schema.case import Checker
from nlirg.errors import InputError

for _module in iter_modules([str(Path(__file__).parent)]):
    if _module.name != __name__.rpartition(".")[2]:
        import_module(f"{__package__}.{_module.name}")


def check(checker: Checker, answer: str, reference: str) -> tuple[float, bool]:
    """Judge one answer; it is correct when the score reaches the checker's threshold.

    Raises:
        InputError: if the checker cannot judge anything (see `validate_checker`), or not this
            answer: its patterns take too long, or a callable fails.
    """
    score = kind_of(checker).judge(checker, answer, reference)
    return score, score >= checker.threshold


def kind_of(checker: Checker) -> Kind:
    """Return the registered kind of a checker.

    Raises:
        InputError: naming the nearest kinds, if there is none of that name.
    """
    if checker.kind not in KINDS:
        raise unknown("checker", checker.kind, KINDS)
    return KINDS[checker.kind]


def validate_checker(checker: Checker, reference: str, where: str) -> None:
    """Refuse a checker that would accept anything, nothing, or fail on every answer.

    Raises:
        InputError: naming `where` (file, line, case) and what to change.
    """
    try:
        kind = kind_of(checker)
        if checker.threshold == 0:
            raise InputError("threshold 0 accepts every answer; use a number above 0")
        for key, field in Checker.model_fields.items():
            # What `answer_by` needs is looked at with the whole case (`validate_ranking`).
            read = key in {"kind", "threshold", "answer_by", kind.key}
            if not read and getattr(checker, key) != field.default:
                raise InputError(f"this kind does not read {key}; remove it")
        # Judging a plausible answer runs every check of the settings that judging makes.
        check(checker, reference or "0", reference)
        if kind.validate is not None:
            kind.validate(checker, reference)
    except InputError as error:
        known = f"checker {checker.kind!r}: " if checker.kind in KINDS else ""
        raise InputError(f"{where}: {known}{error}") from None
