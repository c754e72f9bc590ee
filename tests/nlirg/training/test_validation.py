"""Validation: its loss, early stopping, the best model, and resuming in the middle of it."""

import json

import numpy as np
import pytest
import torch

from nlirg.config.training import LoraConfig, TrainConfig, ValidationConfig
from nlirg.errors import InputError
from nlirg.forward.batching import EncodedCorpus
from nlirg.labels import IGNORE
from nlirg.models.loading import load_model
from nlirg.models.lora import add_lora
from nlirg.training.objective import Objective
from nlirg.training.trainer import Callbacks, Trainer
from nlirg.training.validation import held_out_ids
from tests.torch_engine import TorchEngine

CONFIG = TrainConfig(
    precision="fp32",
    token_batch=6,
    batch_size=2,
    learning_rate=1e-2,
    schedule="constant",
    epochs=4,
    log_every=1000,
    validation=ValidationConfig(rows=3, every=4),
)


def corpus(count, seed):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        ids = rng.integers(3, 300, rng.integers(8, 30))
        labels = np.where(np.arange(len(ids)) < 4, IGNORE, ids)
        rows.append({"input_ids": ids, "labels": labels})
        rows[-1]["base_loss"] = np.full(len(ids) - 4, 2.0)
    return EncodedCorpus(rows, np.array([np.sum(row["labels"] != IGNORE) for row in rows]))


def engine(path, config=CONFIG):
    model = load_model(str(path), torch.float32)
    if config.lora is not None:
        torch.manual_seed(0)
        model = add_lora(model, config.lora, str(path))
    return TorchEngine(model, None, config)


def trained(used, config=CONFIG, progress=None, best=lambda p: None, save=lambda p: None):
    records = []
    trainer = Trainer(used, corpus(5, 0), config, 7, corpus(3, 1), progress)
    trainer.run(Callbacks(records.append, save, best))
    return records, trainer.progress


def plain_loss(model, data):
    """Token by token, without batching."""
    losses = []
    for row in data.rows:
        logits = model(input_ids=torch.tensor(row["input_ids"])[None]).logits[0]
        for position in np.flatnonzero(row["labels"] != IGNORE):
            log_p = logits[position - 1].log_softmax(-1)
            losses.append(-log_p[int(row["labels"][position])].item())
    return float(np.mean(losses))


@torch.no_grad()
def test_the_loss_is_the_mean_over_held_out_tokens_without_dropout(tiny_model_dir):
    config = CONFIG.model_copy(
        update={"lora": LoraConfig(rank=2, dropout=0.5), "learning_rate": 1e-12, "epochs": 1}
    )
    with torch.enable_grad():
        records, _ = trained(engine(tiny_model_dir, config), config)
    expected = plain_loss(load_model(str(tiny_model_dir), torch.float32), corpus(3, 1))
    for record in records:
        assert record["validation_loss"] == pytest.approx(expected, rel=1e-5)
        assert record["validation_base_loss"] == 2.0


def test_it_is_measured_when_due_and_at_the_end(tiny_model_dir):
    config = CONFIG.model_copy(update={"max_steps": 10})
    records, _ = trained(engine(tiny_model_dir), config)
    assert [record["step"] for record in records] == [4, 8, 10]
    assert all("validation_loss" in record for record in records)


def test_the_best_is_the_lowest_and_patience_ends_the_run(tiny_model_dir):
    """Random tokens can only be memorised: held-out loss rises after a while."""
    patient = ValidationConfig(rows=3, every=4, patience=3)
    config = CONFIG.model_copy(update={"validation": patient, "epochs": 40})
    kept = []
    records, progress = trained(engine(tiny_model_dir), config, best=kept.append)
    losses = [record["validation_loss"] for record in records]
    assert progress.best_loss == min(losses)
    assert progress.best_step == records[losses.index(min(losses))]["step"]
    assert progress.stale == 3
    assert len(losses) == losses.index(min(losses)) + 4
    assert records[-1]["step"] < records[-1]["total_steps"]
    assert kept[-1].best_step == progress.best_step


def test_a_held_out_loss_that_is_not_finite_can_be_logged(tiny_model_dir, monkeypatch):
    monkeypatch.setattr(Objective, "token_losses", lambda *_: torch.tensor([1.0, torch.nan]))
    records, progress = trained(engine(tiny_model_dir), CONFIG.model_copy(update={"epochs": 1}))
    assert all(record["validation_loss"] is None for record in records)
    json.dumps(records, allow_nan=False)  # as `metrics.jsonl` is written
    assert progress.best_loss == np.inf


def test_held_out_rows_are_chosen_by_id_and_hardly_move_with_the_corpus():
    ids = [str(number) for number in range(1000)]
    alone = [True] * 1000
    chosen = held_out_ids(ids, alone, 100)
    assert len(chosen) == 100
    assert held_out_ids(ids[::-1], alone, 100) == chosen
    assert len(chosen & held_out_ids([*ids, "new", "newer"], [*alone, True, True], 100)) >= 98
    with pytest.raises(InputError, match="lower it"):
        held_out_ids(ids, alone, 1000)


def test_rows_that_nearly_repeat_others_are_never_held_out():
    ids = [str(number) for number in range(100)]
    alone = [number % 3 == 0 for number in range(100)]
    chosen = held_out_ids(ids, alone, 30)
    assert {int(name) % 3 for name in chosen} == {0}
    with pytest.raises(InputError, match=r"is 40, and 34 of the 100 rows may be held out"):
        held_out_ids(ids, alone, 40)


def test_rows_without_a_trained_token_cannot_be_validated_on(tiny_model_dir):
    rows = [{"input_ids": np.array([5]), "labels": np.array([IGNORE])}] * 3
    held_out = EncodedCorpus(rows, np.zeros(3, np.int64))
    with pytest.raises(InputError, match="no trained token"):
        Trainer(engine(tiny_model_dir), corpus(5, 0), CONFIG, 7, held_out)
