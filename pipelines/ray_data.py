"""How this project uses Ray Data: stalls ended, progress shown, errors told by their cause."""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from nlirg.errors import InputError
from pipelines.progress import Progress

MAX_BLOCKS = 200  # a sort moves the square of it between its parts
INPUT_ERROR = re.compile(rf"^{InputError.__module__}\.{InputError.__qualname__}: (.+)$", re.M)


def configure(stall_timeout_s: float) -> None:
    """Set the context of the connected process for the pipelines that follow."""
    import ray

    # A corpus of one block keeps one actor of the pool busy; that is no one's mistake.
    warnings.filterwarnings("ignore", message="The minimum number of concurrent actors")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # ours count rows that are on disk
    context.execution_no_progress_timeout_s = stall_timeout_s
    # The newer reader starts a dozen processes to read footers, whether of one file or a thousand,
    # and knows no number of blocks, so that a sort of any size has 200 parts.
    context.use_datasource_v2 = False
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # its log file keeps everything
            handler.setLevel(logging.ERROR)


def parquet_files(folder: Path) -> list[str]:
    """Paths of a folder's Parquet files in order of their names, without those being written."""
    return sorted(str(path) for path in folder.glob("*.parquet") if path.name[0] not in "._")


def read_columns(files: Sequence[str], columns: Sequence[str]) -> Any:
    """A dataset of some columns of Parquet files."""
    import ray

    # As many blocks as files, within reason: they are the parts that a later sort has.
    blocks = min(len(files), MAX_BLOCKS)
    rows = ray.data.read_parquet(list(files), override_num_blocks=blocks)
    return rows.select_columns(list(columns))


@contextmanager
def root_cause() -> Iterator[None]:
    """Re-raise an `InputError` raised in a worker as itself, without Ray's wrapping.

    Ray sends an actor's error home as text, so it is found by its one-line message there.
    """
    try:
        yield
    except Exception as error:
        told = INPUT_ERROR.findall(str(error))
        if told:
            raise InputError(told[-1]) from error
        raise


class watch_parquet:  # noqa: N801 - used as a context manager, like a function
    """Show the rows that have arrived in a folder of Parquet files while a write is under way."""

    def __init__(self, stage: str, folder: Path, every_s: float = 1.0) -> None:
        self.folder, self.every_s = folder, every_s
        self.progress = Progress(stage)
        self.rows: dict[str, int] = {}
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.stop.wait(self.every_s):
            self._count()

    def _count(self) -> None:
        for path in parquet_files(self.folder):
            if path not in self.rows:
                try:
                    self.rows[path] = pq.read_metadata(path).num_rows
                except (OSError, ValueError):  # still being written
                    continue
        self.progress.to(sum(self.rows.values()))

    def __enter__(self) -> watch_parquet:
        self.progress.__enter__()
        self.thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop.set()
        self.thread.join()
        self._count()
        self.progress.__exit__(*error)
