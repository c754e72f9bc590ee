"""The metrics of a comparison: what each means and how it is computed from the tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from eval import estimates, robustness, stats
from eval.estimates import Estimates, Setting, Statistic
from eval.measure import Measure
from eval.metrics import (
    NGrams,
    Units,
    compression_ratio,
    join_units,
    opening,
    repeated_share,
)
from eval.pairing import HUMAN, Table, Tables
from eval.schema import Metric, Paired, Sample, Suite, TaskMetric


def build_metrics(tables: Tables, setting: Setting, others: Sequence[Measure] = ()) -> list[Metric]:
    """Every metric that the suites allow, p-values adjusted over the metrics of a variant.

    Args:
        tables: the answers.
        setting: baseline, repeats, confidence, seed.
        others: measures of something else than the answers, which need no table.
    """
    built = [(measure, measure.estimates(tables, setting)) for measure in MEASURES]
    built += [(measure, measure.estimate(tables, setting)) for measure in others]
    found = {measure: estimates for measure, estimates in built if estimates is not None}
    against: dict[Measure, dict[str, Paired]] = {measure: {} for measure in found}
    for variant in dict.fromkeys(name for each in found.values() for name in each.against):
        differences = {
            m: each.against[variant] for m, each in found.items() if variant in each.against
        }
        adjusted = stats.holm({m.key: each.p_value for m, each in differences.items()})
        for measure, difference in differences.items():
            against[measure][variant] = difference.paired(
                adjusted[measure.key], setting.confidence, len(adjusted)
            )
    return [measure.metric(each, against[measure]) for measure, each in found.items()]


def build_task_metrics(tables: Tables, setting: Setting) -> list[TaskMetric]:
    """The metrics that make sense for one task type, for types with two independent cases."""
    rows = []
    for task in dict.fromkeys(s.task_type for table in tables.values() for s in table.cases):
        parts = {suite: _of_task(table, task) for suite, table in tables.items()}
        present = {suite: table for suite, table in parts.items() if table is not None}
        for measure in MEASURES:
            found = measure.estimates(present, setting) if task and measure.by_task else None
            if found is not None:
                rows.append(TaskMetric(key=measure.key, task_type=task, values=found.values))
    return rows


def _of_task(table: Table, task: str) -> Table | None:
    return table.part([sample.task_type == task for sample in table.cases])


def _mean(suite: Suite, value: Callable[[Sample], bool | float]) -> Callable[..., Estimates]:
    """An estimator of the mean of one value a sample."""

    def estimate(tables: Tables, setting: Setting) -> Estimates:
        table = tables[suite]
        return estimates.of_columns(table.column(value), table.clusters, setting)

    return estimate


def _format_rate(tables: Tables, setting: Setting) -> Estimates | None:
    """Of the cases that ask for a form."""
    table = tables["domain"]
    asked = table.part([sample.format_ok is not None for sample in table.cases])
    if asked is None:
        return None
    return _mean("domain", lambda sample: bool(sample.format_ok))({"domain": asked}, setting)


INSTRUCTIONS = "instructions"
COMMONSENSE = "commonsense"


def task_family(task_type: str) -> str:
    """`commonsense/zh` is of the family `commonsense`."""
    return task_type.partition("/")[0]


def _family_accuracy(family: str) -> Callable[[Tables, Setting], Estimates | None]:
    """An estimator of the share of right answers to the out-of-domain cases of one family."""

    def estimate(tables: Tables, setting: Setting) -> Estimates | None:
        cases = tables["ood"].cases
        asked = tables["ood"].part([task_family(s.task_type) == family for s in cases])
        if asked is None:
            return None
        return _mean("ood", lambda sample: sample.correct)({"ood": asked}, setting)

    return estimate


def _retention(tables: Tables, setting: Setting) -> Estimates | None:
    """Of the cases the baseline gets right; the baseline's own value is 1 by definition."""
    table = tables["ood"]
    columns = table.column(lambda sample: sample.correct)
    known = columns[setting.baseline]
    if not known.any():
        return None
    values = {
        name: estimates.share(right[known], table.clusters[known], setting.confidence)
        for name, right in columns.items()
    }
    return Estimates(values, against={})


def _whole_text(
    statistic: Callable[[Sequence[Units]], Statistic],
    equal: bool,
    least: int = 0,
    upper: float = 1,
) -> Callable[[Tables, Setting], Estimates | None]:
    """An estimator of a statistic of all sampled answers, at equal length or as they are.

    It is not defined where no answer has the `least` units it needs.
    """

    def estimate(tables: Tables, setting: Setting) -> Estimates | None:
        table = tables["template"]
        texts = table.equal_units if equal else table.units
        if max(map(len, texts[setting.baseline])) < least:
            return None
        statistics = {name: statistic(answers) for name, answers in texts.items()}
        return estimates.of_statistics(statistics, table.clusters, setting, upper, extra=HUMAN)

    return estimate


def _distinct(n: int) -> Callable[[Sequence[Units]], Statistic]:
    return lambda texts: NGrams.of(texts, n).distinct


def _top_phrases(texts: Sequence[Units]) -> Statistic:
    return NGrams.of(texts, 3).top_share


def _opening(texts: Sequence[Units]) -> Statistic:
    known: dict[tuple[str, ...], int] = {}
    codes = np.array([known.setdefault(opening(text), len(known)) for text in texts])
    return lambda keep: float(np.bincount(codes[keep]).max() / np.count_nonzero(keep))


