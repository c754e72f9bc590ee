import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlirg.config.training import TrainConfig
from nlirg.forward.loss import top_entropy
from nlirg.weighting.base import TokenStats
from nlirg.weighting.weightings import (
    WEIGHTINGS,
    DftWeighting,
    EaftWeighting,
    FocalWeighting,
    NlirgWeighting,
    RandomWeighting,
    StmWeighting,
)

REFERENCE = json.loads((Path(__file__).parents[1] / "reference_vectors.json").read_text())
POISON = [math.nan, math.inf, -math.inf]
EVERY = [weighting() for weighting in WEIGHTINGS.values()]
POINTWISE = [weighting for weighting in EVERY if "windows" not in weighting.needs]


def stats(loss) -> TokenStats:
    """Tokens of one window whose other statistics follow from their losses somehow."""
    known = loss.detach().nan_to_num(1.0).abs().clamp(max=3)
    return TokenStats(loss, known, known, torch.zeros(len(loss), dtype=torch.long))


def test_equals_the_reference_implementation() -> None:
    vectors = REFERENCE["dynamic_sigmoid_batch"]
    weights = NlirgWeighting().of_losses(torch.tensor(vectors["losses"]))
    torch.testing.assert_close(weights, torch.tensor(vectors["weights_float32"]), atol=1e-6, rtol=0)


def test_float64_and_bfloat16_losses_are_weighed_in_float32() -> None:
    loss = torch.tensor([0.5, 2.0, 6.0], dtype=torch.float32)
    expected = NlirgWeighting().of_losses(loss)
    for dtype in (torch.float64, torch.bfloat16):
        assert torch.equal(NlirgWeighting().of_losses(loss.to(dtype)), expected)


def test_a_token_on_the_deadline_is_discarded_and_one_on_the_threshold_is_easy() -> None:
    cfg = NlirgWeighting(x0=0, k=1, loss_threshold=2, hard_x0=0, hard_k=1, loss_deadline=4)
    on_threshold, above, deadline = cfg.of_losses(torch.tensor([2.0, 2.01, 4.0]))
    assert on_threshold > 0.5 > above > 0
    assert deadline == 0


@pytest.mark.parametrize("weighting", EVERY, ids=lambda w: w.name)
def test_a_loss_that_is_not_finite_weighs_nothing(weighting) -> None:
    assert weighting.weigh(stats(torch.tensor(POISON))).tolist() == [0, 0, 0]


@pytest.mark.parametrize("weighting", POINTWISE, ids=lambda w: w.name)
@given(losses=st.lists(st.floats(0, width=32) | st.sampled_from(POISON), max_size=20))
def test_weights_are_finite_bounded_detached_and_independent(weighting, losses) -> None:
    loss = torch.tensor(losses, dtype=torch.float32, requires_grad=True)
    weights = weighting.weigh(stats(loss))
    assert weights.shape == loss.shape
    assert not weights.requires_grad
    assert bool(((weights >= 0) & (weights <= 1 + 1e-6)).all())
    alone = [weighting.weigh(stats(loss[i : i + 1])) for i in range(len(losses))]
    assert torch.equal(weights, torch.cat([*alone, torch.empty(0)]))


def test_rivals_equal_their_formulas() -> None:
    p = np.array([0.9, 0.5, 0.01])
    loss = torch.tensor(-np.log(p), dtype=torch.float32)
    assert DftWeighting().weigh(stats(loss)).tolist() == pytest.approx(p)
    focal = FocalWeighting(gamma=2).weigh(stats(loss))
    assert focal.tolist() == pytest.approx((1 - p) ** 2)
    entropy = TokenStats(loss, top_entropy=torch.tensor([0.0, 1.5, 3.0]))
    eaft = EaftWeighting(alpha=2).weigh(entropy)
    assert eaft.tolist() == pytest.approx([0, 0.25, 1])
    base = torch.tensor([math.log(2.4), math.log(2.6), math.nan])
    assert StmWeighting().weigh(TokenStats(loss, base_loss=base)).tolist() == [1, 0, 0]


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=40))
def test_top_entropy_is_that_of_the_20_likeliest(row) -> None:
    top = np.sort(np.array(row, dtype=np.float64))[-20:]
    p = np.exp(top) / np.exp(top).sum()
    found = top_entropy(torch.tensor([row])).item()
    assert found == pytest.approx(-(p * np.log(p)).sum(), abs=1e-5)
    assert found <= math.log(20) + 1e-6


