"""Sample order and learning rate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlirg.config.training import TrainConfig
from nlirg.training.schedule import Plan, learning_rate, step_seed


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_a_plan_without_shuffling_begins_samples_in_their_order_in_every_epoch(batch_size):
    config = TrainConfig(token_batch=2, batch_size=batch_size, epochs=2)
    plan = Plan(np.array([5, 2, 2, 7, 3, 1]), config, seed=3, shuffle=False)
    entries = [entry for step in range(plan.total_steps) for entry in plan.schedule.at(step)]
    begun = [entry.sample for entry in entries if entry is not None and entry.window == 0]
    assert begun == [0, 1, 2, 3, 4, 5] * 2


def rates(total, **changes):
    config = TrainConfig(learning_rate=1.0, **changes)
    return [learning_rate(step, total, config) for step in range(total)]


def test_warm_up_climbs_from_above_zero_to_the_full_rate():
    warm = rates(100, warmup_ratio=0.1, schedule="constant")
    assert warm[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert set(warm[10:]) == {1.0}


def test_known_points_of_the_schedules():
    assert rates(4, warmup_ratio=0, schedule="linear") == pytest.approx([1, 0.75, 0.5, 0.25])
    cosine = rates(100, warmup_ratio=0, schedule="cosine")
    assert cosine[0] == 1
    assert cosine[50] == pytest.approx(0.5)
    assert cosine[99] == pytest.approx(0, abs=1e-3)


@given(
    st.integers(1, 300),
    st.floats(0, 0.99),
    st.sampled_from(["constant", "linear", "cosine"]),
)
def test_rates_are_positive_never_above_the_full_rate_and_have_one_peak(total, warmup, schedule):
    values = rates(total, warmup_ratio=warmup, schedule=schedule)
    assert all(0 < value <= 1 for value in values)
    peak = values.index(max(values))
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)


def test_step_seeds_differ_by_seed_step_and_rank():
    seeds = {step_seed(*key) for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)]}
    assert len(seeds) == 5
    assert step_seed(3, 4, 5) == step_seed(3, 4, 5) >= 0
