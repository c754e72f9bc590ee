"""Loss on samples that are not trained."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import torch

from nlirg.corpus.arrangement.ordering import hash_rank
from nlirg.errors import InputError
from nlirg.forward.batching import EncodedCorpus, Row
from nlirg.forward.windows import WindowRule
from nlirg.training.engine import Engine
from nlirg.training.objective import Objective

TOKENS_PER_FORWARD = 8192


def check_held_out(count: int, rows: int, alone: int) -> None:
    """Check that `count` rows of a corpus can be held out.

    Args:
        count: of rows to hold out.
        rows: of the corpus.
        alone: those that may be held out; what is trained tells nothing of them.

    Raises:
        InputError: if too few are alone, or none would be left to train.
    """
    if count >= rows:
        raise InputError(
            f"train.validation.rows is {count}, and the encoded corpus has {rows} rows: lower it"
        )
    if count > alone:
        raise InputError(
            f"train.validation.rows is {count}, and {alone} of the {rows} rows may be held out: "
            "the others are nearly the same as another, or of a source with a weight; lower it, or "
            "drop near duplicates (select: {dedup: prompt, near: true}, row for plain text)"
        )


def held_out_ids(ids: Sequence[str], alone: Sequence[bool], count: int) -> frozenset[str]:
    """Return the `count` ids of smallest hash: adding rows to a corpus moves few of them across.

    Args:
        ids: of samples; a row may be several.
        alone: whether each one's row is nearly the same as no other; only those are held out.
        count: of rows.

    Raises:
        InputError: if too few are alone, or nothing would be left to train.
    """
    free = {name for name, by_itself in zip(ids, alone, strict=True) if by_itself}
    check_held_out(count, len(set(ids)), len(free))
    return frozenset(heapq.nsmallest(count, free, key=hash_rank))


class Validator:
    """Measures the mean token loss of a held-out corpus under the model as it is.

    Args:
        objective: computes losses.
        engine: its rank's share of the corpus is measured here.
        corpus: the same on every rank.

    Attributes:
        base_loss: the same mean under the base model, from the scores; None if it is not known.

    Raises:
        InputError: if the corpus has no trained token.
    """

    def __init__(self, objective: Objective, engine: Engine, corpus: EncodedCorpus) -> None:
        self._objective, self._engine, self._corpus = objective, engine, corpus
        if not corpus.n_trained.sum():
            raise InputError(
                "train.validation: the held-out rows have no trained token; raise "
                "train.validation.rows"
            )
        self.base_loss = self._base_loss()
        self._batches = batches_of(corpus, engine)

    def loss(self) -> float:
        """Average the unweighted token losses, in nats; infinite ones make it infinite."""
        engine = self._engine
        sums = torch.zeros(2, dtype=torch.float64, device=engine.device)
        with engine.evaluating(), torch.no_grad():
            for samples in self._batches:
                losses = self._objective.token_losses(whole_rows(self._corpus, samples))
                sums[0] += losses.double().sum()
                sums[1] += len(losses)
        total, count = engine.all_reduce_sum(sums).tolist()
        mean = total / max(count, 1)
        return mean if np.isfinite(mean) else float("inf")

    def _base_loss(self) -> float | None:
        known = [self._corpus.sample(index).base_loss for index in range(len(self._corpus))]
        if not all(map(len, known)):
            return None
        mean = float(np.concatenate(known).mean(dtype=np.float64))
        return mean if np.isfinite(mean) else None


def batches_of(corpus: EncodedCorpus, engine: Engine) -> list[np.ndarray]:
    """Return this rank's samples of each forward; every rank does equally many.

    Samples of similar length share a forward.
    """
    order = np.argsort([len(row["input_ids"]) for row in corpus.rows], kind="stable")
    longest = max(len(corpus.rows[int(order[-1])]["input_ids"]), 1)
    size = max(1, TOKENS_PER_FORWARD // longest) * engine.world_size
    return [
        order[start : start + size][engine.rank :: engine.world_size]
        for start in range(0, len(order), size)
    ]


def whole_rows(corpus: EncodedCorpus, samples: np.ndarray) -> list[Row]:
    """Return all trained tokens of each sample as one window."""
    rows = []
    for index in samples.tolist():
        sample = corpus.sample(index)
        rows += [Row(sample, window) for window in WindowRule("all").windows(sample.labels)]
    return rows
