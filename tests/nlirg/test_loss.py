import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nlirg.config import NlirgWeighting, UniformWeighting
from nlirg.loss import normalizer, token_loss_entropy, window_loss

REFERENCE = json.loads((Path(__file__).parent / "reference_vectors.json").read_text())
EXAMPLE = REFERENCE["sft_loss_example"]
NLIRG, UNIFORM = NlirgWeighting(), UniformWeighting()


def example_logits() -> Tensor:
    """The reference example's logits [12, 11]: row t scores label t."""
    t = torch.arange(12, dtype=torch.float64)[:, None]
    v = torch.arange(11, dtype=torch.float64)
    return 4 * torch.sin(0.7 * (t + 1) + 1.3 * (v + 1)) + 0.1 * v


def random_case(rows: int = 7, vocab: int = 13) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, vocab, generator=generator)
    return logits, torch.randint(0, vocab, (rows,), generator=generator)


def step_loss(logits: Tensor, rows: slice, weighting) -> Tensor:
    """The loss of a step that trains one window, under the reference's normalizer."""
    targets = torch.tensor(EXAMPLE["labels"])[rows]
    result = window_loss(logits[rows], targets, weighting)
    return result.weighted_sum / normalizer("nonzero", result.weights, result.loss)


@pytest.mark.parametrize(("key", "weighting"), [("nlirg_true", NLIRG), ("nlirg_false", UNIFORM)])
def test_loss_and_gradient_equal_the_reference(key, weighting) -> None:
    expected = EXAMPLE[key]
    logits = example_logits().requires_grad_()
    # The reference leaves out the window's last label (position 10).
    loss = step_loss(logits, slice(4, 10), weighting)
    loss.backward()
    assert loss.item() == pytest.approx(expected.get("weighted_loss", expected.get("loss")), 1e-6)
    assert logits.grad is not None
    norms = logits.grad.norm(dim=-1)
    assert norms.tolist() == pytest.approx(expected["grad_l2_per_position"], abs=1e-6)
    if "grad_t4" in expected:
        assert logits.grad[4].tolist() == pytest.approx(expected["grad_t4"], abs=1e-6)


def test_the_last_token_is_trained_too() -> None:
    rows, corrected = slice(4, 11), EXAMPLE["corrected_including_last_token"]
    logits = example_logits()
    assert step_loss(logits, rows, NLIRG).item() == pytest.approx(
        corrected["nlirg_true_weighted_loss"], 1e-6
    )
    assert step_loss(logits, rows, UNIFORM).item() == pytest.approx(
        corrected["nlirg_false_loss"], 1e-6
    )


def test_token_losses_and_weights_equal_the_reference() -> None:
    result = window_loss(example_logits()[4:11], torch.tensor(EXAMPLE["labels"])[4:11], NLIRG)
    assert result.loss.tolist() == pytest.approx(EXAMPLE["ce_at_labelled_positions"], 1e-6)
    assert result.weights.tolist() == pytest.approx(
        EXAMPLE["weights_at_labelled_positions"], abs=1e-6
    )


def test_a_token_over_the_deadline_counts_neither_in_sum_nor_in_normalizer() -> None:
    logits = example_logits()
    logits[5] *= 8
    logits.requires_grad_()
    loss = step_loss(logits, slice(4, 10), NLIRG)
    loss.backward()
    assert loss.item() == pytest.approx(EXAMPLE["with_token_over_deadline"]["weighted_loss"], 1e-6)
    assert logits.grad is not None
    assert not logits.grad[5].any()
    assert logits.grad[4].any()


@pytest.mark.parametrize("weighting", [NLIRG, UNIFORM], ids=lambda w: w.name)
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_poisoned_row_changes_nothing_for_the_others(weighting, poison) -> None:
    logits, targets = random_case()
    poisoned = logits.clone()
    poisoned[3, targets[3]] = poison
    others = [0, 1, 2, 4, 5, 6]
    clean, dirty = logits.requires_grad_(), poisoned.requires_grad_()
    expected = window_loss(clean[others], targets[others], weighting)
    result = window_loss(dirty, targets, weighting)
    expected.weighted_sum.backward()
    result.weighted_sum.backward()
    assert clean.grad is not None
    assert dirty.grad is not None
    torch.testing.assert_close(result.weighted_sum, expected.weighted_sum)
    torch.testing.assert_close(dirty.grad, clean.grad)
    assert not dirty.grad[3].any()


