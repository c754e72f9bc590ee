"""YAML files of tasks in the lm-evaluation-harness's form: whether they can be one, what they name.

They are read without running any of the code that they may name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import yaml

from nlirg.errors import InputError


class _Loader(yaml.SafeLoader):
    """YAML with the harness's `!function module.name`."""


class _Function(str):
    """What stands behind a `!function`."""


_Loader.add_constructor("!function", lambda _loader, node: _Function(node.value))


@dataclass(frozen=True)
class TaskFile:
    """What a task's file says, with the files it includes, and the local files it depends on.

    Attributes:
        config: the file's keys over those of what it includes.
        files: the file, what it includes, its data and the Python beside it that it names; those
            that there are.
    """

    config: dict[str, Any]
    files: list[Path]


def is_task_file(name: str) -> bool:
    """Whether a task is named by the path of its YAML file."""
    return name.endswith((".yaml", ".yml"))


def read_task_file(name: str) -> TaskFile:
    """Read a task's file and what it includes.

    Raises:
        InputError: if a file is missing or is not YAML, or it defines no task and no group.
    """
    files: list[Path] = []
    config = _read(Path(name).resolve(), files)
    if not any(isinstance(config.get(key), str) and config[key] for key in ("task", "group")):
        raise InputError(f"evaluate.lm_eval: {name} has no key `task` or `group` with a name")
    return TaskFile(config, list(dict.fromkeys(files)))


def _read(path: Path, files: list[Path]) -> dict[str, Any]:
    """One file over what it includes; adds to `files` what it depends on."""
    if path in files:  # as a task that includes one file twice would be; the harness refuses both
        raise InputError(f"evaluate.lm_eval: {path} is included twice, or includes itself")
    try:
        config = yaml.load(path.read_bytes(), _Loader)  # noqa: S506 - a safe loader
    except OSError:
        raise InputError(f"evaluate.lm_eval: there is no file {path}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise InputError(
            f"evaluate.lm_eval: {path} is not YAML: {' '.join(said.split())}"
        ) from None
    if not isinstance(config, dict):
        raise InputError(
            f"evaluate.lm_eval: {path} is not a mapping of keys, such as `task: my_task`"
        )
    files.append(path)
    included = config.pop("include", None) or []
    merged: dict[str, Any] = {}
    for other in included if isinstance(included, list) else [included]:
        merged |= _read((path.parent / str(other)).resolve(), files)
    files += [file for file in _depends_on(config, path.parent) if file.is_file()]
    return merged | config


def _depends_on(value: Any, folder: Path) -> Iterator[Path]:
    """Files of data and code that are named at any depth of a config and are there."""
    if isinstance(value, _Function):  # the harness looks beside the YAML file first
        yield folder / f"{value.rpartition('.')[0].replace('.', '/')}.py"
    elif isinstance(value, Mapping):
        for key, below in value.items():
            if key == "data_files":
                yield from _data(below, str(value.get("data_dir") or ""))
            else:
                yield from _depends_on(below, folder)
    elif isinstance(value, list):
        for below in value:
            yield from _depends_on(below, folder)


def _data(value: Any, folder: str) -> Iterator[Path]:
    """Local files of `data_files`: a path or pattern, a list of them, or either by split."""
    if isinstance(value, str) and "://" not in value:
        # As `datasets` does: from `data_dir`, or from the folder in which the command runs.
        pattern = str(Path(folder) / value)
        yield from sorted(Path(found) for found in glob(pattern, recursive=True))  # noqa: PTH207
    elif isinstance(value, Mapping | list):
        for below in value.values() if isinstance(value, Mapping) else value:
            yield from _data(below, folder)
