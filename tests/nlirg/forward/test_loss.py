import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nlirg.forward import loss as loss_module
from nlirg.forward import output_head
from nlirg.forward.loss import TokenTargets, normalizer, token_loss
from nlirg.forward.output_head import Head
from nlirg.weighting.weightings import WEIGHTINGS, NlirgWeighting, UniformWeighting

REFERENCE = json.loads((Path(__file__).parents[1] / "reference_vectors.json").read_text())
EXAMPLE = REFERENCE["sft_loss_example"]
NLIRG, UNIFORM = NlirgWeighting(), UniformWeighting()


def example_logits(offset: float = 0.0) -> Tensor:
    """The reference example's logits [12, 11]: row t scores label t."""
    t = torch.arange(12, dtype=torch.float64)[:, None]
    v = torch.arange(11, dtype=torch.float64)
    return 4 * torch.sin(0.7 * (t + 1) + 1.3 * (v + 1) + offset) + 0.1 * v


def window_loss(logits: Tensor, targets: Tensor, weighting):
    return token_loss(Head(logits), TokenTargets(targets, weighting))


def random_case(rows: int = 7, vocab: int = 13) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, vocab, generator=generator)
    return logits, torch.randint(0, vocab, (rows,), generator=generator)


def step_loss(logits: Tensor, rows: slice, weighting) -> Tensor:
    """The loss of a step that trains one window, under the reference's normalizer."""
    targets = torch.tensor(EXAMPLE["labels"])[rows]
    result = window_loss(logits[rows], targets, weighting)
    return result.objective / normalizer("nonzero", result.weights, result.loss)


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
    expected.objective.backward()
    result.objective.backward()
    assert clean.grad is not None
    assert dirty.grad is not None
    torch.testing.assert_close(result.objective, expected.objective)
    torch.testing.assert_close(dirty.grad, clean.grad)
    assert not dirty.grad[3].any()


def test_a_window_of_poison_alone_has_a_zero_gradient() -> None:
    logits = torch.full((2, 5), math.nan, requires_grad=True)
    result = window_loss(logits, torch.tensor([0, 1]), NLIRG)
    result.objective.backward()
    assert result.objective.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_weights_carry_no_gradient() -> None:
    logits, targets = random_case()
    logits.requires_grad_()
    result = window_loss(logits, targets, NLIRG)
    (gradient,) = torch.autograd.grad(result.objective, logits)
    one_hot = torch.nn.functional.one_hot(targets, logits.shape[-1])
    expected = result.weights[:, None] * (logits.softmax(-1) - one_hot)
    torch.testing.assert_close(gradient, expected)


def test_low_precision_logits_are_upcast() -> None:
    logits, targets = random_case()
    low = logits.bfloat16()
    result = window_loss(low, targets, NLIRG)
    assert result.objective.dtype == torch.float32
    torch.testing.assert_close(result.loss, window_loss(low.float(), targets, NLIRG).loss)


def test_continued_pretraining_equals_the_reference() -> None:
    """It trains all targets, padding and document borders too, and divides by their number."""
    case = REFERENCE["cpt_loss_example"]
    logits, ids = example_logits()[:7], torch.tensor(case["ids"][1:])
    for key, weighting in (("nlirg_true", NLIRG), ("nlirg_false", UNIFORM)):
        result = window_loss(logits, ids, weighting)
        n = normalizer("tokens", result.weights, result.loss)
        assert (result.objective / n).item() == pytest.approx(case[key]["training_loss"], 1e-6)
        assert result.loss.mean().item() == pytest.approx(case[key]["logged_loss"], 1e-6)


@pytest.mark.parametrize(
    ("key", "weighting", "share"),
    [
        ("nlirg_true_weighted_loss", NLIRG, 0.5),
        ("nlirg_false_loss", UNIFORM, 0.5),
        ("nlirg_true_c_0.25", NLIRG, 0.25),
    ],
)
def test_distillation_equals_the_reference(key, weighting, share) -> None:
    teacher = example_logits(offset=0.4)[4:10]
    targets = TokenTargets(
        torch.tensor(EXAMPLE["labels"])[4:10], weighting, teacher=Head(teacher), label_share=share
    )
    result = token_loss(Head(example_logits()[4:10]), targets)
    loss = result.objective / normalizer("nonzero", result.weights, result.loss)
    assert loss.item() == pytest.approx(EXAMPLE["distillation"][key], 1e-6)


