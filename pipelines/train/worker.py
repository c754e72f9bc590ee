"""What every Ray Train worker runs: an engine, the loop, and its checkpoints."""

from __future__ import annotations

from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from nlirg.errors import InputError
from nlirg.forward.batching import EncodedCorpus
from nlirg.training.checkpoint import Checkpoints
from nlirg.training.ranks import together
from nlirg.training.trainer import Callbacks, Trainer
from nlirg.training.validation import held_out_ids
from pipelines.ray_data import parquet_files
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


def read_encoded(folder: Path, cache: Path, held_out: int = 0) -> tuple[EncodedCorpus, ...]:
    """Memory-map the tokenized corpus, in the order of the rows' positions.

    Args:
        folder: `encoded/` of a run.
        cache: where the memory-mapped copy is made, once for all workers that see it.
        held_out: rows to keep from training.

    Returns:
        What is trained; and what is held out, if anything is.

    Raises:
        InputError: if nothing would be left to train.
    """
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    data = Dataset.from_parquet(parquet_files(folder), cache_dir=str(cache))
    order = np.argsort(np.asarray(data.with_format("numpy")["position"]))
    if not held_out:
        return (_corpus(data, order),)
    ids = data["id"][:]
    out = held_out_ids(ids, held_out)
    inside = np.array([ids[int(index)] in out for index in order])
    return _corpus(data, order[~inside]), _corpus(data, order[inside])


def _corpus(data: Any, order: np.ndarray) -> EncodedCorpus:
    """Some rows of the memory-mapped corpus, in this order."""
    table = data.data.table  # whole columns at once; the dataset would go row by row
    tasks = table["task_type"].combine_chunks().dictionary_encode()
    most = pc.max(pc.list_value_length(table["segments"])).as_py()
    rows = data.select_columns(["input_ids", "labels", "base_loss", "segments"]).select(order)
    return EncodedCorpus(
        rows.with_format("numpy"),
        table["n_trained"].to_numpy()[order],
        tuple(tasks.dictionary.to_pylist()),
        tasks.indices.to_numpy()[order],
        packed=most is not None and most > 1,
    )


def _set_up(job: TrainJob) -> tuple[Trainer, Checkpoints, Monitor | None]:
    """Load model and corpus, and the last checkpoint if there is one; the first rank reports."""
    import ray.train

    from nlirg.training.deepspeed_engine import DeepSpeedEngine

    validation = job.train.validation
    corpus, *kept = read_encoded(job.encoded, job.cache, validation.rows if validation else 0)
    held_out = kept[0] if kept else None
    engine = DeepSpeedEngine(job.model, job.train, job.seed)
    trainer = Trainer(engine, corpus, job.train, job.seed, held_out, shuffle=job.shuffle)
    checkpoints = Checkpoints(job.output, job.model.path, job.train, engine, trainer, _report)
    last = ray.train.get_checkpoint()
    if last is not None:
        with last.as_directory() as folder:
            checkpoints.load(Path(folder))
    if engine.rank:
        return trainer, checkpoints, None
    checkpoints.remove_unfinished()
    step = trainer.progress.step
    monitor = Monitor(job, corpus, engine.model_config, engine.world_size, step)
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
