"""The run directory: the only thing stages share.

    <storage>/<name>/
      recipe.yaml  env.json  quarantine.jsonl  holdout.jsonl
      scores/{*.parquet, tokens/*.arrow, duplicates/, profile.json, report.html}
      selected/{index.arrow, corpus-*.jsonl, dropped.jsonl}  encoded/*.parquet
      replay/{plan.parquet, tokens/*.arrow, left_out.jsonl}
      train/<arm>/{metrics.jsonl, tensorboard/, checkpoints/, model/}
      paraphrases/cases.jsonl  eval/<variant>/{samples_<suite>.jsonl, results_all.json}
      eval/<variant>/{resamples/samples_<suite>.jsonl, flips.jsonl}
      tune/  report/{index.html, report.md, results.json}
      export/<arm>@<scale>/  export/answers/<arm>@<scale>/

Beside the runs of a storage, `.answers/` keeps what base models answered, for all of them.

A stage's folder holds `_SUCCESS`, written last: a small JSON with the format's version, the
fingerprint of the settings that produced it, and its summary. A folder without it is unfinished,
whatever else it contains.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nlirg.atomic_io import write_json
from nlirg.errors import InputError

# Version of what stages write; a folder of another version is refused, never misread.
FORMAT = 3

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def fingerprint(settings: Any) -> str:
    """Hash of JSON-able settings, equal for equal meaning whatever the order of keys."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class StageFolder:
    """One stage's folder and its `_SUCCESS` marker."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def marker(self) -> Path:
        """The file whose presence says that the stage is complete."""
        return self.path / "_SUCCESS"

    def finished(self, settings_fingerprint: str) -> dict[str, Any] | None:
        """Return the summary if the stage is complete for these settings, else None.

        Raises:
            InputError: if the stage is complete for other settings, or its marker is damaged.
        """
        if not self.marker.is_file():
            return None
        if self.fingerprint() != settings_fingerprint:
            raise InputError(
                f"{self.path} was made with other settings; choose another run name, or delete "
                "that folder to make it again"
            )
        return self.summary()

    def summary(self) -> dict[str, Any]:
        """Return the summary of a complete stage.

        Raises:
            InputError: if the stage is not complete.
        """
        summary: dict[str, Any] = self._record()["summary"]
        return summary

    def fingerprint(self) -> str:
        """Return the fingerprint of the settings that a complete stage was made with.

        Raises:
            InputError: if the stage is not complete.
        """
        found: str = self._record()["fingerprint"]
        return found

    def _record(self) -> dict[str, Any]:
        """What the marker says."""
        if not self.marker.is_file():
            raise InputError(f"{self.path} is not complete: run the stage that makes it first")
        record = _read_record(self.marker, {"fingerprint": str, "summary": dict}, MARKER_REMEDY)
        self._check_format(record)
        return record

    def _check_format(self, record: Mapping[str, Any]) -> None:
        if record.get("format") != FORMAT:
            raise InputError(
                f"{self.path} was written by another version of nlirg (format "
                f"{record.get('format', 1)}, this one reads {FORMAT}): choose another run name, "
                "or delete that folder to make it again"
            )

    def claim(self, settings_fingerprint: str) -> bool:
        """Note whose unfinished files the folder holds, before the first of them is written.

        Returns:
            Whether it holds unfinished files of these settings already.

        Raises:
            InputError: if it holds unfinished files of other settings, or the note is damaged.
        """
        note = self.path / "settings.json"
        if not note.is_file():
            write_json(note, {"format": FORMAT, "fingerprint": settings_fingerprint})
            return False
        record = _read_record(note, {"fingerprint": str}, f"delete {self.path} to start it again")
        self._check_format(record)
        if record["fingerprint"] != settings_fingerprint:
            raise InputError(
                f"{self.path} holds unfinished work with other settings; choose another run name, "
                "or delete that folder to start it again"
            )
        return True

    def succeed(self, settings_fingerprint: str, summary: dict[str, Any]) -> None:
        """Write the marker; the last thing a stage does."""
        record = {"format": FORMAT, "fingerprint": settings_fingerprint, "summary": summary}
        write_json(self.marker, record)

    def clear(self) -> None:
        """Delete the folder with whatever unfinished work it holds."""
        shutil.rmtree(self.path, ignore_errors=True)


MARKER_REMEDY = "delete this file and run the same command again: it goes on with what is there"


def _read_record(path: Path, keys: Mapping[str, type], remedy: str) -> dict[str, Any]:
    """A JSON object that a stage wrote about itself.

    Raises:
        InputError: naming file and remedy, if it is not one with values of these types.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or not all(
        isinstance(record.get(key), kind) for key, kind in keys.items()
    ):
        raise InputError(f"{path}: damaged; {remedy}")
    return record


