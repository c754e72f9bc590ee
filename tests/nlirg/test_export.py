"""Saved models and adapters load in transformers and peft as they are."""

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from nlirg.config import LoraConfig, TrainConfig
from nlirg.engine import TorchEngine
from nlirg.errors import InputError
from nlirg.lora import add_lora
from nlirg.models import load_model

CONFIG = TrainConfig(precision="fp32")
IDS = torch.arange(5, 30)[None]


def changed(model):
    """Move every trainable weight, as training would."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01)
    return model


def test_a_full_model_loads_and_predicts_the_same(tiny_model_dir, tiny_tokenizer, tmp_path):
    model = changed(load_model(str(tiny_model_dir), torch.float32))
    TorchEngine(model, tiny_tokenizer, CONFIG).export(tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.chat_template == tiny_tokenizer.chat_template
    names = load_file(tmp_path / "model" / "model.safetensors")
    assert "lm_head.weight" not in names  # tied: stored once, tied again by loading


def test_an_adapter_is_saved_alone_and_names_its_base(tiny_model_dir, tiny_tokenizer, tmp_path):
    model = add_lora(load_model(str(tiny_model_dir), torch.float32), LoraConfig(rank=2), "my/base")
    TorchEngine(changed(model), tiny_tokenizer, CONFIG).export(tmp_path / "model")
    base = load_model(str(tiny_model_dir), torch.float32)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "model")
    assert torch.equal(loaded(IDS).logits, model.eval()(IDS).logits)
    assert loaded.peft_config["default"].base_model_name_or_path == "my/base"
    names = load_file(tmp_path / "model" / "adapter_model.safetensors")
    assert all("lora_" in name for name in names)
    assert (tmp_path / "model" / "chat_template.jinja").is_file()


def test_a_diverged_model_is_not_saved(tiny_model_dir, tiny_tokenizer, tmp_path):
    model = load_model(str(tiny_model_dir), torch.float32)
    engine = TorchEngine(model, tiny_tokenizer, CONFIG)
    engine.export(tmp_path / "model")
    good = load_file(tmp_path / "model" / "model.safetensors")
    with torch.no_grad():
        next(model.parameters())[0, 0] = torch.nan
    with pytest.raises(InputError, match="diverged"):
        engine.export(tmp_path / "model")
    kept = load_file(tmp_path / "model" / "model.safetensors")
    assert all(torch.equal(value, kept[name]) for name, value in good.items())
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_lora_target_that_is_not_there_is_named(tiny_model_dir):
    model = load_model(str(tiny_model_dir), torch.float32)
    with pytest.raises(InputError, match=r"c_attn not found.*its linear layers are.*q_proj"):
        add_lora(model, LoraConfig.model_construct(target_modules=("q_proj", "c_attn")), "base")
