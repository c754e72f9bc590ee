"""Training that cannot be: one line on the command line that names the key, before Ray starts."""

import json
import shutil
import sys

import pytest
import torch
import yaml

from nlirg.config.training import LoraConfig
from nlirg.models.export import export_model
from nlirg.models.loading import load_model
from nlirg.models.lora import add_lora
from pipelines import cli
from tests.ray.test_train import encoded_run

CLEAN = {"precision": "fp32", "zero_stage": 0, "batch_size": 4}
SETTINGS = [
    (["train.token_batch=0"], "train.token_batch"),
    (["train.weighting={loss_threshold: 15.0}"], "loss_threshold (15.0) must lie below"),
    (["train.weighting={loss_threshold: 9, loss_deadline: 8}"], "loss_deadline (8.0)"),
    (["train.num_workers=3"], "num_workers (3) must divide batch_size (4)"),
    (["train.gradient_context=0", "train.token_batch=all"], "gradient_context 0 needs windows"),
    (
        ["train.gradient_context=0", "train.gradient_checkpointing=true"],
        "gradient_checkpointing recomputes the prefix",
    ),
    (["train.precision=bf16"], "precision bf16 needs zero_stage 1, 2 or 3"),
    (["train.reference_compat=true", "train.token_batch=1"], "reference_compat with token_batch 1"),
    (["train.lora={merged: true}"], "unknown key 'train.lora.merged'; did you mean"),
    (["train.merge=true"], "unknown key 'train.merge'; did you mean train.lora.merge"),
    (["train.weighting=nlirgg"], "train.weighting"),
    (["train.lora={target_modules: []}"], "train.lora.target_modules"),
    (["train.lora={target_modules: [q_proj, nope]}"], "train.lora.target_modules: nope not found"),
    (["train.lora={target_modules: [lm_head]}"], "train.lora.target_modules: lm_head not found"),
    (["train.lora={resume_from: /none/such}"], "train.lora.resume_from: /none/such"),
    (["train.validation={rows: 24}"], "train.validation.rows is 24"),
    (["train.distillation={teacher: ./none}"], "./none"),
    (["train.deepspeed=none.json"], "train.deepspeed: none.json is neither"),
    (["train.epochs=0"], "train.epochs"),
    (["train.replay.share=0"], "train.replay.share: Input should be greater than 0"),
    (["train.replay.share=1.2"], "train.replay.share: Input should be less than 1"),
    (["train.replay.share=0.99"], "replay has too few rows for its share: an epoch would see"),
    (["train.guard={stop: true}", "train.validation.keep=last"], "guard.stop ends a run once"),
    (["train.guard.general=none.jsonl"], "none.jsonl: cannot read"),
    (["train.guard.max_rise=0"], "train.guard.max_rise"),
    (["train.guard={metric: kl}", "encode.task=cpt"], "train.guard.metric kl is measured on"),
    (["train.replay={}", "encode.task=cpt"], "train.replay: a base model that is trained on plain"),
    (["data=[{path: a.jsonl, weight: 1.5}]"], "data.0.weight: Input should be less than or equal"),
    (["data=[{path: a.jsonl, weight: 0}]"], "data.0.weight: Input should be greater than 0"),
    (["data=[{path: a.jsonl, weight: 0.5, repeat: 2}]"], "give one of them"),
    (["data=[{path: a.jsonl, weight: 0.6}, {path: b.jsonl, weight: 0.6}]"], "add up to 1.2"),
    (["data=[a.jsonl, {path: b.jsonl, weight: 1.0}]"], "leaves nothing for 'a'"),
    (["data=[a.jsonl, {path: b.jsonl, weight: 0.99}]"], "has too few rows for its share"),
    (["data=[{path: a.jsonl, task_types: {c: {repeat: 2}}}, b.jsonl]"], "no row to train has 'c'"),
    (["data=[{path: a.jsonl, name: replay}]"], "is the base model's own answers"),
    (["data=[{path: a.jsonl, task_types: {c: {}}}]", "encode.task=cpt"], "make a source of each"),
]


