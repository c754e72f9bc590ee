"""Token weights: how strongly each trained token's loss pulls on the model.

A weighting is one pure function from what is known of each token (`TokenStats`) to its weight; its
settings class in `nlirg.weighting.settings` names it, and `token_weights` looks it up by that name.
Whatever the weighting, a token whose loss is not finite has weight 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nlirg.weighting.settings import (
    DftWeighting,
    EaftWeighting,
    FocalWeighting,
    NlirgWeighting,
    RandomWeighting,
    StmWeighting,
    UniformWeighting,
    Weighting,
)

EPSILON = torch.finfo(torch.float32).eps

TOP_ENTROPY_TOKENS = 20


@dataclass(frozen=True)
class TokenStats:
    """What a weighting may know of n trained tokens; all float32 [n] without gradient.

    Attributes:
        loss: token losses in nats.
        top_entropy: entropy in nats of the 20 likeliest tokens' renormalised distribution; for
            `eaft` only, else None.
        base_loss: losses under the base model, from the scores; for `stm` only, else None.
        windows: int64 [n], equal for tokens of one window of one slot, and seed of its shuffle;
            for `random` only, else None.
    """

    loss: Tensor
    top_entropy: Tensor | None = None
    base_loss: Tensor | None = None
    windows: Tensor | None = None


def top_entropy(logits: Tensor) -> Tensor:
    """Entropy of the 20 likeliest tokens, their probabilities scaled to add up to 1.

    Args:
        logits: [n, V], any float type.

    Returns:
        float32 [n], nats, at most ln 20.
    """
    top = logits.detach().topk(min(TOP_ENTROPY_TOKENS, logits.shape[-1])).values.float()
    log_p = top.log_softmax(-1)
    return torch.special.entr(log_p.exp()).sum(-1)


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


def _nlirg(stats: TokenStats, cfg: NlirgWeighting) -> Tensor:
    return nlirg_weights(stats.loss, cfg)


def _uniform(stats: TokenStats, cfg: UniformWeighting) -> Tensor:
    return torch.ones_like(stats.loss)


def _dft(stats: TokenStats, cfg: DftWeighting) -> Tensor:
    return (-stats.loss).exp()


def _eaft(stats: TokenStats, cfg: EaftWeighting) -> Tensor:
    return (_known(stats.top_entropy, "top_entropy") / 3).pow(cfg.alpha)


def _focal(stats: TokenStats, cfg: FocalWeighting) -> Tensor:
    # expm1 keeps what 1 - p would lose where p is near 1.
    return (-torch.expm1(-stats.loss)).pow(cfg.gamma)


def _stm(stats: TokenStats, cfg: StmWeighting) -> Tensor:
    return (_known(stats.base_loss, "base_loss") < cfg.max_base_loss).float()


def _random(stats: TokenStats, cfg: RandomWeighting) -> Tensor:
    weights = nlirg_weights(stats.loss, cfg.nlirg)
    windows = _known(stats.windows, "windows")
    shuffled = weights.clone()
    for window in windows.unique().tolist():
        # Tokens that cannot be trained stay out: each of the others gets one of their weights.
        inside = ((windows == window) & (weights > 0)).nonzero().squeeze(-1)
        draw = torch.Generator().manual_seed(window)
        shuffled[inside] = weights[inside[torch.randperm(len(inside), generator=draw)]]
    return shuffled


def _known(values: Tensor | None, name: str) -> Tensor:
    if values is None:
        raise ValueError(f"this weighting needs {name} of every token")
    return values


WEIGHTINGS: dict[str, Callable[[TokenStats, Any], Tensor]] = {
    "nlirg": _nlirg,
    "uniform": _uniform,
    "dft": _dft,
    "eaft": _eaft,
    "focal": _focal,
    "stm": _stm,
    "random": _random,
}


def token_weights(stats: TokenStats, weighting: Weighting) -> Tensor:
    """Apply the weighting that the recipe names; its settings class gives formula and source.

    Args:
        stats: what is known of the tokens.
        weighting: the settings of one weighting.

    Returns:
        Weights [n], float32, detached, finite and >= 0.

    Raises:
        ValueError: if the weighting needs a statistic that is missing.
    """
    weights = WEIGHTINGS[weighting.name](stats, weighting).detach()
    return torch.where(stats.loss.isfinite() & weights.isfinite(), weights, 0.0)
