"""DeepSpeed JSON files: the presets of this folder by name, or a user's own by path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nlirg.errors import InputError

FOLDER = Path(__file__).parent


def read_deepspeed_json(name_or_path: str) -> dict[str, Any]:
    """Read a preset (`zero2`, `zero3_cpu_offload`, ...) or a DeepSpeed JSON file.

    A preset's name wins; write `./zero2` for a file of that name.

    Raises:
        InputError: if there is neither such a preset nor such a file, or it is not a JSON object.
    """
    presets = {path.stem: path for path in sorted(FOLDER.glob("*.json"))}
    path = presets.get(name_or_path, Path(name_or_path).expanduser())
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise InputError(
            f"train.deepspeed: {name_or_path} is neither a readable file nor a preset; the "
            f"presets are {', '.join(presets)}"
        ) from None
    try:
        settings = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise InputError(
            f"train.deepspeed: {name_or_path}: line {error.lineno}: {error.msg}"
        ) from None
    except ValueError as error:
        raise InputError(f"train.deepspeed: {name_or_path}: {error}") from None
    if not isinstance(settings, dict):
        raise InputError(f"train.deepspeed: {name_or_path}: must be a JSON object ({{...}})")
    return settings


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of a key given twice, json alone would keep the last without a word."""
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice} is there twice")
    return result
