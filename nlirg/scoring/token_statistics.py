"""Loss, entropy and spread of ln p of chosen tokens, never holding the logits of all of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nlirg.forward.output_head import Head

# Rows and vocabulary of the logits that are held at a time. On a CPU a tile stays in the caches
# while it is read several times; on a GPU launching a kernel costs more than reading memory.
TILE = {"cpu": (1024, 1024), "cuda": (2048, 1 << 17)}

# exp(FAR) is 0 in float32, and FAR ** 2 is finite: unlike exp(-inf) * inf, that of a token without
# any probability.
FAR = -1e4


@torch.no_grad()
def token_statistics(head: Head, ids: Tensor) -> Tensor:
    """Loss, entropy and standard deviation of ln p of tokens, all of the same distributions.

    L = -ln p(id), H = -sum p ln p and sigma = sqrt(sum p (ln p)^2 - H^2), from logits upcast to
    float32. The vocabulary is worked through in tiles. With d = logit - (greatest logit), each
    tile gives sum e^d, sum e^d d and sum e^d d^2, from which all three follow without a second
    look at the logits; and nothing cancels, since d is near 0 wherever e^d is not.

    Args:
        head: logits [n, V] of the tokens, or what they are made of.
        ids: int64 [n].

    Returns:
        float32 [3, n]: L, H and sigma, in nats. A token without any probability has an infinite
        loss; NaN logits give NaN.
    """
    rows, _ = TILE.get(head.inputs.device.type, TILE["cuda"])
    chunks = [
        _statistics(head, ids, slice(start, min(start + rows, len(ids))))
        for start in range(0, len(ids), rows)
    ]
    empty = torch.empty((3, 0), dtype=torch.float32, device=head.inputs.device)
    return torch.cat([empty, *chunks], dim=1)


def _statistics(head: Head, ids: Tensor, rows: slice) -> Tensor:
    """Statistics [3, m] of some rows."""
    chosen = ids[rows]
    picked = torch.full_like(chosen, float("nan"), dtype=torch.float32)
    parts = []
    for columns in _columns(head):
        logits = head.logits(rows, columns)
        place = chosen - columns.start
        inside = (place >= 0) & (place < logits.shape[1])
        found = logits.gather(-1, place.clamp(0, logits.shape[1] - 1)[:, None]).squeeze(-1)
        picked = torch.where(inside, found, picked)
        parts.append(_moments(logits))
    top, total, first, second = _joined(torch.stack(parts))
    mean = first / total
    log_total = total.log()
    variance = second / total - mean.square()
    return torch.stack([log_total + (top - picked), log_total - mean, variance.clamp(min=0).sqrt()])


def _columns(head: Head) -> Iterator[slice]:
    """The tiles of the vocabulary."""
    _, size = TILE.get(head.inputs.device.type, TILE["cuda"])
    for start in range(0, head.vocabulary, size):
        yield slice(start, min(start + size, head.vocabulary))


def _moments(logits: Tensor) -> Tensor:
    """Greatest logit, and sums of e^d, e^d d and e^d d^2, of each row: [4, m].

    The logits are overwritten.
    """
    top = logits.amax(-1).clamp_(min=torch.finfo(torch.float32).min)
    distance = logits.sub_(top[:, None]).clamp_(min=FAR)
    weight = distance.exp()
    total = weight.sum(-1)
    weight.mul_(distance)
    return torch.stack([top, total, weight.sum(-1), torch.linalg.vecdot(weight, distance)])


def _joined(parts: Tensor) -> Tensor:
    """Moments [4, m] of whole rows from those of their tiles [tiles, 4, m]."""
    tops, total, first, second = parts.unbind(1)
    top = tops.amax(0)
    shift = (tops - top).clamp(min=FAR)
    scale = shift.exp()
    second = second + 2 * shift * first + shift.square() * total
    first = first + shift * total
    return torch.stack([top, *((part * scale).sum(0) for part in (total, first, second))])
