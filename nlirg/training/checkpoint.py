"""Everything that a training run saves, loads and exports.

    <run>/checkpoints/step-00000008/state/         weights and optimizer, written by the engine
                                    context-0.pt   cached prefixes of the slots of a rank
                                    world.json     number of workers and ZeRO stage
                                    progress.json  where the run is; the last file to be written
    <run>/best/                                    best model so far by validation
    <run>/model/                                   the model that the run is for
    <run>/merged/                                  base and adapter as one model, if asked for

A run continues from a checkpoint only once the launcher has taken note of it (`commit`). What the
launcher notes lies in an index of its own, which a killed process may leave torn.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from nlirg.atomic_io import write_text
from nlirg.config.training import TrainConfig
from nlirg.errors import InputError
from nlirg.models.export import export_merged
from nlirg.training.engine import Engine
from nlirg.training.ranks import together
from nlirg.training.trainer import Trainer, TrainingProgress

FOLDER = "checkpoints"
INDEX_COPY = "checkpoint_index_copy.json"

Commit = Callable[[Path, int], None]


class Checkpoints:
    """Saves and loads one run on one rank; every rank calls the same methods in the same order.

    Args:
        output: the run's folder, seen by all ranks.
        base: directory or hub id of the base model.
        config: settings of the run.
        engine: this rank's engine.
        trainer: the loop on that engine.
        commit: called on every rank with the folder of a whole checkpoint and its step.
    """

    def __init__(
        self,
        output: Path,
        base: str,
        config: TrainConfig,
        engine: Engine,
        trainer: Trainer,
        commit: Commit,
    ) -> None:
        self._output, self._base, self._config = output, base, config
        self._engine, self._trainer, self._commit = engine, trainer, commit

    def save(self, progress: TrainingProgress) -> None:
        """Write this rank's part of a checkpoint, and have it committed."""
        directory = self._output / FOLDER / _name(progress.step)
        directory.mkdir(parents=True, exist_ok=True)
        self._engine.save_state(directory)
        cache = self._trainer.objective.cache
        if cache is not None:
            # A resumed run must see the old keys and values that an unbroken one sees.
            cache.save(directory / f"context-{self._engine.rank}.pt")
        if self._engine.rank == 0:
            write_text(directory / "world.json", json.dumps(self._world()))
            write_text(directory / "progress.json", json.dumps(asdict(progress)))
        self._commit(directory, progress.step)

    def load(self, directory: Path) -> None:
        """Put engine and trainer where they were when a checkpoint was saved.

        Raises:
            InputError: if other workers wrote it, whose shards these cannot read, or it lacks
                files.
        """
        self._check_world(json.loads((directory / "world.json").read_text(encoding="utf-8")))
        self._engine.load_state(directory)
        cache = self._trainer.objective.cache
        if cache is not None:
            files = sorted(directory.glob("context-*.pt"))
            cache.load(files, self._engine.device, self._trainer.serves)
        progress = json.loads((directory / "progress.json").read_text(encoding="utf-8"))
        self._trainer.progress = TrainingProgress.of(progress)

    def remove_unfinished(self) -> None:
        """Delete what killed workers were saving; on the first rank, before anything is saved.

        It is later than the checkpoint that the run continues from.
        """
        for folder in (self._output / FOLDER).glob("step-*"):
            if folder.name > _name(self._trainer.progress.step):
                shutil.rmtree(folder, ignore_errors=True)

    def keep_best(self) -> None:
        """Export the model as the best so far, if the run keeps the best.

        Raises:
            InputError: on every rank, if a weight is not finite.
        """
        if self._config.keeps_best:
            together(lambda: self._engine.export(self._output / "best"))

    def export(self) -> None:
        """Write the model that the run is for: the best on its way, or the last.

        Raises:
            InputError: on the first rank, if a weight is not finite.
        """
        best, model, first = self._output / "best", self._output / "model", self._engine.rank == 0
        if not self._config.keeps_best or not self._trainer.progress.best_step:
            self._engine.export(model)
        elif first and best.is_dir():
            shutil.rmtree(model, ignore_errors=True)
            best.rename(model)
        if first and self._config.lora is not None and self._config.lora.merge:
            export_merged(self._base, model, self._output / "merged")

    def _world(self) -> dict[str, int]:
        return {"num_workers": self._engine.world_size, "zero_stage": self._config.zero_stage}

    def _check_world(self, wrote: dict[str, int]) -> None:
        """Refuse the shards of another number of workers."""
        if self._config.zero_stage and wrote != self._world():
            raise InputError(
                f"the last checkpoint holds the ZeRO shards of {wrote['num_workers']} workers, "
                f"which {self._engine.world_size} cannot read: set train.num_workers="
                f"{wrote['num_workers']}, or delete the arm's folder to start again (at "
                "zero_stage 0 the number of workers may change)"
            )


def _name(step: int) -> str:
    return f"step-{step:08d}"


def copy_index(index: Path) -> None:
    """Copy the launcher's index of checkpoints, if there is one yet; never while it is written.

    Old checkpoints are deleted only after the index that leaves them out is written. So whatever
    the copy names still exists when a later index turns out to be torn.
    """
    if index.is_file():
        write_text(index.with_name(INDEX_COPY), index.read_text(encoding="utf-8"))


def repair_index(index: Path) -> None:
    """Replace a torn index by its copy; delete one that was torn at its first writing."""
    if not index.is_file() or _is_json(index):
        return
    copy = index.with_name(INDEX_COPY)
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
