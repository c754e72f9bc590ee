"""Replay and guard: what the base model knew, trained beside the corpus and watched."""

import copy
import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlirg.config.corpus import DataConfig
from nlirg.config.training import (
    GuardConfig,
    LoraConfig,
    ReplayShareConfig,
    TrainConfig,
    ValidationConfig,
)
from nlirg.corpus.arrangement.mixing import mixture
from nlirg.errors import InputError
from nlirg.forward.batching import EncodedCorpus, token_batch
from nlirg.forward.joined import beside
from nlirg.forward.tapped_model import TappedModel
from nlirg.labels import IGNORE
from nlirg.models.loading import load_model
from nlirg.models.lora import adapters_off, add_lora
from nlirg.training.engine import clip_gradients
from nlirg.training.guard import GuardReading
from nlirg.training.trainer import Callbacks, Trainer, TrainingProgress
from nlirg.training.validation import whole_rows
from nlirg.weighting.base import TokenStats
from tests.torch_engine import TorchEngine

CONFIG = TrainConfig(
    precision="fp32",
    token_batch=5,
    batch_size=4,
    learning_rate=1e-2,
    schedule="constant",
    log_every=1000,
    epochs=2,
    replay=ReplayShareConfig(share=0.4),
)
LORA = LoraConfig(rank=4)


def corpus(count: int, seed: int) -> EncodedCorpus:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        ids = rng.integers(3, 300, rng.integers(8, 30))
        rows.append({"input_ids": ids, "labels": np.where(np.arange(len(ids)) < 4, IGNORE, ids)})
    return EncodedCorpus(rows, np.array([np.sum(row["labels"] != IGNORE) for row in rows]))


class Recording(TorchEngine):
    """Keeps the gradient of the first step."""

    gradient: torch.Tensor | None = None

    def step(self, lr: float, factor: float = 1.0) -> float:
        if self.gradient is None:
            clip_gradients(self._trainable, None, factor)
            factor = 1.0
            self.gradient = torch.cat([p.grad.flatten().clone() for p in self._trainable])
        return super().step(lr, factor)


def engine(path, config: TrainConfig, moved: float = 0.0) -> Recording:
    """Return an engine whose adapter, or in full training whose weights, are `moved` a little."""
    model = load_model(str(path), torch.float32)
    torch.manual_seed(0)
    if config.lora is not None:
        model = add_lora(model, config.lora, str(path))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, moved or 1e-9)
    made = Recording(model, None, config)
    if config.lora is None and moved:
        for parameter in model.parameters():
            parameter.data += moved * parameter.data.std() * torch.randn_like(parameter)
    return made


def trainer(used, config: TrainConfig, progress=None, **kept) -> Trainer:
    joined = beside(corpus(8, 0), corpus(6, 1))
    share = None if config.replay is None else config.replay.share
    data = (DataConfig(path="corpus.jsonl"),)
    mixed = mixture(data, joined.source, joined.task_types, joined.tasks, joined.n_trained, share)
    return Trainer(used, joined, config, 7, progress=progress, mixed=mixed, **kept)


def with_replay(**changes) -> TrainConfig:
    replay = ReplayShareConfig(**({"share": 0.4} | changes.pop("replay", {})))
    return CONFIG.model_copy(update={"replay": replay, **changes})


def ran(loop: Trainer, best=lambda p: None, save=lambda p: None) -> list[dict]:
    records: list[dict] = []
    loop.run(Callbacks(records.append, save, best))
    return records


