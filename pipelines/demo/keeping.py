"""Ways of keeping what a model knows, compared on the demo world: `python -m pipelines.demo.keeping`.

Every arm trains the same tickets the same number of times, with several seeds; `KEEPING.md` is
written from what the runs' own reports say.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from cluster.rundir import RunDirectory
from cluster.session import disconnect
from pipelines.demo.keeping_page import write_page
from pipelines.demo.prose import PROSE
from pipelines.demo.skills import SKILLS
from pipelines.demo.turns import Turn, draw
from pipelines.recipe import Recipe, load_recipe
from pipelines.replay.overlap import near_pairs
from pipelines.run import stages
from pipelines.stage import run_stages
from pipelines.store import open_run, settled

HERE = Path(__file__).parent
PROMPTS, TEXTS = 640, 120
SEED = 7  # of prompts and texts; the cases are of another
UNIFORM = {"weighting": {"name": "uniform"}}
ARMS: dict[str, dict[str, Any]] = {
    "uniform": UNIFORM,
    "nlirg": {},
    "replay-ce-10": {**UNIFORM, "replay": {"share": 0.1}},
    "replay-ce-30": {**UNIFORM, "replay": {"share": 0.3}},
    "replay-kl-30": {**UNIFORM, "replay": {"share": 0.3, "objective": "kl"}},
    "guard": {**UNIFORM, "guard": {"rows": 100, "every": 50, "max_rise": 0.1, "stop": True}},
}
SCALES = (0.25, 0.5, 0.75)


def skill_prompts(cases: list[str], count: int = PROMPTS, seed: int = SEED) -> list[str]:
    """Draw prompts of the skills and of open text that pre-training may have seen.

    Args:
        cases: prompts of the evaluation; none of them, and nothing nearly like one, is drawn.
        count: of prompts.
        seed: of the draw.
    """
    rng, found = Random(seed), dict[str, None]()
    makers = [*SKILLS.values(), *PROSE.values()]
    while len(found) < count:
        drawn = [draw(rng.choice(makers), rng, held_out=False).prompt for _ in range(count)]
        near = {index for index, _ in near_pairs(drawn, cases)}
        found |= dict.fromkeys(text for index, text in enumerate(drawn) if index not in near)
    return list(found)[:count]


def general_texts(count: int = TEXTS, seed: int = SEED) -> list[str]:
    """Draw open text of the world: sentences, stories, letters, messages of other companies."""
    rng, found = Random(seed), dict[str, None]()
    makers = list(PROSE.values())
    while len(found) < count:
        turn: Turn = draw(rng.choice(makers), rng, held_out=False)
        found[turn.answer] = None
    return list(found)


def write_inputs(folder: Path) -> tuple[Path, Path]:
    """Write the files of prompts and of general texts."""
    lines = (HERE / "data" / "ood_cases.jsonl").read_text(encoding="utf-8").splitlines()
    cases = [json.loads(line)["messages"][-1]["content"] for line in lines]
    folder.mkdir(parents=True, exist_ok=True)
    prompts, texts = folder / "prompts.jsonl", folder / "texts.jsonl"
    prompts.write_text(_lines({"prompt": text} for text in skill_prompts(cases)), encoding="utf-8")
    texts.write_text(_lines({"text": text} for text in general_texts()), encoding="utf-8")
    return prompts, texts


def _lines(rows: Iterator[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def recipe_of(seed: int, storage: Path) -> Recipe:
    """Return the demo's recipe with every arm, for one seed."""
    prompts, texts = write_inputs(storage / "keeping-inputs")
    arms = dict(ARMS)
    arms["guard"] = {**UNIFORM, "guard": {**ARMS["guard"]["guard"], "general": str(texts)}}
    return load_recipe(
        HERE / "recipe.yaml",
        [
            f"name=keeping-{seed}",
            f"storage={storage}",
            f"seed={seed}",
            f"arms={json.dumps(arms)}",
            f"replay={json.dumps({'prompts': str(prompts), 'max_new_tokens': 96})}",
            f"evaluate.scales={list(SCALES)}",
            "evaluate.gates.retention_min=0.9",
            "evaluate.perturbations=[]",
            "evaluate.flip_samples=0",
        ],
    )


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
        runs = [
            carry_out(recipe_of(seed, options.storage.absolute()), options.until)
            for seed in options.seeds
        ]
    finally:
        disconnect()
    if options.until == "report":
        write_page([run.report.path / "results.json" for run in runs], options.out)


if __name__ == "__main__":
    main()
