"""Running sums of training metrics between two log records."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nlirg.weighting.zones import ZONES, zone_of

if TYPE_CHECKING:
    from nlirg.training.engine import Engine

BIN_WIDTH = 0.5
# Lower bounds (nats) of the loss bins. The last one has no upper bound; it also takes losses that
# are not finite.
LOSS_BINS = tuple(BIN_WIDTH * index for index in range(33))


@dataclass(frozen=True)
class StepRecord:
    """One step of one rank.

    Attributes:
        loss: float32 [n], unweighted token losses in nats, detached; may hold NaN and infinity.
        weights: float32 [n], the tokens' weights.
        tasks: int64 [n] on the CPU, the tokens' indices into the corpus' task types.
        sources: the same into its sources.
        objective: this rank's sum(w * L) / N, which sums over ranks to the step's loss; 0 if the
            step was skipped.
        trained: whether the optimizer stepped; the same on every rank.
        grad_norm: the global gradient norm; None if the step was skipped.
        processed_tokens: input tokens that this rank pushed through the model, without padding.
        padded_tokens: the same with padding.
        seconds: how long the step took.
    """

    loss: Tensor
    weights: Tensor
    tasks: Tensor
    sources: Tensor
    objective: float | Tensor
    trained: bool
    grad_norm: float | None
    processed_tokens: int
    padded_tokens: int
    seconds: float


class StepMetrics:
    """Collects what steps report, without waiting for the device, until it is flushed.

    Args:
        task_types: names of the corpus' task types, the same on every rank.
        sources: names of its sources.
    """

    def __init__(self, task_types: Sequence[str], sources: Sequence[str] = ("",)) -> None:
        self._kinds = {"task": tuple(task_types), "source": tuple(sources)}
        self._steps: list[StepRecord] = []

    def add(self, step: StepRecord) -> None:
        """Take in one step of this rank."""
        self._steps.append(step)

    def flush(self, engine: Engine) -> dict[str, Any]:
        """Summarize the steps since the last flush over all ranks, and start anew.

        Returns:
            tokens, loss (mean of the finite unweighted losses, nats), weighted_loss (mean over
            the steps that trained of sum(w * L) / N), mean_weight, one share of the tokens per
            zone, loss_by_task (mean finite loss of the task types seen) and zones_by_task (share
            of their tokens per zone, under "<task type>/<zone>"), the same by source,
            loss_histogram (tokens) and weight_histogram (sums of weights) on `LOSS_BINS`,
            processed_tokens, padding_share, grad_norm (of the last step), seconds and memory_gb
            (peak of this rank). A mean of nothing is None.
        """
        steps, self._steps = self._steps, []
        sums = _local_sums(steps, {kind: len(names) for kind, names in self._kinds.items()})
        lengths = [len(part) for part in sums.values()]
        vector = torch.cat(list(sums.values())).to(engine.device)
        total = engine.all_reduce_sum(vector).cpu().split(lengths)
        named = {name: part.tolist() for name, part in zip(sums, total, strict=True)}
        trained_steps = sum(step.trained for step in steps)
        return self._summary(named, trained_steps) | {
            "grad_norm": steps[-1].grad_norm,
            "seconds": sum(step.seconds for step in steps),
            "memory_gb": peak_memory_gb(engine.device),
        }

    def _summary(self, sums: dict[str, list[float]], trained_steps: int) -> dict[str, Any]:
        """Return the means, shares and histograms from the sums over all ranks."""
        tokens = sum(sums["loss_histogram"])
        [objective], [processed], [padded] = sums["objective"], sums["processed"], sums["padded"]
        zones = zip(ZONES, sums["zones"], strict=True)
        return {
            "tokens": int(tokens),
            "loss": _mean(sum(sums["task_loss"]), sum(sums["task_count"])),
            "weighted_loss": _mean(objective, trained_steps),
            "mean_weight": _mean(sum(sums["weight_histogram"]), tokens),
            **{zone: _mean(count, tokens) for zone, count in zones},
            **self._by_kind(sums),
            "loss_histogram": [int(count) for count in sums["loss_histogram"]],
            "weight_histogram": sums["weight_histogram"],
            "processed_tokens": int(processed),
            "padding_share": 1 - processed / padded if padded else None,
        }

    def _by_kind(self, sums: dict[str, list[float]]) -> dict[str, dict[str, float]]:
        """Return mean losses and zone shares of the task types and sources that were seen."""
        found: dict[str, dict[str, float]] = {}
        for kind, names in self._kinds.items():
            known = zip(names, sums[f"{kind}_loss"], sums[f"{kind}_count"], strict=True)
            found[f"loss_by_{kind}"] = {name: loss / count for name, loss, count in known if count}
            tokens = np.array(sums[f"{kind}_zones"]).reshape(len(names), len(ZONES))
            found[f"zones_by_{kind}"] = {
                f"{name}/{zone}": float(count / row.sum())
                for name, row in zip(names, tokens, strict=True)
                for zone, count in zip(ZONES, row, strict=True)
                if row.sum()
            }
        return found


def _local_sums(steps: Sequence[StepRecord], kinds: dict[str, int]) -> dict[str, Tensor]:
    """Return what this rank adds to each sum over ranks: float64 vectors on the CPU."""
    loss = torch.cat([step.loss for step in steps]).cpu().double()
    weights = torch.cat([step.weights for step in steps]).cpu().double()
    bins, finite = _bins(loss), loss.isfinite()
    zones = zone_of(loss.numpy())
    scalars = {
        "objective": sum(float(step.objective) for step in steps if step.trained),
        "processed": sum(step.processed_tokens for step in steps),
        "padded": sum(step.padded_tokens for step in steps),
    }
    by_kind: dict[str, Tensor] = {}
    for kind, count in kinds.items():
        of = torch.cat([getattr(step, f"{kind}s") for step in steps])
        placed = of * len(ZONES) + torch.from_numpy(zones)
        by_kind[f"{kind}_loss"] = of[finite].bincount(loss[finite], minlength=count)
        by_kind[f"{kind}_count"] = of[finite].bincount(minlength=count).double()
        by_kind[f"{kind}_zones"] = placed.bincount(minlength=count * len(ZONES)).double()
    return {
        **by_kind,
        "loss_histogram": bins.bincount(minlength=len(LOSS_BINS)).double(),
        "weight_histogram": bins.bincount(weights, minlength=len(LOSS_BINS)),
        "zones": torch.from_numpy(np.bincount(zones, minlength=len(ZONES))).double(),
        **{name: torch.tensor([value], dtype=torch.float64) for name, value in scalars.items()},
    }


def _bins(loss: Tensor) -> Tensor:
    """Return the index into `LOSS_BINS` of every loss, int64 [n]."""
    last = len(LOSS_BINS) - 1
    known = torch.where(loss.isfinite(), loss / BIN_WIDTH, float(last))
    return known.floor().clamp(0, last).long()


def _mean(total: float, count: float) -> float | None:
    return total / count if count else None


def peak_memory_gb(device: torch.device) -> float:
    """Measure the most memory (10^9 bytes) this process has held: of a GPU it uses, else RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
