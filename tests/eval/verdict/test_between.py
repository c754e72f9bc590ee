"""Tuned variants are compared with each other as each is with the base."""

import pytest

from eval.config import EvaluateConfig
from eval.schema.report import Contrast, Pairing
from eval.statistics.inference import mcnemar
from eval.verdict.compare import compare
from tests.eval.made_samples import sample, suite_of, template_of

CONFIG = EvaluateConfig(bootstrap=200)
WORDS = ["thank you very much for asking", "no idea at all today", "seven or eight of them are red"]


def answers(domain: list[bool], known: list[bool], text: int = 0):
    said = [f"{WORDS[(i + text) % 3]} {i * text}" for i in range(12)]
    return suite_of("domain", domain) + suite_of("ood", known) + template_of(said)


def made(**variants) -> dict:
    base = answers([False] * 40, [True] * 30 + [False] * 10)
    return {"base": base, **variants}


ONE = answers([i < 30 for i in range(40)], [i < 28 for i in range(40)], text=1)
TWO = answers([i >= 20 for i in range(40)], [i >= 10 for i in range(40)], text=2)


def between(samples: dict) -> list[Pairing]:
    return compare(samples, "base", CONFIG, seed=0).between


def by_key(pairing: Pairing) -> dict[str, Contrast]:
    return {contrast.key: contrast for contrast in pairing.contrasts}


def test_differences_are_of_the_second_from_the_first_on_the_same_cases() -> None:
    (pairing,) = between(made(one=ONE, two=TWO))
    assert (pairing.first, pairing.second) == ("one", "two")
    domain = by_key(pairing)["domain_accuracy"]
    assert (domain.first, domain.second, domain.paired.delta) == (0.75, 0.5, -0.25)
    assert domain.paired.p_value == mcnemar(10, 20)
    assert domain.paired.low < -0.25 < domain.paired.high
    assert domain.paired.minimum_detectable > 0


def test_retention_is_of_what_the_base_knew() -> None:
    """Of the 30 that it knew, one keeps 28 and two keeps 20; of what it did not, two has ten."""
    (pairing,) = between(made(one=ONE, two=TWO))
    kept = by_key(pairing)["retention"]
    assert (kept.first, kept.second) == (pytest.approx(28 / 30), pytest.approx(20 / 30))
    assert kept.paired.n == 30
    assert kept.paired.p_value == mcnemar(2, 10)
    whole = compare(made(one=ONE, two=TWO), "base", CONFIG, seed=0)
    retention = {m.key: m for m in whole.metrics}["retention"]
    assert retention.values["one"].value == kept.first


def test_p_values_are_adjusted_over_the_metrics_of_the_pair() -> None:
    (pairing,) = between(made(one=ONE, two=TWO))
    ordered = sorted(pairing.contrasts, key=lambda c: c.paired.p_value)
    assert len(ordered) > 10
    assert ordered[0].paired.p_holm == pytest.approx(ordered[0].paired.p_value * len(ordered))
    assert all(c.paired.p_holm >= c.paired.p_value for c in ordered)


def test_a_pair_is_the_comparison_with_the_first_as_base() -> None:
    """Whatever the base says, but for retention; so is what was cut to equal length."""
    (pairing,) = between(made(one=ONE, two=TWO))
    alone = compare({"one": ONE, "two": TWO}, "one", CONFIG, seed=0)
    for metric in alone.metrics:
        if "two" in metric.against:
            contrast = by_key(pairing)[metric.key]
            assert contrast.first == metric.base_value("two", "one"), metric.key
            assert contrast.paired.delta == metric.against["two"].delta, metric.key
            assert contrast.paired.p_value == metric.against["two"].p_value, metric.key


def test_equal_arms_show_no_difference() -> None:
    (pairing,) = between(made(one=ONE, two=ONE))
    assert all(c.paired.delta == 0 and not c.paired.significant for c in pairing.contrasts)


@pytest.mark.parametrize(
    ("arms", "pairs"),
    [
        (1, []),
        (2, [("a0", "a1")]),
        (3, [("a0", "a1"), ("a0", "a2"), ("a1", "a2")]),
        (5, [("a0", "a1"), ("a0", "a2"), ("a0", "a3"), ("a0", "a4")]),
    ],
)
def test_all_pairs_of_a_few_arms_and_the_first_with_each_of_many(arms, pairs) -> None:
    small = [sample(f"d{i}", i < 2) for i in range(4)]
    samples = {"base": small} | {f"a{i}": small for i in range(arms)}
    assert [(p.first, p.second) for p in between(samples)] == pairs