def token_by_token(model, base, rows, config: TrainConfig) -> torch.Tensor:
    """The first step's objective from whole logits, each row by itself."""
    objectives = []
    for row in rows:
        ids = torch.tensor(row.sample.ids[: row.window.stop])[None]
        log_q = model(input_ids=ids).logits[0].log_softmax(-1)
        log_p = base(input_ids=ids).logits[0].log_softmax(-1).detach()
        for place in range(*row.window):
            if row.sample.labels[place] == IGNORE:
                continue
            loss = -log_q[place - 1, ids[0, place]]
            weight = config.weighting.weigh(TokenStats(loss.detach()[None]))[0]
            if row.sample.replayed:
                weight = 1.0
                if config.replays_divergence:
                    loss = (log_p[place - 1].exp() * (log_p[place - 1] - log_q[place - 1])).sum()
            objectives.append(weight * loss)
    return torch.stack(objectives).mean()


@pytest.mark.parametrize("objective", ["ce", "kl"])
@pytest.mark.parametrize("lora", [None, LORA])
def test_a_step_with_replay_is_autograd_over_whole_logits(tiny_model_dir, lora, objective) -> None:
    """And the teacher, a model with its adapter off, is the base model loaded by itself."""
    config = with_replay(replay={"objective": objective}, lora=lora, normalizer="tokens")
    used = engine(tiny_model_dir, config, moved=0.05)
    twin = copy.deepcopy(used._module).eval()
    twin.get_output_embeddings().__dict__.pop("forward")  # the copy's head is tapped too
    loop = trainer(used, config)
    rows = [row for part in loop._plan.micro_batches(0, loop._rows, 1) for row in part]
    assert {row.sample.replayed for row in rows} == {False, True}
    expected = token_by_token(twin, load_model(str(tiny_model_dir), torch.float32), rows, config)
    expected.backward()
    wanted = torch.cat([p.grad.flatten() for p in twin.parameters() if p.requires_grad])
    loop._step()
    assert used.gradient is not None
    assert (used.gradient - wanted).norm() <= 1e-5 * wanted.norm()
    record = loop._record(None, None)
    assert record["weighted_loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert set(record["loss_by_source"]) == {"", "replay"}


def test_a_short_gradient_context_reads_the_whole_prefix_for_the_teacher(tiny_model_dir) -> None:
    """With every prefix token in the gradient the cached way must give the full way's numbers."""
    steps = {}
    for context in ("full", 500):
        config = with_replay(
            replay={"objective": "kl"}, lora=LORA, gradient_context=context, max_steps=6
        )
        used = engine(tiny_model_dir, config, moved=0.05)
        steps[context] = [r["loss"] for r in ran(trainer(used, with_log(config)))]
    assert steps["full"] == pytest.approx(steps[500], rel=1e-4)


def with_log(config: TrainConfig) -> TrainConfig:
    return config.model_copy(update={"log_every": 1})


def test_weighted_replay_is_weighed_like_the_rest(tiny_model_dir) -> None:
    plain, weighted = (
        ran(trainer(engine(tiny_model_dir, config), config))[-1]
        for config in (with_replay(), with_replay(replay={"weighted": True}))
    )
    assert plain["mean_weight"] > weighted["mean_weight"] + 0.1


def test_an_adapter_is_off_only_inside_and_keeps_its_hooks(tiny_model_dir) -> None:
    used = engine(tiny_model_dir, with_replay(lora=LORA), moved=0.5)
    batch = token_batch(whole_rows(corpus(2, 3), np.arange(2)))
    with used.evaluating(), torch.no_grad():
        tuned = used.model.head(batch).logits(slice(None))
        off = used.base_head(batch).logits(slice(None))
        again = used.model.head(batch).logits(slice(None))
    base = load_model(str(tiny_model_dir), torch.float32).eval()
    plain = TappedModel(base, base)
    plain.probe(torch.device("cpu"))
    assert torch.equal(off, plain.head(batch).logits(slice(None)))
    assert torch.equal(tuned, again)
    assert not torch.allclose(tuned, off)
    with adapters_off(used._module):
        assert all(p.requires_grad for n, p in used._module.named_parameters() if "lora" in n)


def guarded(**changes) -> TrainConfig:
    guard = GuardConfig(**({"rows": 8, "every": 4} | changes.pop("guard", {})))
    return CONFIG.model_copy(update={"replay": None, "guard": guard, **changes})


KNOWN = {"known": (corpus(4, 5), corpus(4, 6))}


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_guard_measures_loss_and_divergence_of_what_was_known(tiny_model_dir, lora) -> None:
    config = guarded(lora=lora, max_steps=10)
    used = engine(tiny_model_dir, config)
    loop = trainer(used, config, **KNOWN)
    records = [record for record in ran(loop) if "general_loss" in record]
    assert [record["step"] for record in records] == [4, 8, 10]
    start = loop.progress.start
    assert start is not None
    assert start.kl == pytest.approx(0, abs=1e-5)
    base = load_model(str(tiny_model_dir), torch.float32).eval()
    tuned, (texts, answers) = used._module.eval(), KNOWN["known"]
    assert start.loss == pytest.approx(by_hand(base, texts)[0], rel=1e-4)
    assert records[-1]["general_loss"] == pytest.approx(by_hand(tuned, texts)[0], rel=1e-4)
    assert records[-1]["general_kl"] == pytest.approx(by_hand(tuned, answers, base)[1], rel=1e-3)
    rise = records[-1]["general_loss"] - records[-1]["general_base_loss"]
    assert records[-1]["general_rise"] == pytest.approx(rise)


@torch.no_grad()
def by_hand(model, data: EncodedCorpus, base=None) -> tuple[float, float]:
    losses, divergences = [], []
    for row in data.rows:
        ids = torch.tensor(row["input_ids"])[None]
        log_q = model(input_ids=ids).logits[0].log_softmax(-1)
        log_p = log_q if base is None else base(input_ids=ids).logits[0].log_softmax(-1)
        for place in np.flatnonzero(row["labels"] != IGNORE):
            losses.append(-float(log_q[place - 1, ids[0, place]]))
            kl = (log_p[place - 1].exp() * (log_p[place - 1] - log_q[place - 1])).sum()
            divergences.append(float(kl))
    return float(np.mean(losses)), float(np.mean(divergences))


def test_a_guard_changes_nothing_of_what_is_trained(tiny_model_dir) -> None:
    dropout = LORA.model_copy(update={"dropout": 0.2})
    watched, free = guarded(lora=dropout), CONFIG.model_copy(update={"lora": dropout})
    free = free.model_copy(update={"replay": None})
    ends = []
    for config, known in ((watched, KNOWN), (free, {})):
        used = engine(tiny_model_dir, config)
        ran(trainer(used, config, **known))
        ends.append({n: p.clone() for n, p in used._module.named_parameters()})
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[1])


