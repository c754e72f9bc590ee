"""Counts of training arithmetic against torch's own counter, and peaks of known GPUs."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, GPT2Config, MixtralConfig, Qwen3Config

from nlirg.monitoring.flops import matmul_parameters, mfu, peak_flops, training_flops_per_token

SHAPE = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
LENGTH = 32


def counted(frozen: bool, positions: int) -> float:
    """FLOPs per token of a real forward and backward."""
    model = AutoModelForCausalLM.from_config(Qwen3Config(**SHAPE), attn_implementation="eager")
    model.requires_grad_(not frozen)
    embeddings = torch.randn(1, LENGTH, SHAPE["hidden_size"], requires_grad=True)
    counter = FlopCounterMode(display=False)
    with counter:
        logits = model(inputs_embeds=embeddings, logits_to_keep=positions, use_cache=False).logits
        logits.sum().backward()
    return counter.get_total_flops() / LENGTH


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("positions", [LENGTH, 8])
def test_the_formula_equals_what_torch_counts(lora, positions):
    share = positions / LENGTH
    expected = training_flops_per_token(Qwen3Config(**SHAPE), LENGTH, lora, share)
    # The eager kernel computes the half of the attention that the mask then throws away.
    masked = 6 * 3 * (4 * 32) * LENGTH
    # Rotary frequencies are a matrix product of their own, too small to count.
    assert counted(lora, positions) == pytest.approx(expected + masked, rel=1e-3)


def test_only_products_count_whether_embeddings_are_tied_or_not():
    body = 3 * (64 * 128 + 2 * 64 * 64 + 128 * 64 + 3 * 64 * 160)
    for tied in (True, False):
        config = Qwen3Config(**SHAPE, tie_word_embeddings=tied)
        assert matmul_parameters(config) == (body, 64 * 512)


def test_models_whose_arithmetic_is_unknown_are_not_guessed():
    small = {"num_hidden_layers": 1, "vocab_size": 64}
    moe = MixtralConfig(**small, hidden_size=32, intermediate_size=32, num_attention_heads=2)
    assert training_flops_per_token(moe, 128) is None
    assert training_flops_per_token(GPT2Config(n_layer=1, n_embd=32, n_head=2), 128) is None


def test_full_training_of_a_7b_model_costs_about_6_n():
    llama = Qwen3Config(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
        head_dim=128,
    )
    assert training_flops_per_token(llama, 2048) == pytest.approx(6 * 6.6e9, rel=0.06)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362.05e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("NVIDIA B200", 2250e12),
    ],
)
def test_peaks(name, peak):
    assert peak_flops(name, "bf16") == peak_flops(name, "fp16") == peak
    assert peak_flops(name, "fp32") is None


@pytest.mark.parametrize(
    "name",
    ["NVIDIA A10G", "NVIDIA L40", "NVIDIA GeForce RTX 4090 D", "NVIDIA A100-SXM4-80GB MIG 1g.10gb"],
)
def test_similar_names_are_not_mistaken(name):
    assert peak_flops(name, "bf16") is None


def test_v100_has_no_bf16():
    assert peak_flops("Tesla V100-SXM2-32GB", "fp16") == 125e12
    assert peak_flops("Tesla V100-SXM2-32GB", "bf16") is None


def test_utilisation_is_of_all_devices():
    assert mfu(2e9, 100_000, peak=1e15) == pytest.approx(0.2)
    assert mfu(2e9, 100_000, peak=1e15, devices=4) == pytest.approx(0.05)
