"""Languages, quantiles and the commonest values, on cases with known answers."""

import json
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlirg.corpus.profile import (
    COUNTED,
    PHRASES,
    CorpusProfile,
    TypeProfile,
    add_counts,
    count_values,
    describe_types,
    language,
    lengths,
    repeated,
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", ""),
        ("42 + 1 = 43 ✓", ""),
        ("好的", "zh"),
        ("请用 Python 和 pandas 写一个 DataFrame 的示例程序", "zh"),
        ("猫が好きです", "ja"),
        ("カメラ", "ja"),
        ("안녕하세요", "ko"),
        ("สวัสดีครับ คุณสบายดีไหม", "th"),
        ("The ticket was closed after the customer had been called.", "en"),
        ("Der Kunde hat sich über die lange Wartezeit beschwert.", "de"),
        ("Les clients attendent une réponse depuis trois semaines.", "fr"),
        ("Клиент пожаловался на долгое ожидание ответа.", "ru"),
        ("Ola", "und"),
        ("def f(x): return x+1", "und"),
    ],
)
def test_language(text: str, code: str) -> None:
    assert language(text) == code


# Which unassigned characters are letters depends on the version of Unicode that is asked.
@given(st.text(st.characters(exclude_categories=["Cn", "Cs"]), max_size=60))
def test_any_text_has_a_language_or_no_letters(text: str) -> None:
    found = language(text)
    assert (found == "") == (not any(character.isalpha() for character in text))


def test_only_the_beginning_of_a_text_tells_its_language() -> None:
    assert language("这是一个很长的回答。" * 20 + "and then English words follow " * 50) == "zh"


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=60))
def test_quantiles_are_those_of_the_lengths_one_by_one(values: list[int]) -> None:
    found = lengths(*np.unique(values, return_counts=True))
    for p in (5, 25, 50, 75, 95):
        expected = np.quantile(values, p / 100, method="inverted_cdf")
        assert getattr(found, f"p{p}") == expected
    assert found.max == max(values)


def rows_of(rng: random.Random, count: int) -> pa.Table:
    return pa.table(
        {
            "row_index": list(range(count)),
            "task_type": rng.choices(["a", "b/c"], k=count),
            "prompt_tokens": rng.choices(range(30), k=count),
            "answer_tokens": rng.choices(range(1, 9), k=count),
            "language": rng.choices(["en", "zh", ""], k=count),
            "answer": rng.choices([1, 2, 3, None], k=count),
            "opening": rng.choices(range(20), k=count),
        }
    )


def counts_of(parts: list[pa.Table]) -> dict[str, pa.Table]:
    return {name: add_counts([count_values(part, name) for part in parts]) for name in COUNTED}


def described(parts: list[pa.Table]) -> tuple[TypeProfile, list[TypeProfile]]:
    counts = counts_of(parts)
    return describe_types(counts, show)


def show(name: str, places: list[int]) -> dict[int, str]:
    return {place: f"{name} {place}" for place in places}


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.randoms())
def test_blocks_add_up_in_any_order(sizes: list[int], rng: random.Random) -> None:
    rows = rows_of(rng, sum(sizes))
    starts = np.cumsum([0, *sizes])
    parts = [rows.slice(start, size) for start, size in zip(starts, sizes, strict=False)]
    assert described(rng.sample(parts, len(parts))) == described([rows])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.randoms())
def test_values_of_one_row_are_not_needed(count: int, rng: random.Random) -> None:
    rows = rows_of(rng, count)
    counts = counts_of([rows])
    fewer = counts | {name: repeated(counts[name]) for name in PHRASES}
    assert describe_types(fewer, show) == described([rows])
    once = pa.table({"task_type": ["a", "b", "a"], "value": [1, 1, 2], "count": [1, 1, 1]})
    assert repeated(once)["value"].to_pylist() == [1, 1], "once in each of two types is twice"


def test_a_thousand_rows_with_one_answer_come_first() -> None:
    count = 3000
    rows = pa.table(
        {
            "row_index": list(range(count)),
            "task_type": ["a"] * 2000 + ["b"] * 1000,
            "prompt_tokens": [10] * count,
            "answer_tokens": [1] * 1000 + [2] * 2000,
            "language": ["en"] * 2000 + ["zh"] * 1000,
            "answer": [*range(1, 1001), *[0] * 1000, *range(2000, 2999), 2000],
            "opening": [*range(1, 1001), *[0] * 1000, *[5] * 1000],
        }
    )
    every, (a, b) = described([rows])
    assert every.answers[0].model_dump() == {
        "text": "answer 1000",
        "count": 1000,
        "share": 1000 / 3000,
    }
    assert [(row.count, row.share) for row in a.answers] == [(1000, 0.5)]
    assert [(row.count, row.share) for row in b.answers] == [(2, 0.002)], "one row is no repeat"
    assert [(row.text, row.count) for row in b.openings] == [("opening 2000", 1000)]
    assert (every.rows, every.trained_tokens, every.task_type) == (3000, 5000, "")
    assert every.languages == {"en": 2 / 3, "zh": 1 / 3}
    assert (a.task_type, a.rows, a.answer_tokens.p50, a.answer_tokens.p75) == ("a", 2000, 1, 2)


def test_shares_of_languages_sum_to_one_and_the_commonest_comes_first() -> None:
    every, types = described([rows_of(random.Random(1), 500)])
    for row in (every, *types):
        shares = list(row.languages.values())
        assert sum(shares) == pytest.approx(1)
        assert shares == sorted(shares, reverse=True)
    assert sum(row.rows for row in types) == every.rows == 500
    assert len(every.openings) == 10
    model = CorpusProfile(all=every, types=types, duplicates=[])
    assert CorpusProfile.model_validate(json.loads(model.model_dump_json())) == model
