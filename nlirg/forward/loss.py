"""Token loss, and the weighted loss of the trained tokens of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nlirg.forward.output_head import Head, row_chunks
from nlirg.weighting.base import TokenStats, TokenWeighting

Normalizer = Literal["tokens", "nonzero", "weights"]

# Least scale at which gradients are kept in float16 until backward comes with the loss scale. With
# 1 / tokens they would be lost below 6e-8; without any scale the sums over tokens would overflow.
FP16_SCALE = 2.0**-6

TOP_ENTROPY_TOKENS = 20


def top_entropy(logits: Tensor) -> Tensor:
    """Return the entropy of the 20 likeliest tokens, their probabilities scaled to add up to 1.

    Args:
        logits: [n, V], any float type.

    Returns:
        float32 [n], nats, at most ln 20.
    """
    top = logits.detach().topk(min(TOP_ENTROPY_TOKENS, logits.shape[-1])).values.float()
    log_p = top.log_softmax(-1)
    return torch.special.entr(log_p.exp()).sum(-1)


class TokenLoss(NamedTuple):
    """The loss of n trained tokens.

    Attributes:
        objective: scale * sum of weight * loss, float32 scalar, differentiable. With scale 1 the
            step's loss is its sum over batches, slots and ranks / the step's normalizer.
        loss: unweighted token losses in nats, float32 [n], detached.
        weights: token weights, float32 [n], detached.
    """

    objective: Tensor
    loss: Tensor
    weights: Tensor


@dataclass(frozen=True)
class TokenTargets:
    """What n trained tokens are to become, and what their weights may depend on.

    Attributes:
        ids: int64 [n] token ids.
        weighting: settings of the weighting.
        base_loss: float32 [n] losses under the base model, if the weighting needs them.
        windows: int64 [n] window of each token, if the weighting needs it.
        teacher: the teacher's head at the same tokens, without gradient; None without one.
        label_share: c, the label's share beside the teacher's (1 without a teacher).
        divergence: take the teacher's entropy from CE(teacher).
        scale: that the objective is multiplied by. Known beforehand it costs nothing; at backward
            it would be one more pass over the gradient of the head's weight.
    """

    ids: Tensor
    weighting: TokenWeighting
    base_loss: Tensor | None = None
    windows: Tensor | None = None
    teacher: Head | None = None
    label_share: float = 1.0
    divergence: bool = False
    scale: float = 1.0

    def weights(self, loss: Tensor, entropy: Tensor | None, rows: slice) -> Tensor:
        """Weigh some rows by their losses [m] and, if the weighting needs it, top entropies [m]."""
        base = None if self.base_loss is None else self.base_loss[rows]
        windows = None if self.windows is None else self.windows[rows]
        return self.weighting.weigh(TokenStats(loss, entropy, base, windows))

    def top_entropy(self, logits: Tensor) -> Tensor | None:
        """Return the top entropies [m] of logits [m, V] if the weighting needs them, else None."""
        return top_entropy(logits) if "top_entropy" in self.weighting.needs else None

    def teacher_probabilities(self, rows: slice, logits: Tensor) -> Tensor | None:
        """Return the teacher's probabilities [m, V] of the tokens that `logits` [m, V] are of.

        Models of one family pad one vocabulary to different sizes: what only the teacher's head
        has is no token, and what it lacks it gives no probability.
        """
        if self.teacher is None:
            return None
        width = logits.shape[-1]
        known = self.teacher.logits(rows)[:, :width].softmax(-1).to(logits.device)
        missing = width - known.shape[-1]
        return F.pad(known, (0, missing)) if missing else known


def token_loss(head: Head, targets: TokenTargets) -> TokenLoss:
    """Compute the weighted loss of trained tokens without holding the logits of all of them.

    Logits are made in chunks of rows. With a chunk at hand its losses, its weights and the
    gradient of its weighted loss are computed in place, and only the gradient with respect to
    `head.inputs` and `head.weight` is kept, until backward scales it (the idea of Liger Kernel's
    fused linear cross-entropy, arXiv 2410.10989, with token weights that depend on the losses). A
    head that needs no gradient costs none.

    Weights are constants of the step: they are taken from the losses without gradient. A token
    that is discarded (over the deadline, NaN, infinite) adds exactly 0 to loss and gradient.
    Backward can run once.

    With a teacher a token's objective is (1 - c) CE(teacher) + c CE(label), weighted by the
    weight of the label's loss; CE(teacher) may have the teacher's entropy taken from it, which
    changes no gradient and makes it KL(teacher || model).

    Args:
        head: logits of the n tokens, or what they are made of.
        targets: labels, weighting, and a teacher if there is one.
    """
    loss = torch.empty(len(targets.ids), dtype=torch.float32, device=head.inputs.device)
    weights = torch.empty_like(loss)
    if not torch.is_grad_enabled():
        head = Head(*(None if t is None else t.detach() for t in head))  # type: ignore[arg-type]
    objective: Tensor = _TokenLoss.apply(*head, targets, loss, weights)
    return TokenLoss(objective, loss, weights)


class _TokenLoss(torch.autograd.Function):
    """Computes the gradient in the forward, where the logits are."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        targets: TokenTargets,
        loss: Tensor,
        weights: Tensor,
    ) -> Tensor:
        head = Head(inputs, weight, bias)
        scale = targets.scale
        if inputs.dtype == torch.float16:
            scale = max(scale, FP16_SCALE)
        gradients = _Gradients(head, ctx.needs_input_grad[:3], targets.scale / scale)
        given = _weights_of_windows(head, targets) if "windows" in targets.weighting.needs else None
        total = torch.zeros((), dtype=torch.float32, device=inputs.device)
        for rows in row_chunks(len(targets.ids), head.vocabulary, inputs.device.type):
            logits = head.logits(rows)
            normal, loss[rows] = _cross_entropy(logits, targets.ids[rows])
            if given is None:
                known = targets.weights(loss[rows], targets.top_entropy(logits), rows)
            else:
                known = given[rows]
            weights[rows] = known
            teacher = targets.teacher_probabilities(rows, logits)
            total += _objective(logits, normal, loss[rows], known, targets, teacher)
            if gradients:
                by_logits = _logit_gradient(logits, normal, known * scale, targets, rows, teacher)
                gradients.add(rows, by_logits, kept=known > 0)
        ctx.gradients = gradients
        return total.mul_(targets.scale)

    @staticmethod
    def backward(ctx: Any, *scales: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.gradients.scaled(scales[0])
        # With autograd's the only reference, it may add other gradients of the weight in place.
        ctx.gradients = None
        return (*gradients, None, None, None)


class _Gradients:
    """Gradients of the weighted sum with respect to a head's inputs, weight and bias."""

    def __init__(self, head: Head, needed: tuple[bool, bool, bool], later: float) -> None:
        self._head, self._needed = head, needed
        self._later = later  # factor left for backward
        self._inputs = torch.empty_like(head.inputs) if needed[0] else None
        self._weight: Tensor | None = None
        self._bias: Tensor | None = None

    def __bool__(self) -> bool:
        """Say whether any gradient is wanted."""
        return any(self._needed)

    def add(self, rows: slice, gradient: Tensor, kept: Tensor) -> None:
        """Take in the gradient [m, V] by the logits of some rows; it is 0 where not `kept` [m]."""
        inputs, weight, _ = self._head
        if weight is not None:
            gradient = gradient.to(weight.dtype)
        if self._inputs is not None:
            self._inputs[rows] = gradient if weight is None else gradient @ weight
        if self._needed[1]:
            # A discarded token's hidden state may be NaN, and 0 * NaN is NaN.
            inside = torch.where(kept[:, None], inputs[rows].to(gradient.dtype), 0.0)
            self._weight = _accumulated(self._weight, gradient, inside)
        if self._needed[2]:
            summed = gradient.sum(0)
            self._bias = summed if self._bias is None else self._bias + summed

    def scaled(self, scale: Tensor) -> list[Tensor | None]:
        """Return the gradients times the scalar that backward arrives with."""
        found = [self._inputs, self._weight, self._bias]
        for index, wanted in enumerate(self._needed):
            # A rank without tokens takes part in reducing the gradient all the same.
            if wanted and found[index] is None:
                found[index] = torch.zeros_like(self._head[index])  # type: ignore[arg-type]
        scale = scale * self._later
        # Reading a scalar back would wait for a GPU; there the pass costs nothing.
        if scale.device.type == "cpu" and scale.item() == 1:
            return found
        return [None if gradient is None else gradient.mul_(scale) for gradient in found]


def _accumulated(total: Tensor | None, gradient: Tensor, inputs: Tensor) -> Tensor:
    """Add gradient.T @ inputs; sums of several half-precision products are kept in float32."""
    if gradient.dtype == torch.float32:
        if total is None:  # on a CPU, adding to zeros is faster than a product of few rows
            total = gradient.new_zeros((gradient.shape[1], inputs.shape[1]))
        return total.addmm_(gradient.T, inputs)
    product = gradient.T @ inputs
    return product if total is None else total.float().add_(product)


def _cross_entropy(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the normaliser [m] and loss [m] of each row."""
    normal = logits.logsumexp(-1)
    return normal, normal - logits.gather(-1, ids[:, None]).squeeze(-1)


def _objective(
    logits: Tensor,
    normal: Tensor,
    loss: Tensor,
    weights: Tensor,
    targets: TokenTargets,
    teacher: Tensor | None,
) -> Tensor:
    """Add up weight * objective of some rows; 0 for those of weight 0, whatever their loss."""
    objective = loss
    if teacher is not None:
        ce = normal - (teacher * logits).sum(-1)
        if targets.divergence:
            ce -= torch.special.entr(teacher).sum(-1)
        objective = (1 - targets.label_share) * ce + targets.label_share * loss
    return torch.where(weights > 0, weights * objective, 0.0).sum()


def _logit_gradient(
    logits: Tensor,
    normal: Tensor,
    weights: Tensor,
    targets: TokenTargets,
    rows: slice,
    teacher: Tensor | None,
) -> Tensor:
    """Return the gradient of the weighted sum with respect to the logits, written over them.

    The teacher's probabilities are overwritten too.
    """
    gradient = logits.sub_(normal[:, None]).exp_()
    if teacher is not None:
        gradient -= teacher.mul_(1 - targets.label_share)
    share = torch.full_like(normal, -targets.label_share)
    gradient.scatter_add_(-1, targets.ids[rows, None], share[:, None])
    gradient.mul_(weights[:, None])
    return gradient.masked_fill_((weights == 0)[:, None], 0.0)


def _weights_of_windows(head: Head, targets: TokenTargets) -> Tensor:
    """Weigh all tokens at once, which takes one more pass over the logits.

    A weighting that looks at whole windows needs the losses of all their tokens before the first
    weight is known.
    """
    loss = torch.empty(len(targets.ids), dtype=torch.float32, device=head.inputs.device)
    entropy = torch.empty_like(loss) if "top_entropy" in targets.weighting.needs else None
    for rows in row_chunks(len(targets.ids), head.vocabulary, head.inputs.device.type):
        logits = head.logits(rows)
        loss[rows] = _cross_entropy(logits, targets.ids[rows])[1]
        if entropy is not None:
            entropy[rows] = top_entropy(logits)
    return targets.weights(loss, entropy, slice(0, len(targets.ids)))


def normalizer(name: Normalizer, weights: Tensor, loss: Tensor) -> Tensor:
    """Return this batch's part of N, by which the sum of weighted losses of a step is divided.

    Parts of all batches, slots and ranks of the step add up to its N.

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
