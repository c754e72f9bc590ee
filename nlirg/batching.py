"""Encoded samples to the tensors of one optimizer step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nlirg.windows import IGNORE, SlotWindow, Window, window_spans


@dataclass(frozen=True)
class EncodedCorpus:
    """Tokenized samples, read by index.

    Attributes:
        rows: one mapping per sample with `input_ids` and `labels` (equal lengths); a list, or a
            memory-mapped dataset in numpy format.
        n_trained: [samples] trained tokens of each sample.
    """

    rows: Sequence[Mapping[str, Any]]
    n_trained: np.ndarray

    def __len__(self) -> int:
        return len(self.n_trained)

    def windows_per_sample(self, token_batch: int | Literal["all"]) -> np.ndarray:
        """Number of windows of each sample, int64 [samples]; equals `len(window_spans(...))`."""
        if isinstance(token_batch, int):
            return -(-self.n_trained.astype(np.int64) // token_batch)
        return (self.n_trained > 0).astype(np.int64)


@dataclass(frozen=True)
class WindowBatch:
    """The windows that one rank trains in one step, left-padded.

    B rows of T tokens. Every row ends right before the last token of its window, which is a
    target and never an input; so the window's logits are the row's last ones, for any causal
    model, and `logits_to_keep` of them are all that is computed.

    Attributes:
        input_ids: int64 [B, T].
        attention_mask: int64 [B, T], or None where no row is padded.
        position_ids: int64 [B, T], counted from each row's first real token.
        logits_to_keep: K, the longest span from a window's first to its last trained token.
        rows: int64 [n] row of each trained token.
        columns: int64 [n] index into the K kept positions whose logits predict that token.
        targets: int64 [n] token ids.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    position_ids: Tensor
    logits_to_keep: int
    rows: Tensor
    columns: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> WindowBatch:
        """Copy the tensors to a device."""
        if self.input_ids.device == device:
            return self
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) for name, value in tensors.items()
        }
        return replace(self, **moved)


def window_batch(parts: Sequence[tuple[np.ndarray, np.ndarray, Window]]) -> WindowBatch:
    """Lay windows side by side, each with the whole prefix that it can see.

    Args:
        parts: (input_ids [T_i], labels [T_i], window) of each row. Without any, the batch is one
            token that trains nothing: a rank with nothing to do must still take part in the
            collectives of a sharded forward and backward.
    """
    lengths = [window.stop - 1 for _, _, window in parts] or [1]
    keep = max((window.stop - window.start for _, _, window in parts), default=1)
    width = max(lengths)
    input_ids = np.zeros((len(lengths), width), dtype=np.int64)
    rows, columns, targets = [], [], []
    for row, (ids, labels, window) in enumerate(parts):
        input_ids[row, width - window.stop + 1 :] = ids[: window.stop - 1]
        span = labels[window.start : window.stop]
        trained = np.flatnonzero(span != IGNORE)
        rows.append(np.full(len(trained), row))
        columns.append(trained + keep - len(span))
        targets.append(span[trained])
    position = np.arange(width) - (width - np.array(lengths))[:, None]
    padded = min(lengths) < width
    return WindowBatch(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=torch.from_numpy((position >= 0).astype(np.int64)) if padded else None,
        position_ids=torch.from_numpy(position.clip(min=0)),
        logits_to_keep=keep,
        rows=_index(rows),
        columns=_index(columns),
        targets=_index(targets),
    )


def _index(pieces: list[np.ndarray]) -> Tensor:
    joined = np.concatenate(pieces) if pieces else np.empty(0)
    return torch.from_numpy(joined.astype(np.int64))


class WindowReader:
    """Reads the windows of a step; every slot keeps its sample until it takes the next one."""

    def __init__(self, corpus: EncodedCorpus, token_batch: int | Literal["all"]) -> None:
        self._corpus, self._token_batch = corpus, token_batch
        self._open: dict[int, tuple[int, np.ndarray, np.ndarray, list[Window]]] = {}

    def batch(self, active: Sequence[SlotWindow]) -> WindowBatch:
        """Build the batch of these slots' windows."""
        return window_batch([self._part(entry) for entry in active])

    def _part(self, entry: SlotWindow) -> tuple[np.ndarray, np.ndarray, Window]:
        held = self._open.get(entry.slot)
        if held is None or held[0] != entry.sample:
            row = self._corpus.rows[entry.sample]
            ids, labels = np.asarray(row["input_ids"]), np.asarray(row["labels"])
            held = (entry.sample, ids, labels, window_spans(labels, self._token_batch))
            self._open[entry.slot] = held
        _, ids, labels, windows = held
        return ids, labels, windows[entry.window]
