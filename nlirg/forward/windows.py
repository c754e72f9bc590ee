"""Windows of trained tokens, and which window each optimizer step trains in each slot."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from nlirg.labels import IGNORE


class Window(NamedTuple):
    """Token positions `start`..`stop` (half-open) of one sample.

    The trained tokens of the window are the positions in it whose label is not `IGNORE`; the
    token at position i is predicted by the logits at i - 1.
    """

    start: int
    stop: int


class SlotWindow(NamedTuple):
    """What one slot trains in one step: window number `window` of sample `sample`."""

    slot: int
    sample: int
    window: int


@dataclass(frozen=True)
class WindowRule:
    """How a sample's trained tokens, in order, are cut into windows.

    Windows have `token_batch` tokens; the last is shorter, and no trained token is dropped. The
    reference implementation trains the first token_batch - 1 tokens of every window, and nothing
    of a remainder that does not fill one. It counts one token more than we do, the newline that
    its chat template puts after the end-of-turn; that token is never trained there either.
    `reference_compat` reproduces this.

    Attributes:
        token_batch: trained tokens per window, or `all` for one window per sample.
        reference_compat: cut as the reference does.
    """

    token_batch: int | Literal["all"]
    reference_compat: bool = False

    def count(self, n_trained: np.ndarray) -> np.ndarray:
        """Count the windows of samples with so many trained tokens, int64 of the same shape."""
        trained = np.asarray(n_trained, dtype=np.int64)
        if not isinstance(self.token_batch, int):
            return (trained > 0).astype(np.int64)
        if self.reference_compat:
            return np.where(trained > 0, np.maximum((trained + 1) // self.token_batch, 1), 0)
        return -(-trained // self.token_batch)

    def tokens(self, n_trained: np.ndarray, window: np.ndarray) -> np.ndarray:
        """Return the number of tokens that window number `window` of such samples trains; int64."""
        trained = np.asarray(n_trained, dtype=np.int64)
        if not isinstance(self.token_batch, int):
            return trained
        size = self.token_batch - int(self.reference_compat)
        return np.clip(trained - window * self.token_batch, 0, size)

    def windows(self, labels: np.ndarray) -> list[Window]:
        """Return the windows of one sample in order; none if no token is trained.

        A window that crosses an untrained gap (the next user turn) spans it. Position 0 is never
        trained: nothing predicts it.

        Args:
            labels: [T] token ids, `IGNORE` where a token is not trained.
        """
        trained = np.flatnonzero(np.asarray(labels)[1:] != IGNORE) + 1
        numbers = np.arange(int(self.count(np.array(len(trained)))))
        step = self.token_batch if isinstance(self.token_batch, int) else max(len(trained), 1)
        sizes = self.tokens(np.array(len(trained)), numbers)
        pieces = [
            trained[number * step : number * step + size]
            for number, size in zip(numbers, np.broadcast_to(sizes, numbers.shape), strict=True)
        ]
        return [Window(int(piece[0]), int(piece[-1]) + 1) for piece in pieces]


class Schedule:
    """Which window every slot trains in every step: a pure function of its arguments.

    Each of `batch_size` slots trains the windows of its sample in consecutive steps; a slot whose
    sample is finished takes the next sample of `order` in the next step (of several free slots
    the lowest first). Nothing depends on the world size, and any step can be asked for directly,
    so a step number is all that a resumed run needs.

    Args:
        windows_per_sample: number of windows of every sample, by sample index.
        order: sample indices in the order of training; an epoch's worth each, concatenated. A
            sample without windows is passed over.
        batch_size: number of slots.
    """

    def __init__(
        self,
        windows_per_sample: Sequence[int] | np.ndarray,
        order: Sequence[int] | np.ndarray,
        batch_size: int,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        windows = np.asarray(windows_per_sample, dtype=np.int64)
        visits = np.asarray(order, dtype=np.int64)
        visits = visits[windows[visits] > 0] if len(visits) else visits
        slots, starts = _assign(windows[visits], batch_size)
        # Visits of one slot follow one another in `order`, so their starts ascend.
        self._samples = [visits[slots == slot] for slot in range(batch_size)]
        self._starts = [starts[slots == slot] for slot in range(batch_size)]
        self._ends = [
            begins + windows[samples]
            for begins, samples in zip(self._starts, self._samples, strict=True)
        ]
        self.total_steps = max((int(ends[-1]) for ends in self._ends if len(ends)), default=0)

    def tokens(self, rule: WindowRule, n_trained: np.ndarray) -> np.ndarray:
        """Return the trained tokens of every step over all slots, int64 [total_steps].

        Args:
            rule: that the windows were counted by.
            n_trained: trained tokens of every sample, by sample index.
        """
        total = np.zeros(self.total_steps, dtype=np.int64)
        for samples, starts, ends in zip(self._samples, self._starts, self._ends, strict=True):
            windows = ends - starts
            # A slot's visits follow one another without a gap, from step 0.
            number = np.arange(int(windows.sum())) - np.repeat(starts, windows)
            trained = np.repeat(np.asarray(n_trained)[samples], windows)
            total[: len(number)] += rule.tokens(trained, number)
        return total

    def at(self, step: int) -> list[SlotWindow]:
        """Return what the slots train in a step, in the order of slots; O(log n) per slot.

        A slot that has run out of samples is absent.

        Raises:
            IndexError: if `step` is not in 0 .. total_steps - 1.
        """
        if not 0 <= step < self.total_steps:
            raise IndexError(f"step {step} is not in 0..{self.total_steps - 1}")
        active = []
        for slot, (samples, starts, ends) in enumerate(
            zip(self._samples, self._starts, self._ends, strict=True)
        ):
            visit = int(np.searchsorted(starts, step, side="right")) - 1
            if visit >= 0 and step < ends[visit]:
                window = step - int(starts[visit])
                active.append(SlotWindow(slot, int(samples[visit]), window))
        return active


def _assign(lengths: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Give every visit (in order) the slot that is free first: its slot and its first step."""
    slots, starts = np.empty_like(lengths), np.empty_like(lengths)
    free = [(0, slot) for slot in range(batch_size)]  # already a heap: ascending
    for visit, length in enumerate(lengths.tolist()):
        step, slot = free[0]
        slots[visit], starts[visit] = slot, step
        heapq.heapreplace(free, (step + length, slot))
    return slots, starts
