"""One training run, as its workers need it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nlirg.config.corpus import DataConfig
from nlirg.config.training import TrainConfig
from nlirg.training.checkpoint import FOLDER
from nlirg.training.engine import ModelSource


@dataclass(frozen=True)
class TrainJob:
    """One training run, as its workers need it; every path is absolute and seen by all nodes.

    Attributes:
        model: base model, and the user's own DeepSpeed settings.
        encoded: folder of the plan of training samples.
        tokens: folder of the token files that the samples are read from.
        data: sources of the corpus, with how often each is to be seen.
        replay: folder of the base model's own answers; None where they are not needed.
        reserved: how many of those are watched and not trained, and whether some arm trains any.
        general: token ids of the texts that the guard watches.
        output: folder of the run: metrics, TensorBoard, `model/`.
        run: name of the run.
        arm: name of the arm.
        end_ids: tokens that end an answer; None where there are no answers.
        train: settings.
        seed: of everything random.
        shuffle: whether every epoch has an order of its own, not that of the encoded rows.
    """

    model: ModelSource
    encoded: Path
    tokens: Path
    data: tuple[DataConfig, ...]
    replay: Path | None
    reserved: tuple[int, bool]
    general: tuple[tuple[int, ...], ...]
    output: Path
    run: str
    arm: str
    end_ids: tuple[int, ...] | None
    train: TrainConfig
    seed: int
    shuffle: bool

    @property
    def checkpoints(self) -> Path:
        """Folder of Ray Train's index, and of one folder per checkpoint."""
        return self.output / FOLDER
