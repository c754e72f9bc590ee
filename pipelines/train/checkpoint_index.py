"""Keeping Ray Train's index of checkpoints whole.

Ray Train writes the index in place after every checkpoint. A process killed in that moment leaves
it torn, and the run could not be continued by anything but deleting it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster.rundir import write_text

INDEX = "checkpoint_manager_snapshot.json"
COPY = "checkpoint_index_copy.json"


def index_keeper(folder: Path) -> Any:
    """A Ray Train callback that copies the index after every checkpoint.

    It runs in the process that writes the index, so never while it is being written.

    Args:
        folder: of the checkpoints.
    """
    import ray.train

    class IndexKeeper(ray.train.UserCallback):
        def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
            copy_index(folder)

    return IndexKeeper()


def copy_index(folder: Path) -> None:
    """Copy the index, if there is one yet.

    Old checkpoints are deleted only after the index that leaves them out is written. So whatever
    the copy names still exists when a later index is found torn.
    """
    index = folder / INDEX
    if index.is_file():
        write_text(folder / COPY, index.read_text(encoding="utf-8"))


def repair_index(folder: Path) -> None:
    """Replace a torn index by its copy; one torn at its first writing is deleted.

    Args:
        folder: of the checkpoints; may not exist yet.
    """
    index, copy = folder / INDEX, folder / COPY
    if not index.is_file() or _is_json(index):
        return
    if copy.is_file():
        write_text(index, copy.read_text(encoding="utf-8"))
    else:
        index.unlink()


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True
