"""The same gradient, however a step is laid out: micro-batches, accumulation, packing, cache."""

import numpy as np
import pytest
import torch

from nlirg.config.training import DistillationConfig, LoraConfig, TrainConfig
from nlirg.forward.batching import EncodedCorpus, Row
from nlirg.forward.tapped_model import TappedModel
from nlirg.forward.windows import WindowRule
from nlirg.labels import IGNORE
from nlirg.models.loading import load_model
from nlirg.models.lora import add_lora
from nlirg.training import objective
from nlirg.training.engine import clip_gradients
from nlirg.training.objective import Objective
from nlirg.training.trainer import Callbacks, Trainer
from nlirg.weighting.weightings import WEIGHTINGS
from tests.torch_engine import TorchEngine

CONFIG = TrainConfig(
    precision="fp32", token_batch=5, batch_size=4, learning_rate=1e-2, max_steps=4, log_every=1
)


def documents(count=9, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        ids = rng.integers(3, 300, rng.integers(6, 40))
        labels = np.where(np.arange(len(ids)) < 1, IGNORE, ids)
        rows.append({"input_ids": ids, "labels": labels, "base_loss": rng.exponential(1, len(ids))})
        rows[-1]["base_loss"] = rows[-1]["base_loss"][: len(ids) - 1]
    return rows


def corpus(rows):
    return EncodedCorpus(rows, np.array([np.sum(row["labels"] != IGNORE) for row in rows]))


def packed(rows, groups):
    """Rows of several documents each."""
    found = []
    for group in groups:
        parts = [rows[index] for index in group]
        whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        found.append(whole | {"segments": np.array([len(part["input_ids"]) for part in parts])})
    return found


class Recording(TorchEngine):
    """Keeps the gradient of the first step."""

    gradient = None

    def step(self, lr, factor=1.0):
        if self.gradient is None:
            clip_gradients(self._trainable, None, factor)
            factor = 1.0
            self.gradient = torch.cat([p.grad.flatten().clone() for p in self._trainable])
        return super().step(lr, factor)


def engine(path, config, teacher=None):
    model = load_model(str(path), torch.float32)
    if config.lora is not None:
        torch.manual_seed(0)
        model = add_lora(model, config.lora, str(path))
    return Recording(model, None, config, teacher)


def trained(path, config, rows, teacher=None):
    used = engine(path, config, teacher)
    records = []
    nothing = lambda progress: None  # noqa: E731
    Trainer(used, corpus(rows), config, 7).run(Callbacks(records.append, nothing, nothing))
    return used.gradient, records


def assert_same(mine, theirs, tolerance=1e-5):
    assert (mine - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("normalizer", ["tokens", "nonzero", "weights"])
def test_micro_batches_change_nothing(tiny_model_dir, name, normalizer):
    config = CONFIG.model_copy(update={"normalizer": normalizer})
    config = TrainConfig.model_validate(config.model_dump() | {"weighting": name})
    expected, records = trained(tiny_model_dir, config, documents())
    for size in (1, 3):
        small = config.model_copy(update={"micro_batch_size": size})
        gradient, found = trained(tiny_model_dir, small, documents())
        assert_same(gradient, expected)
        for mine, theirs in zip(found, records, strict=True):
            for key in ("loss", "weighted_loss", "grad_norm", "mean_weight"):
                assert mine[key] == pytest.approx(theirs[key], rel=1e-4), key


def test_accumulating_is_a_larger_batch(tiny_model_dir):
    """Two windows of each of two samples, trained at once, are their windows of twice the size."""
    rows = documents(2)
    config = CONFIG.model_copy(update={"batch_size": 2, "max_steps": 1})
    twice = config.model_copy(update={"gradient_accumulation_steps": 2})
    wide = config.model_copy(update={"token_batch": 10})
    (mine, records), (theirs, expected) = (trained(tiny_model_dir, c, rows) for c in (twice, wide))
    assert_same(mine, theirs)
    assert records[0]["trained_tokens"] == expected[0]["trained_tokens"] == 20


def test_all_tokens_are_trained_once_whatever_the_accumulation(tiny_model_dir):
    rows = documents()
    config = CONFIG.model_copy(update={"gradient_accumulation_steps": 3, "max_steps": None})
    _, records = trained(tiny_model_dir, config, rows)
    assert records[-1]["trained_tokens"] == corpus(rows).n_trained.sum()


@pytest.mark.parametrize("weighting", ["nlirg", "uniform"])
def test_packed_documents_have_the_gradient_of_separate_ones(tiny_model_dir, weighting):
    rows = documents(6)
    config = TrainConfig.model_validate(
        CONFIG.model_dump() | {"weighting": weighting, "token_batch": "all", "max_steps": 1}
    )
    apart, _ = trained(tiny_model_dir, config.model_copy(update={"batch_size": 6}), rows)
    together = packed(rows, [(4, 0, 2), (1,), (3, 5)])
    joined, _ = trained(tiny_model_dir, config.model_copy(update={"batch_size": 3}), together)
    assert_same(joined, apart)


def test_rows_one_after_the_other_have_the_losses_of_rows_side_by_side(tiny_model_dir, monkeypatch):
    rows = [*documents(3), *packed(documents(4, seed=1), [(0, 1), (2, 3)])]
    used = engine(tiny_model_dir, CONFIG)
    side_by_side = Objective(used, CONFIG)
    assert used.model.keeps_apart(used.device)
    monkeypatch.setattr(TappedModel, "keeps_apart", lambda *_: True)  # no flash attention on a CPU
    used.model_config._attn_implementation = "flash_attention_2"  # lays them out, computes as sdpa
    flat = Objective(used, CONFIG)
    used.model_config._attn_implementation = "sdpa"
    corpora = map(corpus(rows).sample, range(len(rows)))
    windows = [Row(sample, WindowRule("all").windows(sample.labels)[0]) for sample in corpora]
    expected = side_by_side.token_losses(windows)
    torch.testing.assert_close(flat.token_losses(windows), expected)
    assert flat.full_context(windows, 1.0).padded == sum(row.length for row in windows)


def test_windows_of_a_packed_row_see_their_own_document_alone(tiny_model_dir):
    rows = documents(3)
    used = engine(tiny_model_dir, CONFIG)
    the_objective, rule = Objective(used, CONFIG), WindowRule(4)
    apart = corpus(rows)
    expected = torch.cat(
        [
            the_objective.token_losses(
                [Row(sample, window) for window in rule.windows(sample.labels)]
            )
            for sample in map(apart.sample, range(3))
        ]
    )
    whole = corpus(packed(rows, [(0, 1, 2)])).sample(0)
    (window,) = WindowRule("all").windows(whole.labels)
    torch.testing.assert_close(the_objective.token_losses([Row(whole, window)]), expected)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
@pytest.mark.parametrize("weighting", ["nlirg", "random"])
def test_a_context_longer_than_the_prefix_is_the_full_gradient(tiny_model_dir, lora, weighting):
    rows = documents()
    config = TrainConfig.model_validate(
        CONFIG.model_dump() | {"weighting": weighting, "lora": lora and lora.model_dump()}
    )
    expected, records = trained(tiny_model_dir, config, rows)
    long = config.model_copy(update={"gradient_context": 100})
    gradient, found = trained(tiny_model_dir, long, rows)
    assert_same(gradient, expected)
    assert [r["loss"] for r in found] == pytest.approx([r["loss"] for r in records], rel=1e-4)
    assert all(record["gradient_cosine"] == pytest.approx(1, abs=1e-6) for record in found)


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("micro", [None, 1, 3])
def test_a_short_context_reads_the_same_prefix(tiny_model_dir, context, micro):
    """With frozen weights the cache holds what a full forward computes: the same losses."""
    rows = documents()
    frozen = CONFIG.model_copy(update={"learning_rate": 1e-12, "max_steps": None, "epochs": 2})
    _, expected = trained(tiny_model_dir, frozen, rows)
    short = frozen.model_copy(update={"gradient_context": context, "micro_batch_size": micro})
    _, records = trained(tiny_model_dir, short, rows)
    for mine, theirs in zip(records, expected, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert mine["tokens_per_s"] > 0
    assert all(0 < record["gradient_cosine"] < 1 for record in records[1:16])
    assert "gradient_cosine" not in records[-1]


def test_a_short_context_crosses_untrained_gaps(tiny_model_dir):
    ids = np.arange(3, 43)
    labels = np.where((ids > 8) & (ids < 14) | (ids > 30), ids, IGNORE)
    rows = [{"input_ids": ids, "labels": labels}]
    frozen = CONFIG.model_copy(update={"learning_rate": 1e-12, "batch_size": 1, "token_batch": 3})
    _, expected = trained(tiny_model_dir, frozen, rows)
    for context in (0, 2, 8):
        short = frozen.model_copy(update={"gradient_context": context})
        _, records = trained(tiny_model_dir, short, rows)
        losses = [record["loss"] for record in records]
        assert losses == pytest.approx([record["loss"] for record in expected], rel=1e-4)


def test_groups_of_similar_length_change_nothing(tiny_model_dir, monkeypatch):
    gradients, padding = [], []
    for overhead in (0, 10**6):
        monkeypatch.setitem(objective.FORWARD_OVERHEAD, "cpu", overhead)
        config = CONFIG.model_copy(update={"max_steps": None})
        gradient, records = trained(tiny_model_dir, config, documents())
        gradients.append(gradient)
        padding.append(max(record["padding_share"] for record in records))
    assert_same(*gradients)
    assert padding[0] < padding[1]


def test_a_model_that_caps_its_logits_trains_on_the_capped_ones(tiny_model_dir):
    """The head alone does not know of it: the probe must notice."""

    def capped():
        model = load_model(str(tiny_model_dir), torch.float32)
        original = model.forward

        def forward(**inputs):
            output = original(**inputs)
            output.logits = 0.5 * torch.tanh(output.logits / 0.5)
            return output

        model.forward = forward
        return model

    rows = documents(1)
    changes = {"weighting": "uniform", "normalizer": "tokens", "token_batch": "all"}
    config = TrainConfig.model_validate(CONFIG.model_dump() | changes | {"max_steps": 1})
    used = Recording(capped(), None, config)
    nothing = lambda record: None  # noqa: E731
    Trainer(used, corpus(rows), config, 7).run(Callbacks(nothing, nothing, nothing))
    ids = torch.tensor(rows[0]["input_ids"])
    model = capped()
    logits = model.forward(input_ids=ids[None]).logits[0]
    torch.nn.functional.cross_entropy(logits[:-1], ids[1:]).backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert_same(used.gradient, expected)


def test_a_teacher_equal_to_the_student_pulls_nowhere(tiny_model_dir):
    rows = documents()
    config = CONFIG.model_copy(
        update={"distillation": DistillationConfig(teacher="same", label_share=0.0)}
    )
    teacher = load_model(str(tiny_model_dir), torch.float32)
    gradient, _ = trained(tiny_model_dir, config, rows, teacher)
    plain, _ = trained(tiny_model_dir, CONFIG, rows)
    assert gradient.norm() < 1e-5 * plain.norm()
    label_only = CONFIG.model_copy(
        update={"distillation": DistillationConfig(teacher="same", label_share=1.0)}
    )
    gradient, _ = trained(tiny_model_dir, label_only, rows, teacher)
    assert_same(gradient, plain)
