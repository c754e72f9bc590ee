import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nlirg.errors import InputError
from nlirg.models import loading
from nlirg.models.loading import (
    DTYPES,
    attention_implementation,
    check_model,
    check_precision,
    load_model,
    load_tokenizer,
)


@pytest.fixture
def broken(tiny_model_dir, tmp_path) -> Path:
    """A copy of the tiny model, to be damaged by a test."""
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


def edit_json(path: Path, **changes) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: v for key, v in content.items() if v is not None}))


def message(call, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_saved_model_loads_as_it_was(tiny_model_dir, tiny_tokenizer) -> None:
    check_model(str(tiny_model_dir))
    tokenizer = load_tokenizer(str(tiny_model_dir))
    text = "<|im_start|>user\nthe question<|im_end|>"
    assert tokenizer.encode(text) == tiny_tokenizer.encode(text)
    model = load_model(str(tiny_model_dir), torch.float32)
    saved = load_file(tiny_model_dir / "model.safetensors")
    assert all(torch.equal(model.state_dict()[name], saved[name]) for name in saved)


def test_weights_take_the_dtype_asked_for(tiny_model_dir) -> None:
    assert load_model(str(tiny_model_dir), torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "~/nowhere", "nowhere", "a/b/c"])
def test_a_path_that_does_not_exist_never_reaches_the_hub(path, monkeypatch) -> None:
    monkeypatch.setattr(loading, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    for load in (check_model, load_tokenizer):
        assert f"model {path}: no such directory" in message(load, path)


def test_an_unknown_hub_id_is_one_line(monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "Hugging Face cache" in message(check_model, "no-such-owner/no-such-model")


def test_a_file_is_not_a_model(tmp_path) -> None:
    (tmp_path / "model.gguf").touch()
    assert "is a file" in message(check_model, str(tmp_path / "model.gguf"))


def test_an_empty_directory_is_not_a_model(tmp_path) -> None:
    assert "no config.json" in message(check_model, str(tmp_path))
    assert "tokenizer" in message(load_tokenizer, str(tmp_path))


def test_config_that_is_not_json(broken) -> None:
    (broken / "config.json").write_text("{")
    assert "config.json is not JSON" in message(check_model, str(broken))


def test_no_chat_template(broken) -> None:
    (broken / "chat_template.jinja").unlink()
    assert "no chat template" in message(check_model, str(broken))


def test_a_template_replaces_the_models_and_is_saved_with_it(broken, tmp_path) -> None:
    text = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    load_tokenizer(str(broken), template=text).save_pretrained(broken)
    assert load_tokenizer(str(broken)).chat_template == text
    (broken / "chat_template.jinja").unlink()
    assert load_tokenizer(str(broken), template=text).chat_template == text
    with pytest.raises(InputError, match=r"template: line 2: Expected an expression"):
        load_tokenizer(str(broken), template="{{ 1 }}\n{% if %}")


def test_no_end_of_sequence_token(broken) -> None:
    edit_json(broken / "tokenizer_config.json", eos_token=None)
    assert "no end-of-sequence token" in message(check_model, str(broken))


def test_pickled_weights_are_refused(broken) -> None:
    weights = load_file(broken / "model.safetensors")
    (broken / "model.safetensors").unlink()
    torch.save(weights, broken / "pytorch_model.bin")
    assert "refused" in message(check_model, str(broken))
    assert "refused" in message(load_model, str(broken), torch.float32)


def test_missing_weights_are_not_replaced_by_random_ones(broken) -> None:
    weights = load_file(broken / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    assert "1 weights are missing" in message(load_model, str(broken), torch.float32)


def test_a_truncated_weight_file(broken) -> None:
    file = broken / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "cannot load it" in message(load_model, str(broken), torch.float32)


def test_an_unknown_architecture(broken) -> None:
    edit_json(broken / "config.json", model_type="no_such_architecture")
    assert "cannot load it" in message(load_model, str(broken), torch.float32)


def test_auto_keeps_the_stored_dtype(tiny_model_dir, tmp_path) -> None:
    load_model(str(tiny_model_dir), torch.bfloat16).save_pretrained(tmp_path)
    assert load_model(str(tmp_path), "auto").dtype == torch.bfloat16
    assert load_model(str(tiny_model_dir), "auto").dtype == torch.float32


class Gpu:
    """What torch would say of a GPU."""

    def __init__(self, monkeypatch, capability=(9, 0), bf16=True, flash=True) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
        monkeypatch.setattr("torch.cuda.get_device_name", lambda: "Some GPU")
        monkeypatch.setattr(
            "torch.cuda.is_bf16_supported", lambda including_emulation: bf16 or including_emulation
        )
        monkeypatch.setattr(loading, "is_flash_attn_2_available", lambda: flash)


@pytest.fixture
def no_gpu(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_auto_takes_flash_attention_where_it_can_run(monkeypatch) -> None:
    Gpu(monkeypatch)
    assert attention_implementation("auto", torch.bfloat16) == "flash_attention_2"
    assert attention_implementation("auto", torch.float16) == "flash_attention_2"
    assert attention_implementation("auto", torch.float32) is None
    assert attention_implementation("sdpa", torch.bfloat16) == "sdpa"


@pytest.mark.parametrize(
    ("gpu", "dtype", "complaint"),
    [
        ({"capability": (7, 5)}, torch.float16, "compute capability 8.0"),
        ({}, torch.float32, "train.precision bf16 or fp16"),
        ({"flash": False}, torch.bfloat16, "the package flash-attn"),
    ],
)
def test_flash_attention_that_cannot_run(monkeypatch, gpu, dtype, complaint) -> None:
    Gpu(monkeypatch, **gpu)
    assert attention_implementation("auto", dtype) is None
    assert complaint in message(attention_implementation, "flash_attention_2", dtype)


@pytest.mark.usefixtures("no_gpu")
def test_flash_attention_on_a_cpu_is_refused_by_loading(tiny_model_dir) -> None:
    path = str(tiny_model_dir)
    assert "a CUDA device" in message(load_model, path, torch.bfloat16, "flash_attention_2")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("attention", "used"), [("auto", "sdpa"), ("sdpa", "sdpa"), ("eager", "eager")]
)
def test_a_model_uses_the_attention_chosen(tiny_model_dir, attention, used) -> None:
    model = load_model(str(tiny_model_dir), torch.float32, attention)
    assert model.config._attn_implementation == used


@pytest.mark.usefixtures("no_gpu")
def test_precision_on_a_cpu() -> None:
    for precision in ("fp32", "bf16"):
        check_precision(precision)
    assert "no fp16 on a CPU" in message(check_precision, "fp16")
    assert set(DTYPES) == {"fp32", "bf16", "fp16"}


def test_precision_on_a_gpu(monkeypatch) -> None:
    Gpu(monkeypatch)
    for precision in DTYPES:
        check_precision(precision)
    Gpu(monkeypatch, bf16=False)
    check_precision("fp16")
    assert "Some GPU has no bf16" in message(check_precision, "bf16")
