"""Windows side by side in one right-padded batch."""

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlirg.forward.batching import (
    EncodedCorpus,
    Row,
    TokenizedSample,
    WindowReader,
    by_length,
    token_batch,
)
from nlirg.forward.windows import SlotWindow, Window, WindowRule
from nlirg.labels import IGNORE


def sample(ids, labels, base=(), segments=None, task=0):
    return TokenizedSample(
        np.array(ids), np.array(labels), np.array(base), np.array(segments or [len(ids)]), task
    )


LONG = sample([5, 6, 7, 8, 9], [IGNORE, IGNORE, 7, IGNORE, 9], [0.5, 1.5], task=1)
SHORT = sample([3, 4, 2], [IGNORE, 4, 2], [2.5, 3.5])


def test_known_batch():
    batch = token_batch([Row(LONG, Window(2, 5), identity=8), Row(SHORT, Window(2, 3))])
    assert batch.input_ids.tolist() == [[5, 6, 7, 8], [3, 4, 0, 0]]
    assert batch.position_ids is None
    assert batch.rows.tolist() == [0, 0, 1]
    assert batch.columns.tolist() == [1, 3, 1]
    assert batch.targets.tolist() == [7, 9, 2]
    assert batch.base_loss.tolist() == [0.5, 1.5, 3.5]
    assert batch.windows.tolist() == [8, 8, 0]
    assert batch.tasks.tolist() == [1, 1, 0]
    assert (batch.tokens, batch.padded_tokens) == (6, 8)


def test_positions_restart_at_each_document():
    packed = sample([1, 2, 3, 4, 5], [IGNORE, 2, IGNORE, 4, 5], segments=[2, 3])
    batch = token_batch([Row(packed, Window(1, 5))])
    assert batch.position_ids.tolist() == [[0, 1, 0, 1]]
    assert batch.targets.tolist() == [2, 4, 5]
    assert batch.columns.tolist() == [0, 2, 3]


def test_a_window_is_computed_from_the_document_it_lies_in():
    rows = {"input_ids": [1, 2, 3, 4, 5], "labels": [IGNORE, 2, IGNORE, 4, 5], "segments": [2, 3]}
    reader = WindowReader(EncodedCorpus([rows], np.array([3])), WindowRule(1))
    row = reader.row(SlotWindow(0, 0, 2), step=2, slots=1)
    assert (row.origin, row.begin, row.length) == (2, 2, 2)
    assert token_batch([row]).input_ids.tolist() == [[3, 4]]
    assert token_batch([row]).position_ids is None


def test_without_windows_there_is_one_token_and_nothing_to_train():
    batch = token_batch([])
    assert batch.input_ids.shape == (1, 1)
    assert batch.tokens == len(batch.targets) == len(batch.rows) == 0
    assert batch.targets.dtype == torch.int64


labels = st.lists(st.sampled_from([IGNORE, 4, 9]), min_size=1, max_size=30)


@given(st.lists(labels, min_size=1, max_size=5), st.integers(1, 6) | st.just("all"))
def test_every_target_stands_right_after_the_position_that_predicts_it(rows, size):
    samples = [np.array([IGNORE, *row]) for row in rows]
    tokens = [np.arange(100 * n, 100 * n + len(row)) for n, row in enumerate(samples)]
    trained = [
        np.where(row == IGNORE, IGNORE, ids) for row, ids in zip(samples, tokens, strict=True)
    ]
    data = EncodedCorpus(
        [{"input_ids": ids, "labels": row} for ids, row in zip(tokens, trained, strict=True)],
        np.array([np.sum(row != IGNORE) for row in trained]),
    )
    rule = WindowRule(size)
    counts = rule.count(data.n_trained)
    assert counts.tolist() == [len(rule.windows(row)) for row in trained]
    reader = WindowReader(data, rule)
    for window in range(counts.max(initial=0)):
        active = [SlotWindow(n, n, window) for n in range(len(rows)) if window < counts[n]]
        batch = token_batch([reader.row(entry, window, len(rows)) for entry in active])
        # Token ids count up, so the token after the one at the predicting position is known.
        found = batch.input_ids[batch.rows, batch.columns] + 1
        assert found.tolist() == batch.targets.tolist()


def cost(groups, overhead):
    return sum(len(group) * max(row.length for row in group) + overhead for group in groups)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=7), st.integers(0, 60))
def test_groups_by_length_are_the_cheapest_of_all_cuts(lengths, overhead):
    rows = [Row(LONG, Window(length, length + 1), identity=n) for n, length in enumerate(lengths)]
    groups = by_length(rows, overhead)
    assert sorted(row.identity for group in groups for row in group) == list(range(len(rows)))
    ordered = sorted(rows, key=lambda row: row.length)
    every = []
    for cuts in itertools.product([False, True], repeat=len(rows) - 1):
        marks = [0, *(n + 1 for n, cut in enumerate(cuts) if cut), len(rows)]
        every.append([ordered[a:b] for a, b in itertools.pairwise(marks)])
    assert cost(groups, overhead) == min(cost(option, overhead) for option in every)
