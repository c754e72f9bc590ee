"""DeepSpeed in one process, held against plain torch at every ZeRO stage."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nlirg.config.training import GuardConfig, LoraConfig, ReplayShareConfig, TrainConfig
from nlirg.errors import InputError
from nlirg.forward.batching import EncodedCorpus
from nlirg.forward.joined import beside
from nlirg.labels import IGNORE
from nlirg.models.loading import load_model, load_tokenizer
from nlirg.models.lora import add_lora
from nlirg.training import objective
from nlirg.training.engine import set_seed
from nlirg.training.trainer import Callbacks, Trainer
from nlirg.weighting.weightings import NlirgWeighting
from tests.torch_engine import TorchEngine

CONFIG = TrainConfig(
    precision="fp32",
    token_batch=5,
    batch_size=4,
    learning_rate=1e-3,
    max_steps=6,
    checkpoint_every=3,
    max_grad_norm=0.3,  # below the gradients' norm here, so that clipping counts
    weight_decay=0.01,
)
LORA = LoraConfig(rank=2, dropout=0.1)


pytestmark = pytest.mark.usefixtures("one_rank")


def corpus():
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(8):
        ids = rng.integers(3, 300, rng.integers(8, 40))
        rows.append({"input_ids": ids, "labels": np.where(np.arange(len(ids)) < 4, IGNORE, ids)})
    return EncodedCorpus(rows, np.array([len(row["labels"]) - 4 for row in rows]))


def deepspeed_engine(path, config):
    from nlirg.training.deepspeed_engine import DeepSpeedEngine, ModelSource

    return DeepSpeedEngine(ModelSource(str(path), "base"), config, seed=7)


def torch_engine(path, config):
    set_seed(7)
    model = load_model(str(path), torch.float32)
    if config.lora is not None:
        model = add_lora(model, config.lora, "base")
    return TorchEngine(model, load_tokenizer(str(path)), config)


def run(engine, config, progress=None, checkpoint=lambda progress: None):
    records = []
    callbacks = Callbacks(records.append, checkpoint, lambda progress: None)
    Trainer(engine, corpus(), config, 7, progress=progress).run(callbacks)
    return records


def exported(engine, folder):
    engine.export(folder)
    return load_file(next(folder.glob("*.safetensors")))


def assert_same(mine, theirs, atol):
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, rtol=1e-5, atol=atol, msg=name)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_every_stage_trains_and_exports_what_plain_torch_does(
    tiny_model_dir, tmp_path, stage, lora
):
    config = CONFIG.model_copy(update={"zero_stage": stage, "lora": lora})
    mine, theirs = deepspeed_engine(tiny_model_dir, config), torch_engine(tiny_model_dir, config)
    records, expected = run(mine, config), run(theirs, config)
    for record, reference in zip(records, expected, strict=True):
        assert record["grad_norm"] == pytest.approx(reference["grad_norm"], rel=1e-4)
        assert record["weighted_loss"] == pytest.approx(reference["weighted_loss"], rel=1e-4)
    assert expected[0]["grad_norm"] > CONFIG.max_grad_norm
    # Adam divides by the gradient's size, so rounding differences of tiny gradients show.
    assert_same(exported(mine, tmp_path / "mine"), exported(theirs, tmp_path / "theirs"), 1e-5)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_the_base_is_there_to_replay_and_to_watch_at_every_stage(
    tiny_model_dir, tmp_path, stage, lora
):
    """At stage 3 the head's weight is whole only inside a forward."""
    keeping = {
        "replay": ReplayShareConfig(share=0.5, objective="kl"),
        "guard": GuardConfig(rows=4, every=3),
    }
    config = CONFIG.model_copy(update={"zero_stage": stage, "lora": lora, **keeping})
    joined = beside(corpus(), corpus())
    ends = []
    for engine in (deepspeed_engine(tiny_model_dir, config), torch_engine(tiny_model_dir, config)):
        trainer = Trainer(engine, joined, config, 7, known=(corpus(), corpus()))
        records = []
        trainer.run(Callbacks(records.append, lambda p: None, lambda p: None))
        tensors = exported(engine, tmp_path / type(engine).__name__)
        ends.append((tensors, trainer.progress.start, records))
    (mine, start, records), (theirs, expected, others) = ends
    assert start.kl == pytest.approx(expected.kl, abs=1e-6)
    assert [record["step"] for record in records] == [3, 6]
    for record, other in zip(records, others, strict=True):
        for key in ("general_loss", "general_kl", "weighted_loss"):
            assert record[key] == pytest.approx(other[key], rel=1e-3), key
    assert_same(mine, theirs, 1e-5)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_short_gradient_context_and_its_check_work_at_every_stage(
    tiny_model_dir, tmp_path, stage
):
    config = CONFIG.model_copy(
        update={"zero_stage": stage, "gradient_context": 2, "gradient_accumulation_steps": 2}
    )
    mine, theirs = deepspeed_engine(tiny_model_dir, config), torch_engine(tiny_model_dir, config)
    records, expected = run(mine, config), run(theirs, config)
    if stage < 3:
        cosine = expected[0]["gradient_cosine"]
        assert records[0]["gradient_cosine"] == pytest.approx(cosine, rel=1e-4)
    assert_same(exported(mine, tmp_path / "mine"), exported(theirs, tmp_path / "theirs"), 1e-5)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_micro_batches_and_discarded_tokens_change_nothing_at_any_stage(
    tiny_model_dir, tmp_path, stage
):
    """With a low deadline N is far from the number of tokens that gradients are scaled by."""
    low = NlirgWeighting(loss_deadline=8.0)
    config = CONFIG.model_copy(
        update={"zero_stage": stage, "weighting": low, "gradient_accumulation_steps": 2}
    )
    small = config.model_copy(update={"micro_batch_size": 1})
    theirs, mine = torch_engine(tiny_model_dir, config), deepspeed_engine(tiny_model_dir, small)
    expected, records = run(theirs, config), run(mine, small)
    counts = expected[0]["loss_histogram"]  # bins of half a nat
    assert 0.1 < sum(counts[16:]) / sum(counts) < 0.9, "many tokens are discarded, not all"
    for record, reference in zip(records, expected, strict=True):
        assert record["mean_weight"] == pytest.approx(reference["mean_weight"], rel=1e-4)
        assert record["grad_norm"] == pytest.approx(reference["grad_norm"], rel=1e-4)
        assert record["weighted_loss"] == pytest.approx(reference["weighted_loss"], rel=1e-4)
    assert_same(exported(mine, tmp_path / "mine"), exported(theirs, tmp_path / "theirs"), 1e-5)


