"""Models and adapters are looked at before an engine loads them.

vLLM loads an adapter of the wrong shape, with missing tensors or with NaN without a word, and one
NaN spoils the engine's cache for every later request. Here such files are refused by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nlirg.errors import InputError
from nlirg.models.loading import model_skeleton
from nlirg.models.lora import linear_layers, widths
from nlirg.models.weight_files import weight_files

ADAPTER_PREFIX = "base_model.model."
BLOCK_BYTES = 1 << 22

# Features of `peft.LoraConfig` beyond W + BA on whole linear layers, and the value that is off.
PLAIN: dict[str, Any] = {
    "modules_to_save": None,
    "use_dora": False,
    "bias": "none",
    "lora_bias": False,
    "layers_to_transform": None,
    "exclude_modules": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "alora_invocation_tokens": None,
    "rank_pattern": {},
    "alpha_pattern": {},
}


@dataclass(frozen=True)
class Adapter:
    """A checked LoRA adapter; `target_modules` are the last parts of its layers' names."""

    name: str
    path: str
    rank: int
    target_modules: tuple[str, ...]


def _weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a model or adapter.

    Raises:
        InputError: if there are none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory; name the folder of a saved model")
    files = weight_files(folder)
    if not files:
        raise InputError(f"{folder}: no *.safetensors file; save the weights as safetensors")
    return files


def weights_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of the weight files and of the configuration."""
    digest = hashlib.sha256()
    for path in [*_weight_files(folder), *sorted(folder.glob("*config.json"))]:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def check_model(folder: Path) -> None:
    """Refuse a model whose weights are not safetensors or not finite.

    Raises:
        InputError: naming the file and the tensor.
    """
    for path in _weight_files(folder):
        for name, tensor in _tensors(path):
            _require_finite(path, name, tensor)


def check_adapter(name: str, folder: Path, base: Path) -> Adapter:
    """Refuse an adapter that would not act on the base model as `peft` would have it.

    Args:
        name: the variant's name.
        folder: holds `adapter_config.json` and `adapter_model.safetensors`.
        base: the directory of the model it was trained on.

    Raises:
        InputError: naming the file and the key or tensor.
    """
    settings = _adapter_settings(folder / "adapter_config.json")
    rank, layers = settings["r"], _adapted(base, settings["target_modules"])
    expected = {
        f"{ADAPTER_PREFIX}{layer}.lora_{side}.weight": shape
        for layer, (inputs, outputs) in layers.items()
        for side, shape in (("A", (rank, inputs)), ("B", (outputs, rank)))
    }
    [path] = _weight_files(folder)
    found = set()
    for key, tensor in _tensors(path):
        if key not in expected:
            raise InputError(f"{path}: tensor {key} belongs to no target module of {base}")
        if tuple(tensor.shape) != expected[key]:
            raise InputError(
                f"{path}: tensor {key} has shape {tuple(tensor.shape)}, "
                f"{base} needs {expected[key]}; was it trained on another model?"
            )
        _require_finite(path, key, tensor)
        found.add(key)
    missing = sorted(expected.keys() - found)
    if missing:
        raise InputError(f"{path}: {len(missing)} tensors are missing, the first is {missing[0]}")
    ends = {layer.rpartition(".")[2] for layer in layers}
    return Adapter(name, str(folder), rank, tuple(sorted(ends)))


def _adapter_settings(path: Path) -> dict[str, Any]:
    """Read `adapter_config.json` of a plain LoRA adapter."""
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path}: not a JSON file") from None
    for key, off in PLAIN.items():
        if (settings.get(key) or off) != off:
            raise InputError(
                f"{path}: {key} is {settings[key]!r}; only plain LoRA adapters are evaluated, "
                "merge this one into a full model first"
            )
    if not isinstance(settings.get("r"), int):
        raise InputError(f"{path}: r must be a whole number")
    targets = settings.get("target_modules")
    if not isinstance(targets, list) or not targets:
        raise InputError(f"{path}: target_modules is {targets!r}; a list of names is needed")
    return settings


def _adapted(base: Path, targets: list[str]) -> dict[str, tuple[int, int]]:
    """Return inputs and outputs of the base model's layers that targets name, by full name."""
    ends = tuple(f".{target}" for target in targets)
    layers = linear_layers(model_skeleton(str(base)))
    return {name: widths(layer) for name, layer in layers.items() if f".{name}".endswith(ends)}


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file: {error}") from None


def _tensors(path: Path) -> Iterator[tuple[str, Any]]:
    """Every tensor of a file with its name, one in memory at a time."""
    with _opened(path) as file:
        for key in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
            yield key, file.get_tensor(key)


def _require_finite(path: Path, key: str, tensor: Any) -> None:
    if not tensor.isfinite().all():
        raise InputError(f"{path}: tensor {key} holds NaN or infinity; the training diverged")
