"""What every step trains and at which learning rate: pure functions of the settings."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nlirg.config.training import TrainConfig
from nlirg.corpus.arrangement.mixing import Mixture, mixed_order, unmixed
from nlirg.forward.batching import Row
from nlirg.forward.windows import Schedule, WindowRule


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of one step's dropout on one rank, so that a resumed step draws the same numbers."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1)


def learning_rate(step: int, total_steps: int, config: TrainConfig) -> float:
    """Return the learning rate of a step, counted from 0.

    It climbs linearly to `config.learning_rate` in the first `warmup_steps`, or else the first
    `warmup_ratio` of the steps, never starting at 0, and then stays (constant) or falls towards 0
    (linear, cosine).
    """
    warmup = math.ceil(config.warmup_ratio * total_steps)
    if config.warmup_steps is not None:
        warmup = min(config.warmup_steps, total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - warmup) / max(1, total_steps - warmup)
    left = 1 - done if config.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate * left


class Plan:
    """What a run trains, step by step.

    One optimizer step is `gradient_accumulation_steps` steps of the window schedule; each of them
    is cut into micro-batches.

    Args:
        n_trained: trained tokens of every sample, by sample index.
        config: settings of the run.
        seed: of the order of samples.
        shuffle: whether every epoch has an order of its own, not that of the samples.
        mixed: how often each sample is seen; None for once an epoch.

    Attributes:
        rule: how samples are cut into windows.
        schedule: which slot trains which window.
        total_steps: optimizer steps, within `max_steps` and `max_tokens`.
    """

    def __init__(
        self,
        n_trained: np.ndarray,
        config: TrainConfig,
        seed: int,
        shuffle: bool = True,
        mixed: Mixture | None = None,
    ) -> None:
        self._config = config
        self.rule = WindowRule(config.token_batch, config.reference_compat)
        mixed = mixed or unmixed(n_trained)
        order = mixed_order(mixed, n_trained, config.epochs, seed, shuffle)
        self.schedule = Schedule(self.rule.count(n_trained), order, config.batch_size)
        per_window = self.schedule.tokens(self.rule, n_trained)
        starts = np.arange(0, len(per_window), config.gradient_accumulation_steps)
        self._tokens = np.add.reduceat(per_window, starts) if len(starts) else per_window
        self._whole = self.total_steps = len(self._tokens)
        if config.max_tokens is not None:
            enough = np.searchsorted(np.cumsum(self._tokens), config.max_tokens) + 1
            self.total_steps = min(self.total_steps, int(enough))
        if config.max_steps is not None:
            self.total_steps = min(self.total_steps, config.max_steps)

    def tokens(self, step: int) -> int:
        """Return the trained tokens of a step, over all slots."""
        return int(self._tokens[step])

    def epoch(self, step: int) -> float:
        """Return the epochs done after so many steps."""
        return step * self._config.epochs / self._whole

    def saves(self, step: int) -> bool:
        """Say whether a checkpoint is due after so many steps."""
        every = self._config.checkpoint_every
        if isinstance(every, int):
            return step % every == 0
        return math.floor(self.epoch(step)) > math.floor(self.epoch(step - 1))

    def micro_batches(
        self, step: int, rows: Callable[[int], list[Row]], world_size: int
    ) -> list[list[Row]]:
        """Return one rank's windows of a step, in the micro-batches that are computed together.

        Windows of similar length share one, to compute little padding. There are equally many on
        every rank and in every step of the schedule, so some may be empty.

        Args:
            step: optimizer step.
            rows: gives the rank's windows in one step of the schedule.
            world_size: number of ranks.
        """
        slots = self._config.batch_size // world_size
        size = min(self._config.micro_batch_size or slots, slots)
        accumulated = self._config.gradient_accumulation_steps
        first = step * accumulated
        found = []
        for number in range(first, min(first + accumulated, self.schedule.total_steps)):
            ordered = sorted(rows(number), key=lambda row: row.length)
            found += [ordered[start : start + size] for start in range(0, slots, size)]
        return found
