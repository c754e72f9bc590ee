"""DeepSpeed's settings for a run: what the recipe decides, and a user's own JSON under it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from nlirg.config.training import TrainConfig
from nlirg.errors import InputError

# Elements of one gradient bucket; DeepSpeed's default of 5e8 would reserve 2 GB for any model.
BUCKET_ELEMENTS = 50_000_000

# DeepSpeed ignores top-level keys that it does not know, and some that it knows would change the
# training loop (elasticity, pipelines, curricula): only these are passed on.
PASSED_ON = (
    "aio",
    "bf16",
    "comms_logger",
    "communication_data_type",
    "data_types",
    "disable_python_gc",
    "dump_state",
    "flops_profiler",
    "fp16",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "memory_breakdown",
    "optimizer",
    "scheduler",
    "steps_per_print",
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "wall_clock_breakdown",
    "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
    "zero_optimization",
)

SECTIONS = {
    "aio",
    "bf16",
    "comms_logger",
    "data_types",
    "flops_profiler",
    "fp16",
    "optimizer",
    "optimizer.params",
    "scheduler",
    "scheduler.params",
    "zero_optimization",
    "zero_optimization.offload_optimizer",
    "zero_optimization.offload_param",
}

# DeepSpeed's names of the recipe's schedules, as JSON files written for other trainers use them.
SCHEDULERS = {"constant": "WarmupLR", "linear": "WarmupDecayLR", "cosine": "WarmupCosineLR"}

# Keys that would break what the trainer promises, with the reason and the way out.
REFUSED = {
    "activation_checkpointing": "transformers models take no notice of it; set "
    "train.gradient_checkpointing",
    "bfloat16": "is an old name; write bf16",
    "zero_optimization.cpu_offload": "is an old name; write offload_optimizer",
    "zero_optimization.cpu_offload_param": "is an old name; write offload_param",
    "zero_optimization.zenflow": "updates weights from stale gradients; leave it out",
}

# Values the trainer relies on, whatever the recipe.
FIXED = {
    # A step with a NaN gradient must change nothing.
    "bf16.check_grad_overflow": True,
    "bf16.bf16_master_weights_and_grads": False,
    "fp16.fp16_master_weights_and_grads": False,
    # The step reports the gradient norm and is skipped where it is not finite.
    "zero_optimization.compute_grad_norm": True,
    # The optimizer is torch's AdamW, which runs on offloaded states as well.
    "zero_force_ds_cpu_optimizer": False,
}


def deepspeed_settings(
    train: TrainConfig, world_size: int, on_cpu: bool, user: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Build the configuration for `deepspeed.initialize`.

    One step is one or more backwards on every rank, whose boundaries the engine sets itself; how
    many windows and tokens a rank holds is the loop's business. So DeepSpeed gets batches of
    1 without accumulation whatever the recipe says, and a user's numbers are held against the
    recipe instead.

    Args:
        train: settings of the run.
        world_size: number of ranks.
        on_cpu: whether the accelerator is the CPU.
        user: a DeepSpeed JSON. What the recipe decides may be absent, "auto" or equal there;
            "auto" elsewhere means the trainer's or DeepSpeed's own default.

    Raises:
        InputError: if the JSON contradicts the recipe or the trainer, or holds unknown sections.
    """
    settings = _recipe_settings(train, world_size, on_cpu)
    decided = _decided(train, world_size)
    for key, value in _leaves(user or {}):
        _check_key(key, value)
        if value in ("auto", {}):
            continue
        if key in decided:
            _check_equal(key, value, *decided[key])
        elif key in FIXED:
            _check_fixed(key, value)
        elif key.startswith(("optimizer.", "scheduler.")):
            raise InputError(
                f'train.deepspeed: {key} is {value}, but the recipe decides; make it "auto" or '
                f"leave {key.partition('.')[0]} out"
            )
        else:
            _put(settings, key, value)
    _check_offload(settings["zero_optimization"])
    _check_accumulation(settings)
    return settings


def _recipe_settings(train: TrainConfig, world_size: int, on_cpu: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "train_batch_size": world_size,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # Without ZeRO DeepSpeed clips without telling the norm; the engine then does both.
        "gradient_clipping": (train.max_grad_norm or 0.0) if train.zero_stage else 0.0,
        "bf16": {"enabled": train.precision == "bf16"},
        # Loss scale 0 means dynamic.
        "fp16": {"enabled": train.precision == "fp16", "loss_scale": 0},
        "zero_optimization": {
            "stage": train.zero_stage,
            "reduce_bucket_size": BUCKET_ELEMENTS,
            "overlap_comm": not on_cpu,
        },
        "steps_per_print": None,
    }
    for key, value in FIXED.items():
        _put(settings, key, value)
    return settings


