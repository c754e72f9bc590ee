"""Memory and CPU time of a process and all that it starts, sampled from outside."""

from __future__ import annotations

import multiprocessing
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pyarrow.parquet as pq

from pipelines.ray_data import parquet_files

EVERY_S = 0.5
KINDS = ("driver", "actor", "task", "daemon")


class Sample(NamedTuple):
    """A moment.

    Attributes:
        rows: rows of the files in the folder watched.
        cpu: kind of process -> user CPU seconds so far, of processes that have ended too.
    """

    rows: int
    cpu: dict[str, float]


class Watch(threading.Thread):
    """Samples a process, its descendants, and the rows in a folder of Parquet files.

    Of Ray's workers, actors and tasks are told apart by their titles; its servers are daemons.

    Attributes:
        peaks: kind of process -> most bytes of its own that one of them had. Memory that
            processes share (the object store, libraries) is left out: no one holds it alone.
        samples: the moments, in order.
    """

    def __init__(self, pid: int, folder: Path) -> None:
        super().__init__(daemon=True)
        self._root, self._folder = psutil.Process(pid), folder
        self._ended = threading.Event()
        self._cpu: dict[tuple[int, str], float] = {}
        self._rows: dict[str, int] = {}
        self.peaks: dict[str, int] = defaultdict(int)
        self.samples: list[Sample] = []

    def run(self) -> None:
        while not self._ended.wait(EVERY_S):
            self._sample()

    def stop(self) -> None:
        """Take no more samples."""
        self._ended.set()
        self.join()

    def _sample(self) -> None:
        try:
            processes = [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            try:
                kind, memory = self._kind(process), process.memory_info()
                self._cpu[process.pid, kind_of_life(kind)] = process.cpu_times().user
            except psutil.Error:
                continue
            self.peaks[kind] = max(self.peaks[kind], memory.rss - memory.shared)
        cpu: dict[str, float] = defaultdict(float)
        for (_, kind), seconds in self._cpu.items():
            cpu[kind] += seconds
        for path in parquet_files(self._folder):
            if path not in self._rows:
                self._rows[path] = pq.read_metadata(path).num_rows
        self.samples.append(Sample(sum(self._rows.values()), dict(cpu)))

    def _kind(self, process: psutil.Process) -> str:
        if process.pid == self._root.pid:
            return "driver"
        title = " ".join(process.cmdline())
        if not title.startswith("ray::"):
            return "daemon"
        return "actor" if "MapWorker" in title else "task"


def kind_of_life(kind: str) -> str:
    """Kinds by which CPU time is counted: a worker that waits has the title of a task."""
    return "worker" if kind in ("actor", "task") else kind


def watched(folder: Path, work: Callable[..., Any], *arguments: Any) -> Watch:
    """Run `work(*arguments)` in a new process and watch it.

    Raises:
        RuntimeError: if it fails.
    """
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    watch = Watch(process.pid or 0, folder)
    watch.start()
    process.join()
    watch.stop()
    if process.exitcode:
        raise RuntimeError(f"{work.__name__} failed")
    return watch
