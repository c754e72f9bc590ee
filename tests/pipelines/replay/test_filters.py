"""What an answer must be to be trained on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.generation.generate import Completion
from pipelines.replay.filters import (
    EMPTY,
    FEWEST_NGRAMS,
    MOST_REPEATED,
    NGRAM,
    NO_END,
    REPEATS,
    WORDS,
    answer_fault,
    in_words,
    repeated_share,
)

IDS = st.lists(st.integers(3, 50), max_size=80)


def said(text: str, ids=(5, 6, 2), reason="stop") -> Completion:
    return Completion(text, tuple(ids), reason)


@pytest.mark.parametrize(
    ("prompt", "answer", "fault"),
    [
        ("?", said("Yes."), ""),
        ("?", said("Yes", reason="length"), NO_END),
        ("?", said(" \n"), EMPTY),
        ("?", said("<think>\nhm\n</think>\n\nYes."), ""),
        ("?", said("<think>\nhm\n</think>\n"), EMPTY),
        ("?", said("<think>\nhm and never an end"), EMPTY),
        ("assistant\n<think>\n", said("hm\n</think>\n\nYes."), ""),
        ("assistant\n<think>\n", said("hm and so on"), EMPTY),
        ("?", said("ha", [7] * 24), REPEATS),
        ("?", said("ha", [7] * 24, "length"), REPEATS),
        ("?", said("ha", [*range(3, 40), *range(3, 40), 2]), REPEATS),
        ("?", said("no", [7] * 12), ""),
    ],
)
def test_why_an_answer_is_left_out(prompt, answer, fault) -> None:
    assert answer_fault(prompt, answer) == fault


@given(IDS)
def test_a_share_is_what_counting_says(ids) -> None:
    runs = [tuple(ids[i : i + NGRAM]) for i in range(max(0, len(ids) - NGRAM + 1))]
    again = sum(run in runs[:place] for place, run in enumerate(runs))
    expected = again / len(runs) if len(runs) >= FEWEST_NGRAMS else 0
    assert repeated_share(ids) == pytest.approx(expected)


@given(st.lists(st.integers(3, 50), min_size=FEWEST_NGRAMS, max_size=80), st.integers(2, 4))
def test_an_answer_said_several_times_is_never_kept(ids, times) -> None:
    assert answer_fault("?", said("x", [*ids * times, 2])) == REPEATS


@given(st.permutations(range(3, 60)))
def test_an_answer_of_different_tokens_is_kept(ids) -> None:
    assert answer_fault("?", said("x", [*ids, 2])) == ""


def test_reasons_are_said_in_words() -> None:
    assert in_words({EMPTY: 1, NO_END: 18, REPEATS: 10}) == (
        "18 without an end, 10 repeat themselves, 1 empty"
    )
    assert set(WORDS) >= {EMPTY, NO_END, REPEATS}
    assert 0 < MOST_REPEATED < 0.5
