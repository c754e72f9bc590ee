"""Runs whose training is over, for the tests of what comes after it."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen3ForCausalLM

from cluster.rundir import RunDirectory
from eval.generation.serving import DENSE
from pipelines.recipe import Recipe, validate
from tests.road import trained

QUESTIONS = 24


def save_adapter(base: Path, path: Path, rank: int, seed: int) -> Path:
    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank, lora_alpha=4 * rank, target_modules=sorted(DENSE), init_lora_weights=False
    )
    get_peft_model(Qwen3ForCausalLM.from_pretrained(base), config).save_pretrained(path)
    return path


save_rank_8 = partial(save_adapter, rank=8, seed=3)


def trained_run(
    base: Path,
    folder: Path,
    name: str,
    arms: Sequence[str] = ("nlirg",),
    save: Callable[[Path, Path], object] = save_rank_8,
    **evaluate,
) -> tuple[Recipe, RunDirectory]:
    """A run whose first arm left an adapter, `save`d; one case is too long to be asked."""
    cases = [
        {
            "id": f"q{i}",
            "messages": [{"role": "user", "content": f"one two three {i}"}],
            "reference": "four",
            "checker": {"kind": "exact"},
            "task_type": "count",
        }
        for i in range(QUESTIONS)
    ]
    cases[3]["messages"][0]["content"] = "one two three " * 100
    path = folder / "cases.jsonl"
    path.write_text("".join(json.dumps(case) + "\n" for case in cases))
    recipe = validate(
        {
            "name": name,
            "storage": str(folder / "runs"),
            "model": str(base),
            "data": ["unused.jsonl"],
            "arms": {arm: {} for arm in arms},
            "evaluate": {
                "engines": 1,
                "domain": str(path),
                "max_prompt_tokens": 96,
                "max_new_tokens": 16,
                "template_cases": 2 * QUESTIONS,
                "perturbations": ["paraphrase", "padding"],
                "ood": None,
                "perplexity": False,
                **evaluate,
            },
        },
        "recipe",
    )
    run = RunDirectory(recipe.storage, recipe.name)
    save(base, run.arm("nlirg").path / "model")
    run.arm("nlirg").succeed("mark", trained(kind="lora"))
    return recipe, run