@pytest.fixture
def train(monkeypatch, capsys, tmp_path, tiny_model_dir):
    """Runs `nlirg train` on an encoded corpus; returns the one line that it refuses with."""

    def connected(_):
        raise AssertionError("Ray must not be started for a run that cannot be")

    monkeypatch.setattr("pipelines.train.stage.connect", connected)
    encoded_run(tmp_path)
    path = tmp_path / "recipe.yaml"

    def refusal(*overrides, model=tiny_model_dir):
        raw = {"name": "run", "storage": str(tmp_path), "model": str(model), "train": CLEAN}
        path.write_text(yaml.safe_dump(raw | {"data": ["unused.jsonl"], "arms": {"a": {}}}))
        monkeypatch.setattr(sys, "argv", ["nlirg", "train", str(path), *overrides])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert left.value.code == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        assert "Error: " not in lines[0], "foreseen, not a stray exception"
        assert not (tmp_path / "run" / "train").exists(), "nothing was begun"
        return lines[0]

    return refusal


@pytest.mark.parametrize(("overrides", "said"), SETTINGS, ids=lambda value: str(value)[:50])
def test_impossible_settings_are_refused(train, overrides, said):
    assert said in train(*overrides)


def changed_copy(model, folder, file, **changes):
    """A copy of a model with some keys of one of its JSON files changed."""
    shutil.copytree(model, folder)
    settings = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(settings | changes))
    return folder


def test_a_tokenizer_without_an_end_token(train, tiny_model_dir, tmp_path):
    model = changed_copy(
        tiny_model_dir, tmp_path / "model", "tokenizer_config.json", eos_token=None
    )
    assert "no end-of-sequence token; set eos_token" in train(model=model)


def test_an_unknown_architecture(train, tiny_model_dir, tmp_path):
    model = changed_copy(tiny_model_dir, tmp_path / "model", "config.json", model_type="nope")
    assert "cannot load it" in train(model=model)


def test_layers_that_cannot_have_a_short_context(train, tiny_model_dir, tmp_path):
    layers = {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 8}
    model = changed_copy(
        tiny_model_dir, tmp_path / "model", "config.json", use_sliding_window=True, **layers
    )
    assert "train.gradient_context: the model has sliding_attention" in train(
        "train.gradient_context=0", model=model
    )


def test_an_adapter_for_another_base(train, tiny_model_dir, tiny_tokenizer, tmp_path):
    torch.manual_seed(0)
    adapted = add_lora(
        load_model(str(tiny_model_dir), torch.float32), LoraConfig(rank=2), "owner/other"
    )
    export_model(adapted, tiny_tokenizer, tmp_path / "adapter")
    refused = train(f"train.lora={{rank: 2, resume_from: {tmp_path / 'adapter'}}}")
    assert "train.lora.resume_from" in refused
    assert "is an adapter for owner/other" in refused


def test_a_teacher_with_another_vocabulary(train, tiny_model_dir, tiny_tokenizer, tmp_path):
    shutil.copytree(tiny_model_dir, tmp_path / "teacher")
    other = type(tiny_tokenizer).from_pretrained(tiny_model_dir)
    other.add_tokens(["entirely_new"])
    other.save_pretrained(tmp_path / "teacher")
    refused = train(f"train.distillation={{teacher: {tmp_path / 'teacher'}}}")
    assert "train.distillation.teacher" in refused
    assert "vocabulary differs" in refused


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"zero_optimization": {"stage": 3}}, "train.zero_stage"),
        ({"bf16": {"enabled": True}}, "train.precision"),
        ({"train_batch_size": 64}, "train.batch_size"),
        ({"optimizer": {"type": "Adam", "params": {"lr": 1}}}, "optimizer.type"),
        ({"fp_16": {}}, "did you mean fp16"),
    ],
)
def test_a_deepspeed_json_that_contradicts_the_recipe(train, tmp_path, settings, said):
    (tmp_path / "ds.json").write_text(json.dumps(settings))
    refused = train(f"train.deepspeed={tmp_path / 'ds.json'}")
    assert "train.deepspeed" in refused
    assert said in refused
