"""Pair the variants' answers to the same prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from eval.schema.case import Suite
from eval.schema.sample import Sample
from eval.statistics.inference import Ints, number_clusters
from eval.text import Units, truncate_to_equal_length, units
from nlirg.errors import InputError

HUMAN = "human"


@dataclass(frozen=True)
class Table:
    """One suite's answers: the same cases in the same order for every variant, none with errors.

    Attributes:
        answers: variant -> its samples, the baseline first.
        clusters: which cases stem from one root, shape `[cases]`.
        dropped: of every case that some variant has no answer to, a sample that has one, if any.
    """

    answers: dict[str, list[Sample]]
    clusters: Ints
    dropped: tuple[Sample, ...] = ()

    @property
    def left_out(self) -> int:
        """Number of cases that were dropped."""
        return len(self.dropped)

    @property
    def cases(self) -> list[Sample]:
        """The baseline's samples, for the fields that are the same in every variant's."""
        return next(iter(self.answers.values()))

    def column(self, value: Callable[[Sample], Any]) -> dict[str, NDArray[Any]]:
        """Return one value a case for every variant, each of shape `[cases]`."""
        return {name: np.array([value(s) for s in rows]) for name, rows in self.answers.items()}

    def part(self, keep: Iterable[bool]) -> Table | None:
        """Return the table of some of the cases; None if fewer than two are independent."""
        kept = list(keep)
        roots = list(compress(self.clusters.tolist(), kept))
        if len(set(roots)) < 2:
            return None
        answers = {name: list(compress(rows, kept)) for name, rows in self.answers.items()}
        return Table(answers, number_clusters(roots))

    @cached_property
    def units(self) -> dict[str, list[Units]]:
        """The answers as units."""
        return {name: [units(s.answer) for s in rows] for name, rows in self.answers.items()}

    @cached_property
    def beside_references(self) -> Table | None:
        """The baseline's answers beside the human ones, `HUMAN`, to the cases that have one.

        One case of every root: a reference written twice would look like repetition. None if
        fewer than two are left.
        """
        seen: set[int] = set()
        keep = []
        for sample, root in zip(self.cases, self.clusters.tolist(), strict=True):
            keep.append(bool(sample.reference) and root not in seen)
            if keep[-1]:
                seen.add(root)
        if (part := self.part(keep)) is None:
            return None
        human = [s.model_copy(update={"answer": s.reference}) for s in part.cases]
        return Table({next(iter(part.answers)): part.cases, HUMAN: human}, part.clusters)

    def equal_units(self, *names: str) -> dict[str, list[Units]]:
        """Return `units` of some variants, cut to the shortest of them, case by case."""
        return truncate_to_equal_length({name: self.units[name] for name in names})


Tables = Mapping[Suite, Table]


def pair_samples(
    samples: Mapping[str, Sequence[Sample]], baseline: str, max_error_share: float
) -> dict[Suite, Table]:
    """Make one table a suite, for the suites that have samples.

    Args:
        samples: variant -> its samples of all suites.
        baseline: the variant that comes first in the tables.
        max_error_share: how many of a suite's answers of one variant may be errors, and how many
            of its cases may have an error of any variant, 0 to 1. What is left of a suite with
            more says little about the cases that were asked.

    Raises:
        InputError: if the variants did not answer exactly the same prompts, a score is not one,
            too many answers are errors or too many cases left out for them, or fewer than two
            independent cases have an answer of every variant.
    """
    if baseline not in samples:
        raise InputError(f"there are no samples of the baseline {baseline!r}")
    if HUMAN in samples:
        raise InputError(f"{HUMAN!r} stands for the reference answers; name the variant otherwise")
    order = [baseline, *(name for name in samples if name != baseline)]
    tables: dict[Suite, Table] = {}
    for suite in get_args(Suite):
        by_variant = {name: _by_case(samples[name], name, suite) for name in order}
        if any(by_variant.values()):
            tables[suite] = _pair(by_variant, baseline, suite, max_error_share)
    if not tables:
        raise InputError("zero pairs: there are no samples to compare")
    return tables


def _by_case(samples: Sequence[Sample], variant: str, suite: str) -> dict[str, Sample]:
    rows: dict[str, Sample] = {}
    for sample in samples:
        if sample.suite != suite:
            continue
        where = f"variant {variant!r}, suite {suite!r}, case {sample.case_id!r}"
        if sample.case_id in rows:
            raise InputError(f"{where}: answered twice; evaluate the variant again")
        if not 0 <= sample.score <= 1:
            raise InputError(
                f"{where}: score {sample.score} is not in [0, 1]; delete eval/{variant} of the run "
                "and evaluate again"
            )
        rows[sample.case_id] = sample
    return rows


def _pair(
    by_variant: Mapping[str, dict[str, Sample]], baseline: str, suite: str, max_error_share: float
) -> Table:
    base = by_variant[baseline]
    for name, rows in by_variant.items():
        _same_prompts(base, rows, f"suite {suite!r}: {name!r} and {baseline!r}")
        _few_errors(rows, f"suite {suite!r}: variant {name!r}", max_error_share)
    kept = [key for key in base if all(_sound(rows[key]) for rows in by_variant.values())]
    if len(base) - len(kept) > max_error_share * len(base):
        raise InputError(
            f"suite {suite!r}: {len(base) - len(kept)} of {len(base)} cases have an error for some "
            f"variant, more than evaluate.max_error_share={max_error_share:g} allows; evaluate "
            "fewer variants together, or see `error` in their samples"
        )
    roots = [base[key].root_id or key for key in kept]
    try:
        clusters = number_clusters(roots)
    except InputError as error:
        raise InputError(f"suite {suite!r}: {error}") from None
    answers = {name: [rows[key] for key in kept] for name, rows in by_variant.items()}
    whole = set(kept)
    dropped = [[rows[key] for rows in by_variant.values()] for key in base if key not in whole]
    shown = (next((s for s in samples if _sound(s)), samples[0]) for samples in dropped)
    return Table(answers, clusters, tuple(shown))


def _same_prompts(base: Mapping[str, Sample], rows: Mapping[str, Sample], who: str) -> None:
    different = sorted(base.keys() ^ rows.keys())
    if different:
        raise InputError(
            f"{who} answered different cases ({different[0]!r} and {len(different) - 1} more); "
            "evaluate both again"
        )
    for key, sample in base.items():
        if rows[key].prompt_sha256 != sample.prompt_sha256:
            raise InputError(
                f"{who} saw different prompts for case {key!r}; evaluate both again with the same "
                "tokenizer and chat template"
            )


def _few_errors(rows: Mapping[str, Sample], who: str, max_error_share: float) -> None:
    failed = [sample for sample in rows.values() if not _sound(sample)]
    if len(failed) > max_error_share * len(rows):
        first = failed[0]
        raise InputError(
            f"{who}: {len(failed)} of {len(rows)} answers are errors, more than "
            f"evaluate.max_error_share={max_error_share:g} allows; the first, case "
            f"{first.case_id!r}, says: {first.error or 'no reason'}"
        )


def _sound(sample: Sample) -> bool:
    return sample.finish_reason != "error" and not sample.error
