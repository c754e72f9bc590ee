"""The training engine on DeepSpeed: ZeRO 0 to 3, half precision with fp32 master weights."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from pydantic import ValidationError
from torch import Tensor, nn
from transformers.integrations import HfDeepSpeedConfig

from nlirg.config.training import TrainConfig
from nlirg.errors import InputError
from nlirg.forward.batching import TokenBatch
from nlirg.forward.output_head import Head
from nlirg.forward.tapped_model import TappedModel
from nlirg.models.export import export_model
from nlirg.models.language_model import freeze_other_senses
from nlirg.models.loading import check_precision, check_vocabulary, load_model, load_tokenizer
from nlirg.models.lora import adapters_off, add_lora
from nlirg.training.deepspeed_settings import deepspeed_settings
from nlirg.training.engine import (
    ModelSource,
    adamw,
    clip_gradients,
    evaluating,
    sampled_gradients,
    set_learning_rate,
    set_seed,
)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def _on_cpu() -> bool:
    return bool(get_accelerator().device_name() == "cpu")


def _prepare_runtime() -> None:
    """Quieten DeepSpeed, and keep it from compiling C++ where there is no GPU."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # DeepSpeed calls collectives by names that torch is about to rename: a line every step.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    if _on_cpu():
        # The shared-memory collectives are built by a compiler at first use; gloo needs none.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


class DeepSpeedEngine:
    """Implement `nlirg.training.engine.Engine` in a process with `torch.distributed` initialized.

    Args:
        source: base model and DeepSpeed settings.
        train: settings of the run.
        seed: of the adapters' initial values.

    Raises:
        InputError: if the model cannot be loaded, the device cannot do what the settings ask, or
            a LoRA target is not in the model.
    """

    def __init__(self, source: ModelSource, train: TrainConfig, seed: int) -> None:
        _prepare_runtime()
        check_precision(train.precision)
        set_seed(seed)
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        settings = deepspeed_settings(train, self.world_size, _on_cpu(), source.deepspeed)
        self._train = train
        self._tokenizer = load_tokenizer(source.path, chat=False, template=source.template)
        # Before the model: while a sharding configuration lives, every model is sharded.
        self.teacher = _load_teacher(train, self._tokenizer)
        self._base = _load_base(source, train)
        module = _load(source, train, settings)
        self.model_config = module.config
        self.model = TappedModel(module, self._forward)
        try:
            self._engine, *_ = deepspeed.initialize(
                model=module, optimizer=adamw(module.parameters(), train), config=settings
            )
        except ValidationError as error:
            wrong = error.errors()[0]
            key = ".".join(map(str, wrong["loc"]))
            raise InputError(f"train.deepspeed: {key}: {wrong['msg']}") from None
        self._engine.train()
        self._forward_module: nn.Module = self._engine
        self.device = self._engine.device
        self.lockstep = train.zero_stage == 3 and self.world_size > 1
        self.model.probe(self.device)

    def _forward(self, **inputs: Any) -> Any:
        return self._forward_module(**inputs)

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """See `Engine.backward`."""
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss)

    def step(self, lr: float, factor: float = 1.0) -> float:
        """See `Engine.step`."""
        if self._train.zero_stage == 0:
            # Without ZeRO DeepSpeed clips without telling the norm.
            parameters = list(self._engine.module.parameters())
            norm = clip_gradients(parameters, self._train.max_grad_norm, factor)
            if not math.isfinite(norm):
                self._engine.zero_grad()
                return norm
        set_learning_rate(self._engine.optimizer, lr)
        with self._scaled(factor):
            self._engine.step()
        if self._train.zero_stage:
            norm = float(self._engine.get_global_grad_norm())
        return norm

    @contextmanager
    def _scaled(self, factor: float) -> Iterator[None]:
        """Have ZeRO multiply the gradients where it takes the loss scale out of them anyway."""
        if self._train.zero_stage == 0:
            yield
            return
        scaler = self._engine.optimizer.loss_scaler
        scaler.cur_scale /= factor
        try:
            yield
        finally:
            scaler.cur_scale *= factor  # a dynamic scale may have moved meanwhile

    def gradients(self, loss: Callable[[], Tensor]) -> list[Tensor] | None:
        """See `Engine.gradients`."""
        if self._train.zero_stage == 3:
            return None
        # DeepSpeed takes a gradient of what its own forward returns for the beginning of a step.
        self._forward_module = self._engine.module
        try:
            return sampled_gradients(loss(), list(self._engine.module.parameters()))
        finally:
            self._forward_module = self._engine

    def base_head(self, batch: TokenBatch) -> Head:
        """See `Engine.base_head`."""
        if self._base is not None:
            return self._base.head(batch)
        with self.evaluating(), adapters_off(self._engine.module):
            return self.model.head(batch, whole=self._train.zero_stage < 3)

    def evaluating(self) -> AbstractContextManager[None]:
        """See `Engine.evaluating`."""
        return evaluating(self._engine.module)

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """See `Engine.all_reduce_sum`."""
        dist.all_reduce(tensor)
        return tensor

    def save_state(self, directory: Path) -> None:
        """See `Engine.save_state`."""
        self._engine.save_checkpoint(
            str(directory), tag="state", exclude_frozen_parameters=self._train.lora is not None
        )

    def load_state(self, directory: Path) -> None:
        """See `Engine.load_state`."""
        _check_whole(directory, self.world_size if self._train.zero_stage else 0)
        self._engine.load_checkpoint(
            str(directory), tag="state", load_module_strict=self._train.lora is None
        )

    def export(self, directory: Path) -> None:
        """See `Engine.export`."""
        export_model(
            self._engine.module, self._tokenizer, directory, _gathered, writes=self.rank == 0
        )


