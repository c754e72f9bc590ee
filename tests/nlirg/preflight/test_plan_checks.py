import numpy as np

from nlirg.config.training import TrainConfig
from nlirg.preflight.plan_checks import check_plan


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


def test_a_holdout_that_takes_everything_fails() -> None:
    check = check_plan(config(), np.full(5, 9), 90, holdout=100, exact=False)
    assert check.status == "fail"
    assert "90 can be used, and 100 are kept" in check.measured
    none = check_plan(config(), np.empty(0, np.int64), 0, holdout=0, exact=True)
    assert none.status == "fail"
