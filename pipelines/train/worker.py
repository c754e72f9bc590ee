"""What every Ray Train worker runs: an engine, the loop, checkpoints, and the export."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from nlirg.errors import InputError
from nlirg.models.export import export_merged
from nlirg.training.engine import Engine
from nlirg.training.trainer import Callbacks, Progress, Trainer
from pipelines.train.encoded import read_encoded
from pipelines.train.job import TrainJob
from pipelines.train.monitor import Monitor

T = TypeVar("T")


def train_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Train, and export the result; runs on every worker of a Ray Train run.

    What is wrong with the input is returned, not raised: Ray Train would start such a run again
    and again.

    Args:
        settings: `job`, a `TrainJob`.

    Returns:
        The final `Progress` as a dict with `resumed_from` (a step), or `error` alone.
    """
    job: TrainJob = settings["job"]
    try:
        engine, trainer, monitor = together(lambda: _set_up(job))
        started = trainer.progress.step
        with closing(monitor) if monitor else nullcontext():
            callbacks = Callbacks(
                log=monitor.write if monitor else lambda _: None,
                checkpoint=lambda progress: _checkpoint(job, engine, trainer, progress),
                best=lambda _: _keep_best(engine, job),
            )
            progress = together(lambda: trainer.run(callbacks))
        together(lambda: _export(engine, job))
    except InputError as error:
        return {"error": str(error)}
    return asdict(progress) | {"resumed_from": started}


def together(action: Callable[[], T]) -> T:
    """Do something on every worker; if it raises `InputError` on one, raise it on all.

    Otherwise the others would wait for the one that gave up in their next collective.
    """
    import torch.distributed as dist

    mine = None
    try:
        result = action()
    except InputError as error:
        mine = str(error)
    messages: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(messages, mine)
    for message in messages:
        if message is not None:
            raise InputError(message)
    return result


def _set_up(job: TrainJob) -> tuple[Engine, Trainer, Monitor | None]:
    """Load model and corpus, and the last checkpoint if there is one; the first rank reports."""
    import ray.train

    from nlirg.training.deepspeed_engine import DeepSpeedEngine

    validation = job.train.validation
    corpus, *kept = read_encoded(job.encoded, job.tokens, validation.rows if validation else 0)
    held_out = kept[0] if kept else None
    engine = DeepSpeedEngine(job.model, job.train, job.seed)
    trainer = Trainer(engine, corpus, job.train, job.seed, held_out, shuffle=job.shuffle)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            directory = Path(folder)
            engine.load_state(directory)
            trainer.load_context(directory)
            trainer.progress = Progress(**json.loads((directory / "progress.json").read_text()))
    if engine.rank:
        return engine, trainer, None
    step = trainer.progress.step
    _remove_unfinished(job.checkpoints, step)
    return engine, trainer, Monitor(job, corpus, engine.model_config, engine.world_size, step)


def _checkpoint(job: TrainJob, engine: Engine, trainer: Trainer, progress: Progress) -> None:
    """Save this rank's state where the checkpoint will lie.

    To Ray Train it is one, to be continued from, only when every rank has reported it.
    """
    import ray.train

    name = _checkpoint_name(progress.step)
    directory = job.checkpoints / name
    directory.mkdir(parents=True, exist_ok=True)
    engine.save_state(directory)
    trainer.save_context(directory)
    if engine.rank == 0:
        (directory / "progress.json").write_text(json.dumps(asdict(progress)))
    ray.train.report(
        {"step": progress.step},
        checkpoint=ray.train.Checkpoint.from_directory(directory),
        checkpoint_dir_name=name,
        checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD,
    )


def _checkpoint_name(step: int) -> str:
    return f"step-{step:08d}"


def _remove_unfinished(checkpoints: Path, step: int) -> None:
    """Delete what killed workers were saving: it is later than the checkpoint continued from."""
    for folder in checkpoints.glob("step-*"):
        if folder.name > _checkpoint_name(step):
            shutil.rmtree(folder, ignore_errors=True)


def _keep_best(engine: Engine, job: TrainJob) -> None:
    """Export the model as the best so far."""
    if job.train.validation is not None and job.train.validation.keep == "best":
        # The first rank alone refuses weights that are not finite; the others must hear of it.
        together(lambda: engine.export(job.output / "best"))


def _export(engine: Engine, job: TrainJob) -> None:
    """Write the model the run is for: the best by validation, or the last."""
    best, model = job.output / "best", job.output / "model"
    validation, lora = job.train.validation, job.train.lora
    if validation is None or validation.keep == "last":
        engine.export(model)
    elif engine.rank == 0 and best.is_dir():
        shutil.rmtree(model, ignore_errors=True)
        best.rename(model)
    if engine.rank == 0 and lora is not None and lora.merge:
        export_merged(job.model.path, model, job.output / "merged")
