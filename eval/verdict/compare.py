"""Compare tuned variants with their base model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.config import EvaluateConfig
from eval.generation import samples as sample_files
from eval.metrics.catalogue import build_metrics, build_task_metrics
from eval.metrics.definition import Measure
from eval.metrics.diversity import top_closings, top_openings, top_phrases
from eval.metrics.robustness import perturbation_metrics
from eval.schema.case import Strict, Suite
from eval.schema.report import Answer, Comparison, Metric, Pairing, SideBySide
from eval.schema.sample import Sample
from eval.statistics.estimates import ComparisonConfig
from eval.statistics.pairing import HUMAN, Tables, pair_samples
from eval.text import Units
from eval.verdict.between import compare_pairs
from eval.verdict.gates import judge_gates
from eval.verdict.verdicts import judge
from nlirg.errors import InputError

SHOWN_ANSWERS = 7_500  # of a suite, all variants together: some 5 MB of the page


def read_samples(folder: Path, counts: Mapping[Suite, int]) -> list[Sample]:
    """Read the `samples_<suite>.jsonl` of one variant's folder.

    Args:
        folder: of a complete evaluation.
        counts: how many samples each suite had when it was complete.

    Raises:
        InputError: if a file is missing or damaged, or samples are.
    """
    rows = []
    for suite, count in counts.items():
        path = sample_files.samples_path(folder, suite)
        samples = sample_files.read_samples(path)
        if len(samples) != count:
            raise InputError(
                f"{path}: {len(samples)} samples, but {count} were written; delete {folder} and "
                "evaluate again"
            )
        rows += samples
    return rows


def compare(
    samples: Mapping[str, Sequence[Sample]],
    baseline: str,
    evaluate: EvaluateConfig,
    seed: int,
    others: Sequence[Measure] = (),
) -> Comparison:
    """Judge every variant against the baseline on the prompts that all of them answered.

    Args:
        samples: variant -> its samples of all suites.
        baseline: the variant the others are compared with.
        evaluate: gates, number of bootstrap resamples, confidence.
        seed: of resampling; equal arguments give equal results.
        others: measures of something else than the samples.

    Raises:
        InputError: if the samples cannot be paired (see `eval.statistics.pairing.pair_samples`), or
            a metric is not finite.
    """
    tables = pair_samples(samples, baseline, evaluate.max_error_share)
    config = ComparisonConfig(baseline, evaluate.bootstrap, evaluate.confidence, seed)
    metrics = build_metrics(tables, config, others)
    between = compare_pairs(tables, config, others)
    _require_finite(metrics, between)
    by_key = {metric.key: metric for metric in metrics}
    tuned = [name for name in samples if name != baseline]
    gates = {name: judge_gates(by_key, tables, evaluate.gates, baseline, name) for name in tuned}
    texts = _sampled_texts(tables)
    return Comparison(
        variants=[baseline, *tuned],
        baseline=baseline,
        confidence=evaluate.confidence,
        metrics=metrics,
        by_task=build_task_metrics(tables, config),
        by_perturbation=perturbation_metrics(tables, config),
        between=between,
        gates=list(itertools.chain.from_iterable(gates.values())),
        verdicts={name: judge(by_key, gates[name], name) for name in tuned},
        openings=top_openings(texts),
        closings=top_closings(texts),
        phrases=top_phrases(texts),
        samples=side_by_side(tables),
        cases={suite: len(table.cases) for suite, table in tables.items()},
        left_out={suite: table.left_out for suite, table in tables.items() if table.left_out},
    )


def _sampled_texts(tables: Tables) -> dict[str, list[Units]]:
    """Return every variant's sampled answers, and the human ones where there are any."""
    if "template" not in tables:
        return {}
    table = tables["template"]
    beside = table.beside_references
    return table.units | ({} if beside is None else {HUMAN: beside.units[HUMAN]})


def _require_finite(metrics: Sequence[Metric], between: Sequence[Pairing]) -> None:
    found: list[tuple[str, str, Strict]] = [
        (metric.key, variant, numbers)
        for metric in metrics
        for variant, numbers in itertools.chain(metric.values.items(), metric.against.items())
    ]
    found += [(c.key, pair.second, c.paired) for pair in between for c in pair.contrasts]
    for key, variant, numbers in found:
        for name, number in numbers.model_dump(exclude_none=True).items():
            if not math.isfinite(number):
                raise InputError(f"cannot judge: {key} of variant {variant!r}: {name} is {number}")


def side_by_side(tables: Tables) -> list[SideBySide]:
    """Choose the cases of every suite that are shown.

    First those judged differently, then those whose answers differ, then the rest.
    """
    chosen: list[SideBySide] = []
    for suite, table in tables.items():
        rows = [
            {name: answers[i] for name, answers in table.answers.items()}
            for i in range(len(table.cases))
        ]
        rows.sort(key=_sameness)  # stable: within a kind the order of the cases stays
        chosen += [_side_by_side(row, suite) for row in rows[: SHOWN_ANSWERS // len(table.answers)]]
    return chosen


def _sameness(row: Mapping[str, Sample]) -> int:
    """0 if a variant's answer is right and another's wrong, 1 if only the texts differ, else 2."""
    if len({sample.correct for sample in row.values()}) > 1:
        return 0
    return 1 if len({sample.answer for sample in row.values()}) > 1 else 2


def _side_by_side(row: Mapping[str, Sample], suite: Suite) -> SideBySide:
    first = next(iter(row.values()))
    return SideBySide(
        case_id=first.case_id,
        suite=suite,
        task_type=first.task_type,
        perturbation=first.perturbation,
        prompt=first.prompt,
        reference=first.reference,
        answers={
            name: Answer(text=s.answer, correct=s.correct, finish_reason=s.finish_reason)
            for name, s in row.items()
        },
    )
