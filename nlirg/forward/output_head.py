"""The output head: where hidden states become logits, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Logits held at a time, in elements. On a GPU fewer, larger chunks: each of them adds to the whole
# weight gradient; on a CPU a chunk should stay near the caches.
CHUNK_ELEMENTS = {"cpu": 1 << 23, "cuda": 1 << 28}


class Head(NamedTuple):
    """What makes logits [n, V] of inputs: `inputs @ weight.T + bias`.

    Attributes:
        inputs: [n, H] hidden states; or logits [n, V], if there is no weight.
        weight: [V, H] of the output head, or None.
        bias: [V] or None.
    """

    inputs: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None

    def logits(self, rows: slice, columns: slice = slice(None)) -> Tensor:
        """Return logits of some rows, at some places of the vocabulary, in a new float32 tensor."""
        inputs = self.inputs[rows]
        if self.weight is None:
            return inputs[:, columns].to(torch.float32, copy=True)
        weight = self.weight[columns]
        bias = None if self.bias is None else self.bias[columns]
        return F.linear(inputs.to(weight.dtype), weight, bias).float()

    @property
    def vocabulary(self) -> int:
        """Number of logits of a row."""
        return (self.inputs.shape[-1] if self.weight is None else len(self.weight)) or 1


def row_chunks(rows: int, vocabulary: int, device: str) -> Iterator[slice]:
    """Cut rows into slices whose logits may be held at a time on a kind of device."""
    size = max(1, CHUNK_ELEMENTS.get(device, CHUNK_ELEMENTS["cuda"]) // vocabulary)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
