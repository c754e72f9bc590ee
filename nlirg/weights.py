"""Token weights: how strongly each trained token's loss pulls on the model.

A weighting is one pure function from the tokens' losses to their weights; its settings class in
`nlirg.config` names it, and `token_weights` looks it up by that name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nlirg.config import NlirgWeighting, UniformWeighting, Weighting

EPSILON = torch.finfo(torch.float32).eps

# Upper bounds (nats) of the zones below which NLIRG damps, keeps and damps again.
LOW_ZONE, MID_ZONE, HIGH_ZONE = 1.45, 6.6, 15.0


def nlirg_weights(loss: Tensor, cfg: NlirgWeighting) -> Tensor:
    """Weigh tokens by the zone their loss lies in.

        L <= loss_threshold                    w = max_weight * sigmoid(k * (L - x0)) + eps
        loss_threshold < L < loss_deadline     w = max_weight * sigmoid(-hard_k * (L - hard_x0))
                                                   + eps + min_weight
        L >= loss_deadline, or not finite      w = 0

    eps is the float32 machine epsilon. Learned tokens (small L) and probable label errors (large
    L) get little, the range between them nearly `max_weight`. This is `dynamic_sigmoid_batch` of
    the NLIRG reference implementation (Y-Trainer), computed in float32 whatever the input.

    Args:
        loss: token losses in nats, any shape.
        cfg: the breakpoints and slopes.

    Returns:
        Weights of the same shape, float32, detached.
    """
    loss = loss.detach().float()
    easy = cfg.max_weight * torch.sigmoid(cfg.k * (loss - cfg.x0)) + EPSILON
    hard = cfg.max_weight * torch.sigmoid(-cfg.hard_k * (loss - cfg.hard_x0)) + EPSILON
    weights = torch.where(loss <= cfg.loss_threshold, easy, hard + cfg.min_weight)
    return torch.where(loss.isfinite() & (loss < cfg.loss_deadline), weights, 0.0)


def uniform_weights(loss: Tensor, cfg: UniformWeighting) -> Tensor:
    """Give every token weight 1 (ordinary SFT), and 0 where the loss is not finite.

    Args:
        loss: token losses in nats, any shape.
        cfg: has no settings.

    Returns:
        Weights of the same shape, float32, detached.
    """
    return loss.detach().isfinite().float()


WEIGHTINGS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "nlirg": nlirg_weights,
    "uniform": uniform_weights,
}


def token_weights(loss: Tensor, weighting: Weighting) -> Tensor:
    """Apply the weighting that the recipe names.

    Args:
        loss: token losses in nats, any shape.
        weighting: the settings of one weighting.

    Returns:
        Weights of the same shape, float32, detached, finite and >= 0.
    """
    return WEIGHTINGS[weighting.name](loss, weighting)


def zone_shares(loss: Tensor | np.ndarray) -> dict[str, float]:
    """Share of tokens per loss zone, for monitoring.

    The zones are low (L <= 1.45), mid (< 6.6), high (< 15) and discarded (>= 15 or not finite);
    they stay the same whatever the weighting, so that runs can be compared.

    Args:
        loss: token losses in nats, any shape.

    Returns:
        Shares in [0, 1] under the keys low, mid, high, discarded; all 0 if there is no token.
    """
    values = loss.detach().cpu().float().numpy() if isinstance(loss, Tensor) else loss
    values = np.where(np.isfinite(values), values, np.inf)
    low, mid, high = (
        int(np.count_nonzero(inside))
        for inside in (values <= LOW_ZONE, values < MID_ZONE, values < HIGH_ZONE)
    )
    counts = {"low": low, "mid": mid - low, "high": high - mid, "discarded": values.size - high}
    return {zone: count / max(values.size, 1) for zone, count in counts.items()}
