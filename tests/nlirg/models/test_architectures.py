"""Every architecture that people fine-tune: trained, exported, and read again as it was trained."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from eval.generation.adapters import check_adapter
from nlirg.config.training import LoraConfig, TrainConfig
from nlirg.errors import InputError
from nlirg.forward.batching import EncodedCorpus
from nlirg.labels import IGNORE
from nlirg.models.export import check_exportable, export_merged
from nlirg.models.language_model import freeze_other_senses
from nlirg.models.loading import load_model, load_tokenizer, model_skeleton
from nlirg.models.lora import add_lora, linear_layers, target_layers
from nlirg.preflight.model_checks import check_lora, estimate_memory, weight_shapes
from nlirg.training.trainer import Callbacks, Trainer
from tests.architectures import SETTINGS, add_foreign_files, save_architecture
from tests.torch_engine import TorchEngine

LORA = LoraConfig(rank=3, alpha=6.0)
FULL = TrainConfig(precision="fp32", token_batch=5, batch_size=2, learning_rate=1e-2, max_steps=3)
IDS = torch.arange(5, 30)[None]
# Linear layers that get an adapter, of two transformer layers, and what else is told of them.
ADAPTED = {
    "llama": (14, ""),
    "qwen2": (14, ""),
    "qwen3": (14, ""),
    "mistral": (14, ""),
    "gemma2": (14, ""),
    "granite": (14, ""),
    "olmo2": (14, ""),
    "phi3": (8, ""),
    "qwen3_moe": (8, "experts"),
    "qwen2_moe": (16, "experts"),
    "mixtral": (8, "experts"),
    "gemma3_text": (14, ""),
    "gemma3": (14, ""),
    "mistral3": (14, ""),
    "qwen2_5_vl": (14, ""),
    "glm": (12, ""),
    "glm4": (12, ""),
    "qwen3_5": (15, ""),
    "qwen3_5_seeing": (15, ""),
    "gpt_neox": (8, ""),
    "falcon": (8, ""),
    "starcoder2": (12, ""),
    "gpt2": (8, ""),
}
SEEING = ["gemma3", "mistral3", "qwen2_5_vl", "qwen3_5_seeing"]


def corpus() -> EncodedCorpus:
    ids = np.arange(5, 25)
    labels = np.where(ids < 10, IGNORE, ids)
    rows = [{"input_ids": ids + shift, "labels": labels + shift} for shift in range(4)]
    for row in rows:
        row["labels"][:5] = IGNORE
    return EncodedCorpus(rows, np.full(4, 15))


def train(model, tokenizer, config, folder):
    """Three steps; the export, and the logits of the model that was exported."""
    engine = TorchEngine(model, tokenizer, config)
    callbacks = Callbacks(lambda _: None, lambda _: None, lambda _: None)
    Trainer(engine, corpus(), config, 7).run(callbacks)
    engine.export(folder)
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def logits(folder):
    with torch.no_grad():
        return load_model(str(folder), torch.float32).eval()(input_ids=IDS).logits


@pytest.fixture(scope="module", params=SETTINGS)
def model(request, tiny_tokenizer, tmp_path_factory):
    name = request.param
    return name, save_architecture(tmp_path_factory.mktemp(name), name, tiny_tokenizer)


def test_an_adapter_is_trained_exported_and_merged(model, tiny_tokenizer, tmp_path) -> None:
    name, base = model
    config = FULL.model_copy(update={"lora": LORA})
    torch.manual_seed(0)
    adapted = add_lora(load_model(str(base), torch.float32), LORA, str(base))
    trained = train(adapted, tiny_tokenizer, config, tmp_path / "model")
    assert (trained - logits(base)).abs().max() > 1e-3
    found = check_adapter("a", tmp_path / "model", base)
    count, told = ADAPTED[name]
    check = check_lora({"a": config}, model_skeleton(str(base)), name)
    assert (check.status, told in check.measured) == ("ok", True)
    assert check.measured.startswith(f"{count} of {count} linear layers")
    tensors = load_file(tmp_path / "model" / "adapter_model.safetensors")
    assert (len(tensors), found.rank) == (2 * count, 3)
    export_merged(str(base), tmp_path / "model", tmp_path / "merged")
    torch.testing.assert_close(logits(tmp_path / "merged"), trained, rtol=1e-3, atol=1e-4)
    assert weight_shapes(tmp_path / "merged") == weight_shapes(base)


def test_a_whole_model_is_trained_exported_and_loaded(model, tiny_tokenizer, tmp_path) -> None:
    name, base = model
    whole = load_model(str(base), torch.float32)
    freeze_other_senses(whole)
    trained = train(whole, tiny_tokenizer, FULL, tmp_path / "model")
    torch.testing.assert_close(logits(tmp_path / "model"), trained, rtol=1e-4, atol=1e-4)
    assert weight_shapes(tmp_path / "model") == weight_shapes(base)
    check_exportable(model_skeleton(str(base)), tiny_tokenizer, name)
    before = load_model(str(base), torch.float32).state_dict()
    after = load_model(str(tmp_path / "model"), torch.float32).state_dict()
    kept = {key for key, tensor in before.items() if torch.equal(tensor, after[key])}
    frozen = {key for key, p in whole.named_parameters() if not p.requires_grad}
    assert frozen <= kept
    assert len(kept) < len(before) / 2 or frozen
    assert bool(frozen) == (name in SEEING)


@pytest.mark.parametrize("name", SEEING)
def test_of_a_model_that_sees_the_language_model_alone_is_adapted(
    name, tiny_tokenizer, tmp_path
) -> None:
    base = save_architecture(tmp_path, name, tiny_tokenizer)
    model = load_model(str(base), torch.float32)
    inside = {id(module) for module in model.get_decoder().modules()}
    assert all(id(layer) in inside for layer in linear_layers(model).values())
    names = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert set(names) <= {*target_layers(model, LORA, name)}
    one = add_lora(model, LORA.model_copy(update={"target_modules": names}), str(base))
    layers = {key for key, module in one.named_modules() if hasattr(module, "lora_A")}
    assert len(layers) == (10 if name == "qwen3_5_seeing" else 14)
    assert all("language_model" in key for key in layers)
    trained = {key for key, p in one.named_parameters() if p.requires_grad}
    assert all("language_model" in key for key in trained)


@pytest.mark.parametrize("name", SEEING)
def test_what_sees_is_no_part_of_the_memory_of_gradients(name, tiny_tokenizer, tmp_path) -> None:
    base = save_architecture(tmp_path, name, tiny_tokenizer)
    memory = estimate_memory(FULL, model_skeleton(str(base)))
    assert memory.gradients < 0.9 * memory.weights


def test_a_model_without_linear_layers_cannot_be_adapted(tiny_model_dir) -> None:
    model = model_skeleton(str(tiny_model_dir))
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(InputError, match="has no linear layer that could get an adapter"):
        target_layers(model, LORA, "odd")
    check = check_lora({"a": FULL.model_copy(update={"lora": LORA})}, model, "odd")
    assert check.status == "fail"


def test_a_chat_template_beside_mistrals_own_tokenizer_is_used(tiny_model_dir, tmp_path) -> None:
    folder = shutil.copytree(tiny_model_dir, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mistral"}))
    add_foreign_files(folder)
    tokenizer = load_tokenizer(str(folder))
    assert len(tokenizer) == len(load_tokenizer(str(tiny_model_dir)))
    assert "<|im_start|>" in tokenizer.chat_template
