"""Order of samples and learning rate, both pure functions of the settings."""

from __future__ import annotations

import math

import numpy as np

from nlirg.config import TrainConfig


def sample_order(samples: int, epochs: int, seed: int) -> np.ndarray:
    """One seeded permutation of the samples per epoch, concatenated; int64 [samples * epochs]."""
    epoch_orders = [
        np.random.default_rng((seed, epoch)).permutation(samples) for epoch in range(epochs)
    ]
    return np.concatenate(epoch_orders)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of one step's dropout on one rank, so that a resumed step draws the same numbers."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1)


def learning_rate(step: int, total_steps: int, config: TrainConfig) -> float:
    """Learning rate of a step, counted from 0.

    It climbs linearly to `config.learning_rate` in the first `warmup_ratio` of the steps, never
    starting at 0, and then stays (constant) or falls towards 0 (linear, cosine).
    """
    warmup = math.ceil(config.warmup_ratio * total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - warmup) / max(1, total_steps - warmup)
    left = 1 - done if config.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate * left
