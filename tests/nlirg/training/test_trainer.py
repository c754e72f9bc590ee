"""The loop on plain torch: exact gradients, invariances, resuming, skipped steps."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from nlirg.config.training import LoraConfig, TrainConfig
from nlirg.errors import InputError
from nlirg.forward.batching import EncodedCorpus
from nlirg.labels import IGNORE
from nlirg.models.loading import load_model
from nlirg.models.lora import add_lora
from nlirg.training import objective, trainer
from nlirg.training.engine import clip_gradients
from nlirg.training.trainer import Callbacks, Trainer, TrainingProgress
from nlirg.weighting.weightings import NlirgWeighting
from tests.torch_engine import TorchEngine

CONFIG = TrainConfig(
    precision="fp32", token_batch=5, batch_size=4, learning_rate=1e-3, log_every=3, epochs=2
)


def corpus(samples=9, seed=0):
    """Random samples; two assistant turns in some, so that windows cross an untrained gap."""
    rng = np.random.default_rng(seed)
    rows = []
    for sample in range(samples):
        ids = rng.integers(3, 300, rng.integers(8, 40))
        labels = ids.copy()
        labels[:4] = IGNORE
        if sample % 3 == 0:
            labels[6:9] = IGNORE
        rows.append({"input_ids": ids, "labels": labels})
    return EncodedCorpus(rows, np.array([np.sum(row["labels"] != IGNORE) for row in rows]))


def engine(path, config=CONFIG, kind=TorchEngine):
    model = load_model(str(path), torch.float32)
    if config.lora is not None:
        torch.manual_seed(0)
        model = add_lora(model, config.lora, str(path))
    return kind(model, None, config)


def weights(engine):
    return {name: p.detach().clone() for name, p in engine._module.named_parameters()}


def run(engine, config=CONFIG, progress=None, checkpoint=lambda progress: None, data=None):
    records = []
    trainer = Trainer(engine, data or corpus(), config, 7, progress=progress)
    trainer.run(callbacks(records.append, checkpoint))
    return records, trainer


def callbacks(log=lambda record: None, checkpoint=lambda progress: None, best=lambda p: None):
    return Callbacks(log, checkpoint, best)


class FixedGradient(TorchEngine):
    """Keeps the first step's gradient instead of updating."""

    def step(self, lr, factor=1.0):
        clip_gradients(self._trainable, None, factor)
        self.gradient = {n: p.grad.clone() for n, p in self._module.named_parameters()}
        self._module.zero_grad()
        return 1.0


def whole_sequence_gradient(path, data, config):
    """The first step, computed without truncation, padding, batching or kept positions."""
    model = load_model(str(path), torch.float32)
    trainer = Trainer(FixedGradient(model, None, config), data, config, 7)
    weighted, counted = 0.0, 0
    for entry in trainer._plan.schedule.at(0):
        row = data.rows[entry.sample]
        positions = np.flatnonzero(row["labels"] != IGNORE)
        first = entry.window * config.token_batch
        positions = positions[first : first + config.token_batch]
        logits = model(input_ids=torch.tensor(row["input_ids"])[None]).logits[0]
        for position in positions:
            loss = -logits[position - 1].log_softmax(-1)[int(row["labels"][position])]
            weight = NlirgWeighting().of_losses(loss)
            weighted = weighted + weight * loss
            counted += int(weight * loss != 0)
    (weighted / counted).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def test_the_step_gradient_equals_the_unoptimized_whole_sequence_one(tiny_model_dir):
    once = CONFIG.model_copy(update={"max_steps": 1})
    kept = engine(tiny_model_dir, once, FixedGradient)
    run(kept, once)
    expected = whole_sequence_gradient(tiny_model_dir, corpus(), once)
    for name, gradient in kept.gradient.items():
        difference = (gradient - expected[name]).norm() / expected[name].norm()
        assert difference <= 1e-5, name


