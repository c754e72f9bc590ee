"""The reference loop's arithmetic, written out: what everything else is measured against.

Each optimizer step computes the whole samples, logits at every position, the losses of one window
of each sample, and back-propagates through all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nlirg.config.training import TrainConfig
from nlirg.forward.batching import EncodedCorpus
from nlirg.forward.windows import SlotWindow
from nlirg.labels import IGNORE
from nlirg.training.engine import adamw
from nlirg.training.schedule import Plan
from nlirg.weighting.weightings import NlirgWeighting
from tests.bench.measure import Work, user_seconds


def padded(rows: Sequence[np.ndarray | list[int]], value: int) -> Tensor:
    """Rows of different lengths as one tensor [rows, longest], padded on the right."""
    tensors = [torch.from_numpy(np.asarray(row)) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)


class NaiveLoop:
    """Trains the windows of some steps, the same ones in each call.

    It trains every token of a window, the last one too, which the reference leaves out: the same
    tokens as our trainer.

    Args:
        model: trained in place.
        corpus: what is trained.
        config: `token_batch`, `batch_size`, learning rate and clipping.
        steps: of the plan that follows from corpus and settings.
    """

    def __init__(
        self, model: Any, corpus: EncodedCorpus, config: TrainConfig, steps: Sequence[int]
    ) -> None:
        self._model, self._corpus, self._config, self._steps = model, corpus, config, steps
        self._plan = Plan(corpus.n_trained, config, seed=0)
        self._optimizer = adamw(model.parameters(), config)
        self._trainable = [weight for weight in model.parameters() if weight.requires_grad]

    def __call__(self) -> Work:
        """Train the steps."""
        started, tokens = user_seconds(), 0
        for step in self._steps:
            entries = self._plan.schedule.at(step)
            ids = padded([self._corpus.rows[entry.sample]["input_ids"] for entry in entries], 0)
            labels = padded([self._window(entry) for entry in entries], IGNORE)
            self._train(ids, labels)
            tokens += self._plan.tokens(step)
        return Work(user_seconds() - started, tokens)

    def _window(self, entry: SlotWindow) -> np.ndarray:
        """Labels of a sample, of which only those of one window are kept."""
        labels = self._corpus.rows[entry.sample]["labels"]
        start, stop = self._plan.rule.windows(labels)[entry.window]
        positions = np.arange(len(labels))
        return np.where((start <= positions) & (positions < stop), labels, IGNORE)

    def _train(self, ids: Tensor, labels: Tensor) -> None:
        """One optimizer step on padded samples [B, T]."""
        logits = self._model(input_ids=ids).logits[:, :-1]
        targets = labels[:, 1:]
        kept = targets != IGNORE
        loss = F.cross_entropy(logits[kept].float(), targets[kept], reduction="none")
        weighted = NlirgWeighting().of_losses(loss) * loss
        (weighted.sum() / (weighted != 0).sum()).backward()
        if self._config.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._trainable, self._config.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()


def whole_samples(corpus: EncodedCorpus, order: Sequence[int], size: int) -> Iterator[Any]:
    """Padded ids and labels [size, T] of whole samples, batch after batch."""
    for start in range(0, len(order), size):
        rows = [corpus.rows[index] for index in order[start : start + size]]
        yield (
            padded([row["input_ids"] for row in rows], 0),
            padded([row["labels"] for row in rows], IGNORE),
        )
