"""Orders: the reference tool's, and the properties of mixing."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlirg.corpus.arrangement.ordering import KEY_COLUMNS, mixed_places, sort_keys
from nlirg.scoring.scores import pearson

TOOL = json.loads((Path(__file__).parents[2] / "reference_vectors.json").read_text())["sort_tool"]
# What the tool puts out with `--desc`, of the samples whose scores it can compute.
SIMILAR_FIRST = ["B_similar", "D_hard_uncertain", "A_easy", "E_noise", "F_longer", "C_opposite"]
EASY_FIRST = ["A_easy", "B_similar", "D_hard_uncertain", "C_opposite", "F_longer", "E_noise"]


def in_order(order: str, values: list[float]) -> list[int]:
    return np.argsort(sort_keys(order, np.array(values), 0), kind="stable").tolist()


def test_similarity_rank_is_the_reference_tools_order_most_similar_first():
    series = [TOOL["samples"][name] for name in sorted(SIMILAR_FIRST)]
    ours = [pearson(np.array(s["loss"]), np.array(s["entropy"])) for s in series]
    found = [sorted(SIMILAR_FIRST)[index] for index in in_order("similarity_rank", ours)]
    assert found == SIMILAR_FIRST
    reference = TOOL["similarity_rank"]
    assert found == sorted(SIMILAR_FIRST, key=lambda name: reference[name])


def test_filtered_rank_is_the_reference_tools_order_easy_first():
    names = sorted(EASY_FIRST)
    scores = [TOOL["filtered_rank"][name] for name in names]
    assert [names[index] for index in in_order("filtered_rank", scores)] == EASY_FIRST


@pytest.mark.parametrize(
    ("order", "values", "expected"),
    [
        ("easy_to_hard", [3.0, 0.5, 2.0], [1, 2, 0]),
        ("mixed", [3.0, 0.5, 2.0], [1, 2, 0]),
        ("length", [7, 1, 7, 2], [1, 3, 0, 2]),
        ("similarity_rank", [0.0, 1.0, -1.0, 0.0], [1, 0, 3, 2]),  # 0: degenerate, in the middle
        ("filtered_rank", [0.0, 0.0, 0.0], [0, 1, 2]),
    ],
)
def test_known_orders_with_ties_left_as_they_stand(order, values, expected):
    assert in_order(order, values) == expected


def test_every_order_has_a_column():
    assert set(KEY_COLUMNS) == {
        "similarity_rank", "filtered_rank", "easy_to_hard", "mixed", "length", "random"
    }  # fmt: skip


@given(st.lists(st.text(), min_size=2, unique=True), st.integers(0, 2**31))
def test_the_random_key_of_a_row_depends_on_its_id_and_the_seed_alone(names, seed):
    keys = sort_keys("random", np.array(names, object), seed)
    alone = [sort_keys("random", np.array([name], object), seed)[0] for name in names]
    assert keys.tolist() == alone
    assert len(set(keys)) == len(names)
    other = sort_keys("random", np.array(names, object), seed + 1)
    assert keys.tolist() != other.tolist()


def test_random_keys_are_spread_evenly():
    names = np.array([f"row {number}" for number in range(4000)], object)
    keys = sort_keys("random", names, 3) / 2**53
    shares = np.histogram(keys, bins=8, range=(0, 1))[0] / len(keys)
    assert shares == pytest.approx(np.full(8, 1 / 8), abs=0.02)
    assert abs(np.corrcoef(keys, np.arange(len(keys)))[0, 1]) < 0.05


def quantile_of_places(rows: int, seed: int, quantiles: int) -> np.ndarray:
    """Which quantile stands in each place, told from the difficulty ranks alone."""
    places = mixed_places(np.arange(rows), rows, seed, quantiles)
    ranks = np.argsort(places)
    # Quantiles are runs of ranks; one begins wherever a rank shares its turn not with the last.
    turns = places % quantiles
    borders = np.flatnonzero(np.diff(turns)) + 1
    return np.searchsorted(borders, ranks, side="right")


@given(st.integers(0, 300), st.integers(0, 2**31), st.integers(1, 12))
def test_mixing_is_a_permutation(rows, seed, quantiles):
    places = mixed_places(np.arange(rows), rows, seed, quantiles)
    assert sorted(places) == list(range(rows))


@given(st.integers(1, 300), st.integers(0, 2**31), st.integers(1, 12))
def test_any_consecutive_rows_hold_one_of_each_quantile_of_difficulty(rows, seed, quantiles):
    found = quantile_of_places(rows, seed, quantiles)
    sizes = np.bincount(found)
    assert sizes.max() - sizes.min() <= 1
    assert len(sizes) == min(rows, quantiles)
    for start in range(max(1, rows - quantiles + 1)):
        stretch = found[start : start + quantiles]
        assert len(set(stretch)) == len(stretch)


@given(st.integers(40, 300), st.integers(0, 2**31))
def test_every_stretch_is_as_difficult_as_the_whole(rows, seed):
    places = mixed_places(np.arange(rows), rows, seed)
    ranks = np.argsort(places)
    for start in range(rows - 20):
        mean = ranks[start : start + 20].mean() / rows
        assert mean == pytest.approx(0.5, abs=0.1)


@given(st.integers(1, 200), st.integers(0, 2**31), st.data())
def test_places_of_some_rows_are_those_they_have_among_all(rows, seed, data):
    some = data.draw(st.lists(st.integers(0, rows - 1), unique=True))
    everywhere = mixed_places(np.arange(rows), rows, seed)
    assert mixed_places(np.array(some, np.int64), rows, seed).tolist() == everywhere[some].tolist()


def test_the_seed_decides_the_mixture_and_difficulty_does_not_drift_within_quantiles():
    first, again, other = (mixed_places(np.arange(5000), 5000, seed) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
    for start in range(0, 5000, 500):
        inside = first[start : start + 500]
        assert abs(np.corrcoef(inside, np.arange(500))[0, 1]) < 0.2
