"""Arithmetic of training, and how much of a GPU's peak it uses."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

# Dense tensor-core peaks in FLOP/s for bf16 and fp16 with fp32 accumulation, from NVIDIA's data
# sheets (those that print figures "with sparsity" are halved): H100, H200, B200 (HGX), A100, L40S,
# L4, A10 and V100 tensor core GPUs; RTX 4090 from the Ada architecture whitepaper.
PEAKS = {
    r"NVIDIA B200": 2250e12,
    r"NVIDIA H200": 989.4e12,
    r"NVIDIA H200 NVL": 835.5e12,
    r"NVIDIA H100 80GB HBM3": 989.4e12,  # SXM
    r"NVIDIA H100 PCIe": 756e12,
    r"NVIDIA H100 NVL": 835.5e12,
    r"NVIDIA A100[ -].*": 312e12,
    r"NVIDIA L40S": 362.05e12,
    r"NVIDIA L4": 121e12,
    r"NVIDIA A10": 125e12,
    r"NVIDIA GeForce RTX 4090": 165.2e12,
    r"Tesla V100-SXM2-.*": 125e12,
    r"Tesla V100-PCIE-.*": 112e12,
}


def training_flops_per_token(
    model_config: Any, context: float, lora: bool = False, head_share: float = 1.0
) -> float | None:
    """Count the floating-point operations needed to train on one input token.

        full:  6 N + 6 s D V + 6 n_layer d_attn T        LoRA:  4 N + 4 s D V + 6 n_layer d_attn T

    N are the weights of the linear layers without the output head (an embedding lookup multiplies
    nothing), D V those of the head, s the share of tokens it is applied to, d_attn the width of
    all query heads and T the context. Forward, input gradient and weight gradient take 2 N each
    (Kaplan et al. 2020, arXiv 2001.08361, table 1 and section 2.1). Frozen weights need no weight
    gradient; what adapters add is under 1 % and left out. Attention takes 12 n_layer d_attn T
    (PaLM, arXiv 2204.02311, appendix B), half of it under a causal mask. What gradient
    checkpointing repeats does not count: this is for model FLOPs utilisation.

    Args:
        model_config: a `transformers` configuration.
        context: mean length of the sequences in tokens.
        lora: whether the base weights are frozen.
        head_share: share of the input tokens whose logits are computed.

    Returns:
        FLOPs per input token; None for a model with weights outside linear layers, such as a
        mixture of experts, where it cannot be told which of them a token uses.
    """
    parameters = matmul_parameters(model_config)
    if parameters is None:
        return None
    body, head = parameters
    text = model_config.get_text_config()
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    attention = 6 * text.num_hidden_layers * text.num_attention_heads * head_dim * context
    return (4 if lora else 6) * (body + head_share * head) + attention


def matmul_parameters(model_config: Any) -> tuple[int, int] | None:
    """Count the weights that every token is multiplied by: the body's, and the output head's.

    Args:
        model_config: a `transformers` configuration; the model is built without memory.

    Returns:
        Two counts, or None if there are matrices in neither a linear layer nor an embedding.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config)
    head = model.get_output_embeddings()
    linear = {module for module in model.modules() if isinstance(module, nn.Linear)}
    lookups = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    known = {id(module.weight) for module in (*linear, *lookups)}
    if any(weight.ndim > 1 and id(weight) not in known for weight in model.parameters()):
        return None
    return sum(module.weight.numel() for module in linear - {head}), head.weight.numel()


def peak_flops(device_name: str, precision: str) -> float | None:
    """Return the dense peak of a GPU in FLOP/s.

    Args:
        device_name: as `torch.cuda.get_device_name` gives it.
        precision: bf16, fp16 or fp32.

    Returns:
        None if the GPU is not known, is a part of one (MIG), or has no such tensor cores.
    """
    if precision not in ("bf16", "fp16") or ("V100" in device_name and precision == "bf16"):
        return None
    matches = (peak for name, peak in PEAKS.items() if re.fullmatch(name, device_name))
    return None if " MIG " in device_name else next(matches, None)


def mfu(flops_per_token: float, tokens_per_s: float, peak: float, devices: int = 1) -> float:
    """Return the model FLOPs utilisation (PaLM, arXiv 2204.02311, appendix B).

    Args:
        flops_per_token: of training, see `training_flops_per_token`.
        tokens_per_s: input tokens per second on all devices together, without padding.
        peak: FLOP/s of one device.
        devices: how many.

    Returns:
        The share of the peak that went into needed arithmetic.
    """
    return flops_per_token * tokens_per_s / (peak * devices)
