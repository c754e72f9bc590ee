"""What the installed vLLM can run, without starting it."""

import json
from importlib import util

import pytest

from eval.generation import serving
from eval.generation.adapters import Adapter
from eval.generation.serving import adapter_obstacle, engine_obstacle, require_engine
from nlirg.errors import InputError
from tests.architectures import SETTINGS, save_architecture

SEEING = ("gemma3", "mistral3", "qwen2_5_vl", "qwen3_5", "qwen3_5_seeing")


@pytest.fixture
def without_torchvision(monkeypatch):
    find = util.find_spec
    monkeypatch.setattr(serving, "find_spec", lambda n: None if n == "torchvision" else find(n))


@pytest.mark.parametrize("name", SETTINGS)
def test_models_that_see_need_torchvision(
    name, tiny_tokenizer, tmp_path, without_torchvision
) -> None:
    base = save_architecture(tmp_path, name, tiny_tokenizer)
    obstacle = engine_obstacle(base)
    assert obstacle.endswith("only with the package torchvision, which is not installed") == (
        name in SEEING
    )
    assert bool(obstacle) == (name in SEEING)


def test_with_it_they_run(tiny_tokenizer, tmp_path, monkeypatch) -> None:
    find = util.find_spec
    monkeypatch.setattr(serving, "find_spec", lambda n: find("torch" if "torch" in n else n))
    assert engine_obstacle(save_architecture(tmp_path, "gemma3", tiny_tokenizer)) == ""


def test_an_unknown_architecture_is_named_with_the_remedy(tiny_tokenizer, tmp_path) -> None:
    """One that vLLM could not take from transformers either."""
    base = save_architecture(tmp_path, "falcon", tiny_tokenizer)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"architectures": ["OddForCausalLM"]}))
    with pytest.raises(InputError, match=r"does not know OddForCausalLM; set evaluate\.engine="):
        require_engine(base, "odd")


def test_without_vllm_the_other_engine_is_offered(tiny_model_dir, monkeypatch) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    serving._architectures.cache_clear()
    with pytest.raises(InputError, match=r"vLLM is not installed; .*engine=transformers"):
        require_engine(tiny_model_dir, "tiny")
    serving._architectures.cache_clear()


@pytest.mark.parametrize(
    ("targets", "rank", "reason"),
    [
        (("q_proj", "up_proj"), 512, ""),
        (("q_proj", "gate", "experts"), 8, "not known to fit experts, gate of Qwen3ForCausalLM"),
        (("q_proj",), 513, r"no adapter of rank 513 (at most 512)"),
    ],
)
def test_what_an_adapter_must_be_to_be_served(tiny_model_dir, targets, rank, reason) -> None:
    found = adapter_obstacle(Adapter("a", "/a", rank, targets), tiny_model_dir)
    assert found.endswith(reason)
    assert bool(found) == bool(reason)