def head_case(rows=23, width=8, vocab=37, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(rows, width, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(vocab, width, generator=generator).to(dtype).requires_grad_()
    bias = torch.randn(vocab, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(0, vocab, (rows,), generator=generator)
    teacher = Head(torch.randn(rows, vocab, generator=generator))
    return Head(inputs, weight, bias), targets, teacher


def gradients_of(objective, head):
    return torch.autograd.grad(objective, [tensor for tensor in head if tensor is not None])


@pytest.mark.parametrize("weighting", WEIGHTINGS.values(), ids=WEIGHTINGS)
@pytest.mark.parametrize("chunk_rows", [1, 5, 100])
@pytest.mark.parametrize("distilled", [False, True])
def test_the_fused_loss_equals_autograd_over_whole_logits(
    monkeypatch, weighting, chunk_rows, distilled
) -> None:
    head, ids, teacher = head_case()
    monkeypatch.setitem(output_head.CHUNK_ELEMENTS, "cpu", chunk_rows * 37)
    targets = TokenTargets(
        ids,
        weighting(),
        base_loss=torch.linspace(0, 3, len(ids)),
        windows=torch.arange(len(ids)) // 6,
        teacher=teacher if distilled else None,
        label_share=0.3 if distilled else 1.0,
        scale=0.7,
    )
    result = token_loss(head, targets)
    logits = head.inputs @ head.weight.T + head.bias
    log_p = logits.log_softmax(-1)
    loss = -log_p.gather(-1, ids[:, None]).squeeze(-1)
    weights = targets.weights(loss.detach(), targets.top_entropy(logits), slice(0, len(ids)))
    objective = loss
    if distilled:
        objective = -0.7 * (teacher.inputs.softmax(-1) * log_p).sum(-1) + 0.3 * loss
    expected = 0.7 * (weights * objective).sum()
    torch.testing.assert_close(result.loss, loss.detach())
    torch.testing.assert_close(result.weights, weights)
    torch.testing.assert_close(result.objective, expected.detach())
    found = gradients_of(3 * result.objective, head)
    for mine, theirs in zip(found, gradients_of(3 * expected, head), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_a_teachers_divergence_is_its_cross_entropy_with_another_zero() -> None:
    head, ids, teacher = head_case()
    p = teacher.inputs.softmax(-1)
    log_q = (head.inputs @ head.weight.T + head.bias).log_softmax(-1)
    expected = (p * (teacher.inputs.log_softmax(-1) - log_q)).sum()
    uniform = UniformWeighting()
    plain = TokenTargets(ids, uniform, teacher=teacher, label_share=0.0)
    found = token_loss(head, replace(plain, divergence=True)).objective
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-5)
    of_ce = gradients_of(token_loss(head, plain).objective, head)
    of_kl, by_hand = gradients_of(found, head), gradients_of(expected, head)
    for mine, ce, theirs in zip(of_kl, of_ce, by_hand, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
        assert torch.equal(mine, ce)
    itself = Head(head.inputs @ head.weight.T + head.bias)
    same = TokenTargets(ids, uniform, teacher=itself, label_share=0.0, divergence=True)
    assert abs(token_loss(head, same).objective.item()) < 1e-4


def test_a_hidden_state_of_nan_puts_none_into_the_heads_gradient(monkeypatch) -> None:
    head, ids, _ = head_case()
    monkeypatch.setitem(output_head.CHUNK_ELEMENTS, "cpu", 5 * 37)
    others = [row for row in range(len(ids)) if row != 7]
    clean = Head(head.inputs[others], head.weight, head.bias)
    expected = gradients_of(token_loss(clean, TokenTargets(ids[others], NLIRG)).objective, head)
    poisoned = head.inputs.detach().clone()
    poisoned[7] = math.nan
    dirty = Head(poisoned.requires_grad_(), head.weight, head.bias)
    found = gradients_of(token_loss(dirty, TokenTargets(ids, NLIRG)).objective, dirty)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_frozen_head_gets_no_gradient_and_none_is_computed(monkeypatch) -> None:
    head, ids, _ = head_case()
    frozen = Head(head.inputs, head.weight.detach(), head.bias.detach())
    monkeypatch.setattr(loss_module, "_accumulated", None)  # would fail if called
    token_loss(frozen, TokenTargets(ids, NLIRG)).objective.backward()
    assert head.inputs.grad is not None
    assert head.weight.grad is None


def test_without_tokens_the_gradient_is_zero_and_whole() -> None:
    head, ids, _ = head_case()
    empty = Head(head.inputs[:0], head.weight, head.bias)
    result = token_loss(empty, TokenTargets(ids[:0], NLIRG))
    assert result.objective.item() == 0
    for gradient, tensor in zip(gradients_of(result.objective, head), head, strict=True):
        assert gradient.shape == tensor.shape
        assert not gradient.any()


def test_half_precision_gradients_of_many_chunks_are_summed_in_float32(monkeypatch) -> None:
    head, ids, _ = head_case(rows=600, dtype=torch.bfloat16)
    monkeypatch.setitem(output_head.CHUNK_ELEMENTS, "cpu", 37)
    found = gradients_of(token_loss(head, TokenTargets(ids, UNIFORM)).objective, head)[1]
    wide = Head(*(tensor.detach().float().requires_grad_() for tensor in head))
    expected = gradients_of(token_loss(wide, TokenTargets(ids, UNIFORM)).objective, wide)[1]
    assert found.dtype == torch.bfloat16
    error = (found.float() - expected).norm() / expected.norm()
    assert error < 4e-3  # one rounding of inputs and result, not six hundred


def test_float16_gradients_outlive_a_step_of_many_tokens() -> None:
    """1 / tokens is given before, the loss scale that makes up for it comes with backward."""
    head, ids, _ = head_case(rows=600, dtype=torch.float16)
    targets = TokenTargets(ids, UNIFORM, scale=2.0**-20)
    found = gradients_of(2.0**16 * token_loss(head, targets).objective, head)
    wide = Head(*(tensor.detach().float().requires_grad_() for tensor in head))
    expected = gradients_of(2.0**16 * token_loss(wide, targets).objective, wide)
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine.float() - theirs).norm() < 4e-3 * theirs.norm()


@pytest.mark.parametrize("more", [-4, 4])
def test_a_teachers_head_may_be_padded_to_another_size(more) -> None:
    """Qwen2.5's sizes share a vocabulary, and its 7B head has 128 rows more than its 0.5B one."""
    head, ids, teacher = head_case()
    ids = ids.clamp(max=30)
    logits = torch.full((len(ids), 37 + more), -1e9)
    common = min(37, 37 + more)
    logits[:, :common] = teacher.inputs[:, :common]
    reference = torch.full((len(ids), 37), -1e9)
    reference[:, :common] = teacher.inputs[:, :common]
    found, expected = (
        token_loss(head, TokenTargets(ids, NLIRG, teacher=Head(whose), label_share=0.3)).objective
        for whose in (logits, reference)
    )
    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(gradients_of(found, head), gradients_of(expected, head), strict=True):
        torch.testing.assert_close(mine, theirs)


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
