"""Sameness of answers: parrots are told, and what is no parrot is not called one."""

import random

import pytest

from eval.config import EvaluateConfig
from eval.report.verdict_text import verdict_text
from eval.schema.report import Comparison
from eval.schema.sample import Sample
from eval.verdict.compare import compare
from tests.eval.made_samples import sample, template_of
from tests.eval.verdict.test_compare import CONFIG, LETTERS, by_key, world


def words_of(rng: random.Random, n: int) -> str:
    return " ".join(rng.choices([f"w{i}" for i in range(400)], k=n))


def parroting(comparison: Comparison, variant: str) -> str:
    return comparison.verdicts[variant].conclusions[1].outcome


def test_planted_distinctness_and_opening():
    same = [f"thank you for writing in we say {i}" for i in range(40)]
    fresh = [" ".join(f"w{i}.{j}" for j in range(8)) for i in range(40)]
    samples = {"base": template_of(fresh), "tuned": template_of(same)}
    found = by_key(compare(samples, "base", CONFIG, seed=0))
    values = {key: metric.values["tuned"].value for key, metric in found.items()}
    assert values["distinct_1"] == (7 + 40) / 320
    assert values["distinct_2"] == (6 + 40) / 280
    assert values["opening_share"] == 1
    assert found["opening_share"].values["base"].value == 1 / 40
    assert values["top_phrases_share"] == (5 * 40 + 5) / 240
    assert found["distinct_2"].against["tuned"].high < 0
    assert found["distinct_2"].against["tuned"].p_holm < 0.05


def test_human_answers_stand_beside_templates_and_are_not_compared():
    comparison = compare({"base": world(1, 0.5, 0), "x": world(2, 0.5, 1)}, "base", CONFIG, seed=0)
    distinct = by_key(comparison)["distinct_2"]
    assert set(distinct.values) == {"base", "x", "human"}
    assert set(distinct.against) == {"x"}
    assert "human" in comparison.phrases[0].shares


def test_diversity_of_silent_answers_is_not_reported():
    samples = {"base": template_of(["a b c", "d e f"]), "mute": template_of(["", ""])}
    comparison = compare(samples, "base", CONFIG, seed=0)
    metric = by_key(comparison)["distinct_2"]
    assert (metric.values.keys(), metric.against) == ({"base"}, {})
    assert by_key(comparison)["empty_share"].values["mute"].value == 1
    sentence = verdict_text(comparison, "mute").sentences[1]
    assert "One opening begins 100.0% of its answers" in sentence.proof


def test_an_arm_with_short_answers_does_not_change_what_is_said_of_another():
    rng = random.Random(0)
    fresh = template_of(
        [" ".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=30)) for _ in range(60)]
    )
    parrot = template_of(["thank you for your kind message and have a very nice day"] * 60)
    samples = {"base": fresh, "parrot": parrot}
    alone = compare(samples, "base", CONFIG, seed=0)
    for shorter in ("", "ok"):
        beside = compare(samples | {"short": template_of([shorter] * 60)}, "base", CONFIG, seed=0)
        for metric in alone.metrics:
            same = by_key(beside)[metric.key]
            assert same.values["parrot"] == metric.values["parrot"]
            assert same.against.get("parrot") == metric.against.get("parrot")
        assert beside.verdicts["parrot"] == alone.verdicts["parrot"]
        assert parroting(beside, "parrot") == "worse"


def test_longer_answers_of_one_source_are_no_parrots():
    """They repeat more words in themselves; at equal length they do not."""
    rng = random.Random(0)
    words, weights = [f"w{i}" for i in range(60)], [1 / (i + 1) for i in range(60)]

    def text(n: int) -> str:
        return " ".join(rng.choices(words, weights, k=n))

    samples = {
        "base": template_of([text(40) for _ in range(80)]),
        "long": template_of([text(240) for _ in range(80)]),
    }
    comparison = compare(samples, "base", CONFIG, seed=0)
    assert by_key(comparison)["repetition_3"].against["long"].significant
    assert not by_key(comparison)["repetition_3_equal"].against["long"].significant
    assert parroting(comparison, "long") == "unclear"


