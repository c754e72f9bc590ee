"""Training metrics on disk: `metrics.jsonl`, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

TAIL_BYTES = 16_384  # some tens of records


class MetricsLog:
    """Appends records to `metrics.jsonl` and `tensorboard/` in a folder.

    Args:
        directory: the run's folder.
        after_step: the step that the run continues from; records of later steps, written before
            a crash and about to be repeated, are dropped.
    """

    def __init__(self, directory: Path, after_step: int = 0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "metrics.jsonl"
        kept = [record for record in read_metrics(path) if record["step"] <= after_step]
        rewritten = directory / ".metrics.jsonl.unfinished"
        rewritten.write_text("".join(json.dumps(record) + "\n" for record in kept), "utf-8")
        rewritten.replace(path)
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(directory / "tensorboard"), purge_step=after_step + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; None values have no TensorBoard point."""
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()
        for key, value in record.items():
            if key != "step" and value is not None:
                self._board.add_scalar(f"train/{key}", value, record["step"])

    def close(self) -> None:
        """Write out what is buffered."""
        self._file.close()
        self._board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Records of a `metrics.jsonl`; a last line cut off by a crash is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def last_record(path: Path) -> dict[str, Any] | None:
    """The last whole record of a `metrics.jsonl` of any size; None if there is none yet."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().splitlines(keepends=True)
    whole = [line for line in lines if line.startswith(b"{") and line.endswith(b"\n")]
    return json.loads(whole[-1]) if whole else None
