"""Adapters and models that would load silently and answer wrongly are refused by name."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from eval.generation.adapters import check_adapter, check_model, weights_hash
from nlirg.errors import InputError

WEIGHTS = "adapter_model.safetensors"
KEY = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"


def save_adapter(base: Path, path: Path, **changes) -> Path:
    settings = {"r": 3, "target_modules": ["q_proj", "up_proj"], **changes}
    model = AutoModelForCausalLM.from_pretrained(base)
    get_peft_model(model, LoraConfig(**settings)).save_pretrained(path)
    return path


@pytest.fixture
def adapter(tiny_model_dir, tmp_path) -> Path:
    return save_adapter(tiny_model_dir, tmp_path / "adapter")


def change(adapter: Path, tensors: dict) -> None:
    save_file(tensors, adapter / WEIGHTS)


def test_a_good_adapter_is_described(adapter, tiny_model_dir) -> None:
    found = check_adapter("nlirg", adapter, tiny_model_dir)
    assert (found.name, found.path, found.rank) == ("nlirg", str(adapter), 3)
    assert found.target_modules == ("q_proj", "up_proj")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite(adapter, tiny_model_dir, value) -> None:
    tensors = load_file(adapter / WEIGHTS)
    tensors[KEY][1, 2] = value
    change(adapter, tensors)
    with pytest.raises(InputError, match=r"up_proj\.lora_A\.weight holds NaN or infinity"):
        check_adapter("nlirg", adapter, tiny_model_dir)


def test_of_another_model(adapter, tiny_model_dir) -> None:
    tensors = load_file(adapter / WEIGHTS)
    tensors[KEY] = torch.zeros(3, 99)
    change(adapter, tensors)
    with pytest.raises(InputError, match=r"has shape \(3, 99\), .* needs \(3, 32\)"):
        check_adapter("nlirg", adapter, tiny_model_dir)


def test_missing_and_unknown_tensors(adapter, tiny_model_dir) -> None:
    tensors = load_file(adapter / WEIGHTS)
    moved = tensors.pop(KEY)
    change(adapter, tensors)
    with pytest.raises(InputError, match=r"1 tensors are missing, the first is .*up_proj\.lora_A"):
        check_adapter("nlirg", adapter, tiny_model_dir)
    change(adapter, {**tensors, KEY.replace("layers.1", "layers.7"): moved})
    with pytest.raises(InputError, match=r"layers\.7.* belongs to no target module"):
        check_adapter("nlirg", adapter, tiny_model_dir)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"target_modules": ["q_proj", "lm_head"]}, "lm_head.* belongs to no target module"),
        ({"use_dora": True}, "use_dora is True"),
        ({"bias": "lora_only"}, "bias is 'lora_only'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is"),
        ({"layers_to_transform": [0]}, "layers_to_transform is"),
        ({"rank_pattern": {"q_proj": 5}}, "rank_pattern is"),
    ],
)
def test_more_than_plain_lora(tiny_model_dir, tmp_path, changes, reason) -> None:
    path = save_adapter(tiny_model_dir, tmp_path / "adapter", **changes)
    with pytest.raises(InputError, match=reason):
        check_adapter("nlirg", path, tiny_model_dir)


def test_files_that_are_not_there_or_not_what_they_should_be(adapter, tiny_model_dir) -> None:
    config = adapter / "adapter_config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "r": "8"}))
    with pytest.raises(InputError, match="r must be a whole number"):
        check_adapter("nlirg", adapter, tiny_model_dir)
    config.write_text("{")
    with pytest.raises(InputError, match=r"adapter_config\.json: not a JSON file"):
        check_adapter("nlirg", adapter, tiny_model_dir)
    config.unlink()
    with pytest.raises(InputError, match=r"adapter_config\.json: cannot read"):
        check_adapter("nlirg", adapter, tiny_model_dir)
    config.write_text(json.dumps(settings))
    (adapter / WEIGHTS).write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="not a safetensors file"):
        check_adapter("nlirg", adapter, tiny_model_dir)
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    with pytest.raises(InputError, match=r"no \*\.safetensors file"):
        check_adapter("nlirg", adapter, tiny_model_dir)


def test_a_model_must_be_finite(tiny_model_dir, tmp_path) -> None:
    check_model(tiny_model_dir)
    tensors = load_file(tiny_model_dir / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.norm\.weight holds NaN"):
        check_model(tmp_path)
    with pytest.raises(InputError, match="no such directory"):
        check_model(tmp_path / "none")


def test_the_hash_notices_one_changed_number(adapter) -> None:
    before = weights_hash(adapter)
    assert weights_hash(adapter) == before
    tensors = load_file(adapter / WEIGHTS)
    tensors[KEY][0, 0] += 1e-3
    change(adapter, tensors)
    assert weights_hash(adapter) != before