class ThreadRank(TorchEngine):
    """One of several ranks in one process: collectives meet at a barrier, gradients average."""

    def join(self, rank, shared):
        self.rank, self.world_size, self.shared = rank, shared.parties, shared

    def all_reduce_sum(self, tensor):
        self.shared.parts[self.rank] = tensor.clone()
        self.shared.wait()
        total = torch.stack(self.shared.parts).sum(0)
        self.shared.wait()
        return total

    def step(self, lr, factor=1.0):
        for parameter in self._trainable:
            parameter.grad = self.all_reduce_sum(parameter.grad) / self.world_size
        return super().step(lr, factor)


def run_ranks(path, world_size, config):
    shared = threading.Barrier(world_size)
    shared.parts = [None] * world_size
    ranks = [engine(path, config, ThreadRank) for _ in range(world_size)]
    for rank, member in enumerate(ranks):
        member.join(rank, shared)
    with ThreadPoolExecutor(world_size) as pool:
        records = list(pool.map(lambda member: run(member, config)[0], ranks))
    return weights(ranks[0]), records[0]


@pytest.mark.parametrize("normalizer", ["tokens", "nonzero", "weights"])
def test_weights_do_not_depend_on_the_world_size(tiny_model_dir, normalizer):
    config = CONFIG.model_copy(update={"normalizer": normalizer, "max_steps": 8})
    alone, records = run_ranks(tiny_model_dir, 1, config)
    for world_size in (2, 4):
        spread, their_records = run_ranks(tiny_model_dir, world_size, config)
        for name, value in alone.items():
            torch.testing.assert_close(spread[name], value, rtol=1e-5, atol=1e-6)
        for mine, theirs in zip(records, their_records, strict=True):
            assert theirs["trained_tokens"] == mine["trained_tokens"]
            for key in ("loss", "weighted_loss", "grad_norm", "mean_weight", "mid"):
                assert theirs[key] == pytest.approx(mine[key], rel=1e-4), key


def test_two_runs_are_bit_identical_and_the_seed_matters(tiny_model_dir):
    config = CONFIG.model_copy(update={"lora": LoraConfig(rank=2, dropout=0.2)})
    first, second, other = (engine(tiny_model_dir, config) for _ in range(3))
    run(first, config)
    torch.manual_seed(99)  # the surroundings' random state must not matter
    run(second, config)
    Trainer(other, corpus(), config, 8).run(callbacks())
    changed = False
    for name, value in weights(first).items():
        assert torch.equal(value, weights(second)[name]), name
        changed |= not torch.equal(value, weights(other)[name])
    assert changed


def test_every_trained_token_is_trained_once_per_epoch(tiny_model_dir):
    records, trainer = run(engine(tiny_model_dir))
    tokens = sum(corpus().n_trained) * CONFIG.epochs
    assert records[-1]["trained_tokens"] == trainer.progress.trained_tokens == tokens
    assert records[-1]["step"] == trainer.total_steps
    assert records[-1]["epoch"] == pytest.approx(CONFIG.epochs)
    assert [record["step"] for record in records[:2]] == [3, 6]
    for record in records:
        zones = (record["low"], record["mid"], record["high"], record["discarded"])
        assert sum(zones) == pytest.approx(1)


def test_training_lowers_the_loss(tiny_model_dir):
    config = CONFIG.model_copy(update={"epochs": 12, "learning_rate": 1e-2})
    records, _ = run(engine(tiny_model_dir, config), config)
    assert records[-1]["loss"] < records[0]["loss"] - 1


@pytest.fixture
def one_forward_a_step(monkeypatch):
    monkeypatch.setitem(objective.FORWARD_OVERHEAD, "cpu", 1_000_000)


class Poisoned(TorchEngine):
    """Gives NaN hidden states in chosen forwards, in all rows or in the first alone."""

    calls, poison, everywhere = 0, (), True

    def __init__(self, model, tokenizer, config):
        super().__init__(model, tokenizer, config)
        model.model.norm.register_forward_hook(self._poisoned)

    def _poisoned(self, module, args, hidden):
        self.calls += 1
        if self.calls - 1 not in self.poison:
            return hidden
        poisoned = torch.zeros_like(hidden)
        poisoned[: None if self.everywhere else 1] = torch.nan
        return hidden + poisoned


