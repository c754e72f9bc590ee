"""One metric of a comparison, whatever it is computed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from eval.schema.case import Suite
from eval.schema.report import Metric, Paired
from eval.statistics.estimates import Estimates, Setting
from eval.statistics.pairing import Tables


@dataclass(frozen=True)
class Measure:
    """One metric: its words for the reader, and `estimate`, which gives None if undefined."""

    key: str
    label: str
    family: Suite
    unit: Literal["share", "number", "tokens"]
    better: Literal["higher", "lower", "neither"]
    help: str
    estimate: Callable[[Tables, Setting], Estimates | None]
    by_task: bool = False

    def estimates(self, tables: Tables, setting: Setting) -> Estimates | None:
        """Compute the metric; None if its suite was not run or it is not defined on it."""
        return self.estimate(tables, setting) if self.family in tables else None

    def metric(self, found: Estimates, against: dict[str, Paired]) -> Metric:
        """The metric as the report shows it."""
        return Metric(
            key=self.key,
            label=self.label,
            family=self.family,
            unit=self.unit,
            better=self.better,
            help=self.help,
            values=found.values,
            against=against,
        )
