"""What an arm trains and watches, as driver and workers see it."""

import numpy as np
import pytest

from nlirg.config.corpus import DataConfig
from nlirg.config.training import GuardConfig
from nlirg.models.loading import load_tokenizer
from pipelines.preflight.mixing import mixing_lines
from pipelines.recipe import Recipe
from pipelines.train.data import GUARD_TOKENS, guard_texts, planned_mixture, read_training, reserved
from pipelines.train.stage import Train
from tests.ray.test_train import encoded_run, recipe

ARMS = {
    "plain": {},
    "kept": {"replay": {"share": 0.2}, "validation": {"rows": 4}},
    "watched": {"guard": {"rows": 12}},
}


@pytest.fixture
def made(tiny_model_dir, tmp_path):
    return recipe(tiny_model_dir, ARMS), encoded_run(tmp_path)


def job(made, arm: str):
    return Train(arm).job(*made)


@pytest.mark.parametrize("arm", ARMS)
def test_the_driver_tells_the_mixture_that_the_workers_train(made, arm) -> None:
    data = read_training(job(made, arm))
    told = planned_mixture(*made, made[0].arm(arm))
    assert told.parts == data.mixed.parts
    assert np.array_equal(told.of_sample, data.mixed.of_sample)
    shares = {part.label: part.tokens * part.times / told.tokens for part in told.parts}
    beside = 0.8 if arm == "kept" else 1.0
    assert shares["general"] == pytest.approx(0.3 * beside)
    assert shares.get("replay", 0.2) == pytest.approx(0.2)


def test_what_is_watched_is_trained_by_no_arm(made) -> None:
    kept, watched = (read_training(job(made, arm)) for arm in ("kept", "watched"))
    assert reserved(made[0]) == (6, True)
    assert watched.known is not None
    answers = watched.known[1]
    assert answers is not None
    assert len(answers) == 6
    seen = {tuple(row["input_ids"]) for row in answers.rows}
    replay = [kept.corpus.sample(index) for index in range(len(kept.corpus))]
    trained = {tuple(sample.ids) for sample in replay if sample.replayed}
    assert len(trained) == 14
    assert not seen & trained
    assert kept.known is None
    assert "replay" not in watched.corpus.sources


def test_a_guard_watches_short_general_texts_half_of_its_rows(tiny_model_dir) -> None:
    tokenizer = load_tokenizer(str(tiny_model_dir))
    texts = guard_texts(GuardConfig(rows=20), tokenizer, "sft")
    assert len(texts) == 10
    assert all(2 <= len(ids) <= GUARD_TOKENS for ids in texts)
    assert len(guard_texts(GuardConfig(rows=20), tokenizer, "cpt")) == 20
    assert guard_texts(GuardConfig(rows=20), tokenizer, "sft") == texts


def test_a_dry_run_tells_the_mixture_of_every_arm_that_mixes(made) -> None:
    mixed, run = made
    lines = list(mixing_lines(mixed, run))
    assert [line.split(":")[0] for line in lines] == [
        *["plain"] * 2, *["kept"] * 3, *["watched"] * 2
    ]  # fmt: skip
    assert "30.0% of what is trained" in lines[1]
    once = Recipe.model_validate(
        mixed.model_dump() | {"data": [DataConfig(path="a.jsonl")], "arms": {"a": {}}}
    )
    assert list(mixing_lines(once, run)) == []
