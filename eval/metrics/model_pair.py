"""A base model and a tuned one that read the same texts, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from eval.generation.generate import Device
from eval.metrics.divergence import token_divergence
from eval.metrics.perplexity import Text, TextDivergence
from nlirg.errors import InputError
from nlirg.forward.batching import TokenBatch, token_batch
from nlirg.forward.output_head import Head
from nlirg.forward.tapped_model import TappedModel
from nlirg.models.loading import load_model
from nlirg.scoring.scorer import length_batches, scored_row

MAX_BATCH_TOKENS = 8192  # of one forward, padding included


class ModelPair:
    """A base model and what became of it.

    With an adapter one model is loaded, and the adapter switched off for the base; a full model
    is loaded beside its base.

    Args:
        base: directory of the base model.
        tuned: directory of the full model; that of the base for an adapter.
        adapter: directory of the adapter, or None.
        device: float32 on a CPU, bfloat16 on a GPU.

    Raises:
        InputError: if a model cannot be loaded.
    """

    def __init__(self, base: str, tuned: str, adapter: str | None, device: Device) -> None:
        self._dtype = torch.bfloat16 if device == "gpu" else torch.float32
        self._device = torch.device("cuda" if device == "gpu" else "cpu")
        model: Any = load_model(base, self._dtype)
        self._without_adapter: Any = nullcontext
        if adapter is None:
            self._base = self._tapped(model)
            self._tuned = self._tapped(load_model(tuned, self._dtype))
        else:
            model = PeftModel.from_pretrained(model, adapter)
            self._without_adapter = model.disable_adapter
            self._base = self._tuned = self._tapped(model)

    def _tapped(self, model: Any) -> TappedModel:
        model.to(self._device).eval().requires_grad_(False)
        tapped = TappedModel(model, model)
        tapped.probe(self._device)
        return tapped

    def measure(self, texts: Sequence[Text]) -> list[TextDivergence]:
        """Losses and divergence of every text, in order; each text is read from its start.

        Raises:
            InputError: if they are not finite for a text.
        """
        rows = {i: row for i, t in enumerate(texts) if (row := scored_row(t.ids, t.labels))}
        found: dict[int, TextDivergence] = {}
        for indices in length_batches(rows, MAX_BATCH_TOKENS):
            batch = token_batch([rows[index] for index in indices]).to(self._device)
            values = token_divergence(*self._heads(batch), batch.targets).double().cpu().numpy()
            sizes = [rows[index].sample.trained_before[-1] for index in indices]
            parts = np.split(values, np.cumsum(sizes)[:-1], axis=1)
            for index, part in zip(indices, parts, strict=True):
                found[index] = _of_text(texts[index], part)
        return [found[index] for index in sorted(found)]

    def _heads(self, batch: TokenBatch) -> tuple[Head, Head]:
        with self._without_adapter():
            base = self._base.head(batch)
        return base, self._tuned.head(batch)


def _of_text(text: Text, values: np.ndarray) -> TextDivergence:
    """Means over a text's tokens from their values [3, n]."""
    base_loss, loss, kl = values.mean(axis=1).tolist()
    if not np.isfinite(values).all():
        raise InputError(
            f"{text.kind} text {text.id!r}: the models give NaN or infinite losses; check their "
            "weights"
        )
    return TextDivergence(
        id=text.id,
        root_id=text.root_id,
        kind=text.kind,
        sha256=text.sha256,
        tokens=values.shape[1],
        base_loss=base_loss,
        loss=loss,
        kl=kl,
    )
