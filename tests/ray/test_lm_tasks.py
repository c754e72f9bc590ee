"""Tasks of the real lm-evaluation-harness on real vLLM engines."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from eval.statistics.estimates import ComparisonConfig
from pipelines.evaluate.lm_tasks import lm_eval_measures, run_lm_eval
from pipelines.evaluate.merged import Merging
from pipelines.evaluate.stage import find_variants
from tests.ray.trained import trained_run

pytestmark = [pytest.mark.ray, pytest.mark.vllm]

CHOICES = ["one", "two", "three"]
DOCUMENTS = 12


def write_task(folder: Path) -> Path:
    """Multiple choice as the harness's own tasks ask it, on a local file; right is `two`."""
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"n": f"four five {i}"}) + "\n" for i in range(DOCUMENTS)))
    task = {
        "task": "count",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{n}}",
        "doc_to_choice": CHOICES,
        "doc_to_target": 1,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    path = folder / "count.yaml"
    path.write_text(json.dumps(task))  # which is YAML, too
    return path


def likeliest(model, tokenizer, text: str) -> str:
    """The choice whose tokens have the largest sum of log-probabilities after the text."""
    prompt = tokenizer(text).input_ids
    sums = []
    for choice in CHOICES:
        ids = tokenizer(f"{text} {choice}").input_ids
        assert ids[: len(prompt)] == prompt
        with torch.no_grad():
            ln_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        sums.append(sum(float(ln_p[i - 1, ids[i]]) for i in range(len(prompt), len(ids))))
    return CHOICES[sums.index(max(sums))]


def test_the_harness_finds_what_the_models_themselves_say(
    base, tiny_tokenizer, ray_cluster, tmp_path
) -> None:
    task = write_task(tmp_path)
    recipe, run = trained_run(base, tmp_path, "harness", lm_eval=[str(task)], max_cases=10)
    run_lm_eval(recipe, run, find_variants(recipe, run, base), 256, Merging(recipe, run))
    model = AutoModelForCausalLM.from_pretrained(base)
    tuned = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), run.arm("nlirg").path / "model"
    )
    [measure] = lm_eval_measures(recipe, run, "base")
    assert measure.key == "lm_eval/count/acc"
    found = measure.estimate({}, ComparisonConfig("base", bootstrap=1000, confidence=0.95, seed=0))
    expected = {}
    for name, each in (("base", model), ("nlirg", tuned)):
        [kept] = json.loads((run.evaluation(name).path / "lm_eval.json").read_text())["results"]
        right = [
            likeliest(each, tiny_tokenizer, f"four five {i}") == CHOICES[1]
            for i in range(recipe.evaluate.max_cases)
        ]
        assert list(kept["samples"].values()) == right, name
        expected[name] = right
    assert expected["base"] != expected["nlirg"], "otherwise the adapter could be left out unseen"
    assert found.against["nlirg"].n == 10
