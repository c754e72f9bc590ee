"""Killing training processes at chosen moments, each fault proved by what it left behind."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nlirg.monitoring.metrics_log import last_record

WAIT_S = 180


def first_worker(arm: Path) -> int | None:
    """Process id of an arm's first worker, from the name of its newest TensorBoard file."""
    files = sorted((arm / "tensorboard").glob("events.out.tfevents.*"), key=os.path.getmtime)
    return int(files[-1].name.split(".")[-2]) if files else None


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def saved_steps(arm: Path) -> list[int]:
    """Steps of the checkpoints that Ray Train would continue from."""
    try:
        index = json.loads((arm / "checkpoints" / "checkpoint_manager_snapshot.json").read_text())
    except (OSError, ValueError):
        return []
    return [int(one["checkpoint_dir_name"].split("-")[1]) for one in index["checkpoint_results"]]


def done_steps(arm: Path) -> int:
    """Last step in the metrics."""
    last = last_record(arm / "metrics.jsonl")
    return 0 if last is None else last["step"]


def kill_in_mid_save(arm: Path, not_before: int) -> list[str] | None:
    """Kill the first worker while it saves a step later than `not_before`.

    Returns:
        The files that the unfinished checkpoint had; None if no such save is under way.
    """
    unfinished = [
        folder
        for folder in (arm / "checkpoints").glob("step-*")
        if int(folder.name[5:]) > not_before and not (folder / "progress.json").exists()
    ]
    pid = first_worker(arm)
    if not unfinished or pid is None or not alive(pid):
        return None
    # Held still, it cannot finish between the look and the kill.
    os.kill(pid, signal.SIGSTOP)
    if (unfinished[0] / "progress.json").exists():
        os.kill(pid, signal.SIGCONT)
        return None
    left = [str(path.relative_to(unfinished[0])) for path in unfinished[0].rglob("*")]
    os.kill(pid, signal.SIGKILL)
    return left


def kill_in_mid_training(arm: Path, after: int) -> int | None:
    """Kill the first worker once it is past step `after`; returns the last step in its metrics."""
    pid, step = first_worker(arm), done_steps(arm)
    if step <= after or not saved_steps(arm) or pid is None or not alive(pid):
        return None
    os.kill(pid, signal.SIGKILL)
    return step


class Saboteur(threading.Thread):
    """Tries faults, in order and each until it has fired, beside a running training.

    Attributes:
        fired: what each fault returned.
    """

    def __init__(self, *faults: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._faults, self.fired = faults, []

    def run(self) -> None:
        deadline = time.monotonic() + WAIT_S
        for fault in self._faults:
            found = None
            while found is None and time.monotonic() < deadline:
                time.sleep(0.0005)
                found = fault()
            if found is not None:
                self.fired.append(found)
