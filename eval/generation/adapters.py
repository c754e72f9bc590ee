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

TARGET_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
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
    """A checked LoRA adapter."""

    name: str
    path: str
    rank: int
    target_modules: tuple[str, ...]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model or adapter, sorted by name.

    Raises:
        InputError: if there are none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory; name the folder of a saved model")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder}: no *.safetensors file; save the weights as safetensors")
    return files


def weights_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of the weight files and of the configuration."""
    digest = hashlib.sha256()
    for path in [*weight_files(folder), *sorted(folder.glob("*config.json"))]:
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
    for path in weight_files(folder):
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
    rank, targets = settings["r"], tuple(sorted(settings["target_modules"]))
    expected = _expected_shapes(base, rank, targets)
    path = folder / "adapter_model.safetensors"
    if weight_files(folder) != [path]:
        raise InputError(f"{folder}: expected adapter_model.safetensors as the only weight file")
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
    return Adapter(name, str(folder), rank, targets)


def _adapter_settings(path: Path) -> dict[str, Any]:
    """Read `adapter_config.json` of a plain LoRA adapter."""
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path}: not a JSON file") from None
    for key, off in PLAIN.items():
        if settings.get(key, off) not in (off, None):
            raise InputError(
                f"{path}: {key} is {settings[key]!r}; only plain LoRA adapters are evaluated, "
                "merge this one into a full model first"
            )
    if not isinstance(settings.get("r"), int):
        raise InputError(f"{path}: r must be a whole number")
    targets = settings.get("target_modules")
    if not isinstance(targets, list) or not targets or set(targets) - set(TARGET_MODULES):
        raise InputError(
            f"{path}: target_modules is {targets!r}; supported are {', '.join(TARGET_MODULES)}"
        )
    return settings


def _expected_shapes(base: Path, rank: int, targets: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the adapter's tensors: A is [rank, in], B is [out, rank]."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(base):
        with _opened(path) as file:
            for key in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
                module = key.removesuffix(".weight")
                if module.rpartition(".")[2] not in targets:
                    continue
                out_features, in_features = file.get_slice(key).get_shape()
                shapes[f"{ADAPTER_PREFIX}{module}.lora_A.weight"] = (rank, in_features)
                shapes[f"{ADAPTER_PREFIX}{module}.lora_B.weight"] = (out_features, rank)
    return shapes


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