def test_a_step_of_nan_losses_alone_changes_nothing_and_is_counted(
    tiny_model_dir, one_forward_a_step
):
    config = CONFIG.model_copy(update={"max_steps": 1})
    poisoned = engine(tiny_model_dir, config, Poisoned)
    poisoned.poison = (0,)
    before = weights(poisoned)
    with pytest.raises(InputError, match="none of the 1 steps"):
        run(poisoned, config)
    assert all(torch.equal(value, weights(poisoned)[name]) for name, value in before.items())

    config = CONFIG.model_copy(update={"max_steps": 5, "log_every": 1})
    poisoned = engine(tiny_model_dir, config, Poisoned)
    poisoned.poison = (2,)
    records, trainer = run(poisoned, config)
    assert trainer.progress.skipped_steps == records[-1]["skipped_steps"] == 1
    assert records[2]["loss"] is None
    assert records[2]["discarded"] == 1
    assert records[2]["grad_norm"] is None
    assert all(value.isfinite().all() for value in weights(poisoned).values())


def test_a_step_of_nan_in_several_micro_batches_costs_no_other_step(tiny_model_dir):
    config = CONFIG.model_copy(update={"max_steps": 5, "log_every": 1, "micro_batch_size": 1})
    poisoned = engine(tiny_model_dir, config, Poisoned)
    poisoned.poison = tuple(range(4, 8))  # four forwards a step
    records, _ = run(poisoned, config)
    assert [record["skipped_steps"] for record in records] == [0, 1, 1, 1, 1]


def test_a_step_of_losses_of_exactly_0_has_nothing_to_learn(tiny_model_dir, monkeypatch):
    """They have weights, but by its definition `nonzero` counts none of them."""
    monkeypatch.setattr(trainer, "normalizer", lambda name, weights, loss: torch.zeros(()))
    with pytest.raises(InputError, match="none of the 1 steps"):
        run(engine(tiny_model_dir), CONFIG.model_copy(update={"max_steps": 1}))


def test_one_nan_row_leaves_the_others_training(tiny_model_dir, one_forward_a_step):
    config = CONFIG.model_copy(update={"max_steps": 3, "log_every": 1})
    poisoned = engine(tiny_model_dir, config, Poisoned)
    poisoned.poison, poisoned.everywhere = (1,), False
    before = weights(poisoned)
    records, trainer = run(poisoned, config)
    assert trainer.progress.skipped_steps == 0
    assert 0 < records[1]["discarded"] < 0.5
    after = weights(poisoned)
    assert all(value.isfinite().all() for value in after.values())
    assert any(not torch.equal(value, before[name]) for name, value in after.items())


def test_a_gradient_that_is_not_finite_is_not_applied(tiny_model_dir):
    kept = engine(tiny_model_dir)
    before = weights(kept)
    parameter = next(kept._module.parameters())
    parameter.grad = torch.full_like(parameter, torch.inf)
    assert not np.isfinite(kept.step(1e-3))
    assert all(torch.equal(value, weights(kept)[name]) for name, value in before.items())


def test_a_corpus_without_trained_tokens_is_refused(tiny_model_dir):
    rows = [{"input_ids": np.arange(5), "labels": np.full(5, IGNORE)}]
    with pytest.raises(InputError, match="no trained token"):
        Trainer(engine(tiny_model_dir), EncodedCorpus(rows, np.zeros(1)), CONFIG, 0)


def test_checkpoints_come_when_due_but_not_at_the_end(tiny_model_dir):
    config = CONFIG.model_copy(update={"max_steps": 6, "checkpoint_every": 2, "log_every": 50})
    steps = []
    records, _ = run(
        engine(tiny_model_dir), config, checkpoint=lambda progress: steps.append(progress)
    )
    assert [progress.step for progress in steps] == [2, 4]
    assert [record["step"] for record in records] == [2, 4, 6]
    assert isinstance(steps[0], TrainingProgress)
    assert steps[0].trained_tokens == records[0]["trained_tokens"]
