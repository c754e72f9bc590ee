"""Ways of keeping what a model knows, on the demo world: `python -m pipelines.demo.keeping`.

Every arm trains the same tickets the same number of times, with several seeds; `KEEPING.md` is
written from what the runs' own reports say.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

from cluster.rundir import RunDirectory
from cluster.session import disconnect
from nlirg.atomic_io import write_text
from pipelines.demo.keeping_page import write_page
from pipelines.demo.prose import PROSE
from pipelines.demo.turns import Turn, draw
from pipelines.recipe import Recipe, load_recipe
from pipelines.run import stages
from pipelines.stage import run_stages
from pipelines.store import open_run, settled

HERE = Path(__file__).parent
TEXTS, SEED = 120, 7
UNIFORM = {"weighting": {"name": "uniform"}}
ARMS: dict[str, dict[str, Any]] = {
    "uniform": UNIFORM,
    "nlirg": {},
    "replay-ce-10": {**UNIFORM, "replay": {"share": 0.1}},
    "replay-ce-30": {**UNIFORM, "replay": {"share": 0.3}},
    "replay-kl-30": {**UNIFORM, "replay": {"share": 0.3, "objective": "kl"}},
    **{
        f"guard-{bound}": {**UNIFORM, "guard": {"every": 10, "max_rise": bound, "stop": True}}
        for bound in (0.1, 0.5)
    },
}
SCALED, SCALES = ("uniform", "nlirg"), (0.25, 0.5, 0.75)


def general_texts(count: int = TEXTS, seed: int = SEED) -> list[str]:
    """Draw open text of the world: sentences, stories, letters, messages of other companies."""
    rng, found = Random(seed), dict[str, None]()
    makers = list(PROSE.values())
    while len(found) < count:
        turn: Turn = draw(rng.choice(makers), rng, held_out=False)
        found[turn.answer] = None
    return list(found)


def recipe_of(seed: int, storage: Path) -> Recipe:
    """Return the demo's recipe with every arm, for one seed."""
    texts = storage / "keeping_texts.jsonl"
    lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in general_texts())
    write_text(texts, "".join(lines))
    arms = {
        name: {**arm, "guard": {**arm["guard"], "general": str(texts)}} if "guard" in arm else arm
        for name, arm in ARMS.items()
    }
    return load_recipe(
        HERE / "recipe.yaml",
        [
            f"name=keeping-{seed}",
            f"storage={storage}",
            f"seed={seed}",
            "train.num_workers=1",
            "train.epochs=3",
            f"arms={json.dumps(arms)}",
            f"replay={json.dumps({'prompts': str(HERE / 'data/replay_prompts.jsonl')})}",
            "evaluate.template_cases=24",
            "evaluate.gates.retention_min=0.9",
            "evaluate.perturbations=[]",
            "evaluate.flip_samples=0",
        ],
    )


def at_scales(recipe: Recipe, run: RunDirectory) -> RunDirectory:
    """Evaluate the arms of `SCALED` once more, at several scales too, in a run of their own."""
    recipe = settled(recipe)
    arms = {name: recipe.arms[name] for name in SCALED}
    evaluate = recipe.evaluate.model_copy(update={"scales": SCALES})
    name = recipe.name.replace("keeping", "keeping-scales")
    scaled = recipe.model_copy(update={"name": name, "arms": arms, "evaluate": evaluate})
    beside = RunDirectory(scaled.storage, scaled.name)
    trained = ["scores", "encoded", *(f"train/{arm}" for arm in SCALED)]
    for part in trained:  # they are trained already
        if not (beside.path / part).exists():
            shutil.copytree(run.path / part, beside.path / part, copy_function=os.link)
    return carry_out(scaled)


def carry_out(recipe: Recipe, last: str = "report") -> RunDirectory:
    """Walk the road up to a stage; what is done already is read."""
    recipe = settled(recipe)
    run = open_run(recipe)
    located = recipe.located()
    road = stages("run", located)
    names = [stage.name for stage in road]
    end = len(names) - names[::-1].index(last)
    with run.locked():
        run_stages(road[:end], located, run)
    return run


def main() -> None:
    """Run every seed, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--storage", type=Path, default=Path("runs"))
    parser.add_argument("--until", choices=("train", "report"), default="report")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    try:
        recipes = [recipe_of(seed, options.storage.absolute()) for seed in options.seeds]
        runs = [carry_out(recipe, options.until) for recipe in recipes]
        scaled = []
        if options.until == "report":
            scaled = [at_scales(*pair) for pair in zip(recipes, runs, strict=True)]
    finally:
        disconnect()
    if options.until == "report":
        every, curves = (
            [run.report.path / "results.json" for run in part] for part in (runs, scaled)
        )
        write_page(every, curves, options.out)


if __name__ == "__main__":
    main()
