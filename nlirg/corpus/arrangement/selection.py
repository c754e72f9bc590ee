"""Which scored rows to keep, and why the others are dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nlirg.config.corpus import SelectConfig
from nlirg.errors import InputError


class Drop(NamedTuple):
    """Why a row is dropped.

    Attributes:
        rule: the key of `select` that drops it, e.g. `ranges.mean_loss`.
        reason: what of the row goes against the rule.
    """

    rule: str
    reason: str


def check_ranges(select: SelectConfig, columns: Collection[str]) -> None:
    """Refuse ranges that mean nothing.

    Args:
        select: the rules.
        columns: the numeric columns of the scores.

    Raises:
        InputError: if a range is of another column, or its bounds are the wrong way round.
    """
    for name, (low, high) in select.ranges.items():
        if name not in columns:
            raise InputError(
                f"select.ranges.{name}: the scores have no such column of numbers; they have "
                + ", ".join(sorted(columns))
            )
        if low is not None and high is not None and low > high:
            raise InputError(f"select.ranges.{name}: nothing lies between {low:g} and {high:g}")


def rule_columns(select: SelectConfig) -> list[str]:
    """The score columns that bands and ranges look at."""
    return [*(["band"] if select.bands else []), *select.ranges]


def rule_drops(columns: Mapping[str, np.ndarray], rows: int, select: SelectConfig) -> list[Drop]:
    """Hold rows against bands and ranges, whose bounds belong to them.

    Args:
        columns: name -> [rows] values, at least those of `rule_columns`. A missing value (NaN)
            lies in no range.
        rows: number of rows.
        select: the rules.

    Returns:
        Of each row the first rule it breaks, `KEPT` if it breaks none.
    """
    drops = [KEPT] * rows
    for name, (low, high) in reversed(select.ranges.items()):
        values = columns[name]
        bounds = (-np.inf if low is None else low, np.inf if high is None else high)
        for index in np.flatnonzero(~((values >= bounds[0]) & (values <= bounds[1]))):
            drops[index] = Drop(f"ranges.{name}", _outside(name, values[index], *bounds))
    if select.bands:
        wanted = " or ".join(select.bands)
        for index in np.flatnonzero(~np.isin(columns["band"], select.bands)):
            drops[index] = Drop("bands", f"band is {columns['band'][index]}, not {wanted}")
    return drops


KEPT = Drop("", "")


def _outside(name: str, value: float, low: float, high: float) -> str:
    if np.isnan(value):
        return f"{name} is not known"
    return f"{name} is {value:g}, " + (f"below {low:g}" if value < low else f"above {high:g}")


def repeated(groups: np.ndarray) -> np.ndarray:
    """Find what repeats an earlier row.

    Args:
        groups: [n] group of duplicates of each row, rows in the order of the corpus.

    Returns:
        [n] index of the first row of each row's group: its own index if it is that row.
    """
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    found: np.ndarray = first[member]
    return found


class Caps:
    """Lets through rows, in the order they come, until a cap is reached; dropped rows count not.

    Args:
        select: `per_task_type` and `per_answer`.
    """

    def __init__(self, select: SelectConfig) -> None:
        self._per_task_type, self._per_answer = select.per_task_type, select.per_answer
        self._tasks: Counter[str] = Counter()
        self._answers: Counter[int] = Counter()

    def drops(self, task_types: Sequence[str], answers: Sequence[int | None]) -> list[Drop]:
        """Judge the next rows.

        Args:
            task_types: of each row.
            answers: of each row the group of rows with its answer; None if no other has it.

        Returns:
            Of each row the cap that was reached, `KEPT` if none was.
        """
        return [self._drop(*row) for row in zip(task_types, answers, strict=True)]

    def check(self) -> None:
        """Refuse caps of task types of which no row came.

        Raises:
            InputError: naming the task types there are.
        """
        caps = self._per_task_type
        unknown = set(caps) - set(self._tasks) if isinstance(caps, Mapping) else set()
        if unknown:
            raise InputError(
                f"select.per_task_type: no row that is left has task_type {min(unknown)!r}; there "
                "are " + ", ".join(repr(name) for name in sorted(self._tasks))
            )

    def _drop(self, task_type: str, answer: int | None) -> Drop:
        limit = self._limit(task_type)
        if limit is not None and self._tasks[task_type] >= limit:
            return Drop(
                "per_task_type", f"the {limit} rows of task_type {task_type!r} come before it"
            )
        if answer is not None and self._per_answer is not None:
            if self._answers[answer] >= self._per_answer:
                return Drop("per_answer", f"the {self._per_answer} rows of its answer precede it")
            self._answers[answer] += 1
        self._tasks[task_type] += 1
        return KEPT

    def _limit(self, task_type: str) -> int | None:
        caps = self._per_task_type
        return caps.get(task_type) if isinstance(caps, Mapping) else caps
