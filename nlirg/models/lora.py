"""Low-rank adapters on a loaded model: new ones, or one that is continued."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from nlirg.config.training import LoraConfig
from nlirg.errors import InputError
from nlirg.models.language_model import language_modules

# Features of `peft.LoraConfig` whose effect cannot be seen in the names and shapes of the tensors.
NOT_PLAIN = ("alpha_pattern", "use_dora", "alora_invocation_tokens")


def add_lora(model: Any, config: LoraConfig, base_name: str) -> Any:
    """Freeze a model and add trainable adapters to the linear layers that `config` names.

    The adapters have the model's dtype: under bf16 or fp16 DeepSpeed keeps their fp32 master copy.

    Args:
        model: a transformers causal language model.
        config: rank, scale, dropout, target layers, and the adapter to continue, if any.
        base_name: the model's absolute path or hub id, recorded in the adapter.

    Returns:
        The peft model around it.

    Raises:
        InputError: if a target matches no linear layer, or the adapter to continue is for another
            base model, differs from `config`, or is damaged.
    """
    import peft

    targets, tensors = check_lora(model, config, base_name)
    layers = adapted_layers(model, config, base_name)
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # only ever divided by r or its root
        lora_dropout=config.dropout,
        # Ends of names may also fit layers outside the language model.
        target_modules=targets if _all_that_end(model, targets) == layers.keys() else list(layers),
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in layers.values()),
        use_rslora=config.rslora,
        task_type="CAUSAL_LM",
    )
    adapted = peft.get_peft_model(model, settings, autocast_adapter_dtype=False)
    adapted.peft_config["default"].base_model_name_or_path = base_name
    if tensors is not None:
        _load_tensors(adapted, tensors, config)
    return adapted


@contextmanager
def adapters_off(adapted: Any) -> Iterator[None]:
    """Return a context in which a peft model computes what its base computes.

    peft's own also freezes the adapters and thaws them again, on which an optimizer's hooks and a
    graph that waits for its backward do not count.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [m for m in adapted.modules() if isinstance(m, BaseTunerLayer)]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def check_lora(
    model: Any, config: LoraConfig, base_name: str
) -> tuple[list[str], dict[str, Tensor] | None]:
    """Find the layers to adapt, and read the adapter to continue; the model needs no weights.

    Returns:
        The layers as `target_layers`, and the adapter's tensors if there is one.

    Raises:
        InputError: as `add_lora`, but for the names and shapes of the adapter's tensors.
    """
    targets = target_layers(model, config, base_name)
    if config.resume_from is None:
        return targets, None
    return targets, _read_adapter(Path(config.resume_from).expanduser(), config, base_name)


def linear_layers(model: Any) -> dict[str, nn.Module]:
    """Return every linear layer of the language model but the output head, by its full name.

    GPT-2's `Conv1D` is one whose weight is stored as [inputs, outputs].
    """
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in language_modules(model)
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head
    }


def widths(layer: nn.Module) -> tuple[int, int]:
    """Return how many inputs and outputs a linear layer has."""
    first, second = layer.get_parameter("weight").shape
    return (first, second) if isinstance(layer, Conv1D) else (second, first)


def adapted_layers(model: Any, config: LoraConfig, base_name: str) -> dict[str, nn.Module]:
    """Return the linear layers that get an adapter, by their full names.

    Raises:
        InputError: as `target_layers`.
    """
    ends = _ends(target_layers(model, config, base_name))
    return {
        name: layer for name, layer in linear_layers(model).items() if f".{name}".endswith(ends)
    }


def _ends(targets: list[str]) -> tuple[str, ...]:
    return tuple(f".{target}" for target in targets)


def _all_that_end(model: Any, targets: list[str]) -> set[str]:
    """Return the names of all modules that peft would take for these targets."""
    return {name for name, _ in model.named_modules() if f".{name}".endswith(_ends(targets))}


