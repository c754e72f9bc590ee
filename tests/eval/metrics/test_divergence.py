"""Losses and KL of two heads: exact, never negative, whatever the chunks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics.divergence import token_divergence
from nlirg.forward import output_head
from nlirg.forward.output_head import Head


def expected(base: torch.Tensor, tuned: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    p, q = base.double().log_softmax(-1), tuned.double().log_softmax(-1)
    rows = torch.arange(len(ids))
    return torch.stack([-p[rows, ids], -q[rows, ids], (p.exp() * (p - q)).sum(-1)])


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.01, 30), shift=st.floats(0, 10))
def test_equals_the_float64_reference(seed: int, scale: float, shift: float) -> None:
    random = torch.Generator().manual_seed(seed)
    base = scale * torch.randn(7, 50, generator=random)
    tuned = base + shift * torch.randn(7, 50, generator=random)
    ids = torch.randint(50, (7,), generator=random)
    found = token_divergence(Head(base), Head(tuned), ids)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected(base, tuned, ids), rtol=1e-5, atol=1e-5)
    assert (found[2] >= 0).all()


def test_kl_of_a_model_with_itself_is_zero() -> None:
    logits = 20 * torch.randn(9, 300)
    found = token_divergence(Head(logits), Head(logits.clone()), torch.arange(9))
    assert (found[2] == 0).all()
    assert torch.equal(found[0], found[1])


def test_known_value() -> None:
    """KL([1/2, 1/2] || [1/4, 3/4]) = ln(2)/2 + ln(2/3)/2."""
    base, tuned = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    found = token_divergence(Head(base), Head(tuned), torch.tensor([0]))
    assert found[:, 0].tolist() == pytest.approx([0.693147, 1.386294, 0.143841], abs=1e-6)


def test_chunks_and_head_weights_do_not_matter(monkeypatch) -> None:
    torch.manual_seed(0)
    hidden, weights = torch.randn(2, 11, 8), torch.randn(2, 40, 8)
    ids = torch.randint(40, (11,))
    whole = token_divergence(Head(hidden[0] @ weights[0].T), Head(hidden[1] @ weights[1].T), ids)
    monkeypatch.setitem(output_head.CHUNK_ELEMENTS, "cpu", 3 * 40)
    parts = token_divergence(Head(hidden[0], weights[0]), Head(hidden[1], weights[1]), ids)
    assert torch.allclose(whole, parts, atol=1e-5)
    assert token_divergence(Head(hidden[0][:0]), Head(hidden[1][:0]), ids[:0]).shape == (3, 0)


def test_ruled_out_tokens() -> None:
    """A token without any probability under both is no difference; under the tuned alone, one."""
    inf = float("inf")
    base, tuned = torch.tensor([[0.0, 1.0, -inf]]), torch.tensor([[0.0, 1.0, -inf]])
    assert token_divergence(Head(base), Head(tuned), torch.tensor([0]))[2] == 0
    ruled_out = torch.tensor([[0.0, -inf, 1.0]])
    assert token_divergence(Head(base), Head(ruled_out), torch.tensor([0]))[2] == inf
    nan = torch.tensor([[float("nan"), 0.0, 0.0]])
    assert token_divergence(Head(base), Head(nan), torch.tensor([0]))[2].isnan()