def test_a_window_of_poison_alone_has_a_zero_gradient() -> None:
    logits = torch.full((2, 5), math.nan, requires_grad=True)
    result = window_loss(logits, torch.tensor([0, 1]), NLIRG)
    result.weighted_sum.backward()
    assert result.weighted_sum.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_weights_carry_no_gradient() -> None:
    logits, targets = random_case()
    logits.requires_grad_()
    result = window_loss(logits, targets, NLIRG)
    (gradient,) = torch.autograd.grad(result.weighted_sum, logits)
    one_hot = torch.nn.functional.one_hot(targets, logits.shape[-1])
    expected = result.weights[:, None] * (logits.softmax(-1) - one_hot)
    torch.testing.assert_close(gradient, expected)


def test_low_precision_logits_are_upcast() -> None:
    logits, targets = random_case()
    low = logits.bfloat16()
    result = window_loss(low, targets, NLIRG)
    assert result.weighted_sum.dtype == torch.float32
    torch.testing.assert_close(result.loss, window_loss(low.float(), targets, NLIRG).loss)


def test_loss_and_entropy_equal_their_definitions() -> None:
    logits, targets = random_case()
    p = torch.softmax(logits.double(), -1).numpy()
    loss, entropy = token_loss_entropy(logits, targets)
    assert loss.tolist() == pytest.approx(-np.log(p[np.arange(7), targets.numpy()]), abs=1e-5)
    assert entropy.tolist() == pytest.approx(-(p * np.log(p)).sum(-1), abs=1e-5)


def test_entropy_of_uniform_and_of_certain_predictions() -> None:
    logits = torch.zeros(2, 8)
    logits[1, 0] = 1e4
    loss, entropy = token_loss_entropy(logits, torch.tensor([5, 0]))
    assert loss.tolist() == pytest.approx([math.log(8), 0])
    assert entropy.tolist() == pytest.approx([math.log(8), 0])


@given(chunk=st.integers(1, 9))
def test_chunks_do_not_change_loss_or_entropy(chunk) -> None:
    logits, targets = random_case()
    for whole, chunked in zip(
        token_loss_entropy(logits, targets),
        token_loss_entropy(logits, targets, chunk),
        strict=True,
    ):
        torch.testing.assert_close(chunked, whole, atol=0, rtol=1e-6)


def test_nonzero_divides_as_the_reference_masked_mean() -> None:
    vectors = REFERENCE["masked_mean"]
    for weighted, expected in zip(vectors["inputs"], vectors["outputs"], strict=True):
        loss = torch.tensor(weighted)
        n = normalizer("nonzero", torch.ones_like(loss), loss)
        assert (loss.sum() / n.clamp(min=1)).item() == pytest.approx(expected)


def test_normalizers_count_tokens_nonzero_and_weights() -> None:
    weights = torch.tensor([1.0, 0.5, 0.0, 0.0])
    loss = torch.tensor([0.0, 2.0, math.inf, math.nan])
    assert normalizer("tokens", weights, loss) == 4
    assert normalizer("nonzero", weights, loss) == 1
    assert normalizer("weights", weights, loss) == 1.5


@pytest.mark.parametrize("name", ["tokens", "nonzero", "weights"])
@given(cut=st.integers(0, 7))
def test_normalizer_parts_add_up(name, cut) -> None:
    logits, targets = random_case()
    _, loss, weights = window_loss(logits, targets, NLIRG)
    parts = normalizer(name, weights[:cut], loss[:cut]) + normalizer(
        name, weights[cut:], loss[cut:]
    )
    torch.testing.assert_close(parts, normalizer(name, weights, loss))