def _compression(texts: Sequence[Units]) -> Statistic:
    joined = [join_units(text) for text in texts]
    return lambda keep: compression_ratio(
        [text for text, kept in zip(joined, keep, strict=True) if kept]
    )


def _repetition(tables: Tables, setting: Setting) -> Estimates:
    table = tables["template"]
    columns = {
        name: np.array([repeated_share(text) for text in texts])
        for name, texts in table.units.items()
    }
    return estimates.of_columns(columns, table.clusters, setting, extra=HUMAN)


MEASURES = (
    Measure(
        "domain_accuracy",
        "Domain accuracy",
        "domain",
        "share",
        "higher",
        "Share of the held-out domain questions answered correctly.",
        _mean("domain", lambda sample: sample.correct),
        by_task=True,
    ),
    Measure(
        "domain_slots",
        "Domain score",
        "domain",
        "share",
        "higher",
        "Mean score of the domain answers; where facts are checked one by one, the share found.",
        _mean("domain", lambda sample: float(sample.score)),
        by_task=True,
    ),
    Measure(
        "format_rate",
        "Format kept",
        "domain",
        "share",
        "higher",
        "Share of the domain answers that have the form asked for, whatever they say.",
        _format_rate,
        by_task=True,
    ),
    Measure(
        "robustness_accuracy",
        "Accuracy on reworded prompts",
        "robustness",
        "share",
        "higher",
        "Share of correct answers when the same domain questions are worded differently.",
        _mean("robustness", lambda sample: sample.correct),
        by_task=True,
    ),
    Measure(
        "robustness_worst",
        "Worst rewording",
        "robustness",
        "share",
        "higher",
        "Accuracy under the one kind of rewording that hurts this model most.",
        robustness.by_perturbation(robustness.lowest),
    ),
    Measure(
        "robustness_consistency",
        "Consistency over wordings",
        "robustness",
        "share",
        "higher",
        "Share of questions answered alike, always right or always wrong, in every wording.",
        robustness.by_question(robustness.always_alike),
    ),
    Measure(
        "robustness_worst_case",
        "Right in every wording",
        "robustness",
        "share",
        "higher",
        "Share of questions answered correctly in every wording, the original one included.",
        robustness.by_question(robustness.always_right),
    ),
    Measure(
        "robustness_range",
        "Range over rewordings",
        "robustness",
        "share",
        "lower",
        "Accuracy under the rewording that hurts least minus that under the one that hurts most.",
        robustness.by_perturbation(robustness.spread, least=2),
    ),
    Measure(
        "distinct_1",
        "Distinct-1",
        "template",
        "number",
        "higher",
        "Different words over all words of the sampled answers, cut to equal length.",
        _whole_text(_distinct(1), equal=True, least=1),
    ),
    Measure(
        "distinct_2",
        "Distinct-2",
        "template",
        "number",
        "higher",
        "Different word pairs over all word pairs of the sampled answers, cut to equal length.",
        _whole_text(_distinct(2), equal=True, least=2),
        by_task=True,
    ),
    Measure(
        "repetition_3",
        "Repetition within an answer",
        "template",
        "share",
        "lower",
        "Share of an answer's three-word phrases that it has already used, on average.",
        _repetition,
        by_task=True,
    ),
    Measure(
        "top_phrases_share",
        "Top-10 phrases",
        "template",
        "share",
        "lower",
        "Share of all three-word phrases taken by the ten commonest, at equal length.",
        _whole_text(_top_phrases, equal=True, least=3),
    ),
    Measure(
        "opening_share",
        "Commonest opening",
        "template",
        "share",
        "lower",
        "Share of the answers that begin with the same five words.",
        _whole_text(_opening, equal=False),
    ),
    Measure(
        "compression",
        "Compression ratio",
        "template",
        "number",
        "lower",
        "How many times smaller the answers become when compressed: more means more repetitive.",
        _whole_text(_compression, equal=True, least=1, upper=math.inf),
    ),
    Measure(
        "answer_tokens",
        "Answer length",
        "template",
        "tokens",
        "neither",
        "Mean number of generated tokens.",
        _mean("template", lambda sample: float(sample.tokens)),
    ),
    Measure(
        "stop_rate",
        "Answers that end",
        "template",
        "share",
        "higher",
        "Share of the answers that end by themselves; the others run into the length limit.",
        _mean("template", lambda sample: sample.finish_reason == "stop"),
        by_task=True,
    ),
    Measure(
        "runaway_rate",
        "Endless repetition",
        "template",
        "share",
        "lower",
        "Share of the answers that run into the length limit repeating themselves.",
        _mean("template", lambda sample: sample.runaway),
        by_task=True,
    ),
    Measure(
        "ood_accuracy",
        "General accuracy",
        "ood",
        "share",
        "higher",
        "Share of the questions from outside the domain answered correctly.",
        _mean("ood", lambda sample: sample.correct),
        by_task=True,
    ),
    Measure(
        "instruction_following",
        "Instruction following",
        "ood",
        "share",
        "higher",
        "Share of the general questions on instruction following answered correctly.",
        _family_accuracy(INSTRUCTIONS),
    ),
    Measure(
        "commonsense_accuracy",
        "Commonsense",
        "ood",
        "share",
        "higher",
        "Share of the general questions on commonsense answered correctly.",
        _family_accuracy(COMMONSENSE),
    ),
    Measure(
        "retention",
        "Retention",
        "ood",
        "share",
        "higher",
        "Of the general questions the base model gets right, the share still answered correctly.",
        _retention,
        by_task=True,
    ),
)
