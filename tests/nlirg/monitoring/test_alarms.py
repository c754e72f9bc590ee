"""Alarms: raised when they should be, once, and not by noise."""

import numpy as np
import pytest

from nlirg.config.training import GuardConfig
from nlirg.monitoring.alarms import Alarms, stair, steady_rise


def record(step, **changes):
    zones = {"low": 0.4, "mid": 0.5, "high": 0.1, "discarded": 0.0}
    return {"step": step, "trained_tokens": 80 * step, "skipped_steps": 0, **zones} | changes


def raised(records, end_of_turn_share=1.0):
    alarms = Alarms(end_of_turn_share)
    return [alarm for entry in records for alarm in alarms.check(entry)]


def curve(losses, epochs=3):
    """Records of a whole run with these losses."""
    n = len(losses)
    return [
        record(10 * (i + 1), loss=float(loss), epoch=(i + 1) * epochs / n)
        for i, loss in enumerate(losses)
    ]


def kinds(losses, epochs=3):
    return {alarm.kind for alarm in raised(curve(losses, epochs))}


def test_a_healthy_run_raises_nothing():
    assert raised([record(step) for step in range(10, 500, 10)]) == []


def test_a_model_that_leaves_its_guards_bound_is_told_once_in_words():
    guard = GuardConfig(max_rise=0.1, stop=True)
    alarms = Alarms(1.0, guard)
    rises = [0.0, 0.1, 0.25, 0.5]
    found = [
        alarm
        for step, rise in enumerate(rises, start=1)
        for alarm in alarms.check(record(step, general_rise=rise))
    ]
    assert [(alarm.kind, alarm.step) for alarm in found] == [("forgetting", 3)]
    assert "has risen by 0.250 nats a token, and train.guard allows 0.1" in found[0].message
    assert "the run ends here" in found[0].message
    [lost] = Alarms(1.0, GuardConfig(metric="kl")).check(record(1, general_rise=None))
    assert "KL from the base model is no number any more" in lost.message
    assert "the run goes on" in lost.message


def test_a_start_of_mostly_hard_tokens_is_judged_by_tokens_not_by_records():
    few_easy = record(5, trained_tokens=10, high=0.0)
    many_hard = record(20, trained_tokens=600, high=0.4, discarded=0.3)
    [alarm] = raised([few_easy, many_hard])
    assert (alarm.kind, alarm.step) == ("hard_start", 20)
    assert alarm.message.startswith("69%")
    many_easy = record(20, trained_tokens=600, high=0.0)
    few_hard = record(5, trained_tokens=10, high=1.0)
    assert raised([few_hard, many_easy]) == []


def test_hard_tokens_after_the_start_are_no_alarm():
    assert raised([record(20), record(40, high=0.9), record(60, high=0.9)]) == []


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.3, 1), (0.9, 0), (None, 0)])
def test_missing_end_of_turn(share, expected):
    alarms = raised([record(10), record(20)], end_of_turn_share=share)
    assert [alarm.kind for alarm in alarms] == ["untrained_end"] * expected


def test_gradient_cosine_is_reported_once():
    records = [record(10, gradient_cosine=0.9), record(20, gradient_cosine=0.79)]
    [alarm] = raised([*records, record(30, gradient_cosine=0.5)])
    assert (alarm.kind, alarm.step) == ("gradient_cosine", 20)
    assert "0.79" in alarm.message


def test_many_skipped_steps():
    assert raised([record(10, skipped_steps=9), record(100, skipped_steps=20)]) == []
    [alarm] = raised([record(100, skipped_steps=21)])
    assert alarm.kind == "skipped_steps"


@pytest.mark.parametrize("kind", ["gaussian", "heavy-tailed", "skewed"])
def test_noise_around_a_flat_or_falling_loss_raises_nothing(kind):
    rng = np.random.default_rng(1)
    n, runs = 150, 200
    noises = {
        "gaussian": lambda: rng.normal(0, 0.3, n),
        "heavy-tailed": lambda: 0.2 * rng.standard_t(3, n),
        "skewed": lambda: rng.lognormal(-1, 0.7, n),
    }
    falling = 1.5 * np.exp(-np.arange(n) / 30)
    false = [kinds(1.5 + (run % 2) * falling + noises[kind]()) for run in range(runs)]
    assert sum(map(bool, false)) / runs < 0.02


def test_correlated_noise_rarely_looks_like_a_rise_or_a_stair():
    rng = np.random.default_rng(2)
    false = 0
    for _ in range(100):
        noise = np.zeros(300)
        for i, shock in enumerate(rng.normal(0, 0.15, 300)):
            noise[i] = 0.7 * noise[i - 1] + shock
        false += bool(kinds(2 + noise))
    assert false <= 2


def test_a_steadily_rising_loss_is_noticed_even_after_a_fall():
    rng = np.random.default_rng(3)
    time = np.arange(400) / 400
    loss = 1 + 2 * np.exp(-20 * time) + time + rng.normal(0, 0.2, 400)
    assert kinds(loss) == {"rising_loss"}


def test_a_rise_is_measured_in_nats():
    assert steady_rise(np.linspace(2, 3, 200)) == pytest.approx(1, rel=0.1)
    assert steady_rise(np.linspace(3, 2, 200)) is None
    assert steady_rise(np.linspace(2, 2.05, 200)) is None  # steady, but too small to matter
    outliers = np.full(200, 2.0)
    outliers[-3:] = 15
    assert steady_rise(outliers) is None


def test_stairs_at_epoch_borders_are_noticed():
    rng = np.random.default_rng(4)
    epoch = np.arange(300) * 3 // 300
    [alarm] = raised(curve(2 - 0.5 * epoch + rng.normal(0, 0.1, 300)))
    assert alarm.kind == "stairs"
    assert "epoch 2" in alarm.message


def test_a_drop_within_an_epoch_and_a_smooth_fall_are_no_stairs():
    time = np.arange(300) * 3 / 300
    assert "stairs" not in kinds(2 - (time > 1.5))
    assert "stairs" not in kinds(3 * np.exp(-time))


def test_a_stair_is_measured_in_nats():
    epoch = np.linspace(0, 2, 200)
    loss = 2 - 0.1 * epoch - 0.4 * (epoch >= 1)
    assert stair(epoch, loss, border=1) == pytest.approx(0.4, abs=0.01)
    assert stair(epoch[:105], loss[:105], border=1) is None  # too little of the second epoch


def test_events_without_training_metrics_are_no_evidence():
    assert raised([{"step": step, "validation_loss": float(step)} for step in range(500)]) == []


def test_a_resumed_run_repeats_no_alarm_and_finds_what_an_unbroken_one_does():
    losses = np.linspace(1, 3, 200)
    records = curve(losses)
    whole = raised(records, end_of_turn_share=0.0)
    assert [alarm.kind for alarm in whole] == ["untrained_end", "rising_loss"]
    for cut in (1, 30, 100, 199):
        before = raised(records[:cut], end_of_turn_share=0.0)
        resumed = Alarms(0.0)
        resumed.replay(records[:cut])
        after = [alarm for entry in records[cut:] for alarm in resumed.check(entry)]
        assert before + after == whole
