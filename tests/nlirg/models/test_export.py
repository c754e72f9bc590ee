"""Saved models and adapters load in transformers and peft as they are."""

import shutil

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from nlirg.config.training import LoraConfig, TrainConfig
from nlirg.errors import InputError
from nlirg.models.export import check_exportable, export_merged, export_model
from nlirg.models.loading import load_model, model_skeleton
from nlirg.models.lora import add_lora
from tests.torch_engine import TorchEngine

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


def adapter_on(base_dir, tokenizer, folder, dtype=torch.float32, **lora):
    """Export an adapter with every weight moved; returns base and adapter as peft runs them."""
    torch.manual_seed(1)
    config = LoraConfig(rank=3, **lora)
    model = add_lora(load_model(str(base_dir), dtype), config, str(base_dir))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    export_model(model, tokenizer, folder)
    return model.eval()


@pytest.mark.parametrize("rslora", [False, True])
def test_a_merged_model_predicts_as_base_and_adapter_do(
    tiny_model_dir, tiny_tokenizer, tmp_path, rslora
):
    model = adapter_on(tiny_model_dir, tiny_tokenizer, tmp_path / "adapter", rslora=rslora)
    export_merged(str(tiny_model_dir), tmp_path / "adapter", tmp_path / "merged")
    base = load_model(str(tiny_model_dir), torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert (base(IDS).logits - model(IDS).logits).abs().max() > 0.1
    torch.testing.assert_close(merged(IDS).logits, model(IDS).logits, rtol=0, atol=1e-4)
    names = load_file(tmp_path / "merged" / "model.safetensors").keys()
    assert names == load_file(tiny_model_dir / "model.safetensors").keys()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.chat_template == tiny_tokenizer.chat_template
    assert not (tmp_path / "merged" / "adapter_config.json").exists()


def test_merging_a_half_precision_base_rounds_once(tiny_model_dir, tiny_tokenizer, tmp_path):
    """The merged weight is the bf16 number nearest to the float32 sum of base and product."""
    bf16 = torch.bfloat16
    base = load_model(str(tiny_model_dir), bf16)
    base.save_pretrained(tmp_path / "base")
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    adapter_on(tmp_path / "base", tiny_tokenizer, tmp_path / "adapter", bf16, alpha=6.0)
    export_merged(str(tmp_path / "base"), tmp_path / "adapter", tmp_path / "merged")
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    assert {tensor.dtype for tensor in merged.values()} == {bf16}
    before = load_file(tmp_path / "base" / "model.safetensors")
    low = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    for layer in ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"):
        a, b = (low[f"base_model.model.{layer}.lora_{x}.weight"].float() for x in "AB")
        expected = (before[f"{layer}.weight"].float() + 2.0 * (b @ a)).to(bf16)
        assert torch.equal(merged[f"{layer}.weight"], expected)
    for name in ("model.embed_tokens.weight", "model.norm.weight"):
        assert torch.equal(merged[name], before[name])


def test_a_merge_that_overflows_leaves_what_was_there(tiny_model_dir, tiny_tokenizer, tmp_path):
    adapter_on(tiny_model_dir, tiny_tokenizer, tmp_path / "adapter")
    export_merged(str(tiny_model_dir), tmp_path / "adapter", tmp_path / "merged")
    good = load_file(tmp_path / "merged" / "model.safetensors")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: torch.full_like(t, 1e30) for name, t in load_file(file).items()}, file)
    with pytest.raises(InputError, match=r"q_proj comes out with NaN or infinity"):
        export_merged(str(tiny_model_dir), tmp_path / "adapter", tmp_path / "merged")
    kept = load_file(tmp_path / "merged" / "model.safetensors")
    assert all(torch.equal(value, kept[name]) for name, value in good.items())
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "merged"}


@pytest.mark.parametrize("merged", [False, True])
def test_settings_of_generation_are_passed_on_as_they_are(
    tiny_model_dir, tiny_tokenizer, tmp_path, merged
) -> None:
    """Transformers itself refuses to write these, which many published models have."""
    base = shutil.copytree(tiny_model_dir, tmp_path / "base")
    text = '{"do_sample": false, "temperature": 0.9, "top_p": 0.6}'
    (base / "generation_config.json").write_text(text)
    (base / "preprocessor_config.json").write_text('{"size": 3}')
    model = load_model(str(base), torch.float32)
    with pytest.raises(ValueError, match="GenerationConfig is invalid"):
        model.save_pretrained(tmp_path / "refused")
    if merged:
        adapted = add_lora(model, LoraConfig(rank=2), str(base))
        export_model(adapted, tiny_tokenizer, tmp_path / "adapter")
        assert not (tmp_path / "adapter" / "generation_config.json").exists()
        export_merged(str(base), tmp_path / "adapter", tmp_path / "model")
    else:
        export_model(model, tiny_tokenizer, tmp_path / "model")
    assert (tmp_path / "model" / "generation_config.json").read_text() == text
    assert (tmp_path / "model" / "preprocessor_config.json").read_text() == '{"size": 3}'
    load_model(str(tmp_path / "model"), torch.float32)


def test_settings_that_cannot_be_written_are_told_before_training(
    tiny_model_dir, tiny_tokenizer
) -> None:
    model = model_skeleton(str(tiny_model_dir))
    check_exportable(model, tiny_tokenizer, "tiny")
    model.config.odd = object()
    with pytest.raises(InputError, match="model tiny: transformers cannot write its settings"):
        check_exportable(model, tiny_tokenizer, "tiny")
