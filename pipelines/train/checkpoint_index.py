"""Ray Train's index of checkpoints, which it writes in place after every one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nlirg.training.checkpoint import copy_index

INDEX = "checkpoint_manager_snapshot.json"


def index_keeper(folder: Path) -> Any:
    """Make a Ray Train callback that copies the index after every checkpoint.

    It runs in the process that writes the index, so never while it is being written.

    Args:
        folder: of the checkpoints.
    """
    import ray.train

    class IndexKeeper(ray.train.UserCallback):
        def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
            copy_index(folder / INDEX)

    return IndexKeeper()
