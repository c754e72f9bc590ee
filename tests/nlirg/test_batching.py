"""Windows side by side in one left-padded batch."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlirg.batching import EncodedCorpus, WindowReader, window_batch
from nlirg.windows import IGNORE, SlotWindow, Window, window_spans


def test_known_batch():
    long = (np.array([5, 6, 7, 8, 9]), np.array([IGNORE, IGNORE, 7, IGNORE, 9]), Window(2, 5))
    short = (np.array([3, 4, 2]), np.array([IGNORE, 4, 2]), Window(1, 2))
    batch = window_batch([long, short])
    assert batch.input_ids.tolist() == [[5, 6, 7, 8], [0, 0, 0, 3]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [0, 0, 0, 1]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3], [0, 0, 0, 0]]
    assert batch.logits_to_keep == 3  # the gap inside the longer window included
    assert batch.rows.tolist() == [0, 0, 1]
    assert batch.columns.tolist() == [0, 2, 2]
    assert batch.targets.tolist() == [7, 9, 4]


def test_rows_of_equal_length_need_no_mask():
    part = (np.array([5, 6, 7]), np.array([IGNORE, 6, 7]), Window(1, 3))
    assert window_batch([part, part]).attention_mask is None


def test_without_windows_there_is_one_token_and_nothing_to_train():
    batch = window_batch([])
    assert batch.input_ids.shape == (1, 1)
    assert batch.logits_to_keep == 1
    assert len(batch.targets) == len(batch.rows) == 0
    assert batch.targets.dtype == torch.int64


labels = st.lists(st.sampled_from([IGNORE, 4, 9]), min_size=1, max_size=30)


@given(st.lists(labels, min_size=1, max_size=5), st.integers(1, 6) | st.just("all"))
def test_every_target_stands_right_after_the_position_that_predicts_it(rows, token_batch):
    samples = [np.array([IGNORE, *row]) for row in rows]
    tokens = [np.arange(100 * n, 100 * n + len(row)) for n, row in enumerate(samples)]
    trained = [
        np.where(row == IGNORE, IGNORE, ids) for row, ids in zip(samples, tokens, strict=True)
    ]
    data = EncodedCorpus(
        [{"input_ids": ids, "labels": row} for ids, row in zip(tokens, trained, strict=True)],
        np.array([np.sum(row != IGNORE) for row in trained]),
    )
    counts = data.windows_per_sample(token_batch)
    assert counts.tolist() == [len(window_spans(row, token_batch)) for row in trained]
    reader = WindowReader(data, token_batch)
    for window in range(counts.max(initial=0)):
        active = [SlotWindow(n, n, window) for n in range(len(rows)) if window < counts[n]]
        batch = reader.batch(active)
        kept = batch.input_ids[:, -batch.logits_to_keep :]
        # Token ids count up, so the token after the one at the predicting position is known.
        assert (kept[batch.rows, batch.columns] + 1).tolist() == batch.targets.tolist()
