"""How answers hold when the same question is worded differently."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from eval.metrics.definition import Estimator
from eval.schema.report import PerturbationMetric
from eval.statistics import estimates
from eval.statistics.estimates import ComparisonConfig, Estimates, Statistic
from eval.statistics.inference import Flags, Floats
from eval.statistics.pairing import Table, Tables

# A kind of rewording that fits fewer questions does not decide which is worst: of two questions
# one wrong answer is 50 %.
KIND_QUESTIONS = 20


def by_question(holds: Callable[[Flags], bool]) -> Estimator:
    """Make an estimator of the share of questions of which `holds` is true.

    Args:
        holds: takes whether the answers to all wordings of one question, the original among them,
            are right; shape `[wordings]`, at least two.
    """

    def estimate(tables: Tables, config: ComparisonConfig) -> Estimates | None:
        wordings: dict[str, list[tuple[Table, int]]] = defaultdict(list)
        for table in (tables[suite] for suite in ("robustness", "domain") if suite in tables):
            for i, sample in enumerate(table.cases):
                wordings[sample.root_id].append((table, i))
        questions = [group for group in wordings.values() if len(group) > 1]
        if len(questions) < 2:
            return None
        columns = {
            name: np.array(
                [
                    holds(np.array([table.answers[name][i].correct for table, i in group]))
                    for group in questions
                ]
            )
            for name in tables["robustness"].answers
        }
        return estimates.of_columns(columns, np.arange(len(questions)), config)

    return estimate


def always_right(right: Flags) -> bool:
    """Return the worst case: one wording answered wrong is enough to fail the question."""
    return bool(right.all())


def always_alike(right: Flags) -> bool:
    """Return the consistency: right in every wording, or wrong in every wording."""
    return bool(right.all() or not right.any())


def by_perturbation(reduce: Callable[[Floats], float], least: int = 1) -> Estimator:
    """Make an estimator of one number made of the accuracies under the kinds of rewording.

    Args:
        reduce: takes the accuracies, shape `[kinds]`, of kinds with `KIND_QUESTIONS` questions.
        least: such kinds without which it says nothing.
    """

    def estimate(tables: Tables, config: ComparisonConfig) -> Estimates | None:
        table = tables["robustness"].part(_of_large_kinds(tables["robustness"]))
        if table is None:
            return None
        names, kinds = np.unique([s.perturbation for s in table.cases], return_inverse=True)
        if len(names) < least:
            return None

        def statistic(right: Flags) -> Statistic:
            def reduced(keep: Flags) -> float:
                asked = np.bincount(kinds[keep])
                answered = np.bincount(kinds[keep], weights=right[keep])
                return reduce(answered[asked > 0] / asked[asked > 0])

            return reduced

        columns = table.column(lambda sample: sample.correct)
        statistics = {name: statistic(right) for name, right in columns.items()}
        return estimates.of_statistics(statistics, table.clusters, config, upper=1)

    return estimate


def _of_large_kinds(table: Table) -> list[bool]:
    """Flag the cases of a kind with enough questions for its accuracy to mean something."""
    questions: dict[str, set[int]] = defaultdict(set)
    for sample, root in zip(table.cases, table.clusters.tolist(), strict=True):
        questions[sample.perturbation].add(root)
    return [len(questions[sample.perturbation]) >= KIND_QUESTIONS for sample in table.cases]


def lowest(accuracies: Floats) -> float:
    """Return the accuracy under the rewording that hurts most."""
    return float(accuracies.min())


def spread(accuracies: Floats) -> float:
    """Return the range from the rewording that hurts most to the one that hurts least."""
    return float(accuracies.max() - accuracies.min())


def perturbation_metrics(tables: Tables, config: ComparisonConfig) -> list[PerturbationMetric]:
    """Estimate accuracy under each kind of rewording, and its change from the original wording.

    What fewer than two independent questions have is left out.
    """
    if "robustness" not in tables:
        return []
    table, originals = tables["robustness"], _original_accuracy(tables)
    known = next(iter(originals.values()), {})
    rows = []
    for kind in dict.fromkeys(sample.perturbation for sample in table.cases):
        asked = [sample.perturbation == kind for sample in table.cases]
        if part := table.part(asked):
            right = part.column(lambda sample: sample.correct)
            values = estimates.of_columns(right, part.clusters, config).values
            rows.append(
                PerturbationMetric(key="robustness_accuracy", perturbation=kind, values=values)
            )
        both = [hit and s.root_id in known for hit, s in zip(asked, table.cases, strict=True)]
        if part := table.part(both):
            change = {
                name: np.array([s.correct - originals[name][s.root_id] for s in samples])
                for name, samples in part.answers.items()
            }
            values = estimates.of_columns(change, part.clusters, config).values
            rows.append(
                PerturbationMetric(key="robustness_change", perturbation=kind, values=values)
            )
    return rows


def _original_accuracy(tables: Tables) -> dict[str, dict[str, float]]:
    """Return variant -> question -> share of right answers to its original wording."""
    accuracy: dict[str, dict[str, float]] = {}
    for name, samples in tables["domain"].answers.items() if "domain" in tables else ():
        flags: dict[str, list[bool]] = defaultdict(list)
        for sample in samples:
            flags[sample.root_id].append(sample.correct)
        accuracy[name] = {root: sum(each) / len(each) for root, each in flags.items()}
    return accuracy
