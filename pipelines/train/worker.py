"""What every Ray Train worker runs: an engine, the loop, and its checkpoints."""

from __future__ import annotations

from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nlirg.errors import InputError
from nlirg.training.checkpoint import Checkpoints
from nlirg.training.ranks import together
from nlirg.training.trainer import Callbacks, Trainer
from pipelines.train.data import read_training
from pipelines.train.job import TrainJob
from pipelines.train.monitor import Monitor


def train_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Train, and export the result; runs on every worker of a Ray Train run.

    What is wrong with the input is returned, not raised: Ray Train would start such a run again
    and again.

    Args:
        settings: `job`, a `TrainJob`.

    Returns:
        The final `TrainingProgress` as a dict with `resumed_from` (a step), or `error` alone.
    """
    job: TrainJob = settings["job"]
    try:
        trainer, checkpoints, monitor = together(lambda: _set_up(job))
        started = trainer.progress.step
        with closing(monitor) if monitor else nullcontext():
            callbacks = Callbacks(
                log=monitor.write if monitor else lambda _: None,
                checkpoint=checkpoints.save,
                best=lambda _: checkpoints.keep_best(),
            )
            progress = together(lambda: trainer.run(callbacks))
        together(checkpoints.export)
    except InputError as error:
        return {"error": str(error)}
    return asdict(progress) | {"resumed_from": started}


def _set_up(job: TrainJob) -> tuple[Trainer, Checkpoints, Monitor | None]:
    """Load model and corpus, and the last checkpoint if there is one; the first rank reports."""
    import ray.train

    from nlirg.training.deepspeed_engine import DeepSpeedEngine

    data = read_training(job)
    engine = DeepSpeedEngine(job.model, job.train, job.seed)
    trainer = Trainer(
        engine,
        data.corpus,
        job.train,
        job.seed,
        data.held_out,
        shuffle=job.shuffle,
        mixed=data.mixed,
        known=data.known,
    )
    checkpoints = Checkpoints(job.output, job.model.path, job.train, engine, trainer, _report)
    last = ray.train.get_checkpoint()
    if last is not None:
        with last.as_directory() as folder:
            checkpoints.load(Path(folder))
    if engine.rank:
        return trainer, checkpoints, None
    checkpoints.remove_unfinished()
    step = trainer.progress.step
    monitor = Monitor(job, data.corpus, engine.model_config, engine.world_size, step)
    return trainer, checkpoints, monitor


def _report(directory: Path, step: int) -> None:
    """Report this rank's part of a checkpoint where it lies.

    To Ray Train it is one, to be continued from, only when every rank has reported it.
    """
    import ray.train

    ray.train.report(
        {"step": step},
        checkpoint=ray.train.Checkpoint.from_directory(directory),
        checkpoint_dir_name=directory.name,
        checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD,
    )
