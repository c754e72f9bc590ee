"""What a run saves: continued from any checkpoint it ends as if it had never stopped."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nlirg.config.training import LoraConfig, TrainConfig, ValidationConfig
from nlirg.errors import InputError
from nlirg.forward.batching import EncodedCorpus
from nlirg.labels import IGNORE
from nlirg.models.loading import load_model, load_tokenizer
from nlirg.models.lora import add_lora
from nlirg.training import ranks
from nlirg.training.checkpoint import FOLDER, INDEX_COPY, Checkpoints, copy_index, repair_index
from nlirg.training.trainer import Callbacks, Trainer
from tests.torch_engine import TorchEngine

CONFIG = TrainConfig(
    precision="fp32",
    token_batch=5,
    batch_size=4,
    learning_rate=1e-2,
    schedule="constant",
    log_every=3,
    epochs=2,
    checkpoint_every=4,
    zero_stage=2,
)
MEASURED = dict.fromkeys(("tokens_per_s", "processed_tokens_per_s", "memory_gb"))


def corpus(samples, seed):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(samples):
        ids = rng.integers(3, 300, rng.integers(8, 40))
        rows.append({"input_ids": ids, "labels": np.where(np.arange(len(ids)) < 4, IGNORE, ids)})
    return EncodedCorpus(rows, np.array([len(row["labels"]) - 4 for row in rows]))


class Run:
    """A run and its checkpoints in one process."""

    def __init__(self, model, output, config=CONFIG):
        loaded = load_model(str(model), torch.float32)
        if config.lora is not None:
            torch.manual_seed(0)
            loaded = add_lora(loaded, config.lora, str(model))
        self.engine = TorchEngine(loaded, load_tokenizer(str(model)), config)
        held_out = corpus(3, 1) if config.validation else None
        self.trainer = Trainer(self.engine, corpus(9, 0), config, 7, held_out)
        self.saved, self.records, self.output = [], [], output
        self.checkpoints = Checkpoints(
            output, str(model), config, self.engine, self.trainer, self._commit
        )

    def _commit(self, folder, step):
        assert json.loads((folder / "progress.json").read_text())["step"] == step
        self.saved.append(folder)

    def train(self):
        self.trainer.run(
            Callbacks(
                self.records.append,
                self.checkpoints.save,
                lambda _: self.checkpoints.keep_best(),
            )
        )
        return self

    def weights(self):
        return {name: p.detach() for name, p in self.engine._module.named_parameters()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lora": LoraConfig(rank=2, dropout=0.2)},
        {"gradient_context": 2},
        {
            "epochs": 40,
            "checkpoint_every": 6,
            "validation": ValidationConfig(rows=3, every=4, patience=2, keep="last"),
        },
    ],
    ids=["full", "lora with dropout", "cached prefixes", "between validations"],
)
def test_a_resumed_run_ends_bit_identical(tiny_model_dir, tmp_path, changes):
    config = CONFIG.model_copy(update=changes)
    whole = Run(tiny_model_dir, tmp_path, config).train()
    assert len(whole.saved) >= 2
    for folder in {whole.saved[0], whole.saved[-1]}:
        resumed = Run(tiny_model_dir, tmp_path / "again", config)
        resumed.checkpoints.load(folder)
        step = resumed.trainer.progress.step
        assert folder.name == f"step-{step:08d}"
        resumed.train()
        for name, value in whole.weights().items():
            assert torch.equal(value, resumed.weights()[name]), name
        later = [record for record in whole.records if record["step"] > step]
        for mine, theirs in zip(resumed.records, later, strict=True):
            assert mine | MEASURED == theirs | MEASURED
        ended = replace(resumed.trainer.progress, seconds=0)
        assert ended == replace(whole.trainer.progress, seconds=0)


def test_a_resumed_run_deletes_what_is_later_than_its_checkpoint(tiny_model_dir, tmp_path):
    run = Run(tiny_model_dir, tmp_path).train()
    first, *_ = run.saved
    (tmp_path / FOLDER / "step-99999999" / "state").mkdir(parents=True)
    resumed = Run(tiny_model_dir, tmp_path)
    resumed.checkpoints.load(first)
    resumed.checkpoints.remove_unfinished()
    assert list((tmp_path / FOLDER).iterdir()) == [first]
    fresh = Run(tiny_model_dir, tmp_path)
    fresh.checkpoints.remove_unfinished()
    assert not list((tmp_path / FOLDER).iterdir()), "a run from the beginning continues from none"


def test_shards_of_another_number_of_workers_are_refused(tiny_model_dir, tmp_path):
    (folder, *_) = Run(tiny_model_dir, tmp_path).train().saved
    (folder / "world.json").write_text(json.dumps({"num_workers": 3, "zero_stage": 2}))
    with pytest.raises(InputError, match=r"shards of 3 workers.*train\.num_workers=3"):
        Run(tiny_model_dir, tmp_path).checkpoints.load(folder)
    whole = CONFIG.model_copy(update={"zero_stage": 0})
    resumed = Run(tiny_model_dir, tmp_path, whole)
    resumed.checkpoints.load(folder)
    assert resumed.trainer.progress.step > 0, "without shards their number may change"


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_exported_model_is_the_best_or_the_last(tiny_model_dir, tmp_path, keep):
    """Random tokens can only be memorised: held-out loss rises after a while."""
    validation = ValidationConfig(rows=3, every=4, patience=3, keep=keep)
    config = CONFIG.model_copy(update={"validation": validation, "epochs": 40})
    run = Run(tiny_model_dir, tmp_path, config)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    run.train()
    run.checkpoints.export()
    assert not (tmp_path / "best").exists()
    assert not (tmp_path / "model" / "old").exists()
    exported = load_file(tmp_path / "model" / "model.safetensors")
    last = run.weights()
    assert all(torch.equal(last[name], value) for name, value in exported.items()) == (
        keep == "last"
    )


@pytest.mark.parametrize("merge", [False, True])
def test_base_and_adapter_are_merged_if_asked_for(tiny_model_dir, tmp_path, merge):
    lora = LoraConfig(rank=2, merge=merge)
    run = Run(tiny_model_dir, tmp_path, CONFIG.model_copy(update={"lora": lora, "max_steps": 2}))
    run.train().checkpoints.export()
    assert (tmp_path / "model" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "merged" / "model.safetensors").is_file() == merge


def test_a_torn_index_gets_its_copy_back_and_a_whole_one_is_left_alone(tmp_path):
    index = tmp_path / "index.json"
    index.write_text('{"results": [8]}')
    copy_index(index)
    for torn in ("", '{"res', "\x00\x00\x00"):
        index.write_text(torn)
        repair_index(index)
        assert index.read_text() == '{"results": [8]}'
    index.write_text('{"results": [8, 16]}')
    repair_index(index)
    assert index.read_text() == '{"results": [8, 16]}'


def test_an_index_torn_at_its_first_writing_means_no_checkpoint(tmp_path):
    index = tmp_path / "index.json"
    index.write_text("{")
    repair_index(index)
    assert not index.exists()
    copy_index(index)
    repair_index(tmp_path / "none" / "index.json")
    assert not (tmp_path / INDEX_COPY).exists()


@pytest.mark.parametrize("refusals", [[None, "no such model"], ["no such model", None]])
def test_what_one_rank_refuses_every_rank_refuses(monkeypatch, refusals):
    """Seen from the first of two ranks, the other's answer coming out of the collective."""

    def act():
        if refusals[0]:
            raise InputError(refusals[0])

    def gather(messages, mine):
        assert mine == refusals[0]
        messages[:] = refusals

    monkeypatch.setattr(ranks.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(ranks.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(ranks.dist, "all_gather_object", gather)
    with pytest.raises(InputError, match="no such model"):
        ranks.together(act)
    refusals[:] = [None, None]
    assert ranks.together(lambda: 3) == 3
