"""Scoring that is killed goes on where it was: every row once, none scored twice."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pyarrow.dataset as pads
import pytest
import yaml

from cluster.rundir import RunDirectory
from nlirg.errors import InputError
from pipelines.ray_data import parquet_files
from pipelines.score import stage as stage
from tests.ray import score_faults
from tests.ray.faults import WAIT_S, Saboteur, alive
from tests.ray.score_faults import WINDOW_ROWS, calls, score_slowly, times_scored

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
ROWS = 120
BAD = ["{not json", '{"instruction": "no answer", "output": ""}', "[1]"]


@pytest.fixture
def recipe(
    ray_cluster: None, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A recipe for two files of rows, some of them bad."""
    monkeypatch.setattr(stage, "WINDOW_ROWS", WINDOW_ROWS)
    rows = [
        json.dumps({"id": f"r{n}", "instruction": f"question {n}", "output": f"answer {n} " * 3})
        for n in range(ROWS)
    ]
    rows[10:10] = BAD
    for name, part in (("a", rows[:50]), ("b", rows[50:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(part) + "\n", encoding="utf-8")
    path = tmp_path / "r.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "run",
                "storage": str(tmp_path),
                "model": str(tiny_model_dir),
                "data": [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")],
                "encode": {"max_length": 256},
                "cluster": {"score_actors": 2},
            }
        )
    )
    return path


def run_of(recipe: Path) -> RunDirectory:
    return RunDirectory(str(recipe.parent), "run")


def assert_all_there(recipe: Path, summary: dict) -> None:
    """Every usable row is scored once, and every bad row set aside once."""
    run = run_of(recipe)
    files = parquet_files(run.scores.path)
    ids = pads.dataset(files).to_table(["id"])["id"].to_pylist()
    assert sorted(ids) == sorted(f"r{n}" for n in range(ROWS))
    lines = [json.loads(line)["line"] for line in run.quarantine.read_text().splitlines()]
    assert lines == [11, 12, 13]
    assert summary.rows == ROWS
    assert sum(summary.quarantined.values()) == len(BAD)
    assert run.scores.marker.exists()


def test_an_actor_that_is_killed_is_replaced(recipe: Path, tmp_path: Path) -> None:
    log, pids = tmp_path / "log", []
    saboteur = Saboteur(
        partial(score_faults.kill_actor, log, run_of(recipe).scores.path, pids),
    )
    saboteur.start()
    summary = score_slowly(recipe, log, 0.3)
    assert saboteur.fired == pids
    assert not alive(pids[0])
    assert {call["pid"] for call in calls(log)} > set(pids)
    assert_all_there(recipe, summary)
    again = {name: count for name, count in times_scored(log).items() if count > 1}
    assert len(again) <= 2 * WINDOW_ROWS  # what the dead actor held
    assert max(times_scored(log).values()) <= 2


def killed_driver(recipe: Path, log: Path) -> None:
    """Start scoring in a process of its own and kill it once some rows are written."""
    folder = run_of(recipe).scores.path
    command = [sys.executable, "-m", "tests.ray.score_faults", str(recipe), str(log), "0.3"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as driver:
        started = []
        try:
            deadline = time.monotonic() + WAIT_S
            while len(parquet_files(folder)) < 4 and time.monotonic() < deadline:
                assert driver.poll() is None
                time.sleep(0.01)
            started = psutil.Process(driver.pid).children(recursive=True)
        finally:
            os.kill(driver.pid, signal.SIGKILL)
            driver.wait()
            for process in started:  # Ray's servers end by themselves, some seconds later
                if process.is_running():
                    process.kill()
    psutil.wait_procs(started, timeout=10)
    assert driver.returncode == -signal.SIGKILL


def test_a_run_whose_driver_is_killed_goes_on_where_it_was(recipe: Path, tmp_path: Path) -> None:
    run, first, second = run_of(recipe), tmp_path / "first", tmp_path / "second"
    killed_driver(recipe, first)
    assert not run.scores.marker.exists()
    files = parquet_files(run.scores.path)
    before = set(pads.dataset(files).to_table(["id"])["id"].to_pylist())
    assert 0 < len(before) < ROWS
    half = run.scores.path / "0-half.parquet"
    half.write_bytes(Path(files[0]).read_bytes()[:-20])
    summary = score_slowly(recipe, second, 0.0)
    assert not half.exists()
    assert_all_there(recipe, summary)
    assert set(files) <= set(parquet_files(run.scores.path))
    assert set(times_scored(second)) == {f"r{n}" for n in range(ROWS)} - before
    assert set(times_scored(second).values()) == {1}


def test_too_many_bad_rows_end_the_run_but_lose_nothing(recipe: Path, tmp_path: Path) -> None:
    run, first, second = run_of(recipe), tmp_path / "first", tmp_path / "second"
    raw = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump(raw | {"score": {"max_bad_rows": 2}}))
    with pytest.raises(InputError) as caught:
        score_slowly(recipe, first, 0.0)
    assert f"3 of {ROWS + 3} rows cannot be used" in str(caught.value)
    assert "answer is empty (1 rows)" in str(caught.value)
    assert str(run.quarantine) in str(caught.value)
    assert len(run.quarantine.read_text().splitlines()) == len(BAD)
    assert not run.scores.marker.exists()
    assert len(times_scored(first)) == ROWS
    recipe.write_text(yaml.safe_dump(raw | {"score": {"max_bad_rows": 0.5}}))
    assert_all_there(recipe, score_slowly(recipe, second, 0.0))
    assert not second.exists()  # nothing was scored again