def test_a_run_that_may_not_forget_ends_at_the_bound_and_keeps_the_last_model_within(
    tiny_model_dir,
) -> None:
    config = guarded(guard={"metric": "kl", "max_rise": 0.2, "stop": True, "every": 1})
    kept: list[TrainingProgress] = []
    loop = trainer(engine(tiny_model_dir, config), config, **KNOWN)
    records = ran(loop, best=kept.append)
    rises = [record["general_rise"] for record in records]
    assert loop.progress.step < loop.total_steps
    assert len(rises) > 1
    assert rises[-1] > 0.2
    assert all(rise <= 0.2 for rise in rises[:-1])
    assert kept[-1].step == loop.progress.step - 1
    assert config.keeps_best


def test_a_run_that_a_guard_ends_is_validated_there(tiny_model_dir) -> None:
    """Validation would not have been due for long; without it no model would be the best."""
    validation = ValidationConfig(rows=3, every=1000)
    guard = {"metric": "kl", "max_rise": 0.01, "stop": True, "every": 2}
    config = guarded(guard=guard, validation=validation)
    kept: list[TrainingProgress] = []
    loop = trainer(engine(tiny_model_dir, config), config, held_out=corpus(8, 0), **KNOWN)
    records = ran(loop, best=kept.append)
    assert loop.progress.step < loop.total_steps
    assert "validation_loss" in records[-1]
    assert [one.step for one in kept] == [loop.progress.best_step] == [loop.progress.step]
    with pytest.raises(ValueError, match=r"validation\.keep last would keep that one"):
        TrainConfig(guard=GuardConfig(stop=True), validation=ValidationConfig(keep="last"))