class RunDirectory:
    """Paths of one run; nothing is created until it is written."""

    def __init__(self, storage: str, name: str) -> None:
        if "://" in storage:
            raise InputError(
                f"storage {storage!r}: only a path that every node sees (local disk, NFS) works; "
                "mount the bucket and give its path"
            )
        if not NAME.fullmatch(name):
            raise InputError(
                f"name {name!r}: use letters, digits, '.', '_' and '-', starting with a letter "
                "or digit"
            )
        self.path = Path(storage).expanduser().resolve() / name
        self.corpus = self.path  # where scores/, selected/ and encoded/ are

    def sweep(self) -> RunDirectory:
        """The run directory of this run's sweep: its own arms on this run's corpus."""
        child = RunDirectory(str(self.path), "tune")
        child.corpus = self.corpus
        return child

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the run; the system lets go when this process ends.

        Raises:
            InputError: if another process works on the run.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise InputError(
                f"{self.path} is in use by another process: wait for it, or end it"
            ) from None
        try:
            yield
        finally:
            lock.release()

    @property
    def quarantine(self) -> Path:
        """Rows set aside, one JSON object a line with file, line and reason."""
        return self.path / "quarantine.jsonl"

    @property
    def holdout(self) -> Path:
        """Rows kept from training for the evaluation: id, task_type, messages."""
        return self.corpus / "holdout.jsonl"

    @property
    def scores(self) -> StageFolder:
        """Scored corpus."""
        return StageFolder(self.corpus / "scores")

    @property
    def selected(self) -> StageFolder:
        """Rows chosen to be trained, and their order; only where the recipe asks for either."""
        return StageFolder(self.corpus / "selected")

    @property
    def encoded(self) -> StageFolder:
        """The plan of training samples."""
        return StageFolder(self.corpus / "encoded")

    @property
    def replay(self) -> StageFolder:
        """The base model's own answers as training samples; only where an arm asks for them."""
        return StageFolder(self.corpus / "replay")

    def arm(self, arm: str) -> StageFolder:
        """One training run: `metrics.jsonl`, `tensorboard/`, `checkpoints/`, `model/`."""
        return StageFolder(self.path / "train" / arm)

    @property
    def paraphrases(self) -> StageFolder:
        """Rewordings of the domain cases that the base model wrote; only where asked for."""
        return StageFolder(self.path / "paraphrases")

    @property
    def evaluated(self) -> StageFolder:
        """Answers and results of every variant, a folder each."""
        return StageFolder(self.path / "eval")

    def evaluation(self, variant: str) -> StageFolder:
        """One variant's answers and results."""
        return StageFolder(self.path / "eval" / variant)

    def resamples(self, variant: str) -> StageFolder:
        """One variant's further answers to the cases that flipped."""
        return StageFolder(self.evaluation(variant).path / "resamples")

    def flips(self, variant: str) -> Path:
        """What further answers say of every flip, one a line; of tuned variants only."""
        return self.evaluation(variant).path / "flips.jsonl"

    @property
    def tune(self) -> StageFolder:
        """The sweep's trials, table and best recipe."""
        return StageFolder(self.path / "tune")

    @property
    def report(self) -> StageFolder:
        """The before/after report."""
        return StageFolder(self.path / "report")
