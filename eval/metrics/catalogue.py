"""The metrics of a comparison: what each means and how it is computed from the tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from eval.metrics import robustness
from eval.metrics.definition import Estimator, Measure
from eval.metrics.diversity import closing, opening
from eval.metrics.option_probability import option_probability
from eval.metrics.template_ratio import (
    as_they_are,
    at_equal_length,
    commonest,
    compression,
    distinct,
    duplicates,
    is_empty,
    mean,
    repetition,
    top_phrases,
    whole,
)
from eval.schema.case import Suite
from eval.schema.report import Metric, Paired, TaskMetric
from eval.schema.sample import Sample
from eval.statistics import estimates, inference
from eval.statistics.estimates import ComparisonConfig, Estimates
from eval.statistics.pairing import Table, Tables


def build_metrics(
    tables: Tables,
    config: ComparisonConfig,
    others: Sequence[Measure] = (),
    measures: Sequence[Measure] | None = None,
) -> list[Metric]:
    """Compute every metric that the suites allow; adjust p-values over the metrics of a variant.

    Args:
        tables: the answers.
        config: of the comparison.
        others: measures of something else than the answers, which need no table.
        measures: of the answers; `MEASURES` if not given.
    """
    of_answers = MEASURES if measures is None else measures
    built = [(measure, measure.estimates(tables, config)) for measure in of_answers]
    built += [(measure, measure.estimate(tables, config)) for measure in others]
    defined = {measure: estimates for measure, estimates in built if estimates is not None}
    against: dict[str, dict[str, Paired]] = {measure.key: {} for measure in defined}
    for variant in dict.fromkeys(name for each in defined.values() for name in each.against):
        differences = {
            m.key: each.against[variant] for m, each in defined.items() if variant in each.against
        }
        adjusted = inference.holm({key: each.p_value for key, each in differences.items()})
        for key, difference in differences.items():
            against[key][variant] = difference.paired(
                adjusted[key], config.confidence, len(adjusted)
            )
    return [measure.metric(each, against[measure.key]) for measure, each in defined.items()]


def build_task_metrics(tables: Tables, config: ComparisonConfig) -> list[TaskMetric]:
    """Compute the metrics of one task type, for every type with two independent cases."""
    rows = []
    for task in dict.fromkeys(s.task_type for table in tables.values() for s in table.cases):
        parts = {suite: _of_task(table, task) for suite, table in tables.items()}
        present = {suite: table for suite, table in parts.items() if table is not None}
        for measure in MEASURES:
            of_task = measure.estimates(present, config) if task and measure.by_task else None
            if of_task is not None:
                rows.append(TaskMetric(key=measure.key, task_type=task, values=of_task.values))
    return rows


def _of_task(table: Table, task: str) -> Table | None:
    return table.part(sample.task_type == task for sample in table.cases)


INSTRUCTIONS = "instructions"
COMMONSENSE = "commonsense"


def task_family(task_type: str) -> str:
    """Return the family of a task type: `commonsense` of `commonsense/zh`."""
    return task_type.partition("/")[0]


def _mean(
    suite: Suite,
    value: Callable[[Sample], bool | float],
    of: Callable[[Sample], bool] | None = None,
) -> Estimator:
    """Make an estimator of the mean of one value a sample, of all cases or of those chosen."""

    def estimate(tables: Tables, config: ComparisonConfig) -> Estimates | None:
        table = tables[suite] if of is None else tables[suite].part(map(of, tables[suite].cases))
        if table is None:
            return None
        return estimates.of_columns(table.column(value), table.clusters, config)

    return estimate


def _correct(sample: Sample) -> bool:
    return sample.correct


def _of_family(family: str) -> Callable[[Sample], bool]:
    return lambda sample: task_family(sample.task_type) == family


def still_right(known: Sequence[bool]) -> Estimator:
    """Make an estimator of the share still right of the general cases that the base gets right.

    Of two tuned models, whose difference it is; beside the base itself see `_retention`.

    Args:
        known: whether the base model gets each case of the table right.
    """

    def estimate(tables: Tables, config: ComparisonConfig) -> Estimates | None:
        table = tables["ood"].part(known)
        if table is None:
            return None
        return estimates.of_columns(table.column(_correct), table.clusters, config)

    return estimate


def _retention(tables: Tables, config: ComparisonConfig) -> Estimates | None:
    """Estimate the share still right of the cases the baseline gets right, whose own is 1."""
    table = tables["ood"]
    columns = table.column(_correct)
    known = columns[config.baseline]
    if not known.any():
        return None
    values = {
        name: estimates.share(right[known], table.clusters[known], config.confidence)
        for name, right in columns.items()
    }
    return Estimates(values, against={})


LARGE = f"Kinds with fewer than {robustness.KIND_QUESTIONS} questions do not count."
EQUAL = (
    "Of the variant's and the base's answer to a prompt the longer is cut in its middle to the "
    "length of the other."
)

MEASURES = (
    Measure(
        "domain_accuracy", "Domain accuracy", "domain", "share", "higher",
        "Share of the held-out domain questions answered correctly.",
        _mean("domain", _correct), by_task=True,
    ),
    Measure(
        "domain_slots", "Domain score", "domain", "share", "higher",
        "Mean score of the domain answers; where facts are checked one by one, the share found.",
        _mean("domain", lambda sample: float(sample.score)), by_task=True,
    ),
    option_probability("domain", "Probability of the right option, domain"),
    Measure(
        "format_rate", "Format kept", "domain", "share", "higher",
        "Share of the domain answers that have the form asked for, whatever they say.",
        _mean(
            "domain", lambda s: bool(s.format_ok), of=lambda s: s.format_ok is not None
        ), by_task=True,
    ),
    Measure(
        "robustness_accuracy", "Accuracy on reworded prompts", "robustness", "share", "higher",
        "Share of correct answers when the same domain questions are worded differently.",
        _mean("robustness", _correct), by_task=True,
    ),
    Measure(
        "robustness_worst", "Worst rewording", "robustness", "share", "higher",
        f"Accuracy under the one kind of rewording that hurts this model most. {LARGE}",
        robustness.by_perturbation(robustness.lowest),
    ),
    Measure(
        "robustness_consistency", "Consistency over wordings", "robustness", "share", "neither",
        "Share of questions answered alike in every wording, always right or always wrong: a "
        "model that is always wrong is consistent, too.",
        robustness.by_question(robustness.always_alike),
    ),
    Measure(
        "robustness_worst_case", "Right in every wording", "robustness", "share", "higher",
        "Share of questions answered correctly in every wording, the original one included.",
        robustness.by_question(robustness.always_right),
    ),
    Measure(
        "robustness_range", "Range over rewordings", "robustness", "share", "neither",
        "Accuracy under the rewording that hurts least minus that under the one that hurts most: "
        f"0 for a model that is always wrong, too. {LARGE}",
        robustness.by_perturbation(robustness.spread, least=2),
    ),
    Measure(
        "distinct_1", "Distinct-1", "template", "number", "higher",
        f"Different words over all words of the sampled answers. {EQUAL}",
        at_equal_length(whole(distinct(1)), least=1),
    ),
    Measure(
        "distinct_2", "Distinct-2", "template", "number", "higher",
        f"Different word pairs over all word pairs of the sampled answers. {EQUAL}",
        at_equal_length(whole(distinct(2)), least=2),
    ),
    Measure(
        "repetition_3", "Repetition within an answer", "template", "share", "lower",
        "Share of an answer's three-word phrases that it has already used, on average.",
        as_they_are(mean(repetition)), by_task=True,
    ),
    Measure(
        "repetition_3_equal", "Repetition at equal length", "template", "share", "lower",
        f"The same where longer answers are not at a disadvantage. {EQUAL}",
        at_equal_length(mean(repetition), least=3),
    ),
    Measure(
        "top_phrases_share", "Top-10 phrases", "template", "share", "lower",
        f"Share of all three-word phrases taken by the ten commonest. {EQUAL}",
        at_equal_length(whole(top_phrases), least=3),
    ),
    Measure(
        "opening_share", "Commonest opening", "template", "share", "lower",
        "Share of the answers that begin with the same five words, empty ones aside.",
        as_they_are(whole(commonest(opening), binomial=True)),
    ),
    Measure(
        "closing_share", "Commonest closing", "template", "share", "lower",
        "Share of the answers that end on the same five words, empty ones aside.",
        as_they_are(whole(commonest(closing), binomial=True)),
    ),
    Measure(
        "duplicate_share", "Same answer elsewhere", "template", "share", "lower",
        "Share of the answers that were also given, word by word, to another prompt.",
        as_they_are(duplicates),
    ),
    Measure(
        "compression", "Compression ratio", "template", "number", "lower",
        "How many times smaller the answers become when compressed: more means more repetitive. "
        f"{EQUAL}",
        at_equal_length(whole(compression, upper=math.inf), least=1),
    ),
    Measure(
        "answer_tokens", "Answer length", "template", "tokens", "neither",
        "Mean number of generated tokens.",
        _mean("template", lambda sample: float(sample.tokens)),
    ),
    Measure(
        "empty_share", "Empty answers", "template", "share", "lower",
        "Share of the answers without a word.",
        as_they_are(mean(is_empty)),
    ),
    Measure(
        "stop_rate", "Answers that end", "template", "share", "higher",
        "Share of the answers that end by themselves; the others run into the length limit.",
        _mean("template", lambda sample: sample.finish_reason == "stop"), by_task=True,
    ),
    Measure(
        "runaway_rate", "Endless repetition", "template", "share", "lower",
        "Share of the answers that run into the length limit repeating themselves.",
        _mean("template", lambda sample: sample.runaway), by_task=True,
    ),
    Measure(
        "ood_accuracy", "General accuracy", "ood", "share", "higher",
        "Share of the questions from outside the domain answered correctly.",
        _mean("ood", _correct), by_task=True,
    ),
    option_probability("ood", "Probability of the right option, general"),
    Measure(
        "instruction_following", "Instruction following", "ood", "share", "higher",
        "Share of the general questions on instruction following answered correctly.",
        _mean("ood", _correct, of=_of_family(INSTRUCTIONS)),
    ),
    Measure(
        "commonsense_accuracy", "Commonsense", "ood", "share", "higher",
        "Share of the general questions on commonsense answered correctly.",
        _mean("ood", _correct, of=_of_family(COMMONSENSE)),
    ),
    Measure(
        "retention", "Retention", "ood", "share", "higher",
        "Of the general questions the base model gets right, the share still answered correctly.",
        _retention, by_task=True, of_base=True,
    ),
)  # fmt: skip
