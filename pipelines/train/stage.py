"""Training: every arm of a recipe as one Ray Train run with DeepSpeed workers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from cluster.deepspeed.presets import read_deepspeed_json
from cluster.environment import PACKAGES, environment
from cluster.plan import worker_resources
from cluster.rundir import RunDirectory, Stage, fingerprint
from cluster.session import connect
from nlirg.config.training import TrainConfig
from nlirg.errors import InputError
from nlirg.models.end_tokens import End
from nlirg.models.loading import check_model, load_tokenizer, model_directory
from nlirg.models.model_card import TrainingFacts, write_model_card
from nlirg.monitoring.metrics_log import last_record, read_metrics
from nlirg.monitoring.trackers import check_tracking
from nlirg.training.deepspeed_settings import deepspeed_settings
from nlirg.training.engine import ModelSource
from pipelines.progress import Progress, say
from pipelines.recipe import Recipe
from pipelines.score.ledger import TOKENS
from pipelines.store import identity
from pipelines.train.checkpoint_index import index_keeper, repair_index
from pipelines.train.checks import check_training
from pipelines.train.job import TrainJob
from pipelines.train.worker import train_worker

T = TypeVar("T")

FINAL_METRICS = ("loss", "weighted_loss", "mean_weight", "low", "mid", "high", "discarded")


def train(recipe: Recipe, run: RunDirectory) -> dict[str, dict[str, Any]]:
    """Train every arm of the recipe; return their summaries by name (see `train_arm`)."""
    return {arm: train_arm(recipe, arm, run) for arm in recipe.arms}


def train_arm(recipe: Recipe, arm: str, run: RunDirectory) -> dict[str, Any]:
    """Train one arm into `train/<arm>/`, or continue it from its last checkpoint.

    Returns:
        kind (lora or full; the result is in `model/`), optimizer_steps, skipped_steps,
        trained_tokens, seconds (in steps), resumed_from (step), best_loss (validation, nats; None
        without) and best_step, and the last logged loss, weighted_loss, mean_weight and zone
        shares.

    Raises:
        InputError: if the corpus is not encoded yet, the folder holds another run's files, the
            model or a LoRA target does not exist, nothing can be trained, or training failed
            more often than `max_failures`.
    """
    config, stage = _located(recipe.arm(arm)), run.arm(arm)
    corpus = run.encoded.summary()
    source = _source(recipe, config)
    mark = _fingerprint(recipe, config, run.encoded, source)
    if (done := stage.finished(mark)) is not None:
        say(f"train {arm}", f"already done: {done['optimizer_steps']} steps")
        return done
    check_model(recipe.model, chat=recipe.encode.task == "sft")
    check_tracking(config.tracking)
    check_training(source.path, source.name, config, corpus)
    stage.claim(mark)
    connect(recipe.cluster)
    job = TrainJob(
        model=source,
        encoded=run.encoded.path,
        tokens=run.scores.path / TOKENS,
        output=stage.path,
        run=recipe.name,
        arm=arm,
        end_ids=_end_ids(recipe),
        train=config,
        seed=recipe.seed,
        shuffle=recipe.order == "random",
    )
    result = _followed(
        f"train {arm}",
        stage.path / "metrics.jsonl",
        lambda: _fit(job, recipe.cluster.start_timeout_s),
    )
    if "error" in result:
        raise InputError(result["error"])
    summary = _summary(job, result)
    _write_cards(recipe, arm, stage.path, summary)
    stage.succeed(mark, summary)
    return summary


def _located(config: TrainConfig) -> TrainConfig:
    """The same settings with absolute paths: workers have other folders."""

    def here(path: str | None) -> str | None:
        return str(Path(path).expanduser().resolve()) if path and Path(path).is_dir() else path

    changes: dict[str, Any] = {}
    if config.lora is not None:
        adapter = here(config.lora.resume_from)
        changes["lora"] = config.lora.model_copy(update={"resume_from": adapter})
    if config.distillation is not None:
        teacher = here(config.distillation.teacher)
        changes["distillation"] = config.distillation.model_copy(update={"teacher": teacher})
    return config.model_copy(update=changes)


def _end_ids(recipe: Recipe) -> tuple[int, ...] | None:
    """Tokens that end an answer; None where plain text is trained."""
    if recipe.encode.task == "cpt":
        return None
    directory = model_directory(recipe.model)
    return tuple(End.of(load_tokenizer(recipe.model), directory, recipe.encode).turn)


def _source(recipe: Recipe, config: TrainConfig) -> ModelSource:
    """Base model and DeepSpeed settings, checked before anything is started."""
    path = Path(recipe.model)
    user = None if config.deepspeed is None else read_deepspeed_json(config.deepspeed)
    deepspeed_settings(config, config.num_workers, on_cpu=True, user=user)  # refuses or not
    return ModelSource(str(path.resolve()) if path.is_dir() else recipe.model, recipe.model, user)


def _fingerprint(recipe: Recipe, config: TrainConfig, encoded: Stage, source: ModelSource) -> str:
    """What decides the result of a training run."""
    return fingerprint(
        {
            "encoded": encoded.fingerprint(),
            "model": identity(recipe.model),
            "train": config.meaning(),
            "deepspeed": source.deepspeed,
            "seed": recipe.seed,
        }
    )


def _fit(job: TrainJob, start_timeout_s: float) -> dict[str, Any]:
    """Run the workers to the end and return what the first one returned.

    Raises:
        InputError: if they failed for good.
    """
    import ray.train
    from ray.train.torch import TorchTrainer

    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(start_timeout_s)
    config = job.train
    teacher_apart = config.distillation is not None and config.distillation.own_device
    use_gpu, resources = worker_resources(config.num_workers, gpus_each=1 + teacher_apart)
    repair_index(job.checkpoints)
    # Ray's type hints describe Train V1; at run time these names are V2's.
    run_config = ray.train.RunConfig(  # type: ignore[call-arg]
        name=job.checkpoints.name,
        storage_path=str(job.output),
        checkpoint_config=ray.train.CheckpointConfig(num_to_keep=config.num_to_keep),
        # Ray's default for the controller is to retry for ever.
        failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]
            max_failures=config.max_failures, controller_failure_limit=0
        ),
        callbacks=[index_keeper(job.checkpoints)],
        logging_config=ray.train.LoggingConfig(log_level="ERROR"),
    )
    trainer = TorchTrainer(
        train_worker,  # type: ignore[arg-type]
        train_loop_config={"job": job},
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.num_workers, use_gpu=use_gpu, resources_per_worker=resources
        ),
        run_config=run_config,
    )
    try:
        result: Any = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise InputError(f"training in {job.output} failed: {_reason(error)}") from error
    returned: dict[str, Any] = result.return_value
    return returned


def _reason(error: Any) -> str:
    """One line for what ended a run: the first worker's error, or the controller's."""
    failures = getattr(error, "worker_failures", None) or {}
    cause = next(iter(failures.values()), getattr(error, "controller_failure", error))
    lines = [line for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0] if lines else ''}".rstrip(": ")


def _summary(job: TrainJob, result: dict[str, Any]) -> dict[str, Any]:
    last = last_record(job.output / "metrics.jsonl") or {}
    return {
        "kind": "lora" if job.train.lora is not None else "full",
        "optimizer_steps": result["step"] - result["skipped_steps"],
        "skipped_steps": result["skipped_steps"],
        "trained_tokens": result["trained_tokens"],
        "seconds": result["seconds"],
        "resumed_from": result["resumed_from"],
        "best_loss": result["best_loss"],
        "best_step": result["best_step"],
        **{key: last[key] for key in FINAL_METRICS},
    }


def _write_cards(recipe: Recipe, arm: str, folder: Path, summary: dict[str, Any]) -> None:
    """Say beside every exported model what it is and how it came about."""
    config = recipe.arm(arm)
    layouts: dict[str, Any] = {"model": "adapter" if config.lora else "full", "merged": "merged"}
    known = environment()
    numbers = {key: summary[key] for key in (*FINAL_METRICS, "best_loss") if summary.get(key)}
    for name, layout in layouts.items():
        if (folder / name).is_dir():
            facts = TrainingFacts(
                # A card may be published: a hub id, or the name of a folder without its place.
                base_model=Path(recipe.model).name if Path(recipe.model).is_dir() else recipe.model,
                layout=layout,
                train=config,
                seed=recipe.seed,
                steps=summary["optimizer_steps"],
                trained_tokens=summary["trained_tokens"],
                metrics=numbers,
                versions={package: known[package] for package in PACKAGES if package in known},
            )
            write_model_card(folder / name, facts)


def _followed(title: str, metrics: Path, work: Callable[[], T]) -> T:
    """Do the work in a thread, and show the records that the first worker writes meanwhile.

    Not the other way round: in the main thread Ray Train would take Ctrl-C for itself and leave
    with exit code 0, as if the run were complete.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    told: set[str] = set()
    with Progress(title, unit="step") as progress:
        thread.start()
        while thread.is_alive():
            thread.join(1.0)
            _show(progress, metrics)
            _tell_alarms(title, metrics.with_name("alarms.jsonl"), told)
        return future.result()


def _tell_alarms(title: str, path: Path, told: set[str]) -> None:
    """Print the alarms that have come up since the last look."""
    for alarm in read_metrics(path):
        if alarm["kind"] not in told:
            told.add(alarm["kind"])
            say(title, f"ALARM at step {alarm['step']}: {alarm['message']}")


def _show(progress: Progress, metrics: Path) -> None:
    last = last_record(metrics)
    if last is None:
        return
    progress.total = last["total_steps"]
    loss = "-" if last["loss"] is None else f"{last['loss']:.3f}"
    progress.to(last["step"], f"loss {loss}, {last['tokens_per_s']:.0f} tokens/s")
