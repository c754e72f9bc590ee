from typing import Any

import numpy as np
import pytest

from nlirg.config.corpus import DataConfig, EncodeConfig, TimesConfig
from nlirg.config.training import TrainConfig
from nlirg.errors import InputError
from nlirg.preflight.corpus_checks import Probe
from nlirg.preflight.corpus_sample import CorpusSample, SampledCorpus
from nlirg.preflight.plan_checks import check_plan, check_plans, sampled_mixture


def config(**settings: object) -> TrainConfig:
    return TrainConfig.model_validate({"precision": "fp32", "zero_stage": 1} | settings)


def test_the_plan_of_a_known_corpus() -> None:
    # Two slots, windows of 10: samples of 3, 1, 2 and 2 windows end after 5 steps.
    trained = np.array([25, 10, 20, 11])
    settings = config(token_batch=10, batch_size=2, epochs=3)
    told = check_plan(settings, trained, 4, holdout=0, exact=True).measured
    assert told.startswith("5 optimizer steps and 66 trained tokens per epoch")
    assert "15 steps in the run" in told


def test_limits_and_accumulation_shorten_the_plan() -> None:
    def steps(**settings: object) -> str:
        plan = config(token_batch=10, batch_size=1, epochs=2, **settings)
        check = check_plan(plan, np.full(10, 20), 10, holdout=0, exact=True)
        return check.measured.rpartition("; ")[2]

    assert steps() == "40 steps in the run"
    assert steps(gradient_accumulation_steps=4) == "10 steps in the run"
    assert steps(max_steps=7) == "7 steps in the run"
    assert steps(max_tokens=300) == "30 steps in the run"


def test_the_plan_of_a_large_corpus_is_extrapolated() -> None:
    plan = config(token_batch=10, batch_size=8)
    trained = np.full(200, 20)
    told = check_plan(plan, trained, 1_000_000, holdout=0, exact=False).measured
    assert told.startswith("about 250,000 optimizer steps and 20,000,000 trained tokens")


def test_mixing_and_replay_lengthen_an_epoch() -> None:
    trained = np.full(10, 20)
    plan = config(token_batch=10, batch_size=1, epochs=2)
    told = check_plan(plan, trained, 10, holdout=0, exact=True, more=1.25).measured
    assert told.startswith("25 optimizer steps and 250 trained tokens per epoch")
    assert told.endswith("50 steps in the run")


def test_the_mixture_of_a_corpus_is_estimated_from_its_sample() -> None:
    place = np.arange(6)
    probes = [
        Probe("p", "", 1, 6, place, place, "", data=data, task_type=task)
        for data, task in [(0, "a"), (0, "a"), (0, "b"), (1, "a")]
    ]
    rows: list[Any] = [None] * 4
    sample = CorpusSample(rows, [], [], 400, True)
    data = [DataConfig(path="x.jsonl"), DataConfig(path="y.jsonl", weight=0.5)]
    arms = {"one": config(), "other": config(replay={"share": 0.5})}
    corpus = SampledCorpus(sample, probes, [])
    mixed = sampled_mixture([corpus], data)
    assert [(part.label, part.rows, part.tokens) for part in mixed.parts] == [
        ("x", 300, 1500), ("y", 100, 500)
    ]  # fmt: skip
    assert [part.times for part in mixed.parts] == [1, 3]
    *plans, table = check_plans(arms, EncodeConfig(), corpus, 0, data)
    assert table.measured.endswith("other: replay 50.0% of what is trained")
    assert [plan.measured.split(":")[0] for plan in plans] == ["one", "other"]
    assert "3,000 trained tokens per epoch" in plans[0].measured
    assert "6,000 trained tokens per epoch" in plans[1].measured
    assert "y  about 100 rows, about 500 tokens, seen 3 times an epoch, 50.0%" in table.measured
    small = SampledCorpus(CorpusSample(rows[:2], [], [], 2, True), probes[3:], [])
    large = SampledCorpus(CorpusSample(rows[:3], [], [], 30_000, False), probes[:3], [])
    assert [part.rows for part in sampled_mixture([large, small], [data[0], data[0]]).parts] == [
        30_001
    ]
    with pytest.raises(InputError, match="y has too few rows for its share"):
        sampled_mixture([large, small], data)
    lacking = [DataConfig(path="x.jsonl", task_types={"c": TimesConfig(repeat=2)}), data[1]]
    [check] = check_plans(arms, EncodeConfig(), corpus, 0, lacking)
    assert (check.name, check.status) == ("mixing", "warn")
    assert "no row to train has 'c'" in check.measured


def test_a_holdout_that_takes_everything_fails() -> None:
    check = check_plan(config(), np.full(5, 9), 90, holdout=100, exact=False)
    assert check.status == "fail"
    assert "90 can be used, and 100 are kept" in check.measured
    none = check_plan(config(), np.empty(0, np.int64), 0, holdout=0, exact=True)
    assert none.status == "fail"
