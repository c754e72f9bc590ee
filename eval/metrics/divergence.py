"""How far a tuned model's predictions are from its base's: losses and KL, token by token."""

from __future__ import annotations

import torch
from torch import Tensor

from nlirg.forward.output_head import Head, row_chunks


@torch.no_grad()
def token_divergence(base: Head, tuned: Head, ids: Tensor) -> Tensor:
    """Losses under two models, and KL(base || tuned), of the distributions that predict tokens.

    L = -ln p(id), and KL = sum over the vocabulary of p_base (ln p_base - ln p_tuned), from logits
    upcast to float32; the logits of a few rows at a time are held. Rounding aside KL is never
    negative, so what falls below 0 is 0.

    Args:
        base: logits [n, V] of the base model, or what they are made of.
        tuned: the same of the tuned model.
        ids: int64 [n] tokens.

    Returns:
        float32 [3, n]: base loss, tuned loss and KL, in nats. KL is infinite where the tuned model
        rules out a token that the base allows; NaN logits give NaN.
    """
    device = base.inputs.device.type
    chunks = [
        _divergence(base.logits(rows), tuned.logits(rows), ids[rows])
        for rows in row_chunks(len(ids), base.vocabulary, device)
    ]
    empty = torch.empty((3, 0), dtype=torch.float32, device=base.inputs.device)
    return torch.cat([empty, *chunks], dim=1)


def _divergence(base: Tensor, tuned: Tensor, ids: Tensor) -> Tensor:
    """Losses and KL [3, m] from logits [m, V] of both models."""
    base, tuned = base.log_softmax(-1), tuned.log_softmax(-1)
    losses = [-chosen.gather(-1, ids[:, None]).squeeze(-1) for chosen in (base, tuned)]
    probabilities = base.exp()
    # 0 * inf is NaN: a token that the base rules out adds nothing, whatever the tuned model says.
    terms = torch.where(probabilities == 0, 0.0, probabilities * (base - tuned))
    return torch.stack([*losses, terms.sum(-1).clamp(min=0)])
