"""What every Ray Train worker runs: an engine, the loop, checkpoints, and the export."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nlirg.batching import EncodedCorpus
from nlirg.config import TrainConfig
from nlirg.engine import Engine
from nlirg.errors import InputError
from nlirg.loop import Progress, Trainer
from nlirg.tracking import MetricsLog

T = TypeVar("T")


@dataclass(frozen=True)
class TrainJob:
    """One training run, as its workers need it; every path is absolute and seen by all nodes.

    Attributes:
        model: directory of the base model, or its hub id.
        model_name: the base model that an adapter records: its absolute path, or its hub id.
        encoded: folder of the tokenized corpus.
        cache: folder for its memory-mapped copy.
        output: folder of the run: metrics, TensorBoard, `model/`.
        train: settings.
        seed: of everything random.
    """

    model: str
    model_name: str
    encoded: Path
    cache: Path
    output: Path
    train: TrainConfig
    seed: int


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
        engine, trainer = together(lambda: _set_up(job))
        started = trainer.progress.step
        with _metrics_log(job, engine, started) as log:
            progress = together(lambda: trainer.run(log, lambda p: _checkpoint(engine, p)))
        together(lambda: engine.export(job.output / "model"))
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


def read_encoded(folder: Path, cache: Path) -> EncodedCorpus:
    """Memory-map the tokenized corpus, in the order of the rows in their files.

    Args:
        folder: `encoded/` of a run.
        cache: where the memory-mapped copy is made, once for all workers that see it.
    """
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    files = [str(path) for path in sorted(folder.glob("*.parquet"))]
    columns = ["input_ids", "labels", "n_trained", "position"]
    data = Dataset.from_parquet(files, cache_dir=str(cache), columns=columns)
    arrays = data.with_format("numpy")
    order = np.argsort(np.asarray(arrays["position"]))
    trained = np.asarray(arrays["n_trained"])[order]
    rows = data.select_columns(["input_ids", "labels"]).select(order).with_format("numpy")
    return EncodedCorpus(rows, trained)


def _set_up(job: TrainJob) -> tuple[Engine, Trainer]:
    """Load model and corpus, and the last checkpoint if there is one."""
    import ray.train

    from nlirg.deepspeed_engine import DeepSpeedEngine

    corpus = read_encoded(job.encoded, job.cache)
    engine = DeepSpeedEngine(job.model, job.model_name, job.train, job.seed)
    progress = Progress()
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            progress = Progress(**json.loads((Path(directory) / "progress.json").read_text()))
            engine.load_state(Path(directory))
    return engine, Trainer(engine, corpus, job.train, job.seed, progress)


@contextmanager
def _metrics_log(
    job: TrainJob, engine: Engine, step: int
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A log that writes on the first rank and does nothing on the others."""
    if engine.rank:
        yield lambda record: None
        return
    metrics = MetricsLog(job.output, after_step=step)
    try:
        yield metrics.write
    finally:
        metrics.close()


def _checkpoint(engine: Engine, progress: Progress) -> None:
    """Save this rank's state and hand it to Ray Train, which merges the ranks' files."""
    import ray.train

    directory = Path(tempfile.mkdtemp(prefix="nlirg-checkpoint-"))
    engine.save_state(directory)
    if engine.rank == 0:
        (directory / "progress.json").write_text(json.dumps(asdict(progress)))
    ray.train.report(
        {"step": progress.step},
        checkpoint=ray.train.Checkpoint.from_directory(directory),
        checkpoint_dir_name=f"step-{progress.step:08d}",
        delete_local_checkpoint_after_upload=True,
    )
