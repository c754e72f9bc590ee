"""Encoded samples to the tensors of one optimizer step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from nlirg.forward.windows import SlotWindow, Window, WindowRule
from nlirg.labels import IGNORE

Array = np.ndarray


class SampleRows(Protocol):
    """Samples by index: a list of mappings, or `nlirg.corpus.tokens.PlannedSamples`."""

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...
    def __iter__(self) -> Iterator[Mapping[str, Any]]: ...


@dataclass(frozen=True)
class EncodedCorpus:
    """Tokenized samples, read by index.

    Attributes:
        rows: one mapping per sample with `input_ids` and `labels` (equal lengths), and where they
            are known `base_loss` (of each trained token) and `segments` (lengths of the documents
            packed into the row).
        n_trained: [samples] trained tokens of each sample.
        task_types: names of the kinds of samples.
        tasks: [samples] index into `task_types`.
        packed: whether some row holds more than one document; None to look through the rows.
        sources: names of where samples come from.
        source: [samples] index into `sources`.
        replay: index into `sources` of the base model's own answers; None without them.
    """

    rows: SampleRows
    n_trained: Array
    task_types: tuple[str, ...] = ("",)
    tasks: Array = field(default_factory=lambda: np.empty(0, np.int64))
    packed: bool | None = None
    sources: tuple[str, ...] = ("",)
    source: Array = field(default_factory=lambda: np.empty(0, np.int64))
    replay: int | None = None

    def holds_packs(self) -> bool:
        """Whether some row holds more than one document."""
        if self.packed is None:
            return any(len(self.sample(index).segments) > 1 for index in range(len(self)))
        return self.packed

    def __len__(self) -> int:
        return len(self.n_trained)

    def sample(self, index: int) -> TokenizedSample:
        """Read one sample."""
        row = self.rows[index]
        ids, labels = np.asarray(row["input_ids"]), np.asarray(row["labels"])
        base = row.get("base_loss")
        segments = row.get("segments")
        source = int(self.source[index]) if len(self.source) else 0
        return TokenizedSample(
            ids,
            labels,
            np.empty(0, np.float32) if base is None else np.asarray(base, np.float32),
            np.array([len(ids)]) if segments is None or not len(segments) else np.asarray(segments),
            int(self.tasks[index]) if len(self.tasks) else 0,
            source,
            source == self.replay,
        )


@dataclass(frozen=True)
class TokenizedSample:
    """One encoded sample.

    Attributes:
        ids: [T] token ids.
        labels: [T] the same where a token is trained, `IGNORE` elsewhere.
        base_loss: [n_trained] losses under the base model; empty if unknown.
        segments: lengths of the documents in it; their sum is T.
        task: index of its task type.
        source: index of its source.
        replayed: whether it is an answer of the base model's own.
    """

    ids: Array
    labels: Array
    base_loss: Array
    segments: Array
    task: int
    source: int = 0
    replayed: bool = False

    @cached_property
    def positions(self) -> Array:
        """[T] position of each token in its document."""
        return np.concatenate([np.arange(length) for length in self.segments])

    @cached_property
    def trained_before(self) -> Array:
        """[T + 1] number of trained tokens before each position."""
        return np.concatenate([[0], np.cumsum(self.labels != IGNORE)])


@dataclass(frozen=True)
class Row:
    """One window with what it is computed from: tokens `begin`..`window.stop - 1` of a sample.

    The window's last token is a target and never an input.

    Attributes:
        sample: the sample it is a window of.
        window: the positions that are trained.
        origin: first position the window can see, the start of its document.
        begin: first position that is computed; what lies between comes from a cache.
        slot: the slot that trains it.
        visit: when the slot took the sample up, in windows trained before; tells one epoch's
            visit from the next.
        identity: number of the window, unique within the run.
    """

    sample: TokenizedSample
    window: Window
    origin: int = 0
    begin: int = 0
    slot: int = 0
    visit: int = 0
    identity: int = 0

    @property
    def length(self) -> int:
        """Number of input tokens."""
        return self.window.stop - 1 - self.begin

    def from_start(self) -> bool:
        """Say whether the input is one document from its first token on."""
        return int(self.sample.positions[self.window.stop - 2]) == self.length - 1

    def whole(self) -> Row:
        """Return the same window computed from everything it can see."""
        return replace(self, begin=self.origin)

    def starting(self, begin: int) -> Row:
        """Return the same window computed from a later position on."""
        return replace(self, begin=begin)

    def before(self, begin: int, stop: int) -> Row:
        """Return only the inputs `begin`..`stop` of the same sample."""
        return replace(self, begin=begin, window=Window(stop, stop + 1))


@dataclass(frozen=True)
class TokenBatch:
    """Windows that one forward trains, right-padded: B rows of T tokens.

    Nothing after a row's end can reach back into it (causality), so padding needs no mask.

    Attributes:
        input_ids: int64 [B, T].
        position_ids: int64 [B, T] that restart at each document, which the model's attention then
            keeps apart; None where every row is one document from its start.
        rows: int64 [n] row of each trained token.
        columns: int64 [n] column whose logits predict that token.
        targets: int64 [n] token ids.
        base_loss: float32 [n] losses under the base model, NaN where unknown.
        windows: int64 [n] window of each token, unique within the run.
        tasks: int64 [n] task type of each token; stays on the CPU.
        sources: int64 [n] source of each token; stays on the CPU.
        tokens: input tokens without padding.
    """

    input_ids: Tensor
    position_ids: Tensor | None
    rows: Tensor
    columns: Tensor
    targets: Tensor
    base_loss: Tensor
    windows: Tensor
    tasks: Tensor
    sources: Tensor
    tokens: int

    @property
    def padded_tokens(self) -> int:
        """Input tokens with padding."""
        return self.input_ids.numel()

    def inputs(self) -> dict[str, Tensor]:
        """Return the arguments of the model."""
        given = {"input_ids": self.input_ids, "position_ids": self.position_ids}
        return {name: tensor for name, tensor in given.items() if tensor is not None}

    def to(self, device: torch.device) -> TokenBatch:
        """Copy the tensors to a device."""
        if self.input_ids.device == device:
            return self
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and name not in ("tasks", "sources")
        }
        return replace(self, **moved)


def token_batch(rows: Sequence[Row], flat: bool = False) -> TokenBatch:
    """Lay windows side by side, each with the prefix that it can see.

    Without any, the batch is one token that trains nothing: a rank with nothing to do must still
    take part in the collectives of a sharded forward and backward.

    Args:
        rows: the windows.
        flat: put them one after the other in a single row without padding, told apart by their
            positions. FlashAttention computes that without waste, and nothing else so well.
    """
    lengths = [row.length for row in rows] or [1]
    places = [(line, 0) for line in range(len(rows))]
    shape = (len(lengths), max(lengths))
    if flat:
        places = [(0, start) for start in np.cumsum([0, *lengths[:-1]]).tolist()]
        shape = (1, sum(lengths))
    input_ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    trained: list[tuple[Array, ...]] = []
    for (line, start), row in zip(places, rows, strict=False):
        span, place = slice(row.begin, row.window.stop - 1), slice(start, start + row.length)
        input_ids[line, place] = row.sample.ids[span]
        positions[line, place] = row.sample.positions[span]
        trained.append(_trained(row, line, start))
    columns = [list(column) for column in zip(*trained, strict=True)] or [[]] * 7
    alone = all(row.from_start() for row in rows) and (len(rows) < 2 or not flat)
    return TokenBatch(
        input_ids=torch.from_numpy(input_ids),
        position_ids=None if alone else torch.from_numpy(positions),
        rows=_joined(columns[0]),
        columns=_joined(columns[1]),
        targets=_joined(columns[2]),
        base_loss=_joined(columns[3], np.float32),
        windows=_joined(columns[4]),
        tasks=_joined(columns[5]),
        sources=_joined(columns[6]),
        tokens=sum(row.length for row in rows),
    )


def _trained(row: Row, line: int, start: int) -> tuple[Array, ...]:
    """Return row, column, target, base loss, window, task and source of a window's tokens."""
    first, stop = row.window
    sample = row.sample
    positions = np.flatnonzero(sample.labels[first:stop] != IGNORE) + first
    base = np.full(len(positions), np.nan, np.float32)
    if len(sample.base_loss):
        base = sample.base_loss[sample.trained_before[positions]]
    same = np.ones(len(positions), np.int64)
    return (
        line * same,
        positions - row.begin - 1 + start,
        sample.labels[positions],
        base,
        row.identity * same,
        sample.task * same,
        sample.source * same,
    )


