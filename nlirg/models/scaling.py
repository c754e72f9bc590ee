"""A trained model at another strength: between its base (scale 0) and itself (1), or beyond.

An adapter adds `scaling * B A` to a weight, so its strength is one number of its settings. Weights
that were trained whole are interpolated, `base + scale * (tuned - base)` (WiSE-FT, arXiv
2109.01903). For an adapter both come to the same.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nlirg.atomic_io import atomic_directory, write_json
from nlirg.errors import InputError
from nlirg.models.weight_files import weight_files

ADAPTER_SETTINGS = "adapter_config.json"
CARD = "README.md"  # of other weights
NUMBERS_AT_ONCE = 1 << 24  # 64 MiB in float32


def scale_name(arm: str, scale: float) -> str:
    """Return the name of an arm at a scale: `nlirg@0.5`."""
    return f"{arm}@{scale:.12g}"


def scale_adapter(adapter: Path, scale: float, directory: Path, *, own: bool = False) -> None:
    """Write a LoRA adapter that acts `scale` times as strongly.

    peft's and vLLM's factor is alpha / r, with rsLoRA alpha / sqrt(r): alpha carries the scale in
    both. The weights are the same file where the file system allows it.

    Args:
        adapter: directory of the adapter.
        scale: above 0.
        directory: replaced whole, in one rename.
        own: whether the weights are copied all the same, so that whoever changes them later does
            not change the adapter's.

    Raises:
        InputError: if the adapter's settings cannot be read.
    """
    path = adapter / ADAPTER_SETTINGS
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        settings["lora_alpha"] = scale * settings["lora_alpha"]
        patterns = settings.get("alpha_pattern") or {}
        settings["alpha_pattern"] = {key: scale * alpha for key, alpha in patterns.items()}
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: holds no lora_alpha; is it a LoRA adapter's?") from None
    directory.parent.mkdir(parents=True, exist_ok=True)
    with atomic_directory(directory) as temporary:
        temporary.mkdir()
        for file in adapter.iterdir():
            if file.is_file() and file.name not in (ADAPTER_SETTINGS, CARD):
                give = shutil.copyfile if own else _share
                give(file, temporary / file.name)
        write_json(temporary / ADAPTER_SETTINGS, settings)


def _share(file: Path, target: Path) -> None:
    """Give a file a second name, or copy it where that is not possible."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def interpolate(base: Path, tuned: Path, scale: float, directory: Path) -> None:
    """Write the model `base + scale * (tuned - base)`, from what is on disk.

    Computed in float32 and kept in the tuned model's stored dtype, one tensor after another, so
    that main memory holds a single tensor of both. Whole numbers are the tuned model's.

    Args:
        base: directory of the base model.
        tuned: directory of the trained one; its settings and tokenizer are copied.
        scale: above 0; beyond 1 it extrapolates.
        directory: replaced whole, in one rename. It takes the disk of one more model.

    Raises:
        InputError: if a weight of the tuned model is not in the base or has another shape there, a
            file is damaged, or a weight comes out as NaN or infinity; `directory` is left as it
            was.
    """
    weights = weight_files(tuned)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened, atomic_directory(directory) as temporary:
        temporary.mkdir()
        for file in tuned.iterdir():
            if file.is_file() and file.name != CARD and file.suffix != ".safetensors":
                shutil.copyfile(file, temporary / file.name)
        before = _Weights(base, opened)
        for file in weights:
            with (temporary / file.name).open("wb") as target:
                _write_between(before, file, scale, target)


def require_between(base: Path, tuned: Path) -> None:
    """Refuse two models between which `interpolate` finds nothing, from their headers alone.

    Raises:
        InputError: as `interpolate`, but for what a look at the numbers would tell.
    """
    with ExitStack() as opened:
        before = _Weights(base, opened)
        for file in weight_files(tuned):
            after = opened.enter_context(_opened(file))
            for name in after.keys():  # noqa: SIM118 - a safetensors file is no mapping
                part = after.get_slice(name)
                if part.get_dtype().startswith(("F", "BF")):
                    before.find(name, tuple(part.get_shape()))


class _Weights:
    """The tensors of a model's folder by name."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self.folder = folder
        self._files: dict[str, Any] = {}
        for path in weight_files(folder):
            file = opened.enter_context(_opened(path))
            self._files |= dict.fromkeys(file.keys(), file)

    def like(self, name: str, tuned: Tensor) -> Tensor:
        """Return the tensor that became `tuned`."""
        file, known = self.find(name, tuple(tuned.shape))
        found: Tensor = file.get_tensor(known)
        return found

    def find(self, name: str, shape: tuple[int, ...]) -> tuple[Any, str]:
        """Return where the tensor is that became one of this name and shape: file and own name.

        Some published models leave out the first part of every name, which transformers writes.

        Raises:
            InputError: if there is none.
        """
        remedy = "nothing lies between them: leave out evaluate.scales, or train an adapter"
        for known in (name, name.partition(".")[2]):
            if known in self._files:
                found = tuple(self._files[known].get_slice(known).get_shape())
                if found == shape:
                    return self._files[known], known
                raise InputError(
                    f"{self.folder}: {known} has shape {found}, the tuned model's has {shape}; "
                    f"{remedy}"
                )
        raise InputError(
            f"{self.folder}: holds no weight {name}, which the tuned model has; {remedy}"
        )


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file: {error}") from None


def _write_between(before: _Weights, file: Path, scale: float, target: BinaryIO) -> None:
    """Write a weight file with the layout of `file`, whose header is taken over as it is."""
    with _opened(file) as tuned:
        header, entries = _header(file)
        target.write(header)
        for name in sorted(entries, key=lambda name: entries[name]["data_offsets"][0]):
            after = tuned.get_tensor(name)
            whole = after if not after.is_floating_point() else before.like(name, after)
            for part in _between(whole, after, scale):
                if not part.isfinite().all():
                    raise InputError(
                        f"{file}: {name} comes out with NaN or infinity at scale {scale:g} in "
                        f"{part.dtype}; choose a smaller scale"
                    )
                target.write(part.view(torch.uint8).numpy().data)


def _header(file: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the length and header of a safetensors file as bytes, and its tensors' entries."""
    with file.open("rb") as content:
        start = content.read(8)
        text = content.read(struct.unpack("<Q", start)[0])
    entries = json.loads(text)
    entries.pop("__metadata__", None)
    return start + text, entries


def _between(before: Tensor, after: Tensor, scale: float) -> Iterator[Tensor]:
    """Yield the numbers of `before + scale * (after - before)` in `after`'s dtype, flat parts."""
    first, last = before.reshape(-1), after.reshape(-1)
    for start in range(0, len(last), NUMBERS_AT_ONCE):
        end = last[start : start + NUMBERS_AT_ONCE]
        if scale == 1 or not after.is_floating_point():
            yield end
            continue
        begin = first[start : start + NUMBERS_AT_ONCE].float()
        yield (begin + scale * (end.float() - begin)).to(after.dtype)
