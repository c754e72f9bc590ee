"""`token_batch: all`, ordinary fine-tuning: ours against a bare loop and the common trainers."""

from __future__ import annotations

import importlib.util
import math
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from nlirg.config.training import TrainConfig
from nlirg.corpus.arrangement.mixing import mixed_order, unmixed
from nlirg.forward.batching import EncodedCorpus
from nlirg.labels import IGNORE
from nlirg.training.engine import adamw
from tests.bench.measure import Comparison, Costs, Variant, Work, measure, user_seconds
from tests.bench.naive import padded
from tests.bench.ours import TrainerSteps
from tests.bench.shapes import CorpusShape, ModelShape, settings, torch_engine, word_tokenizer

STEPS = 4
NOT_SLOWER = 1.0
WITHIN_5_PERCENT = 1 / 1.05


def compare_whole(
    model: ModelShape, shape: CorpusShape, batch_size: int, rounds: int
) -> tuple[Costs, list[Comparison]]:
    """Cost per trained token of ordinary fine-tuning on the same samples in the same batches."""
    config = settings(token_batch="all", batch_size=batch_size, weighting="uniform")
    corpus = shape.build((STEPS + 1) * batch_size, model.vocabulary)
    weighted = settings(token_batch="all", batch_size=batch_size)
    variants: dict[str, Variant] = {
        "ours": TrainerSteps(torch_engine(model, config), corpus, config, [(0, STEPS)]),
        "ours, NLIRG": TrainerSteps(torch_engine(model, weighted), corpus, weighted, [(0, STEPS)]),
        "bare torch loop": BareLoop(model.build(), corpus, config),
        "bare torch loop, logits where trained": BareLoop(
            model.build(), corpus, config, sparse=True
        ),
        "transformers Trainer": HuggingFace(_trainer, model.build(), corpus, config),
    }
    if importlib.util.find_spec("trl"):
        variants["TRL SFTTrainer"] = HuggingFace(_sft_trainer, model.build(), corpus, config)
    title = f"token_batch all, {shape.name}, batch_size {batch_size}"
    costs = measure(title, variants, rounds)
    goals: dict[str, float | None] = {
        name: WITHIN_5_PERCENT if "bare" in name else NOT_SLOWER for name in variants
    }
    goals["ours, NLIRG"] = None
    return costs, [
        Comparison.of(title, name, costs.ratios(name, "ours"), goal=goals[name])
        for name in variants
        if name != "ours"
    ]


class BareLoop:
    """The loop that one would write by hand: the same batches, padded on the right.

    Args:
        model: trained in place.
        corpus: what is trained.
        config: batch size, learning rate and clipping.
        sparse: compute logits at the trained positions alone.
    """

    def __init__(
        self, model: Any, corpus: EncodedCorpus, config: TrainConfig, sparse: bool = False
    ) -> None:
        self._model, self._max_norm = model, config.max_grad_norm or math.inf
        self._sparse = sparse
        self._optimizer = adamw(model.parameters(), config)
        n_trained = corpus.n_trained
        order = mixed_order(unmixed(n_trained), n_trained, 1, 0)[: STEPS * config.batch_size]
        self._batches = [
            [corpus.rows[index] for index in order[start : start + config.batch_size]]
            for start in range(0, len(order), config.batch_size)
        ]

    def __call__(self) -> Work:
        """Train the batches."""
        started, tokens = user_seconds(), 0
        for rows in self._batches:
            ids = padded([row["input_ids"] for row in rows], 0)
            labels = padded([row["labels"] for row in rows], IGNORE)[:, 1:]
            self._loss(ids, labels).backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._max_norm)
            self._optimizer.step()
            self._optimizer.zero_grad()
            tokens += int((labels != IGNORE).sum())
        return Work(user_seconds() - started, tokens)

    def _loss(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean loss of the trained tokens."""
        if not self._sparse:
            logits = self._model(input_ids=ids).logits[:, :-1]
            return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)
        kept = labels != IGNORE
        hidden = self._model.model(input_ids=ids).last_hidden_state[:, :-1][kept]
        return F.cross_entropy(self._model.lm_head(hidden), labels[kept])


class HuggingFace:
    """A trainer of the transformers family; its first step, with its start-up, is not counted."""

    def __init__(
        self, make: Callable[..., Any], model: Any, corpus: EncodedCorpus, config: TrainConfig
    ) -> None:
        self._make, self._model, self._corpus, self._config = make, model, corpus, config
        mean = corpus.n_trained.mean() * config.batch_size
        self._folder = tempfile.TemporaryDirectory()
        self._tokens_per_step = float(mean)

    def __call__(self) -> Work:
        """Train `STEPS` + 1 steps and take the time of all but the first."""
        clock = _clock()
        rows = [
            {name: row[name].tolist() for name in ("input_ids", "labels")}
            for row in self._corpus.rows
        ]
        arguments = _arguments(self._config) | {"output_dir": self._folder.name}
        self._make(self._model, rows, arguments, clock).train()
        return Work(clock.times[-1] - clock.times[0], round(STEPS * self._tokens_per_step))


def _clock() -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """Notes the CPU time after every step."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.times.append(user_seconds())

    return Clock()


def _arguments(config: TrainConfig) -> dict[str, Any]:
    return {
        "use_cpu": True,
        "per_device_train_batch_size": config.batch_size,
        "max_steps": STEPS + 1,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant",
        "max_grad_norm": config.max_grad_norm,
        "optim": "adamw_torch_fused",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "bf16": False,
    }


def _collate(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    return {
        "input_ids": padded([row["input_ids"] for row in rows], 0),
        "labels": padded([row["labels"] for row in rows], IGNORE),
    }


def _collate_masked(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """The same with the mask that TRL insists on."""
    masks = [np.ones(len(row["input_ids"]), np.int64) for row in rows]
    return _collate(rows) | {"attention_mask": padded(masks, 0)}


def _trainer(model: Any, rows: list[Any], arguments: dict[str, Any], clock: Any) -> Any:
    from transformers import Trainer, TrainingArguments

    return Trainer(
        model=model,
        args=TrainingArguments(**arguments),
        train_dataset=rows,
        data_collator=_collate,
        callbacks=[clock],
    )


def _sft_trainer(model: Any, rows: list[Any], arguments: dict[str, Any], clock: Any) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer(
        model=model,
        args=SFTConfig(
            **arguments,
            gradient_checkpointing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=Dataset.from_list(rows),
        data_collator=_collate_masked,
        processing_class=word_tokenizer(model.config.vocab_size),
        callbacks=[clock],
    )