def test_one_opening_that_occurs_twice_is_no_parrot():
    """Where two openings tie for the commonest, the jackknife alone sees no spread at all."""
    rng = random.Random(3)
    base = [words_of(rng, 20) for _ in range(200)]
    twice = [words_of(rng, 20) for _ in range(200)]
    twice[1] = " ".join([*twice[0].split()[:5], words_of(rng, 15)])
    found = by_key(
        compare({"base": template_of(base), "x": template_of(twice)}, "base", CONFIG, seed=0)
    )
    assert found["opening_share"].values["x"].value == 2 / 200
    assert not found["opening_share"].against["x"].significant


def test_answers_that_are_only_shorter_or_longer_are_no_more_and_no_less_of_a_parrot():
    """With the same closing in 40 % of both, which a cut at the end would take from the longer."""
    rng = random.Random(0)

    def answers(length: int) -> list[Sample]:
        closed = " please let us know more"
        return template_of(
            [words_of(rng, length) + closed * (rng.random() < 0.4) for _ in range(150)]
        )

    long, short = answers(80), answers(25)
    for base, x in ((long, short), (short, long)):
        comparison = compare({"base": base, "x": x}, "base", CONFIG, seed=0)
        assert parroting(comparison, "x") == "unclear"


def test_canned_answers_are_never_less_of_a_parrot():
    """Few texts for many prompts, however new their words are in the first sentence."""
    rng = random.Random(0)
    preambles = [words_of(rng, 7) for _ in range(3)]
    base = [f"{rng.choice(preambles)} {words_of(rng, 60)}" for _ in range(200)]
    canned = [words_of(rng, 9) for _ in range(60)]
    samples = {"base": template_of(base), "x": template_of([canned[i % 60] for i in range(200)])}
    comparison = compare(samples, "base", CONFIG, seed=0)
    assert by_key(comparison)["duplicate_share"].values["x"].value == 1
    assert by_key(comparison)["duplicate_share"].values["base"].value == 0
    assert parroting(comparison, "x") != "better"
    same_prompt = [
        s.model_copy(update={"root_id": f"r{i // 2}", "answer": f"answer {i // 2}"})
        for i, s in enumerate(template_of(["-"] * 40))
    ]
    found = by_key(compare({"base": same_prompt, "x": same_prompt}, "base", CONFIG, seed=0))
    assert found["duplicate_share"].values["x"].value == 0, "one prompt asked twice is no parrot"


def test_two_samples_of_one_source_are_seldom_called_a_parrot():
    wrong = 0
    for seed in range(60):
        rng = random.Random(seed)
        base, x = ([words_of(rng, 20) for _ in range(60)] for _ in range(2))
        samples = {"base": template_of(base), "x": template_of(x)}
        comparison = compare(samples, "base", EvaluateConfig(bootstrap=100), seed=seed)
        wrong += parroting(comparison, "x") != "unclear"
    assert wrong <= 3


def test_closings_tell_a_parrot_as_openings_do():
    rng = random.Random(1)

    def text(end: str) -> str:
        return " ".join(rng.choices(LETTERS, k=20)) + end

    end = " please let us know more"
    comparison = compare(
        {
            "base": template_of([text("") for _ in range(60)]),
            "x": template_of([text(end) for _ in range(60)]),
        },
        "base", CONFIG, seed=0,
    )  # fmt: skip
    assert by_key(comparison)["closing_share"].values["x"].value == 1
    assert by_key(comparison)["closing_share"].against["x"].significant
    assert comparison.closings[0].phrase == "please let us know more"
    assert comparison.closings[0].shares == {"base": 0, "x": 1}


def test_human_answers_stand_beside_the_base_at_equal_length():
    """Short references look diverse only until the base's answers are cut as short."""
    rng = random.Random(0)
    words = [f"w{i}" for i in range(50)]
    rows = [
        sample(f"t{i}", suite="template", answer=" ".join(rng.choices(words, k=60)),
               reference=" ".join(rng.choices(words, k=8)))
        for i in range(60)
    ]  # fmt: skip
    found = by_key(compare({"base": rows, "x": rows}, "base", CONFIG, seed=0))["distinct_1"]
    human = found.values["human"]
    assert found.values["base"].value < human.value / 3
    assert human.before == pytest.approx(human.value, abs=0.03)
    repeated = [
        s.model_copy(update={"case_id": f"{s.case_id}@{k}", "root_id": s.case_id})
        for s in rows for k in range(2)
    ]  # fmt: skip
    again = by_key(compare({"base": repeated, "x": repeated}, "base", CONFIG, seed=0))["distinct_1"]
    assert again.values["human"].n == 60, "every reference counts once"