@pytest.mark.parametrize("weighting", EVERY, ids=lambda w: w.name)
def test_a_weighting_reads_the_statistics_that_it_says_it_needs_and_no_others(weighting) -> None:
    whole = stats(torch.tensor([0.5, 2.0]))
    others = dict.fromkeys({"top_entropy", "base_loss", "windows"} - weighting.needs)
    assert torch.equal(weighting.weigh(replace(whole, **others)), weighting.weigh(whole))
    for needed in weighting.needs:
        with pytest.raises(ValueError, match=f"needs {needed} of every token"):
            weighting.weigh(replace(whole, **{needed: None}))


@given(st.lists(st.floats(0, 20, width=32), min_size=1, max_size=30), st.integers(0, 2**40))
def test_random_shuffles_nlirgs_weights_within_each_window(losses, window) -> None:
    loss = torch.tensor(losses)
    both = torch.cat([loss, loss + 0.5])
    windows = torch.tensor([window] * len(loss) + [window + 1] * len(loss))
    weights = RandomWeighting().weigh(TokenStats(both, windows=windows))
    expected = NlirgWeighting().of_losses(both)
    for part in (slice(0, len(loss)), slice(len(loss), None)):
        assert torch.equal(weights[part].sort().values, expected[part].sort().values)
    assert torch.equal(weights > 0, expected > 0)
    # A window's shuffle does not depend on which others share its batch.
    alone = RandomWeighting().weigh(TokenStats(loss, windows=windows[: len(loss)]))
    torch.testing.assert_close(weights[: len(loss)], alone)


def test_random_is_not_nlirg() -> None:
    loss = torch.linspace(0, 14, 50)
    windows = torch.zeros(50, dtype=torch.long)
    weights = RandomWeighting().weigh(TokenStats(loss, windows=windows))
    assert not torch.equal(weights, NlirgWeighting().of_losses(loss))


def test_max_weight_scales_the_weights() -> None:
    loss = torch.tensor([0.3, 1.5, 4.0])
    single = NlirgWeighting().of_losses(loss)
    double = NlirgWeighting(max_weight=2.0).of_losses(loss)
    torch.testing.assert_close(double, 2 * single, atol=1e-6, rtol=0)


def test_a_recipe_names_every_weighting_and_reads_it_back() -> None:
    for name, weighting in WEIGHTINGS.items():
        config = TrainConfig.model_validate({"weighting": name})
        assert config.weighting == weighting()
        assert TrainConfig.model_validate(config.model_dump(mode="json")) == config
    breakpoints = TrainConfig.model_validate({"weighting": {"x0": 2}}).weighting
    assert breakpoints == NlirgWeighting(x0=2)


def test_the_readme_has_a_row_for_every_weighting_with_its_keys_and_needs() -> None:
    text = (Path(__file__).parents[3] / "nlirg" / "README.md").read_text(encoding="utf-8")
    table = text.partition("| weighting |")[2].partition("\n\n")[0].splitlines()[2:]
    rows = {}
    for line in table:
        name, _, keys, needs, _ = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name.strip("`")] = (set(re.findall(r"`(\w+)`", keys)), set(needs.split("`")[1::2]))
    assert rows == {
        name: ({*weighting.model_fields} - {"name"}, set(weighting.needs))
        for name, weighting in WEIGHTINGS.items()
    }
