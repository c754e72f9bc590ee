"""The files of a model's folder that hold its weights, and those for other programs."""

import json
import shutil

import pytest
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from eval.generation.adapters import check_model, weights_hash
from eval.generation.plain_folder import foreign_files
from nlirg.errors import InputError
from nlirg.models import loading
from nlirg.models.loading import check_model as check_usable
from nlirg.models.weight_files import INDEX, weight_files
from nlirg.preflight.model_checks import weight_shapes


@pytest.fixture
def single(tiny_model_dir, tmp_path):
    return shutil.copytree(tiny_model_dir, tmp_path / "single")


@pytest.fixture
def sharded(tiny_model_dir, tmp_path):
    folder = shutil.copytree(tiny_model_dir, tmp_path / "sharded")
    (folder / "model.safetensors").unlink()
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    model.save_pretrained(folder, max_shard_size="20KB")
    return folder


def add_foreign(folder, source) -> None:
    """The same weights under other names, as Mistral's models have them."""
    tensors = load_file(source / "model.safetensors")
    save_file({f"w.{k}": t for k, t in tensors.items()}, folder / "consolidated.safetensors")
    (folder / "params.json").write_text("{}")


@pytest.mark.parametrize("kind", ["single", "sharded"])
def test_consolidated_weights_do_not_count(kind, request, tiny_model_dir) -> None:
    folder = request.getfixturevalue(kind)
    files, shapes, identity = weight_files(folder), weight_shapes(folder), weights_hash(folder)
    assert (len(files) > 1) == (kind == "sharded")
    assert shapes == weight_shapes(tiny_model_dir)
    add_foreign(folder, tiny_model_dir)
    assert weight_files(folder) == files
    assert weight_shapes(folder) == shapes
    assert weights_hash(folder) == identity
    check_model(folder)
    names = {path.name for path in foreign_files(folder)}
    assert names == {"consolidated.safetensors", "params.json"}


def test_a_folder_of_consolidated_weights_alone_is_refused(single, tiny_model_dir) -> None:
    add_foreign(single, tiny_model_dir)
    (single / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no \*\.safetensors weights"):
        check_usable(str(single))


def test_another_tokenizer_is_foreign_only_beside_the_usual_one(single) -> None:
    (single / "tekken.json").write_text("{}")
    assert [path.name for path in foreign_files(single)] == ["tekken.json"]
    (single / "tokenizer.json").unlink()
    assert foreign_files(single) == set()


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
def test_a_damaged_index_is_named(sharded, text) -> None:
    (sharded / INDEX).write_text(text)
    with pytest.raises(InputError, match=r"index\.json: damaged"):
        weight_files(sharded)


def test_a_missing_shard_is_told_by_loading(sharded) -> None:
    names = set(json.loads((sharded / INDEX).read_text())["weight_map"].values())
    (sharded / min(names)).unlink()
    assert {path.name for path in weight_files(sharded)} == names - {min(names)}


def test_the_hubs_second_set_of_weights_is_not_fetched(monkeypatch) -> None:
    asked = {}
    monkeypatch.setattr(loading, "snapshot_download", lambda _, **given: asked.update(given) or ".")
    loading.model_directory("owner/name")
    names = [
        "model-00001-of-00002.safetensors",
        INDEX,
        "consolidated.safetensors",
        "tokenizer.json",
    ]
    assert list(filter_repo_objects(names, **asked)) == [names[0], INDEX, "tokenizer.json"]
