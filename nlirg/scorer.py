"""Losses and entropies of whole samples under a model, in length-sorted batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nlirg.errors import InputError
from nlirg.loss import token_loss_entropy
from nlirg.models import load_model
from nlirg.windows import IGNORE

Ids = Sequence[int] | np.ndarray


class Scorer:
    """A model that scores encoded samples.

    Args:
        model_path: a local directory or a Hugging Face hub id.
        precision: of the parameters; losses and entropies are float32 in either.
        max_batch_tokens: tokens of a batch, padding included. Its logits are the largest thing
            in memory: at most this times the size of the vocabulary.

    Raises:
        InputError: if the model cannot be loaded.
    """

    def __init__(
        self, model_path: str, precision: Literal["fp32", "bf16"], max_batch_tokens: int = 8192
    ) -> None:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
        model: Any = load_model(model_path, dtype)
        self._model = model.to(self._device).eval()
        self._max_batch_tokens = max_batch_tokens

    @torch.no_grad()
    def score(
        self, samples: Sequence[tuple[Ids, Ids]], names: Sequence[str] | np.ndarray | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Loss and entropy of every trained token of every sample.

        Args:
            samples: token ids [T] and labels [T] of each sample; the label at a position is the
                token at that position, `IGNORE` where it is not trained.
            names: what to call the samples in an error; their indices by default.

        Returns:
            Loss [n] and entropy [n] of each sample's n trained tokens, in nats, float32. They do
            not depend on which samples share a batch.

        Raises:
            InputError: if the model gives NaN or an infinite value, naming the sample.
        """
        results: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for batch in _batches([len(ids) for ids, _ in samples], self._max_batch_tokens):
            scored = self._score_batch([samples[index] for index in batch])
            for index, (loss, entropy) in zip(batch, scored, strict=True):
                if not (np.isfinite(loss).all() and np.isfinite(entropy).all()):
                    name = index if names is None else names[index]
                    raise InputError(
                        f"the model returns NaN or infinite losses on sample {name}: check its "
                        "weights, or score in fp32"
                    )
                results[index] = (loss, entropy)
        return [results[index] for index in range(len(samples))]

    def _score_batch(self, samples: list[tuple[Ids, Ids]]) -> list[tuple[np.ndarray, np.ndarray]]:
        targets = [_targets(labels) for _, labels in samples]
        # Logits are computed at the positions that some sample of the batch needs.
        kept = torch.unique(torch.cat([positions for positions, _ in targets]))
        if not len(kept):
            return [(np.empty(0, np.float32),) * 2] * len(samples)
        logits = self._model(
            input_ids=_padded([ids for ids, _ in samples]).to(self._device),
            logits_to_keep=kept.to(self._device),
            use_cache=False,
        ).logits
        results = []
        for row, (positions, tokens) in zip(logits, targets, strict=True):
            rows = torch.searchsorted(kept, positions).to(self._device)
            loss, entropy = token_loss_entropy(row[rows], tokens.to(self._device))
            results.append((loss.cpu().numpy(), entropy.cpu().numpy()))
        return results


def _batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Group sample indices, the longest first, into batches of at most `max_tokens` padded.

    A sample longer than that is a batch of its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _targets(labels: Ids) -> tuple[Tensor, Tensor]:
    """Positions [n] whose logits predict a trained token, and those tokens [n]."""
    following = torch.as_tensor(np.asarray(labels, dtype=np.int64))[1:]
    positions = (following != IGNORE).nonzero().squeeze(-1)
    return positions, following[positions]


def _padded(samples: list[Ids]) -> Tensor:
    """Token ids [B, T], padded on the right, where a causal model never looks.

    So neither a mask nor a particular padding token is needed.
    """
    rows = [torch.as_tensor(np.asarray(ids, dtype=np.int64)) for ids in samples]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
