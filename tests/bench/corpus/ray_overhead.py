"""What Ray Data adds to scoring: the same steps inside it, and one after the other without it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa

from pipelines.score.ledger import Ledger
from pipelines.score.rows import WINDOW_ROWS, ReadShard, ScoreRows, WriteRows, model_scorer
from tests.bench.corpus.scale import MODEL, recipe_for, score_alone, write_corpus
from tests.bench.corpus.watch import Watch, watched
from tests.bench.measure import Comparison
from tests.bench.shapes import ModelShape

ROWS = 12 * WINDOW_ROWS
STEADY = 0.25  # share of the rows after which all processes have started
GOAL = 1.15


def score_plainly(folder: Path, model: Path) -> None:
    """Read, score and write in this process."""
    import torch

    from nlirg.corpus.rows import shards_of

    torch.set_num_threads(1)
    recipe = recipe_for(folder, model)
    scores = folder / "run" / "scores"
    scores.mkdir(parents=True)
    ledger = Ledger(scores)
    read, write = ReadShard(recipe, ledger), WriteRows(recipe, ledger)
    actor = ScoreRows(recipe, model_scorer)
    for index, shard in enumerate(shards_of(recipe.data, recipe.encode.task)):
        item = {"index": index, "shard": shard._asdict(), "files": []}
        for window in read(pa.Table.from_pylist([item])):
            write(actor(window))


def cpu_per_row(watch: Watch, rows: int) -> float:
    """User CPU seconds of a row, Ray's servers left out, once everything runs."""
    first = next(sample for sample in watch.samples if sample.rows >= STEADY * rows)
    last = next(sample for sample in watch.samples if sample.rows == rows)
    used = [
        sum(seconds for kind, seconds in sample.cpu.items() if kind != "daemon")
        for sample in (first, last)
    ]
    return (used[1] - used[0]) / (last.rows - first.rows)


def compare_ray(shape: ModelShape, rounds: int, rows: int = ROWS) -> list[Comparison]:
    """CPU time of a row with Ray Data and one actor over that without, in turns."""
    from transformers import AutoTokenizer

    ratios, notes = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            model = Path(name) / "model"
            shape.build().save_pretrained(model)
            AutoTokenizer.from_pretrained(MODEL).save_pretrained(model)
            costs = []
            for way in ("ray", "plain"):
                folder = Path(name) / way
                folder.mkdir()
                write_corpus(folder / "corpus.jsonl", rows)
                scores = folder / "run" / "scores"
                if way == "ray":
                    watch = watched(scores, score_alone, folder, model_scorer, model, 1)
                else:
                    watch = watched(scores, score_plainly, folder, model)
                costs.append(cpu_per_row(watch, rows))
        ratios.append(costs[0] / costs[1])
        notes.append(f"{costs[0] * 1e3:.2f} / {costs[1] * 1e3:.2f}")
    return [
        Comparison.of(
            "scoring in Ray Data / the same steps in one process",
            "user CPU of a row",
            ratios,
            goal=GOAL,
            at_least=False,
            note=f"ms a row: {', '.join(notes)}; 1 actor, start-up and Ray's servers left out",
        )
    ]
