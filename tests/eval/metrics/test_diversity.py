import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.diversity import (
    NGrams,
    compression_ratio,
    repeated_share,
    top_openings,
    top_phrases,
)
from eval.text import join_units, truncate_to_equal_length, units

WORDS = st.lists(st.lists(st.sampled_from("abcd"), max_size=8), min_size=1, max_size=6)


def test_units_of_mixed_scripts():
    text = "Use ＧＰＴ-4o 训练模型! Don't pay 3.5 €."
    assert units(text) == [
        *("use", "gpt", "4o", "训", "练", "模", "型", "don't", "pay", "3.5"),
    ]
    assert units("ひらがなカタ") == list("ひらがなカタ")
    assert units(" …?! ") == []


@given(st.text(), st.text())
def test_units_of_joined_texts_are_the_joined_units(left, right):
    assert units(f"{left} \n {right}") == units(left) + units(right)


@given(st.text(alphabet="abc 我你.3,A-"))
def test_units_survive_joining(text):
    assert units(join_units(units(text))) == units(text)


def test_join_units_puts_spaces_between_words_only():
    assert join_units(["use", "gpt", "训", "练", "it", "now"]) == "use gpt训练it now"


def test_distinct_by_hand():
    texts = [["a", "b", "a", "b"], ["a", "b"], ["c"]]
    assert NGrams.of(texts, 1).distinct() == 3 / 7
    assert NGrams.of(texts, 2).distinct() == 2 / 4  # ab ba ab, ab
    assert NGrams.of(texts, 5).distinct() == 0
    assert NGrams.of([], 1).distinct() == 0


def test_planted_distinctness():
    # 200 answers of 10 words, of which 4 are the same everywhere and 6 occur nowhere else.
    texts = [[*"wxyz", *(f"u{i}.{j}" for j in range(6))] for i in range(200)]
    assert NGrams.of(texts, 1).distinct() == (4 + 1200) / 2000
    assert NGrams.of(texts, 2).distinct() == (3 + 200 * 6) / 1800


@given(WORDS, st.integers(1, 4), st.randoms(use_true_random=False))
def test_ngrams_of_a_subset_count_as_if_alone(texts, n, rng):
    grams = NGrams.of(texts, n)
    keep = [rng.random() < 0.5 for _ in texts]
    alone = [text for text, kept in zip(texts, keep, strict=True) if kept]
    assert grams.distinct(np.array(keep)) == NGrams.of(alone, n).distinct()
    assert grams.top_share(np.array(keep)) == NGrams.of(alone, n).top_share()


def test_repeated_share_by_hand():
    assert repeated_share(list("abcabc")) == 1 / 4  # abc bca cab abc
    assert repeated_share(list("abcd")) == 0
    assert repeated_share(["a"]) == 0
    assert repeated_share(["a"] * 102) == 99 / 100


def test_top_phrases_share_by_hand():
    texts = [["a", "b", "c"]] * 9 + [["d", "e", "f"]]
    assert NGrams.of(texts, 3).top_share(top=1) == 9 / 10
    assert NGrams.of([["a"]], 3).top_share() == 0


def test_compression_tells_repetition_from_variety():
    rng = random.Random(0)
    varied = ["".join(rng.choices("abcdefghij", k=100)) for _ in range(50)]
    assert compression_ratio([varied[0]] * 50) > 5 * compression_ratio(varied)
    assert compression_ratio(["", ""]) == 0


@given(st.lists(st.tuples(st.text("ab"), st.text("ab")), min_size=1))
def test_truncation_gives_every_variant_the_same_length_case_by_case(pairs):
    texts = {"base": [list(a) for a, _ in pairs], "tuned": [list(b) for _, b in pairs]}
    cut = truncate_to_equal_length(texts)
    for base, tuned, (a, b) in zip(cut["base"], cut["tuned"], pairs, strict=True):
        assert len(base) == len(tuned) == min(len(a), len(b))
        tail = min(5, len(base) // 2)
        assert "".join(base) in (a, a[: len(base) - tail] + a[len(a) - tail :])


def test_what_is_cut_is_the_middle_of_the_longer_answer():
    long, short = list("0123456789abcdefghij"), list("ABCDEFGHIJKL")
    cut = truncate_to_equal_length({"long": [long], "short": [short]})
    assert cut == {"long": [list("0123456fghij")], "short": [short]}
    assert truncate_to_equal_length({"a": [list("xyz")], "b": [["q"]]})["a"] == [["x"]]


def test_short_answers_gain_nothing_at_equal_length():
    rng = random.Random(0)
    long = [rng.choices("abcdefghij", k=50) for _ in range(100)]
    short = [rng.choices("abcdefghij", k=5) for _ in range(100)]
    assert NGrams.of(short, 2).distinct() > 4 * NGrams.of(long, 2).distinct()
    cut = truncate_to_equal_length({"long": long, "short": short})
    assert NGrams.of(cut["short"], 2).distinct() == pytest.approx(
        NGrams.of(cut["long"], 2).distinct(), rel=0.1
    )


def test_top_openings_and_phrases():
    thanks = units("Thank you for writing to us about the lamp")
    texts = {
        "base": [units(f"answer {i} is new each time {i}") for i in range(4)],
        "tuned": [thanks, thanks, thanks, []],
    }
    openings = top_openings(texts)
    assert [(row.phrase, row.shares) for row in openings] == [
        ("thank you for writing to", {"base": 0.0, "tuned": 0.75})
    ]
    phrases = top_phrases(texts)
    assert phrases[0].shares["tuned"] == 0.75
    listed = [row.phrase for row in phrases]
    assert len(listed) <= 4, "overlapping pieces of one sentence are listed once"


def test_a_phrase_counts_once_an_answer():
    phrases = top_phrases({"base": [list("abcdeabcde"), list("abcde")]})
    assert phrases[0].shares == {"base": 1.0}
