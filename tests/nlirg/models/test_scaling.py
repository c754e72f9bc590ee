"""Adapters and models at a scale are what lies that far between base and tuned."""

import json
import shutil

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from nlirg.errors import InputError
from nlirg.models.export import export_merged
from nlirg.models.loading import load_model
from nlirg.models.scaling import interpolate, require_between, scale_adapter, scale_name

IDS = torch.arange(5, 30)[None]
SCALES = (0.25, 0.7, 1.0, 1.5)


@pytest.fixture(scope="module", params=[False, True], ids=["lora", "rslora"])
def adapter(request, tiny_model_dir, tiny_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter") / "model"
    torch.manual_seed(1)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=["q_proj", "down_proj"],
        use_rslora=request.param,
        init_lora_weights=False,
    )
    peft.get_peft_model(load_model(str(tiny_model_dir), torch.float32), config).save_pretrained(
        folder
    )
    tiny_tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("of the adapter at full strength")
    return folder


@pytest.fixture(scope="module")
def tuned(adapter, tiny_model_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned") / "model"
    export_merged(str(tiny_model_dir), adapter, folder)
    return folder


def states(*folders):
    return [load_model(str(folder), torch.float32).state_dict() for folder in folders]


@pytest.mark.parametrize("scale", SCALES)
def test_adapter_model_and_merged_model_are_base_plus_scale_times_the_change(
    tiny_model_dir, adapter, tuned, tmp_path, scale
) -> None:
    """The model whose weights are base + s * (tuned - base), computed here, says the same."""
    base, full = states(tiny_model_dir, tuned)
    expected = load_model(str(tiny_model_dir), torch.float32)
    expected.load_state_dict({k: base[k] + scale * (full[k] - base[k]) for k in base})
    logits = expected(IDS).logits

    scale_adapter(adapter, scale, tmp_path / "adapter")
    adapted = peft.PeftModel.from_pretrained(
        load_model(str(tiny_model_dir), torch.float32), tmp_path / "adapter"
    )
    torch.testing.assert_close(adapted(IDS).logits, logits, atol=1e-4, rtol=1e-4)
    export_merged(str(tiny_model_dir), tmp_path / "adapter", tmp_path / "merged")
    interpolate(tiny_model_dir, tuned, scale, tmp_path / "between")
    for folder in ("merged", "between"):
        model = load_model(str(tmp_path / folder), torch.float32)
        torch.testing.assert_close(model(IDS).logits, logits, atol=1e-4, rtol=1e-4)
    untouched = load_model(str(tiny_model_dir), torch.float32)
    assert (untouched(IDS).logits - logits).abs().max() > 0.01  # the adapter does something


def test_a_scaled_adapter_has_the_same_weights_and_files(adapter, tmp_path) -> None:
    scale_adapter(adapter, 0.5, tmp_path / "a")
    scale_adapter(tmp_path / "a", 0.5, tmp_path / "b")
    settings = json.loads((tmp_path / "b" / "adapter_config.json").read_text())
    assert settings["lora_alpha"] == 1.5
    one, other = (f / "adapter_model.safetensors" for f in (adapter, tmp_path / "b"))
    assert one.read_bytes() == other.read_bytes()
    assert one.samefile(other)
    scale_adapter(adapter, 0.5, tmp_path / "own", own=True)
    copied = tmp_path / "own" / "adapter_model.safetensors"
    assert copied.read_bytes() == one.read_bytes()
    assert not one.samefile(copied)
    assert (tmp_path / "b" / "tokenizer_config.json").is_file()
    assert not (tmp_path / "b" / "README.md").exists()  # it speaks of other strength
    original = json.loads((adapter / "adapter_config.json").read_text())
    assert original["lora_alpha"] == 6


def test_alphas_of_single_layers_are_scaled_too(adapter, tmp_path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    path = folder / "adapter_config.json"
    settings = json.loads(path.read_text()) | {"alpha_pattern": {"q_proj": 8}}
    path.write_text(json.dumps(settings))
    scale_adapter(folder, 0.25, tmp_path / "scaled")
    scaled = json.loads((tmp_path / "scaled" / "adapter_config.json").read_text())
    assert scaled["alpha_pattern"] == {"q_proj": 2}


def halves(folder, dtype, change=0.0, **extra):
    """A model of two shards in a dtype, with an index, a buffer of integers and a scalar."""
    folder.mkdir()
    torch.manual_seed(2)
    first = {"a.weight": torch.randn(7, 3), "b.weight": torch.tensor(0.5)}
    second = {"c.weight": torch.randn(1000), **extra}
    files = {}
    for name, part in (("model-1.safetensors", first), ("model-2.safetensors", second)):
        moved = {k: (v + change).to(dtype) for k, v in part.items()}
        if name.startswith("model-2"):
            moved["steps"] = torch.tensor([3, int(change)])
        save_file(moved, folder / name, {"format": "pt"})
        files |= dict.fromkeys(moved, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    (folder / "config.json").write_text("{}")
    return folder


def tensors_of(folder):
    return {k: v for f in sorted(folder.glob("*.safetensors")) for k, v in load_file(f).items()}


def test_shards_dtypes_and_whole_numbers_stay_as_the_tuned_model_has_them(
    tmp_path, monkeypatch
) -> None:
    """Also where a tensor is computed in several parts."""
    monkeypatch.setattr("nlirg.models.scaling.NUMBERS_AT_ONCE", 16)
    base = halves(tmp_path / "base", torch.float32)
    tuned = halves(tmp_path / "tuned", torch.bfloat16, change=2.0)
    interpolate(base, tuned, 0.5, tmp_path / "out")
    before, after, found = map(tensors_of, (base, tuned, tmp_path / "out"))
    assert found.keys() == after.keys()
    assert found["steps"].tolist() == [3, 2]
    for name in ("a.weight", "b.weight", "c.weight"):
        middle = before[name] + 0.5 * (after[name].float() - before[name])
        assert torch.equal(found[name], middle.to(torch.bfloat16))
    assert [f.name for f in sorted((tmp_path / "out").iterdir())] == [
        "config.json", "model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json",
    ]  # fmt: skip
    interpolate(base, tuned, 1.0, tmp_path / "same")
    assert (tmp_path / "same" / "model-2.safetensors").read_bytes() == (
        tuned / "model-2.safetensors"
    ).read_bytes()


def test_names_without_their_first_part_are_found(tmp_path) -> None:
    """GPT-2 as published names `h.0...` what transformers writes as `transformer.h.0...`."""
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    for folder, prefix, value in ((base, "", 1.0), (tuned, "transformer.", 3.0)):
        folder.mkdir()
        save_file({f"{prefix}h.weight": torch.full((2,), value)}, folder / "model.safetensors")
    interpolate(base, tuned, 0.25, tmp_path / "out")
    assert tensors_of(tmp_path / "out")["transformer.h.weight"].tolist() == [1.5, 1.5]


def test_what_cannot_be_between_is_refused_and_nothing_is_left(tmp_path) -> None:
    base = halves(tmp_path / "base", torch.float16)
    more = halves(tmp_path / "more", torch.float16, d=torch.zeros(2))
    with pytest.raises(InputError, match=r"base: holds no weight d, .* leave out evaluate.scales"):
        interpolate(base, more, 0.5, tmp_path / "out")
    wide = halves(tmp_path / "wide", torch.float16)
    save_file({"a.weight": torch.zeros(7, 4), "b.weight": torch.tensor(0.0)},
              wide / "model-1.safetensors")  # fmt: skip
    with pytest.raises(InputError, match=r"a.weight has shape \(7, 3\), the tuned model's has"):
        interpolate(base, wide, 0.5, tmp_path / "out")
    with pytest.raises(InputError, match="has shape"):
        require_between(base, wide)
    require_between(base, halves(tmp_path / "other", torch.float32, change=1.0))
    far = halves(tmp_path / "far", torch.float16, change=60_000.0)
    with pytest.raises(InputError, match=r"NaN or infinity at scale 1.5 in torch.float16"):
        interpolate(base, far, 1.5, tmp_path / "out")
    (more / "model-2.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match="not a safetensors file"):
        interpolate(base, more, 0.5, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_without_settings_is_refused(tmp_path) -> None:
    (tmp_path / "adapter").mkdir()
    with pytest.raises(InputError, match=r"adapter_config.json: cannot read"):
        scale_adapter(tmp_path / "adapter", 0.5, tmp_path / "out")
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="holds no lora_alpha"):
        scale_adapter(tmp_path / "adapter", 0.5, tmp_path / "out")


def test_names_tell_scales_apart() -> None:
    assert scale_name("nlirg", 0.5) == "nlirg@0.5"
    assert scale_name("nlirg", 1.0) == "nlirg@1"
    assert scale_name("nlirg", 1 / 3) != scale_name("nlirg", 0.333333)
