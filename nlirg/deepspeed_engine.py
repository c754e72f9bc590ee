"""The training engine on DeepSpeed: ZeRO 0 to 3, fp32 or bf16 with fp32 master weights."""

from __future__ import annotations

import logging
import math
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from torch import Tensor, nn
from transformers.integrations import HfDeepSpeedConfig

from nlirg.batching import WindowBatch
from nlirg.config import TrainConfig
from nlirg.engine import adamw, clip_gradients, run_model, set_learning_rate, set_seed
from nlirg.export import export_model
from nlirg.lora import add_lora
from nlirg.models import load_model, load_tokenizer

# Elements of one gradient bucket; DeepSpeed's default of 5e8 would reserve 2 GB for any model.
BUCKET_ELEMENTS = 50_000_000


def deepspeed_config(train: TrainConfig, world_size: int) -> dict[str, Any]:
    """DeepSpeed's settings for a run.

    One step is one backward on every rank; how many windows and tokens a rank holds is the
    loop's business, so the micro-batch is 1 here whatever `train.batch_size` is.
    """
    return {
        "train_batch_size": world_size,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # Without ZeRO DeepSpeed clips without telling the norm; the engine then does both.
        "gradient_clipping": (train.max_grad_norm or 0.0) if train.zero_stage else 0.0,
        "bf16": {"enabled": train.precision == "bf16"},
        "zero_optimization": {
            "stage": train.zero_stage,
            "reduce_bucket_size": BUCKET_ELEMENTS,
            "overlap_comm": not _on_cpu(),
        },
        "steps_per_print": None,
    }


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
    """Implements `nlirg.engine.Engine` in a process whose `torch.distributed` is initialized.

    Args:
        model_path: directory of the base model, the same on every rank.
        model_name: path or hub id of the base model, recorded in an adapter.
        train: settings of the run.
        seed: of the adapters' initial values.

    Raises:
        InputError: if the model cannot be loaded or a LoRA target is not in it.
    """

    def __init__(self, model_path: str, model_name: str, train: TrainConfig, seed: int) -> None:
        _prepare_runtime()
        set_seed(seed)
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        settings = deepspeed_config(train, self.world_size)
        self._tokenizer = load_tokenizer(model_path)
        model = _load(model_path, train, settings)
        if train.lora is not None:
            model = add_lora(model, train.lora, model_name)
        self._lora = train.lora is not None
        self._zero_stage, self._max_norm = train.zero_stage, train.max_grad_norm
        self._engine, *_ = deepspeed.initialize(
            model=model, optimizer=adamw(model.parameters(), train), config=settings
        )
        self._engine.train()
        self.device = self._engine.device

    def logits(self, batch: WindowBatch) -> Tensor:
        """See `Engine.logits`."""
        return run_model(self._engine, batch)

    def backward(self, loss: Tensor) -> None:
        """See `Engine.backward`."""
        self._engine.backward(loss)

    def step(self, lr: float) -> float:
        """See `Engine.step`."""
        if self._zero_stage == 0:
            norm = clip_gradients(self._engine.module.parameters(), self._max_norm)
            if not math.isfinite(norm):
                self._engine.zero_grad()
                return norm
        set_learning_rate(self._engine.optimizer, lr)
        self._engine.step()
        return norm if self._zero_stage == 0 else float(self._engine.get_global_grad_norm())

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """See `Engine.all_reduce_sum`."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def save_state(self, directory: Path) -> None:
        """See `Engine.save_state`."""
        self._engine.save_checkpoint(
            str(directory), tag="state", exclude_frozen_parameters=self._lora
        )

    def load_state(self, directory: Path) -> None:
        """See `Engine.load_state`."""
        self._engine.load_checkpoint(str(directory), tag="state", load_module_strict=not self._lora)

    def export(self, directory: Path) -> None:
        """See `Engine.export`."""
        export_model(
            self._engine.module, self._tokenizer, directory, _gathered, writes=self.rank == 0
        )


def _load(path: str, train: TrainConfig, settings: dict[str, Any]) -> Any:
    """Load the base model; at stage 3 every rank keeps its share of each weight as it is read."""
    # transformers shards while such an object lives.
    _sharding = HfDeepSpeedConfig(settings) if train.zero_stage == 3 else None
    return load_model(path, torch.bfloat16 if train.precision == "bf16" else torch.float32)


def _gathered(parameter: nn.Parameter) -> AbstractContextManager[Any]:
    """A context in which a parameter that ZeRO 3 sharded is whole; every rank must enter it."""
    context: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters([parameter])
    return context
