"""Running sums of training metrics between two log records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nlirg.config import ZONES
from nlirg.loss import WindowLoss
from nlirg.weights import zone_shares

if TYPE_CHECKING:
    from nlirg.engine import Engine


class Tally:
    """Collects what steps report, without waiting for the device, until it is flushed."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._losses: list[Tensor] = []
        self._weights: list[Tensor] = []
        self._objectives: list[Tensor] = []
        self._grad_norm: float | None = None
        self._seconds = 0.0

    def add(self, loss: WindowLoss, total: float, grad_norm: float | None, seconds: float) -> None:
        """Take in one step of this rank.

        Args:
            loss: this rank's token losses and weights.
            total: the step's normalizer over all ranks; 0 if nothing could be trained.
            grad_norm: the step's global gradient norm; None if the step was skipped.
            seconds: how long the step took.
        """
        self._losses.append(loss.loss)
        self._weights.append(loss.weights)
        if total > 0:
            self._objectives.append(loss.weighted_sum.detach() / total)
        self._grad_norm = grad_norm
        self._seconds += seconds

    def flush(self, engine: Engine) -> dict[str, Any]:
        """Summarize over all ranks and start anew.

        Returns:
            tokens, loss (mean of the finite unweighted losses, nats), weighted_loss (mean over
            steps of sum(w * L) / N), mean_weight, one share per zone, grad_norm (of the last
            step) and seconds. A mean of nothing is None.
        """
        loss, weights = torch.cat(self._losses), torch.cat(self._weights)
        finite = loss[loss.isfinite()]
        shares = zone_shares(loss)
        sums = [len(loss), len(finite), float(finite.sum()), float(weights.sum())]
        sums += [float(sum(self._objectives))] + [shares[zone] * len(loss) for zone in ZONES]
        local = torch.tensor(sums, dtype=torch.float64, device=loss.device)
        tokens, counted, loss_sum, weight_sum, objective, *zones = engine.all_reduce_sum(
            local
        ).tolist()
        record = {
            "tokens": int(tokens),
            "loss": _mean(loss_sum, counted),
            "weighted_loss": _mean(objective, len(self._objectives)),
            "mean_weight": _mean(weight_sum, tokens),
            **{zone: _mean(count, tokens) for zone, count in zip(ZONES, zones, strict=True)},
            "grad_norm": self._grad_norm,
            "seconds": self._seconds,
        }
        self._clear()
        return record


def _mean(total: float, count: float) -> float | None:
    return total / count if count else None