def _joined(pieces: list[Array], dtype: Any = np.int64) -> Tensor:
    joined = np.concatenate(pieces) if pieces else np.empty(0)
    return torch.from_numpy(joined.astype(dtype))


def by_length(rows: Sequence[Row], overhead: int) -> list[list[Row]]:
    """Split rows into groups of similar length, to compute fewer padding tokens.

    Rows are sorted, and cut where that minimises the sum over groups of (rows * longest +
    `overhead`); by dynamic programming, so the split is the best one.

    Args:
        rows: of one micro-batch.
        overhead: what one more forward costs, in tokens.
    """
    ordered = sorted(rows, key=lambda row: row.length)
    best: list[tuple[int, int]] = [(0, 0)]  # cost of the first k rows, and where their last cut is
    for stop in range(1, len(ordered) + 1):
        width = ordered[stop - 1].length
        best.append(
            min((best[cut][0] + (stop - cut) * width + overhead, cut) for cut in range(stop))
        )
    groups: list[list[Row]] = []
    stop = len(ordered)
    while stop:
        cut = best[stop][1]
        groups.append(ordered[cut:stop])
        stop = cut
    return groups[::-1]


class WindowReader:
    """Reads the windows of a step; every slot keeps its sample until it takes the next one."""

    def __init__(self, corpus: EncodedCorpus, rule: WindowRule) -> None:
        self._corpus, self._rule = corpus, rule
        self._open: dict[int, tuple[int, TokenizedSample, list[Window]]] = {}

    def row(self, entry: SlotWindow, step: int, slots: int) -> Row:
        """Return what a slot trains, with the document that the window lies in.

        Args:
            entry: slot, sample and window.
            step: step of the schedule it belongs to.
            slots: number of slots.
        """
        held = self._open.get(entry.slot)
        if held is None or held[0] != entry.sample:
            sample = self._corpus.sample(entry.sample)
            held = (entry.sample, sample, self._rule.windows(sample.labels))
            self._open[entry.slot] = held
        _, sample, windows = held
        window = windows[entry.window]
        # The token before the window's first predicts it; its document is all that can be seen.
        first = window.start - 1
        origin = first - int(sample.positions[first])
        visit, identity = step - entry.window, step * slots + entry.slot
        return Row(sample, window, origin, origin, entry.slot, visit, identity)
