"""Adapters: which layers they are put on, and continuing one."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from nlirg.config.training import LoraConfig
from nlirg.errors import InputError
from nlirg.models.export import export_model
from nlirg.models.loading import load_model
from nlirg.models.lora import add_lora, target_layers

ALL = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
RANK_2 = LoraConfig(rank=2, alpha=8.0)
IDS = torch.arange(5, 30)[None]


def fresh(path, dtype=torch.float32):
    return load_model(str(path), dtype)


@pytest.fixture
def adapter(tiny_model_dir, tiny_tokenizer, tmp_path):
    """A trained adapter of rank 2 on every linear layer, and its logits."""
    torch.manual_seed(3)
    model = add_lora(fresh(tiny_model_dir), RANK_2, str(tiny_model_dir))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    export_model(model, tiny_tokenizer, tmp_path / "adapter")
    return tmp_path / "adapter", model.eval()(IDS).logits


def resumed(folder, base, **changes):
    config = RANK_2.model_copy(update={"resume_from": str(folder)} | changes)
    return add_lora(fresh(base), config, str(base))


def refusal(*arguments, **changes) -> str:
    with pytest.raises(InputError) as caught:
        resumed(*arguments, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder, **changes) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_all_linear_is_every_linear_layer_but_the_head(tiny_model_dir) -> None:
    model = fresh(tiny_model_dir)
    assert target_layers(model, LoraConfig(), "base") == ALL
    adapted = add_lora(model, RANK_2, "base")
    layers = {name for name, module in adapted.named_modules() if hasattr(module, "lora_A")}
    assert len(layers) == 2 * len(ALL)  # two transformer layers
    assert not any("lm_head" in name for name in layers)
    assert adapted.peft_config["default"].target_modules == set(ALL)


def test_the_head_is_left_out_when_it_is_not_tied(tiny_tokenizer) -> None:
    config = Qwen3Config(
        vocab_size=320,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=False,
    )
    assert target_layers(Qwen3ForCausalLM(config), LoraConfig(), "base") == ALL


def test_only_adapters_are_trained_and_they_have_the_models_dtype(tiny_model_dir) -> None:
    model = add_lora(fresh(tiny_model_dir, torch.bfloat16), RANK_2, "base")
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trained)
    assert {parameter.dtype for parameter in trained.values()} == {torch.bfloat16}


@pytest.mark.parametrize(("rslora", "scale"), [(False, 8 / 2), (True, 8 / 2**0.5)])
def test_the_scale_is_alpha_over_rank_or_its_root(tiny_model_dir, rslora, scale) -> None:
    config = RANK_2.model_copy(update={"rslora": rslora, "target_modules": ("q_proj",)})
    model = add_lora(fresh(tiny_model_dir), config, "base")
    layer = next(module for module in model.modules() if hasattr(module, "lora_A"))
    with torch.no_grad():
        layer.lora_B["default"].weight.fill_(0.5)
    inputs = torch.ones(1, 32)
    low = nn.functional.linear(inputs, layer.lora_A["default"].weight)
    expected = layer.base_layer(inputs) + scale * low.sum(-1, keepdim=True) * 0.5
    torch.testing.assert_close(layer(inputs), expected)


@pytest.mark.parametrize("target", ["c_attn", "proj", "lm_head", "layers.0.q_proj"])
def test_a_target_that_is_not_there_is_named(tiny_model_dir, target) -> None:
    config = LoraConfig(target_modules=("q_proj", target))
    with pytest.raises(InputError, match=rf"{target} not found.*are down_proj, .*q_proj"):
        add_lora(fresh(tiny_model_dir), config, "base")


def test_a_target_may_be_a_dotted_end(tiny_model_dir) -> None:
    config = LoraConfig(target_modules=("self_attn.q_proj", "1.mlp.up_proj"))
    model = add_lora(fresh(tiny_model_dir), config, "base")
    layers = [name for name, module in model.named_modules() if hasattr(module, "lora_A")]
    assert [name.split("layers.")[1] for name in layers] == [
        "0.self_attn.q_proj",
        "1.self_attn.q_proj",
        "1.mlp.up_proj",
    ]


def test_a_continued_adapter_predicts_as_it_did_and_goes_on_training(
    adapter, tiny_model_dir
) -> None:
    folder, logits = adapter
    model = resumed(folder, tiny_model_dir)
    assert torch.equal(model.eval()(IDS).logits, logits)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * len(ALL)
    model(IDS).logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_the_base_may_be_named_in_another_way(adapter, tiny_model_dir, tmp_path) -> None:
    folder, logits = adapter
    (tmp_path / "link").symlink_to(tiny_model_dir)
    config = RANK_2.model_copy(update={"resume_from": str(folder)})
    model = add_lora(fresh(tiny_model_dir), config, f"{tmp_path}/link/")
    assert torch.equal(model.eval()(IDS).logits, logits)


def test_an_adapter_of_another_base_is_refused(adapter, tiny_model_dir) -> None:
    folder, _ = adapter
    edit(folder, base_model_name_or_path="owner/other")
    message = refusal(folder, tiny_model_dir)
    assert "is an adapter for owner/other" in message
    assert f"the recipe's model is {tiny_model_dir}" in message
    edit(folder, base_model_name_or_path=None)
    assert "an unnamed model" in refusal(folder, tiny_model_dir)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rank": 4}, "train.lora.rank is 4, but .* with 2"),
        ({"alpha": 16.0}, "train.lora.alpha is 16.0, but .* with 8.0"),
        ({"rslora": True}, "train.lora.rslora is True, but .* with False"),
        ({"target_modules": ("q_proj",)}, "only in the adapter; set train.lora.target_modules"),
    ],
)
def test_a_recipe_that_differs_from_the_adapter(adapter, tiny_model_dir, changes, complaint):
    import re

    assert re.search(complaint, refusal(adapter[0], tiny_model_dir, **changes))


def test_an_adapter_with_fewer_layers_than_the_recipe(adapter, tiny_model_dir) -> None:
    folder, _ = adapter
    file = folder / "adapter_model.safetensors"
    tensors = {name: value for name, value in load_file(file).items() if "up_proj" not in name}
    save_file(tensors, file)
    assert "is not in the adapter" in refusal(folder, tiny_model_dir)


def test_shapes_that_do_not_fit(adapter, tiny_model_dir) -> None:
    folder, _ = adapter
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    name = min(tensors)
    tensors[name] = torch.zeros(2, 7)
    save_file(tensors, file)
    message = refusal(folder, tiny_model_dir)
    assert name in message
    assert "(2, 7)" in message


def test_tensors_that_are_not_finite(adapter, tiny_model_dir) -> None:
    folder, _ = adapter
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors[min(tensors)][0, 0] = torch.nan
    save_file(tensors, file)
    assert "1 tensors hold NaN" in refusal(folder, tiny_model_dir)


def test_folders_that_hold_no_usable_adapter(adapter, tiny_model_dir, tmp_path) -> None:
    folder, _ = adapter
    assert "holds no adapter" in refusal(tmp_path / "nowhere", tiny_model_dir)
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-20])
    assert "damaged" in refusal(folder, tiny_model_dir)
    file.rename(folder / "adapter_model.bin")
    assert "refused" in refusal(folder, tiny_model_dir)
    edit(folder, use_dora=True)
    assert "more than plain LoRA" in refusal(folder, tiny_model_dir)
    edit(folder, peft_type="IA3")
    assert "not a LoRA adapter" in refusal(folder, tiny_model_dir)
    (folder / "adapter_config.json").write_text("{")
    assert "not JSON" in refusal(folder, tiny_model_dir)
    shutil.rmtree(folder)
    assert "holds no adapter" in refusal(folder, tiny_model_dir)
