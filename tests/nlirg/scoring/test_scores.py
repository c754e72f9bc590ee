import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nlirg.scoring.divergence import analyse
from nlirg.scoring.scores import (
    TokenScores,
    anomaly,
    band,
    excess_loss,
    instruction_difficulty,
    sample_scores,
)

TOOL = json.loads((Path(__file__).parents[1] / "reference_vectors.json").read_text())["sort_tool"]
DIVERGENCE = analyse(np.array([0.0, 2.0, 7.0, 15.0]), np.array([1.0, 2.0, 2.0, 4.0]))
nats = st.floats(0, 1e4, allow_subnormal=True)
token_pairs = st.integers(1, 12).flatmap(
    lambda n: st.tuples(arrays(np.float64, n, elements=nats), arrays(np.float64, n, elements=nats))
)


def scores(loss, entropy, spread=None) -> dict:
    spread = np.ones(len(loss)) if spread is None else np.array(spread)
    return sample_scores(TokenScores(np.array(loss), np.array(entropy), spread))


@pytest.mark.parametrize("name", TOOL["similarity_rank"])
def test_centred_similarity_is_the_negative_of_the_references_rank(name) -> None:
    sample = TOOL["samples"][name]
    found = scores(sample["loss"], sample["entropy"])["similarity_centered"]
    assert found == pytest.approx(-TOOL["similarity_rank"][name], abs=1e-6)


@pytest.mark.parametrize("name", TOOL["filtered_rank"])
def test_filtered_rank_is_the_references(name) -> None:
    sample = TOOL["samples"][name]
    assert scores(sample["loss"], sample["entropy"])["filtered_rank"] == TOOL["filtered_rank"][name]


def test_known_values() -> None:
    found = scores([0.0, 2.0, 7.0, 15.0], [1.0, 2.0, 2.0, 4.0], [1.0, 1.0, 2.0, 0.5])
    assert found == {
        "mean_loss": 6.0,
        "max_loss": 15.0,
        "perplexity": pytest.approx(math.exp(6)),
        "mean_entropy": 2.25,
        "zone_low": 0.25,
        "zone_mid": 0.25,
        "zone_high": 0.25,
        "zone_discarded": 0.25,
        "similarity": pytest.approx(78 / math.sqrt(278 * 25)),
        "band": "high",
        "similarity_centered": pytest.approx(np.corrcoef([0, 2, 7, 15], [1, 2, 2, 4])[0, 1]),
        "filtered_rank": 1.0,
        "divergence": pytest.approx(DIVERGENCE.anomaly_score),
        "n_spans": 0,
        "spans": [],
        "min_k": pytest.approx(-22.0),
        "anomaly": 6.0 + 0.5 * 15.0,
    }


@pytest.mark.parametrize(
    ("loss", "entropy", "similarity", "centered"),
    [
        ([2.0], [1.0], 1, 0),
        ([0.0], [0.0], 0, 0),
        ([0.1] * 3, [0.5, 0.7, 0.9], 2.1 / math.sqrt(3 * 1.55), 0),
        ([1.0, 2.0], [0.0, 0.0], 0, 0),
        ([1e-200, 2e-200], [1.0, 2.0], 1, 1),
        ([1.0, 0.0], [0.0, 1.0], 0, -1),
    ],
)
def test_degenerate_samples_have_values(loss, entropy, similarity, centered) -> None:
    found = scores(loss, entropy)
    assert found["similarity"] == pytest.approx(similarity)
    assert found["similarity_centered"] == pytest.approx(centered)


@pytest.mark.parametrize(
    ("similarity", "name"),
    [(1, "high"), (0.8, "good"), (0.5, "fair"), (0.3, "suspect"), (0, "suspect")],
)
def test_band_bounds_belong_to_the_band_below(similarity, name) -> None:
    assert band(similarity) == name


@given(pair=token_pairs)
def test_every_score_is_finite_and_in_its_range(pair) -> None:
    found = scores(*pair)
    numbers = {key: value for key, value in found.items() if key not in ("band", "spans")}
    assert all(math.isfinite(value) for value in numbers.values())
    assert 0 <= found["similarity"] <= 1
    assert -1 <= found["similarity_centered"] <= 1
    assert found["band"] in ("high", "good", "fair", "suspect")


@given(pair=token_pairs, scale=st.floats(0.1, 10))
def test_similarity_depends_on_neither_scale_nor_order(pair, scale) -> None:
    loss, entropy = (np.round(values, 3) for values in pair)
    found = scores(loss, entropy)["similarity"]
    assert scores(loss[::-1] * scale, entropy[::-1])["similarity"] == pytest.approx(found)
    assert scores(entropy, loss)["similarity"] == pytest.approx(found)


def test_min_k_averages_the_fifth_of_the_tokens_least_expected() -> None:
    loss = np.arange(10.0)
    assert scores(loss, np.full(10, 2.0), np.full(10, 2.0))["min_k"] == (-3.5 - 3.0) / 2
    assert scores([3.0], [1.0], [0.5])["min_k"] == -4, "of a few tokens, the least expected one"


def test_min_k_of_a_certain_model_is_finite() -> None:
    assert scores([0.0, 0.0], [0.0, 0.0], [0.0, 0.0])["min_k"] == 0
    assert scores([0.0, 90.0], [0.0, 0.0], [0.0, 0.0])["min_k"] == pytest.approx(-90_000)


def test_a_prompt_that_helps_lowers_instruction_difficulty() -> None:
    assert instruction_difficulty(np.array([1.0, 2.0]), np.array([3.0, 3.0])) == 0.5
    assert instruction_difficulty(np.array([2.0]), np.array([2.0])) == 1
    assert instruction_difficulty(np.zeros(3), np.zeros(3)) == 1, "known by heart in either case"
    assert math.isfinite(instruction_difficulty(np.ones(3), np.zeros(3)))


def test_excess_loss_is_what_the_reference_knows_better() -> None:
    assert excess_loss(np.array([3.0, 1.0]), np.array([1.0, 2.0])) == 0.5
    assert excess_loss(np.array([3.0]), np.array([3.0])) == 0


def test_an_answer_that_breaks_off_is_suspicious_for_its_end_alone() -> None:
    whole, broken = np.array([0.5, 1.5, 1.0, 0.5]), np.array([0.5, 1.5, 1.0, 6.5])
    assert anomaly(whole) == 0.875 + 0.25
    assert anomaly(broken) - anomaly(whole) == 6 / 4 + 0.5 * 6
    assert anomaly(broken) > anomaly(np.roll(broken, 1)), "the same losses elsewhere count less"
    assert scores(broken, np.ones(4))["anomaly"] == anomaly(broken)


@given(loss=arrays(np.float64, st.integers(1, 12), elements=nats), more=st.floats(0, 1e3))
def test_anomaly_grows_with_every_loss(loss, more) -> None:
    assert 0 <= anomaly(loss) <= 1.5 * loss.max() * (1 + 1e-12)
    for index in range(len(loss)):
        worse = loss.copy()
        worse[index] += more
        assert anomaly(worse) >= anomaly(loss) * (1 - 1e-12)


def test_a_sample_without_tokens_is_an_error() -> None:
    with pytest.raises(ValueError, match="one loss, entropy and deviation per token"):
        scores([], [])
    with pytest.raises(ValueError, match="one loss, entropy and deviation per token"):
        scores([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="one loss, entropy and deviation per token"):
        scores([1.0, 2.0], [1.0, 2.0], [1.0])
