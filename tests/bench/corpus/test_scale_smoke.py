"""What the benchmark of scale measures with; no figure is judged here."""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bench.corpus.ray_overhead import cpu_per_row
from tests.bench.corpus.scale import Cost, recipe_for, scale_rows, write_corpus
from tests.bench.corpus.watch import Sample, Watch, watched
from tests.cheap_scorer import CheapScorer

pytestmark = pytest.mark.soak


def hold_and_write(folder: Path) -> None:
    """Hold 200 MB, use some CPU time and write ten rows."""
    held = np.ones(25_000_000)
    end = time.process_time() + 0.5
    while time.process_time() < end:
        held.sum()
    pq.write_table(pa.table({"a": range(10)}), folder / "a.parquet")
    time.sleep(1.5)


def test_memory_cpu_and_rows_of_another_process_are_seen(tmp_path: Path) -> None:
    watch = watched(tmp_path, hold_and_write, tmp_path)
    assert watch.peaks["driver"] > 200e6
    assert watch.samples[-1].rows == 10
    assert watch.samples[-1].cpu["driver"] > 0.4


def test_a_process_that_fails_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="hold_and_write failed"):
        watched(tmp_path, hold_and_write, tmp_path / "absent")


def test_cpu_of_a_row_leaves_out_the_start_and_rays_servers() -> None:
    watch = Watch.__new__(Watch)
    watch.samples = [
        Sample(0, {"worker": 50.0, "daemon": 9.0}),
        Sample(30, {"worker": 60.0, "daemon": 90.0}),
        Sample(100, {"worker": 80.0, "driver": 8.0, "daemon": 900.0}),
        Sample(100, {"worker": 99.0, "driver": 9.0, "daemon": 999.0}),
    ]
    assert cpu_per_row(watch, 100) == pytest.approx((88 - 60) / 70)


def test_sizes_are_compared_with_the_size_before() -> None:
    peaks = dict.fromkeys(("driver", "actor", "task", "daemon"), 100)
    small = Cost(10, 1.0, 1.0, peaks, 0, 1)
    large = Cost(100, 10.0, 20.0, peaks | {"actor": 130}, 0, 2)
    rows = {row.name: row for row in scale_rows([small, large])}
    assert rows["CPU time per row"].median == 2
    assert not rows["CPU time per row"].met
    assert rows["memory of the largest driver"].met
    assert not rows["memory of the largest actor"].met


def test_the_cheap_scorer_scores_every_trained_token_alike(tmp_path: Path) -> None:
    ids, labels = np.arange(6), np.array([-100, -100, 2, 3, -100, 5])
    first, second = CheapScorer().score([(ids, labels)] * 2)
    assert len(first.loss) == len(first.entropy) == len(first.log_p_std) == 3
    assert (first.loss == second.loss).all()
    write_corpus(tmp_path / "corpus.jsonl", 5)
    assert len((tmp_path / "corpus.jsonl").read_text().splitlines()) == 5
    assert recipe_for(tmp_path).model
