"""A causal language model whose output head computes what is asked for, where it is asked for.

Training needs logits at the trained positions alone, and of those only the loss. So the head's
forward is replaced: the model runs as ever, embeddings to last hidden state, and its head then
selects the positions of a request and computes their loss. Being called as a module by the model
itself, the head is whole there under ZeRO 3 as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nlirg.forward.batching import TokenBatch
from nlirg.forward.loss import TokenLoss, TokenTargets, token_loss
from nlirg.forward.output_head import Head


@dataclass
class HeadRequest:
    """What the head is to compute in the next forward, and what it has computed.

    Attributes:
        rows: int64 [n] rows of the positions asked for.
        columns: int64 [n] their columns.
        targets: compute the loss of these; without, the logits.
        hidden_only: keep the hidden states of the positions and compute nothing.
        result: the loss.
        seen: the logits [n, V] or hidden states [n, H].
    """

    rows: Tensor
    columns: Tensor
    targets: TokenTargets | None = None
    hidden_only: bool = False
    result: TokenLoss | None = None
    seen: Tensor | None = None


class TappedModel:
    """A model whose head computes losses at chosen positions.

    Args:
        model: a transformers causal language model, or a peft model around one. Its output head's
            forward is replaced; without a request it does what it always did.
        call: runs the model with keyword arguments; the model itself, or an engine around it.
    """

    def __init__(self, model: Any, call: Callable[..., Any]) -> None:
        self._call = call
        self._module: Any = model.get_output_embeddings()
        self._original: Callable[[Tensor], Tensor] = self._module.forward
        self._module.forward = self._forward
        self._request: HeadRequest | None = None
        # A LoRA layer or a quantized head is more than its weight.
        self._fused = type(self._module) is nn.Linear

    @property
    def device(self) -> torch.device:
        """Where the model's inputs belong."""
        weight: Tensor = self._module.weight
        return weight.device

    @torch.no_grad()
    def probe(self, device: torch.device) -> None:
        """Find out whether the model does more to its logits than the head does (soft-capping).

        If so, logits of the trained positions are computed by the model, and the loss from those.
        Every rank must call this: it runs the model.
        """
        # Of one token the logits might all be 0, which many functions leave as they are: a padding
        # token's embedding often is.
        places = torch.arange(4, device=device)
        request = HeadRequest(places * 0, places)
        logits = self._run(request, input_ids=places[None])
        untouched = request.seen is not None and torch.equal(request.seen, logits[0])
        self._fused = self._fused and untouched

    @torch.no_grad()
    def keeps_apart(self, device: torch.device) -> bool:
        """Say whether positions alone keep documents in one row from seeing each other.

        Not every model makes its attention mask from positions (OPT and BLOOM do not), and a
        layer with a state carries it on. Every rank must call this: it runs the model.
        """

        def seen(positions: list[int]) -> Tensor:
            """Return how far two different beginnings move the last logits apart."""
            place = torch.tensor([3], device=device)
            inputs = torch.tensor([[0, 0, 2, 3], [1, 1, 2, 3]], device=device)
            where = torch.tensor([positions], device=device)
            one, other = (
                self._run(HeadRequest(place * 0, place), input_ids=row[None], position_ids=where)
                for row in inputs
            )
            return (one.float() - other.float()).norm()

        return bool(seen([0, 1, 0, 1]) <= 0.1 * seen([0, 1, 2, 3]))

    def loss(self, batch: TokenBatch, targets: TokenTargets, **inputs: Any) -> TokenLoss:
        """Compute the loss of a batch's trained tokens.

        Args:
            batch: inputs and positions.
            targets: labels and weighting of those positions.
            inputs: further arguments of the model, such as a key/value cache.
        """
        request = HeadRequest(batch.rows, batch.columns, targets if self._fused else None)
        output = self._run(request, **(batch.inputs() | inputs))
        if request.result is None:
            return token_loss(Head(output[0]), targets)
        # The output rather than the result: ZeRO hooks its backward to what a module returns.
        return request.result._replace(objective=output.sum())

    @torch.no_grad()
    def head(self, batch: TokenBatch, whole: bool = True, **inputs: Any) -> Head:
        """Return what makes the logits of a batch's positions, to be computed in chunks later.

        Args:
            batch: inputs and positions.
            whole: whether the head's weight is whole outside the forward too; if not (under ZeRO
                3), the logits are made in it.
            inputs: further arguments of the model.
        """
        hidden_only = self._fused and whole
        request = HeadRequest(batch.rows, batch.columns, hidden_only=hidden_only)
        output = self._run(request, **(batch.inputs() | inputs))
        if not hidden_only or request.seen is None:
            return Head(output[0])
        return Head(request.seen, self._module.weight, self._module.bias)

    def _run(self, request: HeadRequest, **inputs: Any) -> Tensor:
        self._request = request
        try:
            logits: Tensor = self._call(**({"use_cache": False} | inputs)).logits
        finally:
            self._request = None
        return logits

    def _forward(self, hidden: Tensor) -> Tensor:
        request = self._request
        if request is None:
            return self._original(hidden)
        chosen = hidden[request.rows, request.columns]
        if request.targets is not None:
            head = Head(chosen, self._module.weight, self._module.bias)
            request.result = token_loss(head, request.targets)
            return request.result.objective[None]
        request.seen = chosen if request.hidden_only else self._original(chosen)
        return request.seen[None]
