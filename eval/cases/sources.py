"""Where the general questions come from: files of cases and shipped probe sets, by name."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from eval.cases.probe import LATEST, load_probe
from eval.cases.suites import limit, load_cases
from eval.schema.case import Case
from nlirg.errors import InputError

PROBE = "probe"


def is_probe(source: str) -> bool:
    """Whether a source is `probe` or `probe:<version>`; anything else is a file's path."""
    return source == PROBE or source.startswith(f"{PROBE}:")


def ood_cases(sources: Sequence[str], n: int | None = None, seed: int = 0) -> list[Case]:
    """The out-of-domain cases of all sources, in order.

    Args:
        sources: paths, and probe sets.
        n: how many at most, None for all. Sources have equal shares, as far as they have cases: a
            small file of one's own does not vanish beside a large one.
        seed: of the choice.

    Raises:
        InputError: if a source cannot be used, or two hold a case of the same id.
    """
    origin: dict[str, str] = {}
    read = [_read(source) for source in sources]
    for source, cases in zip(sources, read, strict=True):
        for case in cases:
            if case.id in origin:
                raise InputError(
                    f"evaluate.ood: case {case.id!r} is in {origin[case.id]} and in {source}; "
                    "ids must be unique"
                )
            origin[case.id] = source
    shares, left = [len(cases) for cases in read], n
    for waiting, which in enumerate(sorted(range(len(read)), key=shares.__getitem__)):
        if left is not None:
            shares[which] = min(shares[which], left // (len(read) - waiting))
            left -= shares[which]
    chosen = zip(read, shares, strict=True)
    return [case for cases, share in chosen for case in limit(cases, share, seed)]


def _read(source: str) -> list[Case]:
    if not is_probe(source):
        path = Path(source)
        if not path.exists() and get_close_matches(path.name, [PROBE]):
            raise InputError(f"evaluate.ood: there is no file {source}; did you mean {PROBE}?")
        return load_cases(source, "ood")
    return load_probe(source.removeprefix(PROBE).removeprefix(":") or LATEST)