def _decided(train: TrainConfig, world_size: int) -> dict[str, tuple[Any, str]]:
    """Return what the recipe decides: JSON key, value in DeepSpeed's words, recipe's key."""
    slots = train.batch_size // world_size
    return {
        "train_batch_size": (train.batch_size, "train.batch_size"),
        "train_micro_batch_size_per_gpu": (
            train.micro_batch_size or slots,
            "train.micro_batch_size",
        ),
        "gradient_accumulation_steps": (
            train.gradient_accumulation_steps,
            "train.gradient_accumulation_steps",
        ),
        "gradient_clipping": (train.max_grad_norm or 0.0, "train.max_grad_norm"),
        "bf16.enabled": (train.precision == "bf16", "train.precision"),
        "fp16.enabled": (train.precision == "fp16", "train.precision"),
        "zero_optimization.stage": (train.zero_stage, "train.zero_stage"),
        "optimizer.type": ("AdamW", "optimizer, which is always AdamW"),
        "optimizer.params.lr": (train.learning_rate, "train.learning_rate"),
        "optimizer.params.weight_decay": (train.weight_decay, "train.weight_decay"),
        "optimizer.params.betas": ([0.9, 0.999], "AdamW"),
        "optimizer.params.eps": (1e-8, "AdamW"),
        "scheduler.type": (SCHEDULERS[train.schedule], "train.schedule"),
        "steps_per_print": (train.log_every, "train.log_every"),
    }


def _leaves(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; an empty section is a leaf, so that its name is checked."""
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _put(settings: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        settings = settings.setdefault(section, {})
    settings[name] = value


def _check_key(key: str, value: Any) -> None:
    for refused, reason in REFUSED.items():
        if key == refused or key.startswith(f"{refused}."):
            raise InputError(f"train.deepspeed: {refused} {reason}")
    section = key.partition(".")[0]
    if section not in PASSED_ON:
        near = difflib.get_close_matches(section, PASSED_ON, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it may hold {', '.join(PASSED_ON)}"
        raise InputError(f"train.deepspeed: {section} is not passed on to DeepSpeed; {hint}")
    if key in SECTIONS and value not in ("auto", {}):
        raise InputError(f"train.deepspeed: {key} is {value}, but must be an object ({{...}})")


def _check_equal(key: str, value: Any, expected: Any, recipe_key: str) -> None:
    if value != expected:
        raise InputError(
            f"train.deepspeed: {key} is {value}, but by the recipe ({recipe_key}) it is "
            f'{expected}; make the two agree, or write "auto" in the JSON'
        )


def _check_fixed(key: str, value: Any) -> None:
    if value != FIXED[key]:
        raise InputError(
            f"train.deepspeed: {key} is {value}, but the trainer needs {FIXED[key]}; leave it out"
        )


def _check_offload(zero: dict[str, Any]) -> None:
    """Refuse offloading that DeepSpeed's stage does not have, and that it would silently ignore."""
    for what, device, stage in (
        ("offload_optimizer", "cpu", 1),
        ("offload_optimizer", "nvme", 3),
        ("offload_param", "cpu", 3),
        ("offload_param", "nvme", 3),
    ):
        section = zero.get(what, {})
        if section.get("device", "none") != device:
            continue
        if zero["stage"] < stage:
            raise InputError(
                f"train.deepspeed: zero_optimization.{what} to {device} needs ZeRO stage {stage} "
                f"or more, but train.zero_stage is {zero['stage']}; set train.zero_stage={stage}"
            )
        if device == "nvme" and not section.get("nvme_path"):
            raise InputError(
                f"train.deepspeed: zero_optimization.{what} to nvme needs nvme_path, a directory "
                "on a local NVMe disk of every node"
            )


def _check_accumulation(settings: dict[str, Any]) -> None:
    """Refuse the one combination whose gradients cannot be scaled: its optimizer is another."""
    zero = settings["zero_optimization"]
    wide = settings.get("data_types", {}).get("grad_accum_dtype") in ("fp32", "float32")
    if wide and settings["bf16"]["enabled"] and zero["stage"] == 1:
        raise InputError(
            "train.deepspeed: data_types.grad_accum_dtype fp32 with bf16 needs ZeRO stage 2 or 3; "
            "set train.zero_stage=2"
        )
