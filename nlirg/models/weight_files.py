"""Which files of a model's folder hold its weights."""

from __future__ import annotations

import json
from pathlib import Path

from nlirg.errors import InputError

INDEX = "model.safetensors.index.json"
# What publishers put beside them for other programs: the same weights once more, under other names.
FOREIGN_WEIGHTS = "consolidated*"


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that transformers and peft read, sorted by name.

    One whole file, or the shards that the index names; files of other programs do not count.

    Raises:
        InputError: if the index is damaged.
    """
    for name in ("model.safetensors", "adapter_model.safetensors"):
        if (folder / name).is_file():
            return [folder / name]
    index = folder / INDEX
    if not index.is_file():
        return sorted(set(folder.glob("*.safetensors")) - set(folder.glob(FOREIGN_WEIGHTS)))
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return sorted(path for name in names if (path := folder / name).is_file())
    except (ValueError, KeyError, AttributeError, TypeError):
        raise InputError(f"{index}: damaged: it names no weight files by `weight_map`") from None
