"""Training: every arm of a recipe as one Ray Train run with DeepSpeed workers."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cluster.deepspeed.presets import read_deepspeed_json
from cluster.plan import worker_resources
from cluster.rundir import RunDirectory, StageFolder
from cluster.session import connect
from nlirg.config.corpus import MIXING
from nlirg.config.training import TrainConfig
from nlirg.corpus.arrangement.mixing import is_mixed, mixing_table
from nlirg.errors import InputError
from nlirg.models.chat import stop_ids
from nlirg.models.loading import check_model
from nlirg.models.model_card import Layout, write_model_card
from nlirg.monitoring.metrics_log import last_record, read_metrics
from nlirg.monitoring.trackers import check_tracking
from nlirg.training.checkpoint import repair_index
from nlirg.training.deepspeed_settings import deepspeed_settings
from nlirg.training.engine import ModelSource
from pipelines.chat import chat_of
from pipelines.encode.stage import Encode
from pipelines.progress import Progress, say
from pipelines.recipe import Recipe
from pipelines.score.ledger import TOKENS
from pipelines.stage import Stage
from pipelines.store import identity
from pipelines.train.checkpoint_index import INDEX, index_keeper
from pipelines.train.checks import check_keeping, check_replay_share, check_training
from pipelines.train.data import (
    asks_for_mixing,
    few_watched,
    guard_texts,
    own_answers,
    planned_mixture,
    reserved,
    texts_hash,
)
from pipelines.train.job import TrainJob
from pipelines.train.summary import FINAL_METRICS, TrainSummary, training_facts
from pipelines.train.worker import train_worker

T = TypeVar("T")


@dataclass(frozen=True)
class Train(Stage[TrainSummary]):
    """Train one arm into `train/<arm>/`, or continue it from its last checkpoint.

    Attributes:
        arm: its name in the recipe.
    """

    arm: str

    name = "train"
    summary_type = TrainSummary
    needs_corpus = True

    @classmethod
    def of(cls, recipe: Recipe) -> list[Train]:
        """Return one stage for every arm."""
        return [cls(arm) for arm in recipe.arms]

    @property
    def title(self) -> str:
        """Name of stage and arm."""
        return f"train {self.arm}"

    def folder(self, run: RunDirectory) -> StageFolder:
        """Return `train/<arm>/`."""
        return run.arm(self.arm)

    def settings(self, recipe: Recipe, run: RunDirectory) -> dict[str, Any]:
        """Return what decides the result of training."""
        config, task = self._config(recipe), recipe.encode.task
        return {
            "encoded": run.encoded.fingerprint(),
            "model": identity(recipe.model),
            "template": recipe.template,
            "train": config.meaning(),
            "deepspeed": _source(recipe, config).deepspeed,
            "seed": recipe.seed,
            "mixing": [source.model_dump(mode="json", include=MIXING) for source in recipe.data]
            if is_mixed(recipe.data)
            else None,
            "replay": [run.replay.fingerprint(), reserved(recipe)]
            if own_answers(config, task)
            else None,
            "general": texts_hash(_general(recipe, config)),
        }

    def check(self, recipe: Recipe) -> None:
        """Refuse DeepSpeed settings and trackers that cannot be used."""
        config = self._config(recipe)
        _source(recipe, config)
        check_tracking(config.tracking)
        check_keeping(recipe.data, config, recipe.encode.task)

    def check_corpus(self, recipe: Recipe, run: RunDirectory) -> None:
        """Hold the arm's settings against model and encoded corpus."""
        corpus, config = Encode().summary(run), self._config(recipe)
        check_model(recipe.model, chat=recipe.encode.task == "sft", template=recipe.template)
        source = _source(recipe, config)
        check_training(source.path, source.name, config, corpus)
        if asks_for_mixing(recipe.data, config):
            mixed = planned_mixture(recipe, run, config)
            if config.replay is not None and not run.replay.marker.is_file():
                check_replay_share(config.replay, mixed.tokens, recipe.replay)

    def work(self, recipe: Recipe, run: RunDirectory, resumed: bool) -> TrainSummary:
        """Train to the end.

        Raises:
            InputError: if nothing can be trained, or training failed more often than
                `max_failures`.
        """
        config, folder = self._config(recipe), self.folder(run).path
        for arm in recipe.arms:  # no arm is trained before another is refused
            planned_mixture(recipe, run, recipe.arm(arm))
        if asks_for_mixing(recipe.data, config):
            for line in mixing_table(planned_mixture(recipe, run, config)):
                say(self.title, line)
        connect(recipe.cluster)
        job = self.job(recipe, run)
        if (told := few_watched(job)) is not None:
            say(self.title, told)
        result = _followed(
            self.title,
            folder / "metrics.jsonl",
            lambda: _fit(job, recipe.cluster.start_timeout_s),
        )
        if "error" in result:
            raise InputError(result["error"])
        summary = _summary(job, result)
        layouts: dict[str, Layout] = {
            "model": "adapter" if config.lora else "full",
            "merged": "merged",
        }
        for name, layout in layouts.items():
            if (folder / name).is_dir():
                write_model_card(folder / name, training_facts(recipe, self.arm, summary, layout))
        return summary

    def job(self, recipe: Recipe, run: RunDirectory) -> TrainJob:
        """Return the run as its workers need it."""
        config = self._config(recipe)
        return TrainJob(
            model=_source(recipe, config),
            encoded=run.encoded.path,
            tokens=run.scores.path / TOKENS,
            data=recipe.data,
            replay=run.replay.path if own_answers(config, recipe.encode.task) else None,
            reserved=reserved(recipe),
            general=_general(recipe, config),
            output=self.folder(run).path,
            run=recipe.name,
            arm=self.arm,
            end_ids=_end_ids(recipe),
            train=config,
            seed=recipe.seed,
            shuffle=recipe.order == "random",
        )

    def describe(self, recipe: Recipe, run: RunDirectory, summary: TrainSummary) -> Iterator[str]:
        """Yield steps and tokens."""
        told = f"{summary.optimizer_steps} steps, {summary.trained_tokens} tokens trained"
        config = recipe.arm(self.arm)
        if config.guard is not None and summary.rise is not None:
            told += f"; {config.guard.metric} of what was known {summary.rise:+.3f} nats a token"
            if config.keeps_best and summary.best_rise is not None:
                told += f", {summary.best_rise:+.3f} in the model of step {summary.best_step}"
        yield told

    def _config(self, recipe: Recipe) -> TrainConfig:
        return _located(recipe.arm(self.arm))


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


