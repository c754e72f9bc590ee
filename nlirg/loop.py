"""The training loop: the one there is, whatever the engine underneath."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from nlirg.batching import EncodedCorpus, WindowReader
from nlirg.config import TrainConfig
from nlirg.engine import Engine
from nlirg.errors import InputError
from nlirg.loss import WindowLoss, normalizer, window_loss
from nlirg.schedule import learning_rate, sample_order, step_seed
from nlirg.tally import Tally
from nlirg.windows import Schedule


@dataclass(frozen=True)
class Progress:
    """Where a run is; with the engine's state, all that a resumed run needs.

    Attributes:
        step: optimizer steps done, skipped ones included.
        trained_tokens: tokens of all ranks that took part in them.
        skipped_steps: steps that changed nothing: every token discarded, or the gradient not
            finite.
        seconds: time spent in them.
    """

    step: int = 0
    trained_tokens: int = 0
    skipped_steps: int = 0
    seconds: float = 0.0


class Trainer:
    """Trains the windows of a corpus on one rank of an engine.

    Everything random follows from the seed and the step's number, so a run that continues from a
    `Progress` and the matching engine state equals one that never stopped.

    Args:
        engine: this rank's engine; its state must match `progress`.
        corpus: the same on every rank.
        config: settings of the run.
        seed: of sample order and dropout.
        progress: where to continue.

    Raises:
        InputError: if the corpus has no trained token.
    """

    def __init__(
        self,
        engine: Engine,
        corpus: EncodedCorpus,
        config: TrainConfig,
        seed: int,
        progress: Progress | None = None,
    ) -> None:
        self._engine, self._config, self._seed = engine, config, seed
        self.progress = progress or Progress()
        order = sample_order(len(corpus), config.epochs, seed)
        windows = corpus.windows_per_sample(config.token_batch)
        self._schedule = Schedule(windows, order, config.batch_size)
        if not self._schedule.total_steps:
            raise InputError(
                "no trained token in the encoded corpus: every answer was empty, quarantined, or "
                "cut off by encode.max_length"
            )
        whole = self._schedule.total_steps
        self.total_steps = min(whole, config.max_steps or whole)
        self._reader = WindowReader(corpus, config.token_batch)
        self._tally = Tally()

    def run(
        self, log: Callable[[dict[str, Any]], None], checkpoint: Callable[[Progress], None]
    ) -> Progress:
        """Train to the end.

        Args:
            log: called on every rank with one record every `log_every` steps, at every
                checkpoint, and at the end.
            checkpoint: called on every rank every `checkpoint_every` steps, except at the end.

        Returns:
            The final progress.

        Raises:
            InputError: if not one step could change the model.
        """
        while self.progress.step < self.total_steps:
            self._step()
            saves = self._due(self._config.checkpoint_every)
            last = self.progress.step == self.total_steps
            if last or saves or self._due(self._config.log_every):
                log(self._record())
            if saves and not last:
                checkpoint(self.progress)
        if self.progress.skipped_steps == self.total_steps:
            raise InputError(
                f"none of the {self.total_steps} steps could change the model: every token's "
                "loss was discarded or not finite; check train.model and the corpus"
            )
        return self.progress

    def _due(self, every: int) -> bool:
        return self.progress.step % every == 0

    def _step(self) -> None:
        """Train one window of each of this rank's slots."""
        started = time.perf_counter()
        done, engine = self.progress, self._engine
        torch.manual_seed(step_seed(self._seed, done.step, engine.rank))
        loss = self._forward(done.step)
        n = normalizer(self._config.normalizer, loss.weights, loss.loss)
        total = float(engine.all_reduce_sum(n))
        norm = math.nan
        if total > 0:
            # The engine averages over ranks, the objective is a sum over them.
            engine.backward(loss.weighted_sum * (engine.world_size / total))
            norm = engine.step(learning_rate(done.step, self.total_steps, self._config))
        applied = math.isfinite(norm)
        seconds = time.perf_counter() - started
        self._tally.add(loss, total, norm if applied else None, seconds)
        self.progress = replace(
            done,
            step=done.step + 1,
            skipped_steps=done.skipped_steps + (not applied),
            seconds=done.seconds + seconds,
        )

    def _forward(self, step: int) -> WindowLoss:
        """Loss of this rank's trained tokens of a step."""
        engine = self._engine
        active = self._schedule.at(step)
        mine = [entry for entry in active if entry.slot % engine.world_size == engine.rank]
        batch = self._reader.batch(mine).to(engine.device)
        logits = engine.logits(batch)
        loss = window_loss(logits[batch.rows, batch.columns], batch.targets, self._config.weighting)
        if mine:
            return loss
        # Tie the objective to the forward, so that the backward's collectives happen here too.
        return loss._replace(weighted_sum=logits.float().sum() * 0)

    def _record(self) -> dict[str, Any]:
        """Summarize the steps since the last record, over all ranks."""
        summary = self._tally.flush(self._engine)
        tokens = summary.pop("tokens")
        seconds = summary.pop("seconds")
        trained = self.progress.trained_tokens + tokens
        self.progress = replace(self.progress, trained_tokens=trained)
        step = self.progress.step
        return {
            "step": step,
            "total_steps": self.total_steps,
            "epoch": step * self._config.epochs / self._schedule.total_steps,
            **summary,
            "lr": learning_rate(step - 1, self.total_steps, self._config),
            "trained_tokens": trained,
            "tokens_per_s": tokens / seconds,
            "skipped_steps": self.progress.skipped_steps,
        }
