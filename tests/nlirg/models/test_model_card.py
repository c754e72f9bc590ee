"""The model card says what was done, loads what it says, and runs nothing it was given."""

import ast
import re

import pytest
import torch
import yaml

from nlirg.config.training import LoraConfig, TrainConfig
from nlirg.models.export import export_model
from nlirg.models.loading import load_model
from nlirg.models.lora import add_lora
from nlirg.models.model_card import TrainingFacts, write_model_card
from nlirg.weighting.weightings import NlirgWeighting, RandomWeighting

LORA = TrainConfig(lora=LoraConfig(rank=20, target_modules=("q_proj", "v_proj")))


def facts(**changes):
    values = {
        "base_model": "owner/base-1B",
        "layout": "full",
        "train": TrainConfig(),
        "seed": 7,
        "steps": 120,
        "trained_tokens": 9600,
    }
    return TrainingFacts(**values | changes)


def card(folder, **changes):
    write_model_card(folder, facts(**changes))
    text = (folder / "README.md").read_text()
    _, front, body = re.split(r"^---\n", text, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(front), body


def code(body):
    return re.findall(r"```python\n(.*?)```", body, flags=re.DOTALL)


def test_the_front_matter_says_what_the_hub_wants_to_know(tmp_path) -> None:
    front, _ = card(tmp_path)
    assert front["base_model"] == "owner/base-1B"
    assert front["base_model_relation"] == "finetune"
    assert front["library_name"] == "transformers"
    assert front["tags"] == ["nlirg"]
    assert "license" not in front
    front, _ = card(tmp_path, layout="adapter", train=LORA)
    assert front["library_name"] == "peft"
    assert front["base_model_relation"] == "adapter"
    assert front["tags"] == ["nlirg", "lora"]


def test_a_local_base_is_named_but_is_no_hub_id(tmp_path) -> None:
    front, body = card(tmp_path, base_model="./models/base")
    assert "base_model" not in front
    assert "`./models/base`" in body


def test_every_breakpoint_and_setting_is_told(tmp_path) -> None:
    weighting = NlirgWeighting(x0=1.375, loss_deadline=12.25)
    _, body = card(tmp_path, train=TrainConfig(weighting=weighting, token_batch=13))
    for name, value in weighting.model_dump().items():
        assert f"| `weighting: {name}` | `{value}` |" in body
    for row in ("`token_batch` | `13`", "`optimizer steps` | `120`", "`trained tokens` | `9600`"):
        assert row in body
    assert "| `seed` | `7` |" in body
    assert "| `learning_rate` | `0.0001` |" in body


def test_nested_settings_are_flat_rows(tmp_path) -> None:
    _, body = card(tmp_path, train=TrainConfig(weighting=RandomWeighting()))
    assert "| `weighting: name` | `random` |" in body
    assert "| `weighting: nlirg.x0` | `1.2` |" in body
    _, body = card(tmp_path, layout="adapter", train=LORA)
    assert "| `lora: target_modules` | `q_proj, v_proj` |" in body
    assert "| `lora: rank` | `20` |" in body


def test_metrics_and_versions_only_where_given(tmp_path) -> None:
    _, body = card(tmp_path)
    assert "Final metrics" not in body
    assert "Versions" not in body
    _, body = card(tmp_path, metrics={"validation loss": 1.23456789}, versions={"torch": "2.13"})
    assert "| `validation loss` | `1.23457` |" in body
    assert "| `torch` | `2.13` |" in body


@pytest.mark.parametrize(("rank", "limit"), [(1, 1), (16, 16), (20, 32), (300, 320)])
def test_vllm_is_told_a_rank_that_it_takes(tmp_path, rank, limit) -> None:
    _, body = card(tmp_path, layout="adapter", train=TrainConfig(lora=LoraConfig(rank=rank)))
    assert f"max_lora_rank={limit})" in body


def test_of_a_rank_above_all_of_its_limits_vllm_is_not_told(tmp_path) -> None:
    _, body = card(tmp_path, layout="adapter", train=TrainConfig(lora=LoraConfig(rank=600)))
    assert "PeftModel" in body
    assert "vllm" not in body


NASTY = 'a"); import os; os.system("x") #`\n```\n<script>|{{ 7*7 }}'


@pytest.mark.parametrize("layout", ["full", "adapter", "merged"])
@pytest.mark.parametrize("base", ["owner/base", NASTY])
def test_the_code_is_python_and_a_name_stays_a_string(tmp_path, layout, base) -> None:
    _, body = card(tmp_path, layout=layout, train=LORA, base_model=base, metrics={NASTY: 1.0})
    snippets = code(body)
    assert len(snippets) == 2
    for snippet in snippets:
        tree = ast.parse(snippet)
        imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert imported <= {"peft", "transformers", "vllm", "vllm.lora.request"}
        assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))
        constants = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
        assert (base in constants) == (layout == "adapter")
    assert "<script>" not in re.sub(r"`[^`]*`", "", body)


def test_no_paths_of_the_machine(tmp_path) -> None:
    train = TrainConfig(
        lora=LoraConfig(resume_from="/home/someone/adapter"), deepspeed="/home/someone/ds.json"
    )
    _, body = card(tmp_path, layout="adapter", train=train)
    assert "/home" not in body
    assert str(tmp_path) not in body


def test_the_code_for_an_adapter_loads_one(tmp_path, tiny_model_dir, tiny_tokenizer) -> None:
    train = TrainConfig(lora=LoraConfig(rank=2))
    model = add_lora(load_model(str(tiny_model_dir), torch.float32), train.lora, "base")
    export_model(model, tiny_tokenizer, tmp_path / "model")
    _, body = card(
        tmp_path / "model", layout="adapter", train=train, base_model=str(tiny_model_dir)
    )
    names: dict = {}
    exec(code(body)[0].replace("PATH", str(tmp_path / "model")), names)
    ids = torch.arange(5, 20)[None]
    assert torch.equal(names["model"](ids).logits, model.eval()(ids).logits)
