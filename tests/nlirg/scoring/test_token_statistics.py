"""Loss, entropy and spread of ln p against their definitions, however they are tiled."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlirg.forward.output_head import Head
from nlirg.scoring.token_statistics import TILE, token_statistics


def case(rows: int = 7, vocabulary: int = 11, scale: float = 4.0) -> tuple[Head, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, 5, generator=generator)
    weight = scale * torch.randn(vocabulary, 5, generator=generator)
    ids = torch.randint(vocabulary, (rows,), generator=generator)
    return Head(inputs, weight, torch.randn(vocabulary, generator=generator)), ids


def by_definition(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    log_p = logits.double().log_softmax(-1)
    mean = (log_p.exp() * log_p).sum(-1)
    spread = (log_p.exp() * (log_p - mean[:, None]) ** 2).sum(-1).sqrt()
    return torch.stack([-log_p.gather(-1, ids[:, None]).squeeze(-1), -mean, spread]).float()


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 4.0, 30.0])
def test_equal_their_definitions(scale) -> None:
    head, ids = case(scale=scale)
    found = token_statistics(head, ids)
    expected = by_definition(head.logits(slice(0, 7)), ids)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


@given(rows=st.integers(1, 9), columns=st.integers(1, 13))
def test_tiles_change_nothing(rows, columns) -> None:
    head, ids = case()
    expected = by_definition(head.logits(slice(0, 7)), ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TILE, "cpu", (rows, columns))
        found = token_statistics(head, ids)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


def test_given_logits_are_taken_as_they_are_and_not_written_to() -> None:
    head, ids = case()
    logits = head.logits(slice(0, 7))
    before = logits.clone()
    torch.testing.assert_close(token_statistics(Head(logits), ids), token_statistics(head, ids))
    assert torch.equal(logits, before)


def test_a_large_vocabulary_keeps_its_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 150_000, generator=generator)
    ids = torch.tensor([0, 1, 2, 149_999])
    found = token_statistics(Head(logits), ids)
    torch.testing.assert_close(found, by_definition(logits, ids), atol=1e-4, rtol=1e-5)


def test_of_uniform_and_of_certain_predictions() -> None:
    logits = torch.zeros(2, 8)
    logits[1, 0] = 1e4
    loss, entropy, spread = token_statistics(Head(logits), torch.tensor([5, 0])).tolist()
    assert loss == pytest.approx([math.log(8), 0])
    assert entropy == pytest.approx([math.log(8), 0])
    assert spread == pytest.approx([0, 0], abs=1e-6)


def test_tokens_without_probability_add_nothing(monkeypatch) -> None:
    monkeypatch.setitem(TILE, "cpu", (4, 3))  # some tiles hold nothing else
    logits = torch.tensor([[0.0, 0.0, -math.inf, -math.inf, -math.inf, -math.inf, 0.0, 0.0]])
    loss, entropy, spread = token_statistics(Head(logits), torch.tensor([6]))
    assert [loss.item(), entropy.item()] == pytest.approx([math.log(4)] * 2)
    assert spread.item() == pytest.approx(0, abs=1e-6)
    assert token_statistics(Head(logits), torch.tensor([4]))[0].item() == math.inf


def test_nan_is_not_lost() -> None:
    head, ids = case()
    head.inputs[3] = math.nan
    found = token_statistics(head, ids)
    assert found[:, 3].isnan().all()
    assert found[:, [0, 1, 2, 4, 5, 6]].isfinite().all()


def test_no_token() -> None:
    head, ids = case()
    assert token_statistics(Head(head.inputs[:0], head.weight), ids[:0]).shape == (3, 0)
