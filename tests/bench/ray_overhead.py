"""What Ray Train adds to a step: the same DeepSpeed loop inside it and in a plain process."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.bench.measure import Comparison, user_seconds
from tests.bench.ours import silent
from tests.bench.shapes import SHORT, ModelShape, settings, word_tokenizer

WARM_STEPS, STEPS = 5, 40
BATCH_SIZE = 8
GOAL = 1.05


def train_steps(arguments: dict[str, Any]) -> tuple[float, float]:
    """Train in a process whose `torch.distributed` is initialized.

    Args:
        arguments: `model`, a directory; `vocabulary`; `steps` beyond the first few.

    Returns:
        User CPU seconds and median wall seconds of a step.
    """
    import torch

    from nlirg.training.deepspeed_engine import DeepSpeedEngine
    from nlirg.training.engine import ModelSource
    from nlirg.training.trainer import Trainer

    torch.set_num_threads(1)
    config = settings(
        token_batch=10,
        batch_size=BATCH_SIZE,
        log_every=1,
        max_steps=WARM_STEPS + arguments["steps"],
    )
    path = arguments["model"]
    engine = DeepSpeedEngine(ModelSource(path, path), config, seed=0)
    corpus = SHORT.build(BATCH_SIZE * 6, arguments["vocabulary"])
    cpu, wall = [], []

    def note(record: dict[str, Any]) -> None:
        cpu.append(user_seconds())
        wall.append(time.perf_counter())

    Trainer(engine, corpus, config, 0).run(silent(note))
    steps = [b - a for a, b in zip(wall[WARM_STEPS - 1 :], wall[WARM_STEPS:], strict=False)]
    return (cpu[-1] - cpu[WARM_STEPS - 1]) / len(steps), statistics.median(steps)


def _plainly(arguments: dict[str, Any]) -> tuple[float, float]:
    import torch.distributed as dist

    os.environ["LOCAL_RANK"] = "0"  # DeepSpeed asks for it
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/s", rank=0, world_size=1)
        found = train_steps(arguments)
        dist.destroy_process_group()
    return found


def in_plain_process(arguments: dict[str, Any]) -> tuple[float, float]:
    """Train in a new process without Ray."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_plainly, arguments).result()


def in_ray_train(arguments: dict[str, Any], storage: Path) -> tuple[float, float]:
    """Train in the one worker of a Ray Train run."""
    import ray.train
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        train_steps,  # type: ignore[arg-type]
        train_loop_config=arguments,
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        # Ray's type hints describe Train V1; at run time these names are V2's.
        run_config=ray.train.RunConfig(  # type: ignore[call-arg]
            name=f"run-{time.time_ns()}",
            storage_path=str(storage),
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        ),
    )
    result: Any = trainer.fit()
    found: tuple[float, float] = result.return_value
    return found


def compare_ray(model: ModelShape, rounds: int, steps: int = STEPS) -> list[Comparison]:
    """Step time inside Ray Train over that in a plain process, in turns."""
    from cluster.config import ClusterConfig
    from cluster.session import connect, disconnect

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        model.build().save_pretrained(path)
        word_tokenizer(model.vocabulary).save_pretrained(path)
        arguments = {"model": str(path), "vocabulary": model.vocabulary, "steps": steps}
        connect(ClusterConfig())
        try:
            pairs = [
                (in_ray_train(arguments, Path(folder)), in_plain_process(arguments))
                for _ in range(rounds)
            ]
        finally:
            disconnect()
    title = "step inside Ray Train / in a plain process (DeepSpeed stage 0, 1 worker)"
    names = ("user CPU of the worker", "median wall time")
    return [
        Comparison.of(
            title,
            name,
            [ray[kind] / plain[kind] for ray, plain in pairs],
            goal=GOAL,
            at_least=False,
        )
        for kind, name in enumerate(names)
    ]
