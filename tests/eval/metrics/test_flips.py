"""Flips: found, sampled again, and told apart from noise."""

import random
from itertools import combinations
from math import comb
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from eval.config import EvaluateConfig
from eval.generation.generate import Prompt, request_seed
from eval.metrics.flips import (
    FLIP_SUITES,
    find_flips,
    judge_flips,
    least_change,
    pass_at_k,
    resample_prompts,
    summarize_flips,
)
from eval.schema.case import Case, Checker, Message
from eval.schema.sample import Sample
from tests.eval.made_samples import sample


def answers(case_id: str, right: int, n: int, suite: str = "domain", **more) -> list[Sample]:
    return [
        sample(f"{case_id}@{i}", i < right, suite=suite, root_id=case_id, **more) for i in range(n)
    ]


def test_flips_are_the_cases_judged_differently() -> None:
    base = [sample("a", True), sample("b", False), sample("c", True), sample("d", False)]
    tuned = [sample("a", False), sample("b", True), sample("c", True), sample("d", False)]
    assert find_flips(base, tuned) == {("domain", "a"): "loss", ("domain", "b"): "gain"}
    swapped = find_flips(tuned, base)
    assert swapped == {("domain", "a"): "gain", ("domain", "b"): "loss"}
    assert find_flips(base, base) == {}


def test_sampled_suites_errors_and_unanswered_cases_do_not_flip() -> None:
    base = [sample("a", True), sample("b", True, suite="template"), sample("c", True, suite="ood")]
    broken = sample("a", False, finish_reason="error", error="too long")
    tuned = [broken, sample("b", False, suite="template")]
    assert find_flips(base, tuned) == {}
    assert "template" not in FLIP_SUITES


def test_an_answer_by_likelihood_does_not_flip_by_chance() -> None:
    base, tuned = (
        [sample("a", right, option_logprobs={"x": -1.0, "y": -2.0}), sample("b", right)]
        for right in (True, False)
    )
    assert find_flips(base, tuned) == {("domain", "b"): "loss"}


def test_every_repeat_has_its_own_seed_and_the_same_prompt() -> None:
    case = Case(
        id="q", messages=(Message(role="user", content="x"),), checker=Checker(kind="exact")
    )
    again = resample_prompts([Prompt(case, "text", (1, 2))], 8)
    assert len({request_seed(prompt, 0) for prompt in again}) == 8
    assert {(p.ids, p.sampled, p.case.root_id) for p in again} == {((1, 2), True, "q")}


def test_a_flip_is_stable_if_the_pass_rate_moves_by_half_its_way() -> None:
    for kind, before, after, stable in [
        ("loss", 8, 0, True),
        ("loss", 6, 2, True),
        ("loss", 6, 3, False),
        ("loss", 4, 4, False),
        ("loss", 0, 8, False),  # the single answers said the opposite
        ("gain", 2, 6, True),
        ("gain", 8, 0, False),
    ]:
        base, tuned = (answers("q", right, 8, "ood") for right in (before, after))
        (row,) = judge_flips("tuned", {("ood", "q"): kind}, base, tuned)
        assert (row.base_right, row.variant_right, row.n, row.stable) == (before, after, 8, stable)


def test_answers_that_cannot_be_judged_make_no_row() -> None:
    good, bad = answers("q", 3, 4), answers("q", 3, 4, error="cannot be judged")
    assert judge_flips("tuned", {("domain", "q"): "loss"}, good, bad) == []
    assert judge_flips("tuned", {("domain", "q"): "loss"}, bad, good) == []


@pytest.mark.parametrize(("n", "change"), [(3, 3), (4, 3), (8, 4), (64, 10)])
def test_models_that_are_equally_often_right_seldom_look_stable(n, change) -> None:
    """Whatever their common rate; exact, by the two binomials."""
    assert least_change(n) == change
    worst = {change: 0.0, change - 1: 0.0}
    for rate in [i / 100 for i in range(101)]:
        chance = [comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(n + 1)]
        for least in worst:
            pairs = [(i, j) for i in range(n + 1) for j in range(n + 1) if i - j >= least]
            worst[least] = max(worst[least], sum(chance[i] * chance[j] for i, j in pairs))
    assert worst[change] <= 0.05 < worst[change - 1]


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_answers_to_tell_anything_are_refused(count) -> None:
    with pytest.raises(ValidationError, match="give 3 or more, or 0 for none"):
        EvaluateConfig(flip_samples=count)


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_pass_at_k_is_the_share_of_draws_with_a_right_answer(drawn) -> None:
    n, right = drawn
    marks = [i < right for i in range(n)]
    for k in range(1, n + 1):
        assert pass_at_k(n, right, k) == pytest.approx(fmean(map(any, combinations(marks, k))))


def test_pass_at_k_is_unbiased() -> None:
    """Unlike 1 - (1 - right / n)^k, whose mean over draws is too low."""
    generator, rate, n, k = random.Random(0), 0.2, 8, 4
    drawn = [sum(generator.random() < rate for _ in range(n)) for _ in range(20_000)]
    truth = 1 - (1 - rate) ** k
    assert fmean(pass_at_k(n, right, k) for right in drawn) == pytest.approx(truth, abs=0.01)
    assert fmean(1 - (1 - right / n) ** k for right in drawn) < truth - 0.02


@pytest.mark.parametrize(("n", "right", "k"), [(8, 9, 1), (8, -1, 1), (8, 4, 0), (8, 4, 9)])
def test_pass_at_k_outside_its_range_is_refused(n: int, right: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"pass@{k}"):
        pass_at_k(n, right, k)


def test_summaries_count_by_variant_and_suite() -> None:
    kinds = {("domain", "a"): "loss", ("domain", "b"): "gain", ("domain", "c"): "loss"}
    base = answers("a", 4, 4) + answers("b", 0, 4) + answers("c", 2, 4)
    tuned = answers("a", 0, 4) + answers("b", 4, 4) + answers("c", 1, 4)
    (summary,) = summarize_flips(judge_flips("tuned", kinds, base, tuned), "base")
    assert (summary.variant, summary.suite, summary.n) == ("tuned", "domain", 4)
    assert (summary.losses, summary.stable_losses) == (2, 1)
    assert (summary.gains, summary.stable_gains) == (1, 1)
    assert summary.pass_at_k["base"] == pytest.approx([0.5, (1 + 0 + 5 / 6) / 3, 2 / 3, 2 / 3])
    assert summary.pass_at_k["tuned"][0] == pytest.approx((0 + 1 + 0.25) / 3)
    assert summarize_flips([], "base") == []