def target_layers(model: Any, config: LoraConfig, base_name: str) -> list[str]:
    """Return the names (last parts, or dotted ends) of the layers to adapt, sorted.

    `all-linear` is every linear layer of the language model but the output head. The head never has
    an adapter: the loss reads its weight as it is.

    Raises:
        InputError: if a name matches no such layer, or there is none.
    """
    layers = linear_layers(model)
    names = sorted({name.rpartition(".")[2] for name in layers})
    if not layers:
        raise InputError(
            f"train.lora: {base_name} has no linear layer that could get an adapter; leave "
            "train.lora out, to train the whole model"
        )
    if config.target_modules == "all-linear":
        return names
    missing = [
        target
        for target in config.target_modules
        if not any(f".{name}".endswith(f".{target}") for name in layers)
    ]
    if missing:
        raise InputError(
            f"train.lora.target_modules: {', '.join(missing)} not found in {base_name}; its linear "
            f"layers (without the output head) are {', '.join(names)}"
        )
    return sorted(config.target_modules)


def _read_adapter(folder: Path, config: LoraConfig, base_name: str) -> dict[str, Tensor]:
    """Read the tensors of an adapter, once its settings prove to be the recipe's."""
    settings = _adapter_settings(folder)
    _check_base(folder, settings, base_name)
    for key, mine, recipe_key in (
        ("r", config.rank, "rank"),
        ("lora_alpha", config.alpha, "alpha"),
        ("use_rslora", config.rslora, "rslora"),
    ):
        theirs = settings.get(key, False)
        if theirs != mine:
            raise InputError(
                f"train.lora.{recipe_key} is {mine}, but {folder} was trained with {theirs}; "
                f"set train.lora.{recipe_key}={theirs} to continue it"
            )
    try:
        tensors = load_file(folder / "adapter_model.safetensors")
    except OSError:
        raise InputError(
            f"train.lora.resume_from: {folder} has no readable adapter_model.safetensors (pickled "
            "*.bin weights can run code and are refused)"
        ) from None
    except SafetensorError as error:
        raise InputError(
            f"train.lora.resume_from: {folder}/adapter_model.safetensors is damaged: {error}"
        ) from None
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise InputError(
            f"train.lora.resume_from: {folder}: {len(broken)} tensors hold NaN or infinity, the "
            f"first is {broken[0]}"
        )
    return tensors


def _adapter_settings(folder: Path) -> dict[str, Any]:
    path = folder / "adapter_config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(
            f"train.lora.resume_from: {folder} holds no adapter (no readable adapter_config.json)"
        ) from None
    except ValueError as error:
        raise InputError(f"train.lora.resume_from: {path} is not JSON: {error}") from None
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        raise InputError(f"train.lora.resume_from: {path} is not a LoRA adapter's")
    extra = [key for key in NOT_PLAIN if settings.get(key)]
    if extra:
        raise InputError(
            f"train.lora.resume_from: {path} has {extra[0]}, which is more than plain LoRA; merge "
            "that adapter into its base model and train a new one"
        )
    return settings


def _check_base(folder: Path, settings: dict[str, Any], base_name: str) -> None:
    recorded = settings.get("base_model_name_or_path")
    if not recorded or not _same_model(str(recorded), base_name):
        raise InputError(
            f"train.lora.resume_from: {folder} is an adapter for {recorded or 'an unnamed model'}, "
            f"but the recipe's model is {base_name}; if the two are the same, correct "
            "base_model_name_or_path in its adapter_config.json"
        )


def _same_model(one: str, other: str) -> bool:
    """Say whether two names are one hub id, or lead to one directory."""
    if one.rstrip("/") == other.rstrip("/"):
        return True
    first, second = Path(one).expanduser(), Path(other).expanduser()
    return first.is_dir() and second.is_dir() and first.samefile(second)


def _load_tensors(adapted: Any, tensors: dict[str, Tensor], config: LoraConfig) -> None:
    import peft

    folder = config.resume_from
    expected = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    if tensors.keys() != expected.keys():
        odd = min(tensors.keys() ^ expected.keys())
        where = "only in the adapter" if odd in tensors else "not in the adapter"
        raise InputError(
            f"train.lora.resume_from: {folder} adapts other layers than the recipe: {odd} is "
            f"{where}; set train.lora.target_modules to the adapter's"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise InputError(
                f"train.lora.resume_from: {folder}: {name} has shape {tuple(tensor.shape)}, the "
                f"recipe's model needs {tuple(expected[name].shape)}; was it trained on another?"
            )
    peft.set_peft_model_state_dict(adapted, tensors)
