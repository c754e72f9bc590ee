"""The benchmark of duplicates at toy size, so that it keeps running; no figure is judged here."""

import random
from itertools import combinations

import pytest

from nlirg.corpus.duplicates import SHINGLE
from tests.bench.corpus.duplicates import HAN, accuracy, cost, jaccard_pairs

pytestmark = pytest.mark.soak


def test_all_pairs_are_compared_by_their_sets_of_shingles() -> None:
    rng = random.Random(0)
    texts = ["".join(rng.choices("ab", k=rng.randint(1, 30))) for _ in range(20)]
    sets = [{text[i : i + SHINGLE] for i in range(max(len(text) - 4, 1))} for text in texts]
    expected = {
        (i, j): len(sets[i] & sets[j]) / len(sets[i] | sets[j])
        for i, j in combinations(range(len(texts)), 2)
        if sets[i] & sets[j]
    }
    assert jaccard_pairs(texts) == expected


def test_a_small_corpus_is_measured() -> None:
    found = cost(300)
    assert found.rows == 300
    assert found.reducing > 0


def test_the_table_of_what_is_found() -> None:
    rng = random.Random(0)
    table = accuracy(["".join(rng.choices(HAN, k=100)) for _ in range(20)])
    assert table.row_count == 5
