"""Losses and entropies of whole samples under a model, in length-sorted batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nlirg.errors import InputError
from nlirg.forward.batching import Row, TokenizedSample, token_batch
from nlirg.forward.tapped_model import TappedModel
from nlirg.forward.windows import Window
from nlirg.labels import IGNORE
from nlirg.models.loading import context_length, load_model
from nlirg.scoring.scores import TokenScores
from nlirg.scoring.token_statistics import token_statistics

Ids = Sequence[int] | np.ndarray


class Scorer:
    """A model that scores encoded samples; it needs neither Ray nor a tokenizer.

    Args:
        model_path: a local directory or a Hugging Face hub id.
        precision: of the parameters; what is computed from the logits is float32 in either.
        max_batch_tokens: tokens of a batch, padding included.

    Raises:
        InputError: if the model cannot be loaded.
    """

    def __init__(
        self, model_path: str, precision: Literal["fp32", "bf16"], max_batch_tokens: int = 8192
    ) -> None:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._device = torch.accelerator.current_accelerator(check_available=True) or torch.device(
            "cpu"
        )
        model: Any = load_model(model_path, dtype)
        model.to(self._device).eval().requires_grad_(False)
        self._model = TappedModel(model, model)
        self._model.probe(self._device)
        self._context = context_length(model.config)
        self._path, self._max_batch_tokens = model_path, max_batch_tokens

    def score(
        self, samples: Sequence[tuple[Ids, Ids]], names: Sequence[str] | np.ndarray | None = None
    ) -> list[TokenScores]:
        """Score every trained token of every sample, each sample read from its start.

        The more samples, the more alike the lengths in a batch: some hundreds waste little.

        Args:
            samples: token ids [T] and labels [T] of each sample; the label at a position is the
                token at that position, `IGNORE` where it is not trained. Nothing predicts the
                first token, trained or not.
            names: what to call the samples in an error; their indices by default.

        Returns:
            What the model makes of each sample's n trained tokens. It does not depend on which
            samples share a batch.

        Raises:
            InputError: if a sample is longer than the model's context, or the model gives NaN or
                an infinite value for it; naming the sample.
        """
        called = list(range(len(samples)) if names is None else names)
        rows: dict[int, Row] = {}
        for index, (ids, labels) in enumerate(samples):
            row = scored_row(ids, labels)
            if row is not None:
                self._check_length(row, called[index])
                rows[index] = row
        results = [TokenScores(*np.empty((3, 0), np.float32)) for _ in samples]
        # All batches are begun before the first result is read, so a GPU never waits for that.
        done = [
            (batch, self._score_batch([rows[index] for index in batch]))
            for batch in length_batches(rows, self._max_batch_tokens)
        ]
        for batch, statistics in done:
            ends = np.cumsum([rows[index].sample.trained_before[-1] for index in batch])[:-1]
            for index, part in zip(batch, np.split(statistics.cpu().numpy(), ends, 1), strict=True):
                _check_finite(part, called[index])
                results[index] = TokenScores(*part)
        return results

    @torch.no_grad()
    def _score_batch(self, rows: list[Row]) -> Tensor:
        """Statistics [3, n] of the trained tokens of a batch, one row after the other."""
        batch = token_batch(rows).to(self._device)
        return token_statistics(self._model.head(batch), batch.targets)

    def _check_length(self, row: Row, name: Any) -> None:
        if self._context is not None and row.length > self._context:
            raise InputError(
                f"sample {name} has {row.length + 1} tokens, more than model {self._path} can "
                f"read ({self._context}): lower encode.max_length (encode.pack_length for text)"
            )


def without_context(ids: Ids, labels: Ids) -> tuple[np.ndarray, np.ndarray]:
    """A sample's trained tokens alone: what they are without the prompt, for `Scorer.score`.

    All that is not trained is left out, between several answers too, but for the one token
    before the first answer: it ends the generation prompt, and predicts the answer's first token
    here as there, so that the same tokens are compared.

    Args:
        ids: [T] token ids.
        labels: [T] the same where a token is trained, `IGNORE` elsewhere.

    Returns:
        Token ids [n + 1] and labels [n + 1], the first of them `IGNORE`; both empty if n = 0.
    """
    ids, labels = np.asarray(ids), np.asarray(labels)
    positions = _trained(labels)
    kept = np.concatenate([positions[:1] - 1, positions])
    alone = labels[kept]
    alone[:1] = IGNORE
    return ids[kept], alone


def _trained(labels: np.ndarray) -> np.ndarray:
    """Positions [n] of the tokens that are trained and that something predicts."""
    return np.flatnonzero(labels[1:] != IGNORE) + 1


def scored_row(ids: Ids, labels: Ids) -> Row | None:
    """A sample up to its last trained token; None if it has none."""
    ids, labels = np.asarray(ids, np.int64), np.array(labels, np.int64)
    positions = _trained(labels)
    if not len(positions):
        return None
    labels[0] = IGNORE
    sample = TokenizedSample(ids, labels, np.empty(0, np.float32), np.array([len(ids)]), 0)
    return Row(sample, Window(int(positions[0]), int(positions[-1]) + 1))


def length_batches(rows: dict[int, Row], max_tokens: int) -> Iterator[list[int]]:
    """Group rows, the longest first, into batches of at most `max_tokens` padded.

    A row longer than that is a batch of its own.
    """
    batch: list[int] = []
    for index in sorted(rows, key=lambda index: -rows[index].length):
        if batch and rows[batch[0]].length * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _check_finite(statistics: np.ndarray, name: Any) -> None:
    if not np.isfinite(statistics).all():
        raise InputError(
            f"the model returns NaN or infinite losses on sample {name}: check its weights, or "
            "score in fp32"
        )
