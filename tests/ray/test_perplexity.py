"""Perplexity and KL of variants in processes of their own on a real Ray cluster."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from cluster.rundir import RunDirectory
from eval.cases.general import general_passages
from eval.metrics.model_pair import ModelPair
from eval.metrics.perplexity import general_texts
from nlirg.errors import InputError
from pipelines.evaluate.answers import Variant
from pipelines.evaluate.perplexity import measure_perplexity, perplexity_measures
from pipelines.recipe import validate

pytestmark = pytest.mark.ray


@pytest.fixture
def adapter(tiny_model_dir, tmp_path) -> Path:
    path = tmp_path / "adapter"
    torch.manual_seed(0)
    config = LoraConfig(target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model_dir), config).save_pretrained(
        path
    )
    return path


def test_tasks_give_what_this_process_gives_and_tell_what_is_wrong(
    ray_cluster, tiny_model_dir, tiny_tokenizer, adapter, tmp_path
) -> None:
    recipe = validate(
        {
            "name": "r",
            "storage": str(tmp_path / "runs"),
            "model": str(tiny_model_dir),
            "data": ["none.jsonl"],
            "arms": {"one": {}, "two": {}},
        },
        "recipe",
    )
    run = RunDirectory(recipe.storage, recipe.name)
    base = Variant("base", tiny_model_dir, None, "0")
    one = Variant("one", tiny_model_dir, adapter, "1")
    measure_perplexity(recipe, run, [base, one], [], context=512)
    kept = json.loads((run.evaluation("one").path / "perplexity.json").read_text())
    texts = general_texts(tiny_tokenizer, general_passages(None), 512)
    pair = ModelPair(str(tiny_model_dir), str(tiny_model_dir), str(adapter), "cpu")
    for found, expected in zip(kept["texts"], pair.measure(texts), strict=True):
        assert found["id"] == expected.id
        assert found["kl"] == pytest.approx(expected.kl, rel=1e-4)
        assert found["loss"] == pytest.approx(expected.loss, rel=1e-5)
    missing = Variant("two", tmp_path / "none", None, "2")
    with pytest.raises(InputError, match=r"^model .*none.*no such directory") as error:
        measure_perplexity(recipe, run, [base, one, missing], [], context=512)
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(InputError, match=r"two/perplexity.json: missing"):
        perplexity_measures(recipe, run)
