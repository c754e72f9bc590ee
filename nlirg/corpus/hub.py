"""Datasets of the Hugging Face hub (`hf://owner/name`) and folders of `datasets.save_to_disk`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from nlirg.config.corpus import DataConfig
from nlirg.errors import InputError, first_line

SCHEME = "hf://"
ROWS = 1024  # turned into Python values at once
REVISION = re.compile("[0-9a-f]{40}")


def is_dataset(path: str) -> bool:
    """Whether a source is a dataset of the hub or a folder that `save_to_disk` wrote."""
    folder = Path(path).expanduser()
    saved = (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )
    return path.startswith(SCHEME) or saved


def dataset_name(source: DataConfig) -> str:
    """What rows of a dataset are told to come from: its name, configuration and split."""
    if not source.path.startswith(SCHEME):
        return str(_folder(source))
    return ":".join(filter(None, (source.path, source.config, source.split)))


def load(source: DataConfig, version: str = "") -> tuple[Any, str]:
    """Load a dataset; of the hub it is downloaded once per machine, and kept in files.

    Args:
        source: names it.
        version: of the hub's dataset, as an earlier call gave it: the rows must be the same.

    Returns:
        The `datasets.Dataset`, and its version (for a dataset of the hub its commit; "" for a
        folder).

    Raises:
        InputError: if there is no such dataset, configuration or split, or it has changed.
    """
    if not source.path.startswith(SCHEME):
        return _from_folder(str(_folder(source))), ""
    pinned = version if REVISION.fullmatch(version) else source.revision
    name = source.path.removeprefix(SCHEME)
    try:
        dataset, found = _from_hub(name, source.config, source.split, pinned)
    except Exception as fault:  # the library raises whatever its parts do
        raise InputError(f"data {source.path}: cannot load it: {first_line(fault)}") from None
    if version and found != version:
        raise InputError(f"data {source.path}: has changed from {version} to {found}")
    return dataset, found


def read_rows(dataset: Any, start: int, stop: int) -> Iterator[dict[str, Any]]:
    """Rows `start` to `stop` (exclusive); class labels by their names, images and sounds packed."""
    names = {
        column: feature.names
        for column, feature in dataset.features.items()
        if type(feature).__name__ == "ClassLabel"
    }
    tables = dataset.with_format("arrow")
    for first in range(start, stop, ROWS):
        for row in tables[first : min(first + ROWS, stop)].to_pylist():
            named = {
                column: labels[row[column]]
                for column, labels in names.items()
                if row[column] is not None and row[column] >= 0  # -1: has no label
            }
            yield {**row, **named}


@lru_cache(maxsize=4)
def _from_hub(name: str, config: str | None, split: str, revision: str | None) -> tuple[Any, str]:
    from datasets import load_dataset_builder

    builder = load_dataset_builder(name, config, revision=revision)
    builder.download_and_prepare()
    return builder.as_dataset(split=split), builder.hash


@lru_cache(maxsize=4)
def _from_folder(folder: str) -> Any:
    from datasets import load_from_disk

    try:
        return load_from_disk(folder)
    except Exception as fault:  # the library raises whatever its parts do
        raise InputError(
            f"data {folder}: cannot load the saved dataset: {first_line(fault)}"
        ) from None


def _folder(source: DataConfig) -> Path:
    folder = Path(source.path).expanduser().absolute()
    if not (folder / "dataset_dict.json").is_file():
        return folder
    splits = sorted(file.parent.name for file in folder.glob("*/state.json"))
    if source.split not in splits:
        raise InputError(f"data {folder}: has no split {source.split!r}, only {', '.join(splits)}")
    return folder / source.split