def test_the_best_is_the_lowest_loss_within_the_bound(tiny_model_dir) -> None:
    validation = ValidationConfig(rows=3, every=1)
    config = guarded(guard={"metric": "kl", "max_rise": 0.2, "every": 100}, validation=validation)
    loop = trainer(engine(tiny_model_dir, config), config, held_out=corpus(8, 0), **KNOWN)
    records = ran(loop)
    within = [record for record in records if record["general_rise"] <= 0.2]
    assert 0 < len(within) < len(records)
    best = min(within, key=lambda record: record["validation_loss"])
    assert loop.progress.best_step == best["step"]
    assert loop.progress.best_rise == best["general_rise"]
    assert min(records, key=lambda record: record["validation_loss"])["step"] > best["step"]


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(-1, 1)), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_any_model_within_the_bound_is_better_than_any_outside(readings) -> None:
    loop = Trainer.__new__(Trainer)
    loop._config = guarded(guard={"max_rise": 0.1})
    numbered = [(loss, rise, step) for step, (loss, rise) in enumerate(readings, start=1)]
    best = min(numbered, key=lambda one: loop._standing(*one))
    inside = [one for one in numbered if one[1] <= 0.1]
    if inside:
        assert best in inside
        assert best[0] == min(inside)[0]
    else:
        assert best[1] == min(one[1] for one in numbered)


def test_a_resumed_guard_knows_where_it_began(tiny_model_dir, tmp_path) -> None:
    """Bit-identical weights, readings and mixture, whether it stopped on its way or not."""
    base = with_replay(replay={"objective": "kl"}, lora=LORA)
    config = guarded(guard={"every": 3}).model_copy(
        update={"replay": base.replay, "lora": LORA, "checkpoint_every": 5, "log_every": 1}
    )
    used = engine(tiny_model_dir, config)
    saved: dict[int, TrainingProgress] = {}

    def save(progress: TrainingProgress) -> None:
        if progress.step == 5:
            used.save_state(tmp_path)
            saved[5] = progress

    whole = ran(trainer(used, config, **KNOWN), save=save)
    ends = {n: p.clone() for n, p in used._module.named_parameters()}
    other = engine(tiny_model_dir, config)
    other.load_state(tmp_path)
    rest = ran(trainer(other, config, saved[5], **KNOWN))
    assert all(torch.equal(ends[n], p) for n, p in other._module.named_parameters())
    timed = {"tokens_per_s", "processed_tokens_per_s", "memory_gb"}
    for mine, theirs in zip(rest, whole[5:], strict=True):
        assert {k: v for k, v in mine.items() if k not in timed} == {
            k: v for k, v in theirs.items() if k not in timed
        }


def test_progress_survives_its_file() -> None:
    progress = TrainingProgress(step=3, start=GuardReading(1.0, 0.5), rise=0.25)
    record = json.loads(json.dumps(asdict(progress)))
    assert TrainingProgress.of(record) == progress


def test_what_is_no_number_has_risen_without_bound() -> None:
    start = GuardReading(1.0, None)
    assert GuardReading(math.inf).rise_since(start, GuardConfig()) == math.inf
    assert GuardReading(1.0).rise_since(start, GuardConfig(metric="kl")) == math.inf


def test_a_bound_on_answers_needs_answers(tiny_model_dir) -> None:
    config = guarded(guard={"metric": "kl"})
    with pytest.raises(InputError, match="metric kl needs the base model's own answers"):
        trainer(engine(tiny_model_dir, config), config, known=(corpus(4, 5), None))
