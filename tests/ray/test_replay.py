"""The replay on a real cluster: engines that sample, and a process that scores what they said."""

import numpy as np
import pytest

from nlirg.scoring.scorer import Scorer
from pipelines.recipe import load_recipe
from pipelines.replay.stage import Replay
from pipelines.store import open_run
from pipelines.train.encoded import read_encoded
from tests.ray.test_run import DEMO
from tests.road import run_checked

pytestmark = pytest.mark.ray


def test_the_base_model_answers_and_its_answers_are_scored(ray_cluster, tmp_path) -> None:
    shipped = (DEMO / "data" / "replay_prompts.jsonl").read_text(encoding="utf-8").splitlines()
    rows = shipped[::16]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(rows))
    words = [
        f"model={DEMO / 'base_model'}",
        f"storage={tmp_path}",
        f"replay={{prompts: {prompts}, max_new_tokens: 48}}",
        "train.replay.share=0.2",
        "evaluate={ood: null, engine: transformers}",
        "cluster.stall_timeout_s=120",
    ]
    recipe = load_recipe(DEMO / "recipe.yaml", words)
    run = open_run(recipe)
    summary = run_checked(Replay(), recipe, run)
    assert summary.asked == len(rows)
    assert summary.kept >= len(rows) // 2
    (corpus,) = read_encoded(run.replay.path, run.replay.path / "tokens")
    assert len(corpus) == summary.kept
    scorer = Scorer(recipe.model, recipe.score.precision)
    samples = [(row["input_ids"], row["labels"]) for row in corpus.rows]
    for row, score in zip(corpus.rows, scorer.score(samples), strict=True):
        np.testing.assert_allclose(row["base_loss"], score.loss, atol=0.02)
