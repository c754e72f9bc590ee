"""Low-rank adapters on a loaded model."""

from __future__ import annotations

from typing import Any

from torch import nn

from nlirg.config import LoraConfig
from nlirg.errors import InputError


def add_lora(model: Any, config: LoraConfig, base_name: str) -> Any:
    """Freeze a model and add trainable adapters to the linear layers that `config` names.

    Args:
        model: a transformers causal language model.
        config: rank, scale, dropout and target layers.
        base_name: the model's path as the user gave it, recorded in the adapter.

    Returns:
        The peft model around it.

    Raises:
        InputError: if a target matches no linear layer.
    """
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    missing = [target for target in config.target_modules if target not in linear]
    if missing:
        raise InputError(
            f"train.lora.target_modules: {', '.join(missing)} not found in {base_name}; "
            f"its linear layers are {', '.join(sorted(linear))}"
        )
    import peft

    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # only ever divided by r
        lora_dropout=config.dropout,
        target_modules=list(config.target_modules),
        task_type="CAUSAL_LM",
    )
    adapted = peft.get_peft_model(model, settings)
    adapted.peft_config["default"].base_model_name_or_path = base_name
    return adapted
