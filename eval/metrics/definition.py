"""One metric of a comparison, whatever it is computed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from eval.schema.case import Suite
from eval.schema.report import Metric, Paired, Unit
from eval.statistics.estimates import ComparisonConfig, Estimates
from eval.statistics.pairing import Tables

Estimator = Callable[[Tables, ComparisonConfig], Estimates | None]


@dataclass(frozen=True)
class Measure:
    """One metric: its words for the reader, and `estimate`, which gives None if undefined.

    `estimate` takes the differences from the configuration's baseline, and any variant may be that;
    where only the base model can be, `of_base` says so.
    """

    key: str
    label: str
    family: Suite
    unit: Unit
    better: Literal["higher", "lower", "neither"]
    help: str
    estimate: Estimator
    by_task: bool = False
    of_base: bool = False

    def estimates(self, tables: Tables, config: ComparisonConfig) -> Estimates | None:
        """Compute the metric; None if its suite was not run or it is not defined on it."""
        return self.estimate(tables, config) if self.family in tables else None

    def metric(self, estimates: Estimates, against: dict[str, Paired]) -> Metric:
        """Return the metric as the report shows it."""
        words = {
            name: getattr(self, name)
            for name in ("key", "label", "family", "unit", "better", "help")
        }
        return Metric(**words, values=estimates.values, against=against)
