"""Tables made by hand: questions q0, q1, ... in their original wording and reworded."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from eval.metrics.robustness import (
    KIND_QUESTIONS,
    always_alike,
    always_right,
    by_perturbation,
    by_question,
    lowest,
    perturbation_metrics,
    spread,
)
from eval.schema.sample import Sample
from eval.statistics.estimates import ComparisonConfig
from eval.statistics.pairing import pair_samples
from tests.eval.made_samples import sample

CONFIG = ComparisonConfig("base", bootstrap=400, confidence=0.95, seed=0)


def answers(original: Sequence[int], **reworded: Sequence[int | None]) -> list[Sample]:
    """One flag a question; None where a rewording does not apply."""
    return [sample(f"q{i}", bool(flag)) for i, flag in enumerate(original)] + [
        sample(f"q{i}~{kind}", bool(flag), suite="robustness", root_id=f"q{i}", perturbation=kind)
        for kind, flags in reworded.items()
        for i, flag in enumerate(flags)
        if flag is not None
    ]


def rows(samples: Mapping[str, list[Sample]]) -> dict[tuple[str, str, str], float]:
    metrics = perturbation_metrics(pair_samples(samples, "base", 1.0), CONFIG)
    return {
        (row.perturbation, row.key.removeprefix("robustness_"), name): estimate.value
        for row in metrics
        for name, estimate in row.values.items()
    }


BASE = answers([1, 1, 0, 0], typos=[1, 0, 0, 1], padding=[1, 1, None, 0])
TUNED = answers([1, 1, 1, 0], typos=[1, 0, 1, 0], padding=[1, 1, None, 0])


def test_each_kind_is_compared_with_the_same_questions_as_they_were():
    assert rows({"base": BASE, "x": TUNED}) == {
        ("typos", "accuracy", "base"): 2 / 4,
        ("typos", "accuracy", "x"): 2 / 4,
        ("typos", "change", "base"): 0,
        ("typos", "change", "x"): -1 / 4,
        ("padding", "accuracy", "base"): 2 / 3,
        ("padding", "accuracy", "x"): 2 / 3,
        ("padding", "change", "base"): 0,
        ("padding", "change", "x"): 0,
    }


@pytest.mark.parametrize(
    ("estimator", "base", "tuned", "n"),
    [
        (by_question(always_right), 1 / 4, 2 / 4, 4),
        (by_question(always_alike), 2 / 4, 3 / 4, 4),  # q0, q2 of base; q0, q2, q3 of tuned
        (by_perturbation(lowest), 2 / 4, 2 / 4, 7),
        (by_perturbation(spread), 2 / 3 - 2 / 4, 2 / 3 - 2 / 4, 7),
    ],
)
def test_known_answers(estimator, base, tuned, n, monkeypatch):
    monkeypatch.setattr("eval.metrics.robustness.KIND_QUESTIONS", 3)
    found = estimator(pair_samples({"base": BASE, "x": TUNED}, "base", 1.0), CONFIG)
    values = {name: estimate.value for name, estimate in found.values.items()}
    assert values == pytest.approx({"base": base, "x": tuned})
    assert found.values["x"].n == n
    assert found.against["x"].delta == pytest.approx(tuned - base)


def test_without_originals_there_is_accuracy_and_no_change():
    reworded = [row for row in BASE if row.suite == "robustness"]
    found = rows({"base": reworded})
    assert {key for _, key, _ in found} == {"accuracy"}
    assert perturbation_metrics(pair_samples({"base": BASE[:4]}, "base", 1.0), CONFIG) == []


def test_questions_whose_original_failed_count_for_accuracy_only():
    failed = BASE[0].model_copy(update={"finish_reason": "error", "error": "too long"})
    found = rows({"base": [failed, *BASE[1:]]})
    assert found["typos", "accuracy", "base"] == 2 / 4
    assert found["typos", "change", "base"] == pytest.approx((-1 + 0 + 1) / 3)


def test_a_kind_of_one_question_is_left_out():
    lonely = answers([1, 1, 1], typos=[1, 0, 1], field_order=[1, None, None])
    assert {kind for kind, _, _ in rows({"base": lonely})} == {"typos"}


def test_the_range_needs_two_kinds():
    flags = [1, 0] * 20
    tables = pair_samples({"base": answers(flags, typos=flags)}, "base", 1.0)
    assert by_perturbation(lowest)(tables, CONFIG).values["base"].value == 0.5
    assert by_perturbation(spread, least=2)(tables, CONFIG) is None


def test_a_kind_of_few_questions_does_not_decide_which_is_the_worst():
    few = [0 if i < KIND_QUESTIONS - 1 else None for i in range(100)]
    tables = pair_samples(
        {"base": answers([1] * 100, typos=[1] * 90 + [0] * 10, field_order=few)}, "base", 1.0
    )
    assert by_perturbation(lowest)(tables, CONFIG).values["base"].value == 0.9
    assert by_perturbation(lowest)(pair_samples({"base": BASE}, "base", 1.0), CONFIG) is None


def test_several_variants_of_one_question_are_one_independent_case():
    """Ten copies of every answer must not make the intervals narrower."""
    flags = [1, 0, 1, 1, 0, 1, 0, 1]

    def copies(count: int) -> list[Sample]:
        return [sample(f"q{i}", bool(flag)) for i, flag in enumerate(flags)] + [
            sample(
                f"q{i}~model_paraphrase{k}",
                bool(flag),
                suite="robustness",
                root_id=f"q{i}",
                perturbation="model_paraphrase",
            )
            for i, flag in enumerate(flags)
            for k in range(count)
        ]

    one, ten = (
        perturbation_metrics(pair_samples({"base": copies(n)}, "base", 1.0), CONFIG)[0].values[
            "base"
        ]
        for n in (1, 10)
    )
    assert (one.n, ten.n) == (8, 80)
    assert (one.low, one.high) == pytest.approx((ten.low, ten.high))


def test_verdicts_of_questions():
    right, wrong, mixed = (np.array(flags, dtype=bool) for flags in ([1, 1], [0, 0], [0, 1]))
    assert [always_right(x) for x in (right, wrong, mixed)] == [True, False, False]
    assert [always_alike(x) for x in (right, wrong, mixed)] == [True, True, False]
