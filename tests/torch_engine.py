"""The engine in plain torch, in one process: what the DeepSpeed engine is held against."""

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nlirg.config.training import TrainConfig
from nlirg.forward.batching import TokenBatch
from nlirg.forward.output_head import Head
from nlirg.forward.tapped_model import TappedModel
from nlirg.models.export import export_model
from nlirg.models.lora import adapters_off
from nlirg.training.engine import (
    adamw,
    clip_gradients,
    evaluating,
    sampled_gradients,
    set_learning_rate,
)


class TorchEngine:
    """Implement `nlirg.training.engine.Engine` for one rank."""

    rank = 0
    world_size = 1
    lockstep = False

    def __init__(
        self, model: Any, tokenizer: Any, config: TrainConfig, teacher: Any = None
    ) -> None:
        self._base = None
        if config.lora is None and (config.replays_divergence or config.guard):
            base = copy.deepcopy(model).eval().requires_grad_(False)
            self._base = TappedModel(base, base)
            self._base.probe(base.device)
        self._module, self._tokenizer = model.train(), tokenizer
        self.model = TappedModel(model, model)
        self.device = next(model.parameters()).device
        self.model.probe(self.device)
        self.model_config = model.config
        self.teacher = None if teacher is None else TappedModel(teacher, teacher.eval())
        if self.teacher is not None:
            self.teacher.probe(self.device)
        self._max_norm = config.max_grad_norm
        self._optimizer = adamw(model.parameters(), config)
        self._trainable = [p for p in model.parameters() if p.requires_grad]

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """See `Engine.backward`."""
        loss.backward()

    def step(self, lr: float, factor: float = 1.0) -> float:
        """See `Engine.step`."""
        norm = clip_gradients(self._trainable, self._max_norm, factor)
        if math.isfinite(norm):
            set_learning_rate(self._optimizer, lr)
            self._optimizer.step()
        self._optimizer.zero_grad()
        return norm

    def gradients(self, loss: Callable[[], Tensor]) -> list[Tensor] | None:
        """See `Engine.gradients`."""
        return sampled_gradients(loss(), self._trainable)

    def base_head(self, batch: TokenBatch) -> Head:
        """See `Engine.base_head`."""
        if self._base is not None:
            return self._base.head(batch)
        with self.evaluating(), adapters_off(self._module):
            return self.model.head(batch)

    def evaluating(self) -> AbstractContextManager[None]:
        """See `Engine.evaluating`."""
        return evaluating(self._module)

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """See `Engine.all_reduce_sum`."""
        return tensor

    def save_state(self, directory: Path) -> None:
        """See `Engine.save_state`."""
        weights = {name: p for name, p in self._module.named_parameters() if p.requires_grad}
        state = {"weights": weights, "optimizer": self._optimizer.state_dict()}
        torch.save(state, directory / "state.pt")

    def load_state(self, directory: Path) -> None:
        """See `Engine.load_state`."""
        state = torch.load(directory / "state.pt", map_location=self.device, weights_only=True)
        self._module.load_state_dict(state["weights"], strict=False)
        self._optimizer.load_state_dict(state["optimizer"])

    def export(self, directory: Path) -> None:
        """See `Engine.export`."""
        export_model(self._module, self._tokenizer, directory)
