"""CPU seconds of several variants, measured in turns."""

from __future__ import annotations

import gc
import resource
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol


class Work(NamedTuple):
    """What one call cost.

    Attributes:
        cpu_seconds: user CPU time.
        tokens: trained tokens.
    """

    cpu_seconds: float
    tokens: int


class Variant(Protocol):
    """One way to train; each call does some more steps of the same kind."""

    def __call__(self) -> Work: ...


def user_seconds() -> float:
    """User CPU time of this process so far; other processes on the machine do not add to it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


@dataclass
class Costs:
    """CPU seconds per trained token of several variants, one figure per round.

    Attributes:
        title: of the table.
        by_variant: the figures, in the order of the rounds.
    """

    title: str
    by_variant: dict[str, list[float]] = field(default_factory=dict)

    def median(self, variant: str) -> float:
        """Median cost of a variant in CPU seconds per trained token."""
        return statistics.median(self.by_variant[variant])

    def ratios(self, slower: str, faster: str) -> list[float]:
        """How many times the cost of `faster` the cost of `slower` is, round by round.

        Both figures of a round were measured one after the other, so a drift of the machine
        cancels.
        """
        pairs = zip(self.by_variant[slower], self.by_variant[faster], strict=True)
        return [a / b for a, b in pairs]


@dataclass(frozen=True)
class Comparison:
    """A ratio beside its goal: one row of a table.

    Attributes:
        table: the table it belongs to.
        name: what is compared.
        median: of the ratio over the rounds.
        low: least of them.
        high: greatest of them.
        goal: what the ratio should be; None without one.
        at_least: whether the goal is a lower bound.
        note: whatever else the reader should know.
    """

    table: str
    name: str
    median: float
    low: float
    high: float
    goal: float | None = None
    at_least: bool = True
    note: str = ""

    @classmethod
    def of(cls, table: str, name: str, ratios: Sequence[float], **more: Any) -> Comparison:
        """Summarize the ratios of several rounds."""
        return cls(table, name, statistics.median(ratios), min(ratios), max(ratios), **more)

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the goal; None without one."""
        if self.goal is None:
            return None
        return self.median >= self.goal if self.at_least else self.median <= self.goal

    def as_json(self) -> dict[str, Any]:
        """The fields, and whether the goal is met."""
        return asdict(self) | {"met": self.met}


def measure(title: str, variants: Mapping[str, Variant], rounds: int) -> Costs:
    """Run all variants in turns, so that a drift of the machine meets all of them.

    Args:
        title: of the table.
        variants: each is called once to warm up and then once per round.
        rounds: number of figures per variant.
    """
    costs = Costs(title, {name: [] for name in variants})
    for variant in variants.values():
        variant()
    for _ in range(rounds):
        for name, variant in variants.items():
            gc.collect()
            work = variant()
            costs.by_variant[name].append(work.cpu_seconds / work.tokens)
    return costs
