"""Flips: cases whose single answers are right for one model and wrong for the other.

A single answer is one draw. Both models answer a flipped case several times more, sampled; where
the shares of right answers are alike, the flip was noise. An answer by likelihood is no draw: the
same options would be ranked the same way again, so its flips stand as they are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from statistics import fmean
from typing import Literal

import numpy as np
from scipy.stats import binom

from eval.generation.generate import Key, Prompt
from eval.schema.case import Suite
from eval.schema.sample import FlipResample, FlipSummary, Sample

Kind = Literal["loss", "gain"]
FLIP_SUITES: tuple[Suite, ...] = ("domain", "ood")
# Two models that are equally often right look as if a flip were stable in at most this share of
# their flips, whatever their rate.
FALSE_ALARMS = 0.05


@cache
def least_change(n: int) -> int:
    """Return how many more of n answers must be right for one of two models; 4 of 8.

    The smallest number that two models with one common pass rate exceed or reach in the direction
    of the flip with a chance of at most `FALSE_ALARMS`, by the two binomials, at any rate.

    Args:
        n: answers of each model, at least `eval.config.LEAST_SAMPLES`.
    """
    rates = np.linspace(0, 1, 201)[:, None]
    chance = binom.pmf(np.arange(n + 1), n, rates)  # [rates, n + 1]
    more = np.subtract.outer(np.arange(n + 1), np.arange(n + 1))
    both = chance[:, :, None] * chance[:, None, :]
    by_change = [both[:, more >= change].sum(axis=1).max() for change in range(n + 1)]
    return next(change for change, worst in enumerate(by_change) if worst <= FALSE_ALARMS)


def find_flips(base: Sequence[Sample], variant: Sequence[Sample]) -> dict[Key, Kind]:
    """Return the cases on which the two models were judged differently, in the base's order.

    Cases that either model has no sound answer to are left out, and those answered by likelihood.
    """
    answers = {(sample.suite, sample.case_id): sample for sample in variant}
    flips: dict[Key, Kind] = {}
    for before in base:
        after = answers.get((before.suite, before.case_id))
        if before.suite not in FLIP_SUITES or after is None or not before.generated:
            continue
        if before.correct != after.correct and not (before.error or after.error):
            flips[before.suite, before.case_id] = "loss" if before.correct else "gain"
    return flips


def resample_prompts(prompts: Sequence[Prompt], n: int) -> list[Prompt]:
    """Repeat every prompt n times, to be sampled; case ids differ, and with them the seeds."""
    return [
        replace(
            prompt,
            case=prompt.case.model_copy(
                update={"id": f"{prompt.case.id}@{number}", "root_id": prompt.case.id}
            ),
            sampled=True,
        )
        for prompt in prompts
        for number in range(n)
    ]


def judge_flips(
    variant: str, kinds: Mapping[Key, Kind], base: Sequence[Sample], tuned: Sequence[Sample]
) -> list[FlipResample]:
    """Say of every flip whether the sampled answers confirm it.

    Args:
        variant: name of the tuned model.
        kinds: its flips.
        base: the base model's answers to `resample_prompts` of at least these flips.
        tuned: the variant's.

    Returns:
        One row a flip, in their order; flips with an answer that could not be judged are left out.
    """
    before, after = _by_case(base), _by_case(tuned)
    rows = []
    for (suite, case_id), kind in kinds.items():
        pair = before[suite, case_id], after[suite, case_id]
        if any(sample.error for answers in pair for sample in answers):
            continue
        n = len(pair[0])
        base_right, variant_right = (sum(sample.correct for sample in part) for part in pair)
        lost = base_right - variant_right if kind == "loss" else variant_right - base_right
        rows.append(
            FlipResample(
                variant=variant,
                case_id=case_id,
                suite=suite,
                task_type=pair[0][0].task_type,
                kind=kind,
                n=n,
                base_right=base_right,
                variant_right=variant_right,
                stable=lost >= least_change(n),
            )
        )
    return rows


def _by_case(samples: Sequence[Sample]) -> dict[Key, list[Sample]]:
    by_case: dict[Key, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_case[sample.suite, sample.root_id].append(sample)
    return by_case


def summarize_flips(flips: Sequence[FlipResample], baseline: str) -> list[FlipSummary]:
    """Count flips, with pass@k, by variant and suite, for those that have flips."""
    groups: dict[tuple[str, Suite], list[FlipResample]] = defaultdict(list)
    for flip in flips:
        groups[flip.variant, flip.suite].append(flip)
    return [_summary(variant, suite, rows, baseline) for (variant, suite), rows in groups.items()]


def _summary(
    variant: str, suite: Suite, rows: Sequence[FlipResample], baseline: str
) -> FlipSummary:
    n = rows[0].n
    right = {
        baseline: [row.base_right for row in rows],
        variant: [row.variant_right for row in rows],
    }
    kinds = [row.kind for row in rows]
    stable = [row.kind for row in rows if row.stable]
    return FlipSummary(
        variant=variant,
        suite=suite,
        n=n,
        losses=kinds.count("loss"),
        stable_losses=stable.count("loss"),
        gains=kinds.count("gain"),
        stable_gains=stable.count("gain"),
        pass_at_k={
            name: [fmean(pass_at_k(n, count, k) for count in counts) for k in range(1, n + 1)]
            for name, counts in right.items()
        },
    )


def pass_at_k(n: int, right: int, k: int) -> float:
    """Return the chance that at least one of k answers is right, given `right` of n were.

    The unbiased estimator of Chen et al. (arXiv 2107.03374), 1 - C(n - right, k) / C(n, k).

    Raises:
        ValueError: unless 0 <= right <= n and 1 <= k <= n.
    """
    if not (0 <= right <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} of {right} right answers in {n} is not defined")
    return 1 - math.comb(n - right, k) / math.comb(n, k)
