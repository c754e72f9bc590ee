"""Preflight checks of the base model, without loading weights.

The input embedding is the one tensor that is read; shapes come from the headers of safetensors
files, and layers from the model built without weights. As in `nlirg.preflight.corpus_checks`,
bounds are judgement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from nlirg.chat.template import special_tokens
from nlirg.config.training import TrainConfig
from nlirg.errors import InputError
from nlirg.models import lora
from nlirg.models.language_model import expert_parameters, freeze_other_senses
from nlirg.models.loading import model_skeleton
from nlirg.models.weight_files import weight_files
from nlirg.preflight.corpus_checks import Check, Probe

SMALL_NORM = 0.1  # of the median norm: an embedding that was never pulled away from zero
NEAR_MEAN = 0.1  # of the median distance to the mean row: one that `resize_token_embeddings` made
EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings")
CHUNK_ROWS = 16_384  # of an embedding in float32 at once

Shapes = Mapping[str, tuple[int, ...]]


def weight_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes of a model's weights, by name, from the headers of safetensors files.

    Raises:
        InputError: if a file is damaged.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(directory):
        try:
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in names}
        except (SafetensorError, OSError) as error:
            raise InputError(f"model {path}: damaged weights: {error}") from None
    return shapes


def read_embedding(directory: Path, shapes: Shapes) -> torch.Tensor | None:
    """Read the input embedding [V, d] as it is stored; None if no weight has a known name."""
    name = next((name for name in shapes if _layer(name) in EMBEDDINGS), "")
    for path in weight_files(directory):
        with safe_open(path, framework="pt") as file:
            if name in set(file.keys()):
                return file.get_tensor(name)
    return None


def untrained_rows(embedding: torch.Tensor, rows: Sequence[int]) -> dict[int, str]:
    """Return the rows of an embedding that look as if no training had reached them, and why.

    A row does if its norm is far below the median, if it lies at the mean of all rows (where
    `resize_token_embeddings` puts new ones), or if another row equals it exactly.

    Args:
        embedding: [V, d], any float type; rows that pad the vocabulary left out.
        rows: the rows to judge.
    """
    parts = embedding.split(CHUNK_ROWS)
    mean = torch.stack([part.double().sum(0) for part in parts]).sum(0) / len(embedding)
    mean = mean.float()
    norms = torch.cat([part.float().norm(dim=-1) for part in parts])
    distances = torch.cat([(part.float() - mean).norm(dim=-1) for part in parts])
    reasons = {}
    for row in rows:
        alike = (norms == norms[row]).nonzero().squeeze(-1)
        if norms[row] < SMALL_NORM * norms.median():
            reasons[row] = f"norm {float(norms[row] / norms.median()):.2g} of the median"
        elif distances[row] < NEAR_MEAN * distances.median():
            reasons[row] = "equals the mean of all rows"
        elif (embedding[alike] == embedding[row]).all(-1).sum() > 1:
            reasons[row] = "equals another token's row"
    return reasons


def check_tokens_in_use(
    tokenizer: Any,
    directory: Path,
    shapes: Shapes,
    probes: Sequence[Probe],
    arms: Mapping[str, TrainConfig],
) -> Check:
    """Check the special tokens that the samples contain against the model in a directory."""
    special = special_tokens(tokenizer)
    seen = np.unique(np.concatenate([probe.input_ids for probe in probes])).tolist()
    texts = {token: tokenizer.convert_ids_to_tokens(token) for token in seen}
    names = {token: text for token, text in texts.items() if special.fullmatch(text)}
    embedding = read_embedding(directory, shapes)
    frozen = [name for name, config in arms.items() if config.lora is not None]
    kept = None if embedding is None else embedding[: len(tokenizer)]
    return check_special_tokens(kept, names, frozen)


def check_special_tokens(
    embedding: torch.Tensor | None, names: Mapping[int, str], frozen: Sequence[str]
) -> Check:
    """Check whether the special tokens that the samples contain have trained embeddings.

    Args:
        embedding: [V, d] input embedding; None if it was not found.
        names: the special tokens in the samples, by id.
        frozen: arms that leave the embedding as it is.
    """
    title = "special tokens"
    used = ", ".join(names.values()) or "none"
    if embedding is None:
        advice = f"the model's embedding is none of {', '.join(EMBEDDINGS)}: check them yourself"
        return Check(title, "warn", f"not checked (in use: {used})", advice)
    outside = [name for row, name in names.items() if row >= len(embedding)]
    if outside:
        measured = f"{', '.join(outside)}: no row in the embedding ({len(embedding)} rows)"
        return Check(title, "fail", measured, "tokenizer and model do not belong together")
    found = untrained_rows(embedding, list(names))
    if not found:
        return Check(title, "ok", f"embeddings of {used} look trained")
    measured = "; ".join(f"{names[row]} looks untrained ({why})" for row, why in found.items())
    advice = "use an instruction-tuned base, or one whose template has trained tokens"
    if frozen:
        advice = f"LoRA ({', '.join(frozen)}) leaves embeddings as they are: {advice}"
    return Check(title, "warn", measured, advice)


def _layer(name: str) -> str:
    """Return `q_proj` of `model.layers.0.self_attn.q_proj.weight`."""
    return name.removesuffix(".weight").rpartition(".")[2]


def check_lora(arms: Mapping[str, TrainConfig], model: Any, name: str) -> Check | None:
    """Check whether every arm's LoRA targets and the adapter it continues fit; None without LoRA.

    Args:
        arms: settings by arm.
        model: the base model; it needs no weights.
        name: what the recipe calls it.
    """
    users = {arm: config.lora for arm, config in arms.items() if config.lora is not None}
    if not users:
        return None
    counts = set()
    for arm, config in users.items():
        try:
            lora.check_lora(model, config, name)
        except InputError as error:
            return Check("LoRA", "fail", f"{arm}: {error}", "correct it before training")
        counts.add(len(lora.adapted_layers(model, config, name)))
    told = " or ".join(str(count) for count in sorted(counts))
    total = len(lora.linear_layers(model))
    measured = f"{told} of {total} linear layers get an adapter"
    if experts := sum(parameter.numel() for parameter in expert_parameters(model)):
        share = experts / sum(parameter.numel() for parameter in model.parameters())
        measured += f"; experts ({share:.0%} of the weights) are no such layers and get none"
    return Check("LoRA", "ok", measured)


@dataclass(frozen=True)
class Memory:
    """Bytes of one training process for what stays throughout the run."""

    weights: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.weights + self.gradients + self.optimizer


def estimate_memory(config: TrainConfig, model: Any) -> Memory:
    """Estimate the memory of weights, gradients and AdamW, without activations and logits.

    P parameters, T of them trained, W workers (Rajbhandari et al., ZeRO, arXiv 1910.02054, §3.1):
    weights 2P and gradients 2T bytes in 16 bits, with 12T bytes of optimizer (fp32 master weights
    and two moments); in fp32 4P, 4T and 8T. ZeRO stage 1 divides the optimizer by W, stage 2
    gradients too, stage 3 weights too. A LoRA layer of rank r trains r * (inputs + outputs);
    without LoRA all of the language model is trained, and nothing that sees or hears.
    """
    freeze_other_senses(model)
    parameters = float(sum(parameter.numel() for parameter in model.parameters()))
    trained = float(sum(p.numel() for p in model.parameters() if p.requires_grad))
    if config.lora is not None:
        layers = lora.adapted_layers(model, config.lora, "the model").values()
        trained = float(config.lora.rank * sum(sum(lora.widths(layer)) for layer in layers))
        parameters += trained
    width, states = (4, 8) if config.precision == "fp32" else (2, 12)
    shards = [config.num_workers if config.zero_stage >= stage else 1 for stage in (1, 2, 3)]
    return Memory(
        weights=width * parameters / shards[2],
        gradients=width * trained / shards[1],
        optimizer=states * trained / shards[0],
    )


def check_memory(arms: Mapping[str, TrainConfig], model: Any) -> Check:
    """Show the largest estimate among the arms; warn of nothing, since the device is not known."""
    estimates = {arm: estimate_memory(config, model) for arm, config in arms.items()}
    arm = max(estimates, key=lambda name: estimates[name].total)
    most, config = estimates[arm], arms[arm]
    return Check(
        "memory",
        "ok",
        f"{_bytes(most.total)} per worker: weights {_bytes(most.weights)}, gradients "
        f"{_bytes(most.gradients)}, optimizer {_bytes(most.optimizer)} ({config.precision}, ZeRO "
        f"{config.zero_stage}, {config.num_workers} worker(s)); activations come on top",
    )


def check_precision(arms: Mapping[str, TrainConfig], device: str, bf16: bool) -> Check:
    """Check whether this machine computes in the arms' precision.

    Args:
        arms: settings by arm.
        device: `cuda`, `cpu` or another name of torch's.
        bf16: whether it computes in bfloat16.
    """
    wanted = sorted({config.precision for config in arms.values()})
    measured = f"{', '.join(wanted)} on {device}"
    if "bf16" in wanted and not bf16:
        advice = "this device has no bfloat16: set train.precision to fp16 or fp32"
        return Check("precision", "fail", measured, advice)
    if "fp16" in wanted and device == "cpu":
        advice = "fp16 needs a GPU, and this machine has none: it could not be checked here"
        return Check("precision", "warn", measured, advice)
    return Check("precision", "ok", measured)


def check_feasibility(arms: Mapping[str, TrainConfig], name: str) -> list[Check]:
    """Check memory, adapters and precision of every arm, for a base model without its weights.

    Args:
        arms: settings by arm.
        name: directory or hub id of the base model.
    """
    device = torch.accelerator.current_accelerator(check_available=True)
    bf16 = torch.cuda.is_bf16_supported() if device and device.type == "cuda" else True
    model = model_skeleton(name)
    adapters = check_lora(arms, model, name)
    if adapters is not None and adapters.status == "fail":
        return [adapters]  # memory depends on the layers that are not there
    checks = [
        check_memory(arms, model),
        adapters,
        check_precision(arms, device.type if device else "cpu", bf16),
    ]
    return [check for check in checks if check is not None]


def _bytes(count: Any) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"
