"""How likely the right option is in the choice questions that are answered by likelihood."""

from __future__ import annotations

from eval.metrics.definition import Measure
from eval.schema.case import Suite
from eval.statistics import estimates
from eval.statistics.estimates import ComparisonConfig, Estimates
from eval.statistics.pairing import Tables


def option_probability(suite: Suite, label: str) -> Measure:
    """Return the mean probability of the right option, which such an answer's score is.

    It is not defined on suites with fewer than two independent questions of that kind.
    """

    def estimate(tables: Tables, config: ComparisonConfig) -> Estimates | None:
        table = tables[suite].part([not sample.generated for sample in tables[suite].cases])
        if table is None:
            return None
        scores = table.column(lambda sample: float(sample.score))
        return estimates.of_columns(scores, table.clusters, config)

    return Measure(
        f"{suite}_option_probability",
        label,
        suite,
        "share",
        "higher",
        "Mean probability of the right option among those of a choice question: it also moves "
        "where the likeliest option stays the same.",
        estimate,
        by_task=True,
    )
