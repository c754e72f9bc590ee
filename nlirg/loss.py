"""Token loss, entropy, and the weighted loss of one window."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nlirg.config import Weighting
from nlirg.weights import token_weights

Normalizer = Literal["tokens", "nonzero", "weights"]


class WindowLoss(NamedTuple):
    """The loss of n trained tokens of one window.

    Attributes:
        weighted_sum: sum of weight * loss, float32 scalar, differentiable with respect to the
            logits. The step's loss is its sum over windows / the step's normalizer.
        loss: unweighted token losses in nats, float32 [n], detached.
        weights: token weights, float32 [n], detached.
    """

    weighted_sum: Tensor
    loss: Tensor
    weights: Tensor


@torch.no_grad()
def token_loss_entropy(logits: Tensor, targets: Tensor, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """Loss and entropy of each token, of the same distribution.

    L = -ln p(target) and H = -sum p ln p, in float32 from upcast logits. Rows are worked through
    in chunks so that the upcast copy never holds more than `chunk` rows.

    Args:
        logits: [n, V], any float type; row t predicts targets[t].
        targets: [n], int64 token ids.
        chunk: rows upcast at a time.

    Returns:
        Loss and entropy in nats, float32 [n] each, without gradient.
    """
    loss = torch.empty(len(targets), dtype=torch.float32, device=logits.device)
    entropy = torch.empty_like(loss)
    for start in range(0, len(targets), chunk):
        rows = slice(start, start + chunk)
        log_p = logits[rows].float().log_softmax(-1)
        loss[rows] = -log_p.gather(-1, targets[rows, None]).squeeze(-1)
        # entr is 0 where p underflows to 0; p * log p would be 0 * -inf there.
        entropy[rows] = torch.special.entr(log_p.exp_()).sum(-1)
    return loss, entropy


def window_loss(logits: Tensor, targets: Tensor, weighting: Weighting) -> WindowLoss:
    """Weighted loss of one window's trained tokens.

    Weights are taken from the losses without gradient, and only rows of positive weight are
    differentiated: a token that is discarded (over the deadline, NaN, infinite) adds nothing to
    the loss and exactly 0 to the gradient, where 0 * NaN would be NaN.

    Args:
        logits: [n, V], any float type; row t predicts targets[t].
        targets: [n], int64 token ids.
        weighting: settings of the weighting.

    Returns:
        The weighted sum with its token losses and weights.
    """
    with torch.no_grad():
        loss = F.cross_entropy(logits.float(), targets, reduction="none")
        weights = token_weights(loss, weighting)
        kept = weights.nonzero().squeeze(-1)
    live = F.cross_entropy(logits[kept].float(), targets[kept], reduction="none")
    return WindowLoss((weights[kept] * live).sum(), loss, weights)


def normalizer(name: Normalizer, weights: Tensor, loss: Tensor) -> Tensor:
    """This window's part of N, by which the sum of weighted losses of a step is divided.

    Parts of all windows, slots and ranks of the step add up to its N; N is 0 when every token of
    the step was discarded, and the caller must then divide by 1.

    Args:
        name: `tokens` (all trained tokens), `nonzero` (tokens whose weighted loss is not 0, as
            `masked_mean` of the reference implementation), `weights` (sum of the weights).
        weights: [n] token weights.
        loss: [n] unweighted token losses.

    Returns:
        A float32 scalar on the device of `weights`.
    """
    if name == "tokens":
        return torch.tensor(float(weights.numel()), device=weights.device)
    if name == "weights":
        return weights.sum()
    # A discarded token's loss may be NaN or infinite, and 0 * inf != 0: ask the factors.
    return ((weights != 0) & (loss != 0)).sum().float()
