"""What the base model knew, watched while it is trained: general text, and its own answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nlirg.config.training import GuardConfig
from nlirg.errors import InputError
from nlirg.forward.batching import EncodedCorpus
from nlirg.forward.output_head import Head
from nlirg.training.engine import Engine
from nlirg.training.objective import Objective
from nlirg.training.validation import Validator, batches_of, whole_rows


@dataclass(frozen=True)
class GuardReading:
    """What a guard has measured; nats per token, infinite where a loss was not finite.

    Attributes:
        loss: mean token loss on general text.
        kl: KL(base || model) on the base model's own answers; None without answers.
    """

    loss: float
    kl: float | None = None

    def rise_since(self, start: GuardReading, config: GuardConfig) -> float:
        """Return how far the guarded metric lies above its start; what is no number, infinitely."""
        now, before = (self.kl, start.kl) if config.metric == "kl" else (self.loss, start.loss)
        rise = np.nan if now is None or before is None else now - before
        return float(rise) if np.isfinite(rise) else float("inf")


class Guard:
    """Measures one model on the same texts again and again.

    Args:
        objective: computes losses.
        engine: its rank's share of the texts is measured here.
        config: `metric` says what the bound is on.
        texts: general text, every token trained; the same on every rank.
        answers: the base model's own answers; None where there are none.

    Raises:
        InputError: if there is no text, or the bound is on answers and there are none.
    """

    def __init__(
        self,
        objective: Objective,
        engine: Engine,
        config: GuardConfig,
        texts: EncodedCorpus,
        answers: EncodedCorpus | None,
    ) -> None:
        if not texts.n_trained.sum():
            raise InputError("train.guard.general holds no text of two tokens or more")
        if config.metric == "kl" and answers is None:
            raise InputError(
                "train.guard.metric kl needs the base model's own answers, and there are none for "
                "plain text: set it to loss"
            )
        self._objective, self._engine, self._answers = objective, engine, answers
        self._text = Validator(objective, engine, texts)
        self._batches = [] if answers is None else batches_of(answers, engine)
        # What the base model makes of them never changes: its hidden states are kept.
        self._base: list[Head | None] = [None] * len(self._batches)

    def measure(self) -> GuardReading:
        """Measure the model as it is; every rank must call this."""
        return GuardReading(self._text.loss(), self._divergence())

    def _divergence(self) -> float | None:
        if self._answers is None:
            return None
        engine = self._engine
        sums = torch.zeros(2, dtype=torch.float64, device=engine.device)
        with engine.evaluating(), torch.no_grad():
            for number, samples in enumerate(self._batches):
                rows = whole_rows(self._answers, samples)
                total, base = self._objective.divergence(rows, self._base[number])
                if base.weight is not None:  # logits would take too much memory
                    self._base[number] = base
                sums[0] += total.double()
                sums[1] += self._answers.n_trained[samples].sum()
        total, count = engine.all_reduce_sum(sums).tolist()
        mean = total / max(count, 1)
        return mean if np.isfinite(mean) else float("inf")
