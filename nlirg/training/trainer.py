"""The training loop: the one there is, whatever the engine underneath."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from nlirg.config.training import TrainConfig
from nlirg.corpus.arrangement.mixing import Mixture
from nlirg.errors import InputError
from nlirg.forward.batching import EncodedCorpus, Row, WindowReader
from nlirg.forward.loss import normalizer
from nlirg.training.engine import Engine
from nlirg.training.gradient_check import GradientCheck
from nlirg.training.guard import Guard, GuardReading
from nlirg.training.objective import (
    Objective,
    WindowsLoss,
    check_packable,
    keeps_documents_apart,
    merged,
)
from nlirg.training.schedule import Plan, learning_rate, step_seed
from nlirg.training.step_metrics import StepMetrics, StepRecord
from nlirg.training.validation import Validator

Record = dict[str, Any]

CHECKED_SAMPLES = 64


@dataclass(frozen=True)
class TrainingProgress:
    """Where a run is; with the engine's state, all that a resumed run needs.

    Attributes:
        step: optimizer steps done, skipped ones included.
        trained_tokens: tokens of all ranks that took part in them.
        skipped_steps: steps that changed nothing: every token discarded, or the gradient not
            finite.
        seconds: time spent in them.
        best_loss: validation loss of the best model so far, nats per token; None before the first.
        best_rise: how far above its value at the start the guarded metric was for it, nats per
            token; None without a guard.
        best_step: the step it was measured after.
        stale: validations since then.
        start: what the guard measured before the first step.
        rise: how far above that the guarded metric was when last measured.
    """

    step: int = 0
    trained_tokens: int = 0
    skipped_steps: int = 0
    seconds: float = 0.0
    best_loss: float | None = None
    best_rise: float | None = None
    best_step: int = 0
    stale: int = 0
    start: GuardReading | None = None
    rise: float | None = None

    @classmethod
    def of(cls, record: dict[str, Any]) -> TrainingProgress:
        """Return what `dataclasses.asdict` made a record of."""
        start = record["start"]
        return cls(**{**record, "start": start and GuardReading(**start)})


@dataclass(frozen=True)
class Callbacks:
    """What the loop calls on every rank, in the same order.

    Attributes:
        log: one record every `log_every` steps, at every validation and checkpoint, and at the
            end.
        checkpoint: whenever one is due, except at the end.
        best: after a validation better than all before.
    """

    log: Callable[[Record], None]
    checkpoint: Callable[[TrainingProgress], None]
    best: Callable[[TrainingProgress], None]


class Trainer:
    """Trains the windows of a corpus on one rank of an engine.

    Everything random follows from the seed and the step's number, so a run that continues from a
    `TrainingProgress` and the matching engine state equals one that never stopped.

    Args:
        engine: this rank's engine; its state must match `progress`.
        corpus: what is trained, the same on every rank.
        config: settings of the run.
        seed: of sample order and dropout.
        held_out: what is validated on; required by `config.validation`.
        progress: where to continue; may also be set before `run`.
        shuffle: whether every epoch has an order of its own, not that of the corpus.
        mixed: how often each sample is seen; None for once an epoch.
        known: what `config.guard` watches: general text, and the base model's own answers if there
            are any.

    Raises:
        InputError: if the corpus has no trained token, or the model cannot do what `config` asks.
    """

    def __init__(
        self,
        engine: Engine,
        corpus: EncodedCorpus,
        config: TrainConfig,
        seed: int,
        held_out: EncodedCorpus | None = None,
        progress: TrainingProgress | None = None,
        shuffle: bool = True,
        mixed: Mixture | None = None,
        known: tuple[EncodedCorpus, EncodedCorpus | None] | None = None,
    ) -> None:
        self._engine, self._config, self._seed = engine, config, seed
        self.progress = progress or TrainingProgress()
        self._plan = Plan(corpus.n_trained, config, seed, shuffle, mixed)
        if not self._plan.total_steps:
            raise InputError(
                "no trained token in the encoded corpus: every answer was empty, quarantined, or "
                "cut off by encode.max_length, or train.epochs is a smaller part than a row"
            )
        _check_corpus(corpus, config, engine)
        self.objective = Objective(engine, config)
        self._reader = WindowReader(corpus, self._plan.rule)
        self._metrics = StepMetrics(corpus.task_types, corpus.sources)
        self._check = GradientCheck(engine, self.objective)
        self._validator = None if held_out is None else Validator(self.objective, engine, held_out)
        self._guard = None
        if config.guard is not None and known is not None:
            self._guard = Guard(self.objective, engine, config.guard, *known)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self._plan.total_steps

    def run(self, callbacks: Callbacks) -> TrainingProgress:
        """Train to the end, or until validation has not improved for `patience` times.

        A guard that may stop the run ends it too.

        Returns:
            The final progress.

        Raises:
            InputError: if not one step could change the model.
        """
        if self._guard is not None and self.progress.start is None:
            self.progress = replace(self.progress, start=self._guard.measure())
        while self.progress.step < self.total_steps and not self._exhausted():
            self._step()
            self._after_step(callbacks)
        if self.progress.skipped_steps == self.progress.step:
            raise InputError(
                f"none of the {self.progress.step} steps could change the model: every token's "
                "loss was discarded, or the gradient was not finite; check model and corpus"
            )
        return self.progress

    def _exhausted(self) -> bool:
        validation, guard = self._config.validation, self._config.guard
        if guard is not None and guard.stop and self._outside(self.progress.rise):
            return True
        patience = validation.patience if validation else None
        return patience is not None and self.progress.stale >= patience

    def _outside(self, rise: float | None) -> bool:
        """Say whether a model has left the guard's bound."""
        guard = self._config.guard
        return guard is not None and rise is not None and rise > guard.max_rise

    def _standing(self, loss: float | None, rise: float | None, step: int) -> tuple[bool, float]:
        """Return what tells models apart, the better ones less.

        One within the guard's bound is better than any outside. Within it the validation loss
        counts, or without validation how long a model was trained; outside it the rise does.
        """
        if self._outside(rise):
            return True, rise or 0.0
        return False, -step if loss is None else loss

    def _after_step(self, callbacks: Callbacks) -> None:
        """Validate, log and save, each where it is due."""
        step, last = self.progress.step, self.progress.step == self.total_steps
        known = self._watch(last or self._validates(step))
        last = last or self._exhausted()  # a guard may end the run here
        loss = self._validate(last)
        better = self._compare(loss, known)
        last = last or self._exhausted()
        saves, measured = self._plan.saves(step), loss is not None or known is not None
        if last or saves or measured or step % self._config.log_every == 0:
            callbacks.log(self._record(loss, known))
        if better:
            callbacks.best(self.progress)
        if saves and not last:
            callbacks.checkpoint(self.progress)

    def _compare(self, loss: float | None, known: GuardReading | None) -> bool:
        """Note whether the model as it is was measured to be the best so far."""
        done = self.progress
        if loss is None and (self._validator is not None or known is None):
            return False
        best = self._standing(done.best_loss, done.best_rise, done.best_step)
        better = not done.best_step or self._standing(loss, done.rise, done.step) < best
        self.progress = (
            replace(done, best_loss=loss, best_rise=done.rise, best_step=done.step, stale=0)
            if better
            else replace(done, stale=done.stale + 1)
        )
        return better

    def _watch(self, due: bool) -> GuardReading | None:
        """Measure what the model still knows, where it is time to."""
        guard, start = self._config.guard, self.progress.start
        if self._guard is None or guard is None or start is None:
            return None
        if not due and self.progress.step % guard.every:
            return None
        reading = self._guard.measure()
        self.progress = replace(self.progress, rise=reading.rise_since(start, guard))
        return reading

    def _validate(self, last: bool) -> float | None:
        if self._validator is None or not (last or self._validates(self.progress.step)):
            return None
        return self._validator.loss()

    def _validates(self, step: int) -> bool:
        """Say whether validation is due after so many steps, the last aside."""
        validation = self._config.validation
        return validation is not None and step % validation.every == 0

    def _step(self) -> None:
        """Train the windows of this rank's slots, in one or more micro-batches."""
        started = time.perf_counter()
        done, engine = self.progress, self._engine
        torch.manual_seed(step_seed(self._seed, done.step, engine.rank))
        # Gradients are scaled by the number of tokens, which is known; N may depend on losses.
        scale = engine.world_size / self._plan.tokens(done.step)
        *early, final = self._plan.micro_batches(done.step, self._rows, engine.world_size)
        parts = []
        for rows in early:
            part = self._check.loss(done.step, rows, scale)
            engine.backward(part.tokens.objective, last=False)
            parts.append(part.detached())
        last = self._check.loss(done.step, final, scale)
        whole = merged([*parts, last.detached()])
        n, live = self._sums(whole)
        norm, factor = math.nan, 0.0
        rate = learning_rate(done.step, self.total_steps, self._config)
        # N may be 0 where tokens are live: a loss of exactly 0 has a weight, and is not counted.
        if live and n:
            factor = self._plan.tokens(done.step) / n
            engine.backward(last.tokens.objective)
            norm = engine.step(rate, factor)
        elif early:
            # What they have left in the gradients, NaN perhaps, goes with a step that is refused.
            engine.backward(last.tokens.objective * math.nan)
            engine.step(rate)
        self._account(whole, norm, factor, time.perf_counter() - started)

    def _rows(self, step: int) -> list[Row]:
        """Return this rank's windows in one step of the schedule."""
        slots = self._config.batch_size
        return [
            self._reader.row(entry, step, slots)
            for entry in self._plan.schedule.at(step)
            if self.serves(entry.slot)
        ]

    def serves(self, slot: int) -> bool:
        """Say whether a slot is this rank's."""
        return slot % self._engine.world_size == self._engine.rank

    def _sums(self, part: WindowsLoss) -> tuple[float, float]:
        """Return the step's normalizer, and its tokens of positive weight, over all ranks."""
        _, loss, weights = part.tokens
        local = torch.stack(
            [normalizer(self._config.normalizer, weights, loss), (weights > 0).sum()]
        )
        n, live = self._engine.all_reduce_sum(local.double()).tolist()
        return n, live

    def _account(self, part: WindowsLoss, norm: float, factor: float, seconds: float) -> None:
        """Move the progress on, and keep what the next log record needs."""
        done, applied = self.progress, math.isfinite(norm)
        self._metrics.add(
            StepRecord(
                loss=part.tokens.loss,
                weights=part.tokens.weights,
                tasks=part.tasks,
                sources=part.sources,
                objective=part.tokens.objective * (factor / self._engine.world_size),
                trained=applied,
                grad_norm=norm if applied else None,
                processed_tokens=part.processed,
                padded_tokens=part.padded,
                seconds=seconds,
            )
        )
        self.progress = replace(
            done,
            step=done.step + 1,
            skipped_steps=done.skipped_steps + (not applied),
            seconds=done.seconds + seconds,
        )

    def _record(self, validation_loss: float | None, known: GuardReading | None) -> Record:
        """Summarize the steps since the last record, over all ranks."""
        summary = self._metrics.flush(self._engine)
        tokens, seconds = summary.pop("tokens"), summary.pop("seconds")
        processed = summary.pop("processed_tokens")
        trained = self.progress.trained_tokens + tokens
        self.progress = replace(self.progress, trained_tokens=trained)
        step = self.progress.step
        record = {
            "step": step,
            "total_steps": self.total_steps,
            "epoch": self._plan.epoch(step),
            **summary,
            "lr": learning_rate(step - 1, self.total_steps, self._config),
            "trained_tokens": trained,
            "tokens_per_s": tokens / seconds,
            "processed_tokens_per_s": processed / seconds,
            "skipped_steps": self.progress.skipped_steps,
        }
        if validation_loss is not None and self._validator is not None:
            record["validation_loss"] = validation_loss if math.isfinite(validation_loss) else None
            record["validation_base_loss"] = self._validator.base_loss
        if known is not None and (start := self.progress.start) is not None:
            record |= _of_guard(known, start, self.progress.rise)
        cosine = self._check.cosine()
        return record if cosine is None else record | {"gradient_cosine": cosine}


def _of_guard(known: GuardReading, start: GuardReading, rise: float | None) -> Record:
    """Return what a record says of a guard's reading; None where it is not finite."""
    numbers = {
        "general_loss": known.loss,
        "general_kl": known.kl,
        "general_base_loss": start.loss,
        "general_base_kl": start.kl,
        "general_rise": rise,
    }
    return {
        key: number if number is None or math.isfinite(number) else None
        for key, number in numbers.items()
    }


def _check_corpus(corpus: EncodedCorpus, config: TrainConfig, engine: Engine) -> None:
    """Refuse what cannot be trained as asked."""
    if corpus.holds_packs():
        check_packable(engine.model_config, config)
        if not keeps_documents_apart(engine):
            raise InputError(
                "encode.task cpt: in this model packed documents would see each other, since it "
                "takes no notice of where positions begin anew; use another model"
            )
    if "base_loss" in config.weighting.needs and not any(
        len(corpus.sample(index).base_loss) for index in range(min(len(corpus), CHECKED_SAMPLES))
    ):
        raise InputError(
            f"train.weighting {config.weighting.name} needs the base model's losses, and the "
            "encoded corpus has none: run score and encode again"
        )
