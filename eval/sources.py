"""Where the general questions come from: files of cases and shipped probe sets, by name."""

from __future__ import annotations

from collections.abc import Sequence

from eval.probe import LATEST, load_probe
from eval.schema import Case
from eval.suites import load_cases
from nlirg.errors import InputError

PROBE = "probe"


def is_probe(source: str) -> bool:
    """Whether a source is `probe` or `probe:<version>`; anything else is a file's path."""
    return source == PROBE or source.startswith(f"{PROBE}:")


def ood_cases(sources: Sequence[str]) -> list[Case]:
    """The out-of-domain cases of all sources, in order.

    Raises:
        InputError: if a source cannot be used, or two hold a case of the same id.
    """
    origin: dict[str, str] = {}
    cases = []
    for source in sources:
        for case in _read(source):
            if case.id in origin:
                raise InputError(
                    f"evaluate.ood: case {case.id!r} is in {origin[case.id]} and in {source}; "
                    "ids must be unique"
                )
            origin[case.id] = source
            cases.append(case)
    return cases


def _read(source: str) -> list[Case]:
    if not is_probe(source):
        return load_cases(source, "ood")
    return load_probe(source.removeprefix(PROBE).removeprefix(":") or LATEST)
