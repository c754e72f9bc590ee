"""What the training loop needs of a backend, and the plain one-process backend."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nlirg.batching import WindowBatch
from nlirg.config import TrainConfig
from nlirg.export import export_model


class Engine(Protocol):
    """Forward, backward and optimizer step of one rank; collectives over all ranks.

    Every rank calls the same methods in the same order.
    """

    rank: int
    world_size: int
    device: torch.device

    def logits(self, batch: WindowBatch) -> Tensor:
        """Logits [B, batch.logits_to_keep, V] of the last positions of every row."""

    def backward(self, loss: Tensor) -> None:
        """Back-propagate a scalar; the gradient is the MEAN of the ranks' gradients."""

    def step(self, lr: float) -> float:
        """Clip, update with this learning rate, and clear the gradients.

        Returns:
            The global gradient norm before clipping. If it is not finite, nothing was updated.
        """

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """Sum over ranks; may change the argument."""

    def save_state(self, directory: Path) -> None:
        """Write this rank's part of weights and optimizer state."""

    def load_state(self, directory: Path) -> None:
        """Read what `save_state` wrote at the same world size."""

    def export(self, directory: Path) -> None:
        """Write the model (or the adapter alone) as `transformers` and `peft` load it.

        Raises:
            InputError: on the first rank, if a weight is not finite.
        """


def set_seed(seed: int) -> None:
    """Seed the random numbers of Python, numpy and torch (every device)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def adamw(parameters: Iterable[nn.Parameter], config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, in torch's fused kernel (needs no compiler)."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.optim.AdamW(
        trainable, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None) -> float:
    """Scale the gradients down to `max_norm`, if given; return their norm before that."""
    limit = math.inf if max_norm is None else max_norm
    return float(torch.nn.utils.clip_grad_norm_(parameters, limit))


def run_model(model: Any, batch: WindowBatch) -> Tensor:
    """Forward of a causal language model on a window batch; logits [B, K, V]."""
    output = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        logits_to_keep=batch.logits_to_keep,
        use_cache=False,
    )
    logits: Tensor = output.logits
    return logits


class TorchEngine:
    """One process, plain torch: the reference that the DeepSpeed engine is held against."""

    rank = 0
    world_size = 1

    def __init__(self, model: Any, tokenizer: Any, config: TrainConfig) -> None:
        self.model, self._tokenizer = model.train(), tokenizer
        self.device = next(model.parameters()).device
        self._max_norm = config.max_grad_norm
        self._optimizer = adamw(model.parameters(), config)
        self._trainable = [p for p in model.parameters() if p.requires_grad]

    def logits(self, batch: WindowBatch) -> Tensor:
        """See `Engine.logits`."""
        return run_model(self.model, batch)

    def backward(self, loss: Tensor) -> None:
        """See `Engine.backward`."""
        loss.backward()

    def step(self, lr: float) -> float:
        """See `Engine.step`."""
        norm = clip_gradients(self._trainable, self._max_norm)
        if math.isfinite(norm):
            set_learning_rate(self._optimizer, lr)
            self._optimizer.step()
        self._optimizer.zero_grad()
        return norm

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """See `Engine.all_reduce_sum`."""
        return tensor

    def save_state(self, directory: Path) -> None:
        """See `Engine.save_state`."""
        weights = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        state = {"weights": weights, "optimizer": self._optimizer.state_dict()}
        torch.save(state, directory / "state.pt")

    def load_state(self, directory: Path) -> None:
        """See `Engine.load_state`."""
        state = torch.load(directory / "state.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["weights"], strict=False)
        self._optimizer.load_state_dict(state["optimizer"])

    def export(self, directory: Path) -> None:
        """See `Engine.export`."""
        export_model(self.model, self._tokenizer, directory)


def set_learning_rate(optimizer: Any, lr: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
