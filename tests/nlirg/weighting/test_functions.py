import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlirg.weighting.functions import (
    WEIGHTINGS,
    TokenStats,
    nlirg_weights,
    token_weights,
    top_entropy,
)
from nlirg.weighting.settings import (
    DftWeighting,
    EaftWeighting,
    FocalWeighting,
    NlirgWeighting,
    RandomWeighting,
    StmWeighting,
    UniformWeighting,
)

REFERENCE = json.loads((Path(__file__).parents[1] / "reference_vectors.json").read_text())
POISON = [math.nan, math.inf, -math.inf]
POINTWISE = [
    NlirgWeighting(),
    UniformWeighting(),
    DftWeighting(),
    EaftWeighting(alpha=2),
    FocalWeighting(),
    StmWeighting(),
]
SETTINGS = [*POINTWISE, RandomWeighting()]


def stats(loss) -> TokenStats:
    """Tokens of one window whose other statistics follow from their losses somehow."""
    known = loss.detach().nan_to_num(1.0).abs().clamp(max=3)
    return TokenStats(loss, known, known, torch.zeros(len(loss), dtype=torch.long))


def test_equals_the_reference_implementation() -> None:
    vectors = REFERENCE["dynamic_sigmoid_batch"]
    weights = nlirg_weights(torch.tensor(vectors["losses"]), NlirgWeighting())
    torch.testing.assert_close(weights, torch.tensor(vectors["weights_float32"]), atol=1e-6, rtol=0)


def test_float64_and_bfloat16_losses_are_weighed_in_float32() -> None:
    loss = torch.tensor([0.5, 2.0, 6.0], dtype=torch.float32)
    expected = nlirg_weights(loss, NlirgWeighting())
    for dtype in (torch.float64, torch.bfloat16):
        assert torch.equal(nlirg_weights(loss.to(dtype), NlirgWeighting()), expected)


def test_a_token_on_the_deadline_is_discarded_and_one_on_the_threshold_is_easy() -> None:
    cfg = NlirgWeighting(x0=0, k=1, loss_threshold=2, hard_x0=0, hard_k=1, loss_deadline=4)
    on_threshold, above, deadline = nlirg_weights(torch.tensor([2.0, 2.01, 4.0]), cfg)
    assert on_threshold > 0.5 > above > 0
    assert deadline == 0


@pytest.mark.parametrize("weighting", SETTINGS, ids=lambda w: w.name)
def test_a_loss_that_is_not_finite_weighs_nothing(weighting) -> None:
    assert token_weights(stats(torch.tensor(POISON)), weighting).tolist() == [0, 0, 0]


@pytest.mark.parametrize("weighting", POINTWISE, ids=lambda w: w.name)
@given(losses=st.lists(st.floats(0, width=32) | st.sampled_from(POISON), max_size=20))
def test_weights_are_finite_bounded_detached_and_independent(weighting, losses) -> None:
    loss = torch.tensor(losses, dtype=torch.float32, requires_grad=True)
    weights = token_weights(stats(loss), weighting)
    assert weights.shape == loss.shape
    assert not weights.requires_grad
    assert bool(((weights >= 0) & (weights <= 1 + 1e-6)).all())
    alone = [token_weights(stats(loss[i : i + 1]), weighting) for i in range(len(losses))]
    assert torch.equal(weights, torch.cat([*alone, torch.empty(0)]))


def test_rivals_equal_their_formulas() -> None:
    p = np.array([0.9, 0.5, 0.01])
    loss = torch.tensor(-np.log(p), dtype=torch.float32)
    assert token_weights(stats(loss), DftWeighting()).tolist() == pytest.approx(p)
    focal = token_weights(stats(loss), FocalWeighting(gamma=2))
    assert focal.tolist() == pytest.approx((1 - p) ** 2)
    entropy = TokenStats(loss, top_entropy=torch.tensor([0.0, 1.5, 3.0]))
    eaft = token_weights(entropy, EaftWeighting(alpha=2))
    assert eaft.tolist() == pytest.approx([0, 0.25, 1])
    base = torch.tensor([math.log(2.4), math.log(2.6), math.nan])
    assert token_weights(TokenStats(loss, base_loss=base), StmWeighting()).tolist() == [1, 0, 0]


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=40))
def test_top_entropy_is_that_of_the_20_likeliest(row) -> None:
    top = np.sort(np.array(row, dtype=np.float64))[-20:]
    p = np.exp(top) / np.exp(top).sum()
    found = top_entropy(torch.tensor([row])).item()
    assert found == pytest.approx(-(p * np.log(p)).sum(), abs=1e-5)
    assert found <= math.log(20) + 1e-6


def test_a_missing_statistic_is_an_error() -> None:
    loss = torch.ones(2)
    for weighting in (EaftWeighting(), StmWeighting(), RandomWeighting()):
        with pytest.raises(ValueError, match="needs"):
            token_weights(TokenStats(loss), weighting)


@given(st.lists(st.floats(0, 20, width=32), min_size=1, max_size=30), st.integers(0, 2**40))
def test_random_shuffles_nlirgs_weights_within_each_window(losses, window) -> None:
    loss = torch.tensor(losses)
    both = torch.cat([loss, loss + 0.5])
    windows = torch.tensor([window] * len(loss) + [window + 1] * len(loss))
    weights = token_weights(TokenStats(both, windows=windows), RandomWeighting())
    expected = nlirg_weights(both, NlirgWeighting())
    for part in (slice(0, len(loss)), slice(len(loss), None)):
        assert torch.equal(weights[part].sort().values, expected[part].sort().values)
    assert torch.equal(weights > 0, expected > 0)
    # A window's shuffle does not depend on which others share its batch.
    alone = token_weights(TokenStats(loss, windows=windows[: len(loss)]), RandomWeighting())
    torch.testing.assert_close(weights[: len(loss)], alone)


def test_random_is_not_nlirg() -> None:
    loss = torch.linspace(0, 14, 50)
    windows = torch.zeros(50, dtype=torch.long)
    weights = token_weights(TokenStats(loss, windows=windows), RandomWeighting())
    assert not torch.equal(weights, nlirg_weights(loss, NlirgWeighting()))


def test_max_weight_scales_the_weights() -> None:
    loss = torch.tensor([0.3, 1.5, 4.0])
    single = nlirg_weights(loss, NlirgWeighting())
    double = nlirg_weights(loss, NlirgWeighting(max_weight=2.0))
    torch.testing.assert_close(double, 2 * single, atol=1e-6, rtol=0)


def test_every_weighting_of_the_recipe_is_implemented() -> None:
    assert {weighting.name for weighting in SETTINGS} == set(WEIGHTINGS)
