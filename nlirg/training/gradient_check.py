"""How far a short `gradient_context` turns the gradient, measured on the first steps of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nlirg.forward.batching import Row
from nlirg.training.engine import Engine
from nlirg.training.objective import Objective, WindowsLoss

CHECKED_STEPS = 16


class GradientCheck:
    """Computes losses, and on the first steps compares their gradient with the full one.

    The cosine is taken over all ranks' own gradients, of a sample of the weights. Where weights
    are sharded (ZeRO 3) they are not compared.

    Args:
        engine: whose gradients are compared.
        objective: computes the losses.
    """

    def __init__(self, engine: Engine, objective: Objective) -> None:
        self._engine, self._objective = engine, objective
        self._sums: Tensor | None = None

    def loss(self, step: int, rows: Sequence[Row], scale: float) -> WindowsLoss:
        """See `Objective.loss`."""
        cache = self._objective.cache
        if cache is not None and step < CHECKED_STEPS and not self._engine.lockstep:
            before = cache.prefixes
            # Two draws of dropout would differ whatever the context.
            with self._engine.evaluating():
                self._compare(rows, scale)
            cache.prefixes = before
        return self._objective.loss(rows, scale)

    def _compare(self, rows: Sequence[Row], scale: float) -> None:
        """Add to the products of the two gradients."""
        objective = self._objective
        full = self._engine.gradients(lambda: objective.full_context(rows, scale).tokens.objective)
        short = self._engine.gradients(lambda: objective.loss(rows, scale).tokens.objective)
        if full is None or short is None:
            return
        products = [(full, short), (full, full), (short, short)]
        sums = torch.stack([_dot(a, b) for a, b in products])
        self._sums = sums if self._sums is None else self._sums + sums

    def cosine(self) -> float | None:
        """Return the cosine since the last call, over all ranks; None if nothing was compared.

        Every rank must call this at the same step.
        """
        if self._sums is None:
            return None
        product, full, short = self._engine.all_reduce_sum(self._sums).tolist()
        self._sums = None
        return product / math.sqrt(full * short) if full * short > 0 else None


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    pairs = zip(a, b, strict=True)
    return torch.stack([(x.double() * y.double()).sum() for x, y in pairs]).sum()
