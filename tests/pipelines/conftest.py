"""Runs whose arm counts as trained, and engines that answer at once."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from cluster.plan import Pool
from cluster.rundir import RunDirectory
from pipelines.evaluate import generation, merged
from pipelines.recipe import validate
from tests.fake_engine import FakeFleet
from tests.road import trained

CASES = 12


@pytest.fixture
def fleet(monkeypatch) -> FakeFleet:
    """In place of Ray's; five requests a chunk."""
    fake = FakeFleet()
    monkeypatch.setattr(generation, "Fleet", fake)
    monkeypatch.setattr(generation, "connect", lambda config: None)
    monkeypatch.setattr(generation, "model_pool", lambda engines, gpus: Pool(1, 1, 0))
    monkeypatch.setattr(generation, "chunk_requests", lambda spec: 5)
    return fake


@pytest.fixture(scope="session")
def adapter(tiny_model_dir, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    get_peft_model(model, LoraConfig(target_modules=["q_proj"])).save_pretrained(path)
    return path


@pytest.fixture
def make_run(tiny_model_dir, adapter, tmp_path):
    """Make a recipe and a run whose arms are trained; the case `q07` expects `q07 nlirg`."""

    def make(name: str = "r", cases: int = CASES, arms: tuple[str, ...] = ("nlirg",), **evaluate):
        path = tmp_path / "cases.jsonl"
        rows = [
            {
                "id": f"q{i:02d}",
                "messages": [{"role": "user", "content": f"one {i}, two"}],
                "reference": f"q{i:02d} nlirg",
                "checker": {"kind": "exact"},
            }
            for i in range(cases)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        raw = {
            "name": name,
            "storage": str(tmp_path / "runs"),
            "model": str(tiny_model_dir),
            "data": ["none.jsonl"],
            "arms": {arm: {} for arm in arms},
            "evaluate": {
                "domain": str(path),
                "template_cases": 20,
                "flip_samples": 0,
                "perplexity": False,
                "ood": None,
                **evaluate,
            },
        }
        recipe = validate(raw, "recipe")
        run = RunDirectory(recipe.storage, recipe.name)
        for arm in arms:
            shutil.copytree(adapter, run.arm(arm).path / "model", dirs_exist_ok=True)
            run.arm(arm).succeed("mark", trained(kind="lora"))
        return recipe, run

    return make


@pytest.fixture
def written_models(monkeypatch) -> list[tuple[str, str]]:
    """Whole models are written in this process; the kind and the variant of each so far."""
    done: list[tuple[str, str]] = []

    def run_each(recipe, name, variants, work, *arguments):
        for variant in variants:
            done.append((name, variant.name))
            work(variant, "cpu", *arguments)
            yield variant, None

    monkeypatch.setattr(merged, "run_each", run_each)
    return done


def train_whole(run: RunDirectory, arm: str, base: Path) -> None:
    """Have an arm count as trained whole: the base with every weight a little larger."""
    folder = run.arm(arm).path / "model"
    shutil.rmtree(folder)
    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    save_file({k: 1.1 * v for k, v in weights.items()}, folder / "model.safetensors", {"a": "b"})
    run.arm(arm).succeed("mark", trained(kind="full"))
