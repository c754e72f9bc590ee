"""Training metrics on disk: `metrics.jsonl`, `alarms.jsonl`, and the numbers for TensorBoard."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from nlirg.atomic_io import write_text
from nlirg.monitoring.alarm import Alarm
from nlirg.monitoring.heatmap import weight_heatmap
from nlirg.monitoring.trackers import Tracker
from nlirg.training.step_metrics import BIN_WIDTH, LOSS_BINS

TAIL_BYTES = 65_536  # some tens of records
HEATMAP_EVERY = 50  # records
HEATMAP_TAG = "train/weight_heatmap"

logger = logging.getLogger(__name__)


class MetricsLog:
    """Appends records to `metrics.jsonl`, `tensorboard/` and the trackers of a run.

    Args:
        directory: the run's folder.
        after_step: the step that the run continues from; records and alarms of later steps,
            written before a crash and about to be repeated, are dropped.
        trackers: also given every number; one that fails is left out from then on.
    """

    def __init__(
        self, directory: Path, after_step: int = 0, trackers: Sequence[Tracker] = ()
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        kept, self._file = _rewound(directory / "metrics.jsonl", after_step)
        _, self._alarms = _rewound(directory / "alarms.jsonl", after_step)
        self._board = SummaryWriter(str(directory / "tensorboard"), purge_step=after_step + 1)
        self._trackers = list(trackers)
        self._step = after_step
        self._weights = [entry["weight_histogram"] for entry in kept if "weight_histogram" in entry]

    def write(self, record: dict[str, Any]) -> None:
        """Append one record.

        Numbers become scalars, those in a dict under its name; lists are histograms on
        `LOSS_BINS`; None has no point.
        """
        _append(self._file, record)
        self._step = step = record["step"]
        values = dict(scalars(record))
        for key, value in values.items():
            self._board.add_scalar(f"train/{key}", value, step)
        for key, value in record.items():
            if isinstance(value, list):
                self._write_histogram(f"train/{key}", value, step)
        if "weight_histogram" in record:
            self._weights.append(record["weight_histogram"])
            if len(self._weights) % HEATMAP_EVERY == 0:
                self._draw()
        self._tell(lambda tracker: tracker.log(step, values))

    def alarm(self, alarm: Alarm) -> None:
        """Append one alarm, show it in TensorBoard, and warn."""
        _append(self._alarms, asdict(alarm))
        self._board.add_text(f"alarms/{alarm.kind}", alarm.message, alarm.step)
        logger.warning("step %d: %s", alarm.step, alarm.message)

    def close(self) -> None:
        """Write out what is buffered, and the last weight heatmap."""
        self._tell(lambda tracker: tracker.close())
        self._draw()
        for file in (self._file, self._alarms, self._board):
            file.close()

    def _write_histogram(self, tag: str, counts: list[float], step: int) -> None:
        """Show sums per loss bin; moments are those of the bins' middles."""
        mass, limits = np.array(counts, dtype=float), np.array(LOSS_BINS) + BIN_WIDTH
        middles = limits - BIN_WIDTH / 2
        self._board.add_histogram_raw(
            tag,
            min=0.0,
            max=float(limits[-1]),
            num=float(mass.sum()),
            sum=float(mass @ middles),
            sum_squares=float(mass @ middles**2),
            bucket_limits=limits.tolist(),
            bucket_counts=mass.tolist(),
            global_step=step,
        )

    def _draw(self) -> None:
        if self._weights:
            image = weight_heatmap(self._weights)
            self._board.add_image(HEATMAP_TAG, image, self._step, dataformats="HWC")

    def _tell(self, call: Callable[[Tracker], None]) -> None:
        """Call every tracker; one that fails must not stop the training."""
        for tracker in list(self._trackers):
            try:
                call(tracker)
            except Exception as error:  # whatever their libraries raise
                self._trackers.remove(tracker)
                reason = " ".join(str(error).split())
                text = (
                    f"{tracker.name} failed and gets nothing more from this run ({reason}): "
                    "metrics.jsonl and TensorBoard are complete; check its server and login"
                )
                self.alarm(Alarm(f"tracker_{tracker.name}", self._step, text))


def scalars(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Return the numbers of a record but its step, those of a dict as `<key>/<its key>`."""
    for key, value in record.items():
        nested = value.items() if isinstance(value, dict) else ()
        for name, number in ((key, value), *((f"{key}/{inner}", v) for inner, v in nested)):
            if isinstance(number, int | float) and name != "step":
                yield name, number


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the records of a `metrics.jsonl`; a last line cut off by a crash is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def last_record(path: Path, key: str = "step") -> dict[str, Any] | None:
    """Return the last whole record of a `metrics.jsonl` that has a key; None if there is none yet.

    Of a large file only the last records are looked at.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().splitlines(keepends=True)
    for line in reversed(lines):
        if line.startswith(b"{") and line.endswith(b"\n") and key in (record := json.loads(line)):
            found: dict[str, Any] = record
            return found
    return None


def _rewound(path: Path, after_step: int) -> tuple[list[dict[str, Any]], TextIO]:
    """Drop the lines after a step; return the others, and the file to append to."""
    kept = [entry for entry in read_metrics(path) if entry["step"] <= after_step]
    write_text(path, "".join(json.dumps(entry) + "\n" for entry in kept))
    return kept, path.open("a", encoding="utf-8")


def _append(file: TextIO, entry: dict[str, Any]) -> None:
    file.write(json.dumps(entry, allow_nan=False) + "\n")
    file.flush()
