"""Tuned variants compared with each other, as each is with the base model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from eval.metrics.catalogue import MEASURES, build_metrics, still_right
from eval.metrics.definition import Measure
from eval.schema.report import Contrast, Pairing
from eval.statistics.estimates import ComparisonConfig
from eval.statistics.pairing import Table, Tables

ALL_PAIRS = 3  # with more variants each is compared with the first alone: pairs grow as squares


def compare_pairs(
    tables: Tables, config: ComparisonConfig, others: Sequence[Measure] = ()
) -> list[Pairing]:
    """Compare all tuned variants with each other, or if there are many each with the first.

    Every difference has the interval, test and smallest detectable effect that it would have beside
    the base, with Holm's correction over the metrics of the pair. Retention is of what the base
    model gets right.

    Args:
        tables: the answers of all variants, the baseline first.
        config: of the comparison.
        others: measures of something else than the answers.
    """
    names = [name for name in next(iter(tables.values())).answers if name != config.baseline]
    pairs = list(combinations(names, 2))
    if len(names) > ALL_PAIRS:
        pairs = [(names[0], name) for name in names[1:]]
    measures = _measures(tables)
    further = [measure for measure in others if not measure.of_base]
    return [_pair(tables, config, first, second, measures, further) for first, second in pairs]


def _measures(tables: Tables) -> list[Measure]:
    """The catalogue, with the retention that two tuned variants can differ in."""
    measures = []
    for measure in MEASURES:
        if measure.key == "retention":
            if "ood" not in tables:
                continue
            known = [sample.correct for sample in tables["ood"].cases]
            measure = replace(measure, estimate=still_right(known), of_base=False)
        if not measure.of_base:
            measures.append(measure)
    return measures


def _pair(
    tables: Tables,
    config: ComparisonConfig,
    first: str,
    second: str,
    measures: Sequence[Measure],
    others: Sequence[Measure],
) -> Pairing:
    two = {
        suite: Table({name: table.answers[name] for name in (first, second)}, table.clusters)
        for suite, table in tables.items()
    }
    metrics = build_metrics(two, replace(config, baseline=first), others, measures)
    contrasts = [
        Contrast(
            key=metric.key,
            first=metric.base_value(second, first),
            second=metric.values[second].value,
            paired=metric.against[second],
        )
        for metric in metrics
        if second in metric.against
    ]
    return Pairing(first=first, second=second, contrasts=contrasts)
