"""What must hold for the verdicts to be believed: known answers, symmetry, false alarms, power."""

import itertools
import random
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.config import EvaluateConfig
from eval.metrics.catalogue import build_metrics
from eval.metrics.flips import find_flips
from eval.schema.report import Metric, Paired
from eval.schema.sample import Sample
from eval.statistics.estimates import Setting
from eval.statistics.pairing import pair_samples
from eval.wording import effect
from tests.eval.made_samples import sample, suite_of, template_of

SETTING = Setting("base", EvaluateConfig(bootstrap=100), seed=0)
WORDINGS = ("typos", "padding", "punctuation")


def measured(setting: Setting = SETTING, **samples: list[Sample]) -> dict[str, Metric]:
    tables = pair_samples(samples, setting.baseline, max_error_share=0.05)
    return {metric.key: metric for metric in build_metrics(tables, setting)}


@cache
def judged(suite: str, question: int, right: bool, wording: str = "") -> Sample:
    """One sample, made once: the tests below compare some hundred thousand of them."""
    root = f"{'domain' if wording else suite}{question}"
    return sample(
        f"{root}~{wording}" if wording else root,
        right,
        suite=suite,
        root_id=root,
        perturbation=wording,
    )


class Model:
    """A made-up model: how likely it is to answer each question rightly, and how it writes."""

    def __init__(self, questions: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.chances = rng.beta(2, 1, size=questions)
        self.words = rng.dirichlet(np.full(60, 0.3))

    def answers(
        self,
        rng: np.random.Generator,
        suites: Sequence[str] = ("domain", "ood", "robustness", "template"),
        lost: float = 0.0,
        longer: float = 0.0,
    ) -> list[Sample]:
        """One answer to every prompt of some suites.

        Args:
            rng: of the answers.
            suites: which.
            lost: share of a suite's answers that turn from right to wrong.
            longer: tokens that every sampled answer is longer by.
        """
        chances = self.chances * (1 - lost / self.chances.mean())
        found = []
        for suite in suites:
            if suite == "template":
                found += self._texts(rng, longer)
                continue
            for wording in WORDINGS if suite == "robustness" else ("",):
                right = (rng.random(len(chances)) < chances).tolist()
                found += [judged(suite, i, flag, wording) for i, flag in enumerate(right)]
        return found

    def _texts(self, rng: np.random.Generator, longer: float) -> list[Sample]:
        texts = rng.choice(60, p=self.words, size=(len(self.chances), 15)).astype(str)
        lengths = rng.normal(30 + longer, 5, size=len(texts)).round().clip(1)
        return [
            judged("template", i, True).model_copy(
                update={"answer": " ".join(text), "tokens": int(length)}
            )
            for i, (text, length) in enumerate(zip(texts, lengths, strict=True))
        ]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_planted_gains_and_losses_are_counted_exactly(pairs):
    base, tuned = (suite_of("ood", column) for column in zip(*pairs, strict=True))
    losses, gains = pairs.count((True, False)), pairs.count((False, True))
    kinds = list(find_flips(base, tuned).values())
    assert (kinds.count("loss"), kinds.count("gain")) == (losses, gains)
    found = measured(base=base, tuned=tuned)
    change = found["ood_accuracy"].against["tuned"]
    assert change.delta == pytest.approx((gains - losses) / len(pairs))
    if known := losses + pairs.count((True, True)):
        assert found["retention"].values["tuned"].value == pytest.approx(1 - losses / known)
        assert found["retention"].values["tuned"].n == known


@pytest.mark.parametrize(("vocabulary", "times"), [(40, 1), (40, 2), (20, 5), (10, 20)])
def test_planted_diversity_is_measured_exactly(vocabulary, times):
    """Answers of four words, each written `times` times: only one in `times` n-grams is new."""
    answers = [" ".join(f"w{i}x{j}" for j in range(4)) for i in range(vocabulary)] * times
    found = measured(base=template_of(answers))
    values = {key: metric.values["base"].value for key, metric in found.items()}
    assert values["distinct_1"] == values["distinct_2"] == pytest.approx(1 / times)
    assert values["opening_share"] == pytest.approx(1 / vocabulary)
    assert values["top_phrases_share"] == pytest.approx(10 / (2 * vocabulary))
    assert values["repetition_3"] == 0


@pytest.mark.parametrize("loops", [1, 2, 5, 9])
def test_planted_repetition_is_measured_exactly(loops):
    """A phrase of three words, said again and again, has three kinds of trigrams."""
    answer = " ".join(["round and round"] + ["we go now"] * loops)
    trigrams = 3 * loops + 1
    new = min(3, 3 * loops - 2) + 3
    found = measured(base=template_of([answer, "nothing is said again here"]))
    expected = (trigrams - min(new, trigrams)) / trigrams / 2
    assert found["repetition_3"].values["base"].value == pytest.approx(expected)


def test_exchanging_any_two_names_flips_the_sign_and_keeps_the_p_value():
    rng, model = np.random.default_rng(1), Model(40, seed=1)
    answers = [model.answers(rng), model.answers(rng, lost=0.2), model.answers(rng, longer=5)]
    found = {}
    for one, other in itertools.permutations(range(3), 2):
        found[one, other] = measured(base=answers[one], x=answers[other])
    for (one, other), there in found.items():
        back = found[other, one]
        assert there.keys() == back.keys()
        for key in there.keys() - {"retention"}:
            a, b = there[key].against["x"], back[key].against["x"]
            assert a.delta == pytest.approx(-b.delta)
            assert (a.low, a.high) == pytest.approx((-b.high, -b.low))
            assert (a.p_value, a.p_holm) == pytest.approx((b.p_value, b.p_holm))
            assert a.minimum_detectable == pytest.approx(b.minimum_detectable)


def test_two_samples_of_one_model_show_no_difference():
    """Of 100 comparisons of a model with itself, five may find any difference in any metric."""
    rng, model = np.random.default_rng(2), Model(40, seed=2)
    alarms = 0
    for _ in range(100):
        metrics = measured(base=model.answers(rng), x=model.answers(rng)).values()
        compared = [metric for metric in metrics if metric.against]
        assert len(compared) >= 15
        alarms += any(effect(metric, metric.against["x"]) != "unclear" for metric in compared)
    assert alarms <= 5


@pytest.mark.parametrize(
    ("key", "suites", "planted"),
    [
        ("ood_accuracy", ["ood"], "lost"),
        ("robustness_accuracy", ["domain", "robustness"], "lost"),
        ("answer_tokens", ["template"], "longer"),
    ],
)
def test_a_regression_of_the_size_stated_is_caught_at_the_power_stated(key, suites, planted):
    """The size is stated by comparisons of the model with itself, in which nothing is lost."""
    rng, model = np.random.default_rng(3), Model(80, seed=3)

    def compared(**changes: float) -> tuple[Metric, Paired]:
        answers = {"base": model.answers(rng, suites), "x": model.answers(rng, suites, **changes)}
        metric = measured(**answers)[key]
        return metric, metric.against["x"]

    size = float(np.mean([compared()[1].minimum_detectable for _ in range(10)]))
    caught = [effect(*compared(**{planted: size})) in ("worse", "changed") for _ in range(100)]
    assert sum(caught) >= 70
    tenth = [effect(*compared(**{planted: size / 10})) == "unclear" for _ in range(20)]
    assert sum(tenth) >= 18


def test_chance_in_the_order_of_cases_changes_no_exact_number():
    rng, model = np.random.default_rng(5), Model(30, seed=5)
    base, tuned = model.answers(rng), model.answers(rng, lost=0.3)
    found = measured(base=base, x=tuned)
    shuffled = [random.Random(0).sample(rows, len(rows)) for rows in (base, tuned)]
    again = measured(base=shuffled[0], x=shuffled[1])
    for key, metric in found.items():
        for name, estimate in metric.values.items():
            if key != "compression":  # what is compressed is the answers one after the other
                assert again[key].values[name].value == pytest.approx(estimate.value)
