import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlirg.forward.windows import Schedule, SlotWindow, Window, WindowRule
from nlirg.labels import IGNORE

REFERENCE = json.loads((Path(__file__).parents[1] / "reference_vectors.json").read_text())


def window_spans(labels, token_batch):
    return WindowRule(token_batch).windows(labels)


labels_of_turns = st.lists(st.booleans(), min_size=1, max_size=60).map(
    lambda trained: np.where(trained, 7, IGNORE)
)
windows_lists = st.lists(st.integers(0, 6), min_size=1, max_size=12)


def trained_positions(labels: np.ndarray) -> list[int]:
    return [i for i in range(1, len(labels)) if labels[i] != IGNORE]


def test_the_last_window_is_shorter_and_holds_the_last_token() -> None:
    labels = np.array([IGNORE, IGNORE, 5, 5, 5, 5, 5, IGNORE])
    assert window_spans(labels, 2) == [Window(2, 4), Window(4, 6), Window(6, 7)]


def test_all_is_one_window() -> None:
    labels = np.array([IGNORE, 5, IGNORE, 5, 5, IGNORE])
    assert window_spans(labels, "all") == [Window(1, 5)]


def test_a_window_spans_an_untrained_gap() -> None:
    labels = np.array([IGNORE, 5, 5, 5, IGNORE, IGNORE, 5, 5])
    assert window_spans(labels, 2) == [Window(1, 3), Window(3, 7), Window(7, 8)]


@pytest.mark.parametrize("token_batch", [1, 3, "all"])
def test_nothing_trained_means_no_window(token_batch) -> None:
    assert window_spans(np.array([IGNORE, IGNORE]), token_batch) == []


@pytest.mark.parametrize("token_batch", [1, "all"])
def test_the_first_token_cannot_be_predicted(token_batch) -> None:
    assert window_spans(np.array([5, IGNORE]), token_batch) == []


@given(labels=labels_of_turns, token_batch=st.one_of(st.integers(1, 20), st.just("all")))
def test_windows_hold_every_trained_token_once_and_in_order(labels, token_batch) -> None:
    spans = window_spans(labels, token_batch)
    held = [[i for i in range(*span) if labels[i] != IGNORE] for span in spans]
    assert [i for window in held for i in window] == trained_positions(labels)
    size = len(labels) if token_batch == "all" else token_batch
    assert all(len(window) == size for window in held[:-1])
    assert all(1 <= len(window) <= size for window in held[-1:])
    assert all(a.stop <= b.start for a, b in pairwise(spans))


def test_a_finished_slot_takes_the_next_sample() -> None:
    schedule = Schedule([3, 1, 2, 1], [0, 1, 2, 3], batch_size=2)
    steps = [schedule.at(step) for step in range(schedule.total_steps)]
    assert steps == [
        [SlotWindow(0, 0, 0), SlotWindow(1, 1, 0)],
        [SlotWindow(0, 0, 1), SlotWindow(1, 2, 0)],
        [SlotWindow(0, 0, 2), SlotWindow(1, 2, 1)],
        [SlotWindow(0, 3, 0)],
    ]


@given(
    windows=windows_lists,
    epochs=st.integers(1, 3),
    batch_size=st.integers(1, 5),
    random=st.randoms(use_true_random=False),
)
def test_schedule_trains_every_window_once_per_epoch(windows, epochs, batch_size, random) -> None:
    order = []
    for _ in range(epochs):
        order += random.sample(range(len(windows)), len(windows))
    schedule = Schedule(windows, order, batch_size)
    runs = defaultdict(list)  # slot -> (step, sample, window)
    for step in range(schedule.total_steps):
        active = schedule.at(step)
        assert [entry.slot for entry in active] == sorted({entry.slot for entry in active})
        for slot, sample, window in active:
            runs[slot].append((step, sample, window))

    visits = []
    for run in runs.values():
        # A slot is busy from step 0 without a break until it runs out of samples.
        assert [step for step, _, _ in run] == list(range(len(run)))
        while run:
            step, sample, _ = run[0]
            visit, run = run[: windows[sample]], run[windows[sample] :]
            assert [entry[1:] for entry in visit] == [(sample, w) for w in range(windows[sample])]
            visits.append((step, sample))
    trained = [sample for _, sample in sorted(visits, key=lambda visit: visit[0])]
    assert sorted(trained) == sorted(sample for sample in order if windows[sample])


@given(windows=windows_lists, batch_size=st.integers(1, 5))
def test_samples_start_in_the_order_given(windows, batch_size) -> None:
    schedule = Schedule(windows, range(len(windows)), batch_size)
    starts = {
        sample: step
        for step in range(schedule.total_steps)
        for _, sample, window in schedule.at(step)
        if window == 0
    }
    assert [starts[sample] for sample in sorted(starts)] == sorted(starts.values())


@given(windows=windows_lists, batch_size=st.integers(1, 5), step=st.integers(0, 70))
def test_a_step_needs_no_history(windows, batch_size, step) -> None:
    order = list(range(len(windows)))
    walked, jumped = (Schedule(windows, order, batch_size) for _ in range(2))
    if step >= walked.total_steps:
        with pytest.raises(IndexError):
            jumped.at(step)
        return
    assert jumped.at(step) == [walked.at(s) for s in range(step + 1)][-1]


def test_no_samples_no_steps() -> None:
    assert Schedule([], [], 4).total_steps == 0
    assert Schedule([0, 0], [0, 1], 4).total_steps == 0


def test_reference_compat_trains_the_references_tokens() -> None:
    cases = REFERENCE["token_windows"]["cases"]
    assert len(cases) == 30
    for case in cases:
        # Its responses end on the newline behind the end-of-turn, which we do not train.
        labels = np.array([IGNORE] * 3 + [7] * (case["response_tokens"] - 1))
        rule = WindowRule(case["token_size"], reference_compat=True)
        trained, numbers = np.array(case["response_tokens"] - 1), np.arange(case["windows"])
        assert rule.count(trained) == case["windows"]
        assert rule.tokens(trained, numbers).sum() == case["tokens_in_loss"]
        ranges = case["loss_ranges_half_open"]
        if "..." not in ranges and case["token_size"] > 1:
            spans = [[start - 3, stop - 3] for start, stop in rule.windows(labels)]
            assert spans == ranges


@given(
    trained=st.lists(st.integers(0, 30), min_size=1, max_size=9),
    token_batch=st.one_of(st.integers(1, 9), st.just("all")),
    batch_size=st.integers(1, 4),
)
def test_tokens_of_every_step_equal_those_of_its_windows(trained, token_batch, batch_size) -> None:
    rule, n_trained = WindowRule(token_batch), np.array(trained)
    schedule = Schedule(rule.count(n_trained), np.arange(len(trained)), batch_size)
    tokens = schedule.tokens(rule, n_trained)
    for step in range(schedule.total_steps):
        windows = schedule.at(step)
        counted = [rule.tokens(n_trained[w.sample], np.array(w.window)) for w in windows]
        assert tokens[step] == sum(counted) > 0
    assert tokens.sum() == n_trained.sum()