def _general(recipe: Recipe, config: TrainConfig) -> tuple[tuple[int, ...], ...]:
    """Token ids of the texts that the arm's guard watches; none without a guard."""
    if config.guard is None:
        return ()
    return guard_texts(config.guard, chat_of(recipe).tokenizer, recipe.encode.task)


def _end_ids(recipe: Recipe) -> tuple[int, ...] | None:
    """Tokens that end an answer; None where plain text is trained."""
    if recipe.encode.task == "cpt":
        return None
    return stop_ids(chat_of(recipe))


def _source(recipe: Recipe, config: TrainConfig) -> ModelSource:
    """Base model and DeepSpeed settings, checked before anything is started."""
    path = Path(recipe.model)
    user = None if config.deepspeed is None else read_deepspeed_json(config.deepspeed)
    deepspeed_settings(config, config.num_workers, on_cpu=True, user=user)  # refuses or not
    place = str(path.resolve()) if path.is_dir() else recipe.model
    return ModelSource(place, recipe.model, user, recipe.template)


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
    repair_index(job.checkpoints / INDEX)
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


def _summary(job: TrainJob, result: dict[str, Any]) -> TrainSummary:
    last = last_record(job.output / "metrics.jsonl") or {}
    kept = ("skipped_steps", "trained_tokens", "seconds", "resumed_from", "best_loss", "best_step")
    return TrainSummary(
        kind="lora" if job.train.lora is not None else "full",
        optimizer_steps=result["step"] - result["skipped_steps"],
        **{key: result[key] for key in kept},
        rise=_finite(result["rise"]),
        best_rise=_finite(result["best_rise"]),
        **{key: last[key] for key in FINAL_METRICS},
    )


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


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
    known = last_record(metrics, "general_rise")
    kept = ""
    if known is not None and known["general_rise"] is not None:
        kept = f", general {known['general_rise']:+.3f}"
    progress.to(last["step"], f"loss {loss}{kept}, {last['tokens_per_s']:.0f} tokens/s")