@pytest.mark.parametrize("stage", [0, 2, 3])
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_a_resumed_run_ends_bit_identical(tiny_model_dir, tmp_path, stage, lora):
    config = CONFIG.model_copy(update={"zero_stage": stage, "lora": lora})
    whole, saved = deepspeed_engine(tiny_model_dir, config), []

    def checkpoint(progress):
        whole.save_state(tmp_path)
        saved.append(progress)

    run(whole, config, checkpoint=checkpoint)
    resumed = deepspeed_engine(tiny_model_dir, config)
    resumed.load_state(tmp_path)
    run(resumed, config, saved[0])
    expected = exported(whole, tmp_path / "whole")
    for name, value in exported(resumed, tmp_path / "resumed").items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_bf16_keeps_updates_smaller_than_a_bf16_step(tiny_model_dir, tmp_path, stage):
    """A weight near 1 moves in steps of 1/128 in bf16; twelve of 1/1000 must add up to more."""
    config = CONFIG.model_copy(
        update={"precision": "bf16", "zero_stage": stage, "max_steps": 12, "schedule": "constant"}
    )
    engine = deepspeed_engine(tiny_model_dir, config)
    run(engine, config)
    norm = exported(engine, tmp_path / "model")["model.norm.weight"]
    assert norm.dtype == torch.bfloat16
    assert (norm != 1).float().mean() > 0.5


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_step_of_nan_in_several_micro_batches_costs_no_other_step(tiny_model_dir, stage):
    config = CONFIG.model_copy(
        update={"zero_stage": stage, "max_steps": 4, "log_every": 1, "micro_batch_size": 2}
    )
    engine, done = deepspeed_engine(tiny_model_dir, config), []
    engine._engine.module.model.norm.register_forward_hook(
        lambda module, args, hidden: hidden * (torch.nan if len(done) == 1 else 1.0)
    )
    nothing = lambda progress: None  # noqa: E731
    Trainer(engine, corpus(), config, 7).run(Callbacks(done.append, nothing, nothing))
    assert [record["skipped_steps"] for record in done] == [0, 1, 1, 1]


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_a_skipped_step_changes_nothing_and_training_goes_on(
    tiny_model_dir, tmp_path, monkeypatch, stage
):
    config = CONFIG.model_copy(update={"zero_stage": stage, "max_steps": 3, "log_every": 1})
    engine = deepspeed_engine(tiny_model_dir, config)
    calls = []

    def poisoned(module, args, hidden):
        calls.append(len(calls))
        return hidden * (torch.nan if len(calls) in (1, 2) else 1.0)

    monkeypatch.setitem(objective.FORWARD_OVERHEAD, "cpu", 1_000_000)  # one forward a step
    engine._engine.module.model.norm.register_forward_hook(poisoned)
    before = exported(engine, tmp_path / "before")
    seen = []

    def log(record):
        seen.append((record["skipped_steps"], exported(engine, tmp_path / str(len(calls)))))

    callbacks = Callbacks(log, lambda progress: None, lambda progress: None)
    Trainer(engine, corpus(), config, 7).run(callbacks)
    assert [skipped for skipped, _ in seen] == [1, 2, 2]
    assert all(torch.equal(value, before[name]) for name, value in seen[1][1].items())
    assert any(not torch.equal(value, before[name]) for name, value in seen[2][1].items())
    assert all(value.isfinite().all() for value in seen[2][1].values())


@pytest.mark.parametrize(
    ("stage", "lost"), [(0, "model"), (2, "model"), (2, "optim"), (3, "optim")]
)
def test_a_checkpoint_that_lacks_files_is_refused(tiny_model_dir, tmp_path, stage, lost):
    config = CONFIG.model_copy(update={"zero_stage": stage})
    deepspeed_engine(tiny_model_dir, config).save_state(tmp_path)
    files = list((tmp_path / "state").glob(f"*{lost}_states.pt"))
    assert files
    for file in files:
        file.unlink()
    with pytest.raises(InputError, match="lacks files"):
        deepspeed_engine(tiny_model_dir, config).load_state(tmp_path)
