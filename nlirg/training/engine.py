"""What the training loop needs of a backend, and the torch that every backend shares."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from nlirg.config.training import TrainConfig
from nlirg.forward.batching import TokenBatch
from nlirg.forward.output_head import Head
from nlirg.forward.tapped_model import TappedModel

# Weights whose gradients are compared when a short gradient context is checked.
SAMPLED_ELEMENTS = 32_000_000


@dataclass(frozen=True)
class ModelSource:
    """Where a run's model comes from.

    Attributes:
        path: directory of the base model, the same on every rank, or a hub id.
        name: the base model that an adapter records: its path as the user gave it, or its hub id.
        deepspeed: a user's own DeepSpeed settings, laid under the recipe's.
        template: chat template that replaces the model's.
    """

    path: str
    name: str
    deepspeed: dict[str, Any] | None = None
    template: str | None = None


class Engine(Protocol):
    """Model, backward and optimizer step of one rank; collectives over all ranks.

    Every rank calls the same methods in the same order.

    Attributes:
        rank: of this process.
        world_size: number of ranks.
        device: where the model is.
        model: the model being trained.
        model_config: its configuration.
        teacher: a frozen model on this rank, or None.
        lockstep: whether every forward is a collective, so that ranks must do equally many.
    """

    rank: int
    world_size: int
    device: torch.device
    model: TappedModel
    model_config: PretrainedConfig
    teacher: TappedModel | None
    lockstep: bool

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """Back-propagate a scalar and add to the gradients of the step.

        Args:
            loss: the gradient is the MEAN over ranks of its gradients.
            last: whether this is the step's last call.
        """

    def step(self, lr: float, factor: float = 1.0) -> float:
        """Scale the gradients, clip them, update the model, and clear them.

        Args:
            lr: learning rate.
            factor: that the gradients are multiplied by, finite and > 0.

        Returns:
            The global gradient norm after scaling and before clipping. If it is not finite,
            nothing was updated.
        """

    def gradients(self, loss: Callable[[], Tensor]) -> list[Tensor] | None:
        """Return this rank's gradients of a scalar with respect to some of the trained weights.

        Args:
            loss: computes the scalar, which is not trained.

        Returns:
            One tensor per weight of a fixed sample of them; None, without computing anything, where
            weights are sharded.
        """

    def base_head(self, batch: TokenBatch) -> Head:
        """Return what makes the base model's logits at a batch's positions, without gradient.

        With adapters it is the trained model without them, else a frozen copy.
        """

    def evaluating(self) -> AbstractContextManager[None]:
        """Return a context in which dropout is off."""

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """Sum over ranks; may change the argument."""

    def save_state(self, directory: Path) -> None:
        """Write this rank's part of weights and optimizer state."""

    def load_state(self, directory: Path) -> None:
        """Read what `save_state` wrote.

        Raises:
            InputError: if files are missing.
        """

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
    """Return AdamW over the trainable parameters, in torch's fused kernel (needs no compiler)."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.optim.AdamW(
        trainable, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


def clip_gradients(
    parameters: Iterable[nn.Parameter], max_norm: float | None, factor: float = 1.0
) -> float:
    """Multiply the gradients by `factor`, then scale them down to `max_norm`, if given.

    Returns:
        Their norm between the two.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = factor * float(torch.nn.utils.get_total_norm(gradients))
    scale = factor
    if max_norm is not None and norm > max_norm:
        scale *= max_norm / (norm + 1e-6)  # as torch and DeepSpeed clip
    if scale != 1.0 and math.isfinite(norm):
        torch._foreach_mul_(gradients, scale)
    return norm


def sampled_gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Compute gradients with respect to evenly spread weights, at most `SAMPLED_ELEMENTS`."""
    sample = spread([parameter for parameter in parameters if parameter.requires_grad])
    return list(torch.autograd.grad(loss, sample, allow_unused=True, materialize_grads=True))


def spread(parameters: Sequence[nn.Parameter]) -> Sequence[nn.Parameter]:
    """Return every n-th tensor, n as small as `SAMPLED_ELEMENTS` allows.

    Tensors that are larger alone (an embedding's) are left out: their gradients in float64 would
    take gigabytes, and outweigh all others in what is compared.
    """
    small = [p for p in parameters if p.numel() <= SAMPLED_ELEMENTS]
    stride = 1
    while sum(p.numel() for p in small[::stride]) > SAMPLED_ELEMENTS:
        stride += 1
    return small[::stride]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Return a context in which a model's dropout is off; one may stand in another."""
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)


def set_learning_rate(optimizer: Any, lr: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