def _check_whole(directory: Path, shards: int) -> None:
    """Refuse a checkpoint without all its files: DeepSpeed would go on with a fresh optimizer.

    Args:
        directory: of the checkpoint.
        shards: files of optimizer state that it must have.
    """
    weights, optimizer = (
        len([*(directory / "state").glob(f"*{kind}_states.pt")]) for kind in ("model", "optim")
    )
    if not weights or optimizer < shards:
        raise InputError(
            f"checkpoint {directory} lacks files of its DeepSpeed state: delete the arm's folder "
            "to start again"
        )


def _load(source: ModelSource, train: TrainConfig, settings: dict[str, Any]) -> Any:
    """Load the base model; at stage 3 every rank keeps its share of each weight as it is read."""
    # transformers shards while such an object lives.
    _sharding = HfDeepSpeedConfig(settings) if train.zero_stage == 3 else None
    model: Any = load_model(source.path, DTYPES[train.precision], train.attention)
    freeze_other_senses(model)
    if train.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return model if train.lora is None else add_lora(model, train.lora, source.name)


def _load_teacher(train: TrainConfig, tokenizer: Any) -> TappedModel | None:
    """Load the teacher, whole and frozen, on this rank's device or on the worker's second one."""
    wanted = train.distillation
    if wanted is None:
        return None
    check_vocabulary("train.distillation.teacher", wanted.teacher, tokenizer)
    device = _teacher_device(wanted.own_device)
    return _frozen(load_model(wanted.teacher, DTYPES[wanted.precision]), device)


def _load_base(source: ModelSource, train: TrainConfig) -> TappedModel | None:
    """Load the base model a second time, where it is needed as it was and all of it is trained."""
    if train.lora is not None or not (train.replays_divergence or train.guard):
        return None
    model = load_model(source.path, DTYPES[train.precision], train.attention)
    return _frozen(model, _teacher_device(own=False))


def _frozen(model: Any, device: torch.device) -> TappedModel:
    model = model.to(device).eval().requires_grad_(False)
    tapped = TappedModel(model, model)
    tapped.probe(device)
    return tapped


def _teacher_device(own: bool) -> torch.device:
    """Return this rank's device, or the one after it that the worker was given for the teacher."""
    if _on_cpu():
        if own:
            raise InputError("train.distillation.own_device needs GPUs; leave it out on CPUs")
        return torch.device("cpu")
    current = int(get_accelerator().current_device())
    if own and get_accelerator().device_count() < current + 2:
        raise InputError("train.distillation.own_device: the worker sees no second device")
    return torch.device(get_accelerator().device_name(current + int(own)))


def _gathered(parameter: nn.Parameter) -> AbstractContextManager[Any]:
    """Return a context in which a sharded parameter is whole; every rank must enter it."""
    context: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters([parameter])
    return context
