"""The benchmark of scoring at toy size, so that it keeps running; no figure is judged here."""

import numpy as np
import pytest
import torch

from tests.bench.corpus.speed import ALL, BARE, HALF, NAIVE, OURS, compare_gpu_speed, compare_speed
from tests.bench.shapes import TOY_CORPUS, TOY_MODEL

pytestmark = pytest.mark.soak


def test_all_variants_score_the_same_tokens() -> None:
    costs, rows = compare_speed(TOY_MODEL, 1, TOY_CORPUS, samples=24)
    assert set(costs.by_variant) == {NAIVE, BARE, OURS, ALL, HALF}
    assert [row.goal for row in rows] == [5.0, None, 1.3, None]
    assert all(np.isfinite(row.median) and row.median > 0 for row in rows)


def test_without_a_gpu_there_is_no_figure_for_one(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert compare_gpu_speed() == []
