"""Scoring 10,000 to 1,000,000 rows with a scorer that costs nothing: time, memory, spilling.

The rows go the stage's whole way (read, encode, score, write, verify) but for duplicates, which
have a benchmark of their own, and the report.
"""

from __future__ import annotations

import itertools
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

from nlirg.config.corpus import ScoreConfig
from nlirg.labels import IGNORE
from nlirg.scoring.scores import TokenScores
from pipelines.ray_data import parquet_files
from pipelines.recipe import Recipe
from pipelines.score import stage as stage
from pipelines.store import open_run
from tests.bench.corpus.watch import KINDS, watched
from tests.bench.measure import Comparison

SIZES = (10_000, 100_000, 1_000_000)
GOAL = 1.2
MODEL = Path(__file__).parents[3] / "pipelines" / "demo" / "base_model"
WORDS = ["the", "order", "came", "late", "and", "we", "refund", "it", "today", "see", "invoice"]


class CheapScorer:
    """Scores from the token ids alone; the same ids give the same scores."""

    def score(
        self, samples: Sequence[tuple[np.ndarray, np.ndarray]], names: Sequence[str] | None = None
    ) -> list[TokenScores]:
        """As `nlirg.scoring.scorer.Scorer.score`."""
        found = []
        for _, labels in samples:
            ids = labels[1:][labels[1:] != IGNORE]
            loss = (ids % 97 / 20).astype(np.float32)
            found.append(TokenScores(loss, (ids % 31 / 10).astype(np.float32), loss + 1))
        return found


def cheap_scorer(model: str, config: ScoreConfig) -> CheapScorer:
    """What `pipelines.score.stage.score` makes in every actor."""
    return CheapScorer()


class Cost(NamedTuple):
    """What one size took.

    Attributes:
        rows: number of rows.
        seconds: wall time of scoring and verifying.
        cpu: user CPU seconds of all processes but Ray's servers.
        peaks: kind of process -> most bytes of its own.
        spilled: bytes that Ray wrote to disk for want of memory.
        files: number of files of scores.
    """

    rows: int
    seconds: float
    cpu: float
    peaks: dict[str, int]
    spilled: int
    files: int


def write_corpus(path: Path, rows: int) -> None:
    """Alpaca rows of some 50 tokens."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as out:
        for number in range(rows):
            asked, said = (" ".join(rng.choices(WORDS, k=rng.randint(5, 30))) for _ in range(2))
            row = {"id": f"row-{number}", "instruction": asked, "output": said}
            out.write(json.dumps(row) + "\n")


def recipe_for(folder: Path, model: Path = MODEL, actors: int | None = None) -> Recipe:
    """A recipe for `corpus.jsonl` of a folder."""
    return Recipe.model_validate(
        {
            "name": "run",
            "storage": str(folder),
            "model": str(model),
            "data": [str(folder / "corpus.jsonl")],
            "score": {"precision": "fp32"},
            "cluster": {"score_actors": actors},
        }
    )


def score_alone(
    folder: Path, make_scorer: Any, model: Path = MODEL, actors: int | None = None
) -> None:
    """Score a folder's corpus; how long it took, and what was spilled, goes to `told.json`."""
    recipe = recipe_for(folder, model, actors)
    with patch.object(stage, "find_duplicates") as found, patch.object(stage.report_page, "write"):
        found.return_value.duplicates = []
        summary = stage.score(recipe, open_run(recipe), make_scorer)
    import ray  # after the stage has set Ray's environment
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    store = get_memory_info_reply(state).store_stats
    told = {"spilled": store.spilled_bytes_total, "seconds": summary["seconds"]}
    (folder / "told.json").write_text(json.dumps(told))
    ray.shutdown()


def cost(rows: int) -> Cost:
    """Score so many rows on a cluster of their own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder / "corpus.jsonl", rows)
        scores = folder / "run" / "scores"
        watch = watched(scores, score_alone, folder, cheap_scorer)
        told = json.loads((folder / "told.json").read_text())
        cpu = watch.samples[-1].cpu
        return Cost(
            rows,
            told["seconds"],
            sum(seconds for kind, seconds in cpu.items() if kind != "daemon"),
            dict(watch.peaks),
            told["spilled"],
            len(parquet_files(scores)),
        )


def compare_scale(sizes: Sequence[int] = SIZES) -> list[Comparison]:
    """Score so many rows each."""
    return scale_rows([cost(rows) for rows in sizes])


def scale_rows(costs: Sequence[Cost]) -> list[Comparison]:
    """CPU time per row, and memory, of each size over those of the size before."""
    rows = []
    for small, large in itertools.pairwise(costs):
        title = f"scoring {large.rows:,} rows / {small.rows:,}, with a scorer that costs nothing"
        per_row = large.cpu / large.rows / (small.cpu / small.rows)
        note = (
            f"{large.rows / large.seconds:,.0f} rows/s, {large.cpu / large.rows * 1e6:,.0f} µs CPU "
            f"a row; {large.files:,} files; {large.spilled / 1e6:,.0f} MB spilled"
        )
        more: dict[str, Any] = {"goal": GOAL, "at_least": False}
        rows.append(Comparison.of(title, "CPU time per row", [per_row], note=note, **more))
        rows += [
            Comparison.of(
                title,
                f"memory of the largest {kind}",
                [large.peaks[kind] / small.peaks[kind]],
                note=f"{small.peaks[kind] / 1e6:,.0f} and {large.peaks[kind] / 1e6:,.0f} MB",
                **more,
            )
            for kind in KINDS
        ]
    return rows
