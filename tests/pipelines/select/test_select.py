"""Selection and order: every row is in the corpus, in its place, or named."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.rundir import RunDirectory
from nlirg.config.corpus import DataConfig, SelectConfig
from nlirg.corpus.reader import read_shard
from nlirg.corpus.rows import shards_of
from nlirg.errors import InputError
from tests.pipelines.made_scores import ROWS, LocalRows, N, corpus, dropped, ids, run_with_scores
from tests.road import encode, select


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.select.stage.read_columns", LocalRows.read)
    for name in ("connect", "configure"):
        monkeypatch.setattr(f"pipelines.select.stage.{name}", lambda _: None)


def chosen(folder: Path, **settings: Any) -> tuple[list[str], RunDirectory, dict[str, Any]]:
    recipe, run = run_with_scores(folder, **settings)
    summary = select(recipe, run)
    assert summary is not None
    found = ids(run)
    by_id = {row["id"]: row["row"] for row in ROWS}
    assert corpus(run) == [by_id[name] for name in found]
    assert len(found) == summary.rows
    lost = dropped(run)
    assert sorted([*found, *(row["id"] for row in lost)]) == sorted(by_id)
    assert summary.dropped == dict(Counter(row["rule"] for row in lost))
    assert not (run.selected.path / ".work").exists()
    return found, run, summary


@pytest.mark.parametrize(
    ("order", "column", "sign"),
    [
        ("similarity_rank", "similarity_centered", -1),
        ("filtered_rank", "filtered_rank", 1),
        ("easy_to_hard", "mean_loss", 1),
        ("length", "n_trained", 1),
    ],
)
def test_rows_are_sorted_and_ties_stay_as_they_stand(
    local: None, tmp_path: Path, order: str, column: str, sign: int
) -> None:
    found, run, _ = chosen(tmp_path, order=order)
    expected = sorted(ROWS, key=lambda row: (sign * row[column], row["row_index"]))
    assert found == [row["id"] for row in expected]
    assert dropped(run) == []


def test_a_mixture_has_every_difficulty_in_every_stretch(local: None, tmp_path: Path) -> None:
    found, _, _ = chosen(tmp_path, order="mixed")
    easy = sorted(ROWS, key=lambda row: (row["mean_loss"], row["row_index"]))
    decile = {row["id"]: rank * 10 // N for rank, row in enumerate(easy)}
    for start in range(N - 10 + 1):
        assert {decile[name] for name in found[start : start + 10]} == set(range(10))


@pytest.mark.parametrize("order", ["random", "mixed", "filtered_rank"])
def test_files_and_blocks_of_the_scores_do_not_matter(
    local: None, tmp_path: Path, order: str
) -> None:
    rules = {"ranges": {"mean_loss": [None, 9]}, "dedup": "answer", "per_task_type": 2}
    first, second = (
        chosen(tmp_path / str(files), files=files, seed=files, order=order, select=rules)
        for files in (1, 7)
    )
    assert first[0] == second[0]
    assert dropped(first[1]) == dropped(second[1])


def test_rules_name_what_they_drop(local: None, tmp_path: Path) -> None:
    rules = {"bands": ["high", "good", "fair"], "ranges": {"mean_loss": [1, 9]}}
    found, run, _ = chosen(tmp_path, order="length", select=rules)
    by_id = {row["id"]: row for row in ROWS}
    assert set(found) == {
        row["id"] for row in ROWS if row["band"] != "suspect" and 1 <= row["mean_loss"] <= 9
    }
    lost = dropped(run)
    assert [by_id[row["id"]]["row_index"] for row in lost] == sorted(
        by_id[row["id"]]["row_index"] for row in lost
    )
    for row in lost:
        told = by_id[row["id"]]
        assert (row["source"], row["line"]) == (told["source"], told["line"])
        if told["band"] == "suspect":
            assert row["reason"] == "band is suspect, not high or good or fair"
        else:
            assert row["rule"] == "ranges.mean_loss"
            assert row["reason"] == f"mean_loss is {told['mean_loss']:g}, " + (
                "below 1" if told["mean_loss"] == 0 else "above 9"
            )


@pytest.mark.parametrize("near", [False, True])
def test_the_first_row_in_the_corpus_that_other_rules_keep_stands_for_its_duplicates(
    local: None, tmp_path: Path, near: bool
) -> None:
    rules = {"bands": ["good", "fair", "suspect"], "dedup": "answer", "near": near}
    found, run, summary = chosen(tmp_path, order="similarity_rank", select=rules)
    first = {}
    for row in ROWS:
        if row["band"] != "high":
            first.setdefault(int(row["id"][1:]) % 7, row["id"])
    assert set(found) == set(first.values())
    assert summary.dropped == {"bands": 15, "dedup": N - 15 - 7}
    for row in dropped(run):
        if row["rule"] == "dedup":
            original = first[int(row["id"][1:]) % 7]
            how = "nearly repeats" if near else "repeats"
            assert row["reason"] == f"{how} the answer of row {original!r}"


def test_caps_keep_the_first_rows_of_the_order(local: None, tmp_path: Path) -> None:
    rules = {"per_task_type": {"a": 5}, "per_answer": 3}
    found, run, summary = chosen(tmp_path, order="easy_to_hard", select=rules)
    tasks, answers, expected = Counter[str](), Counter[int](), []
    for row in sorted(ROWS, key=lambda row: (row["mean_loss"], row["row_index"])):
        answer = int(row["id"][1:]) % 7
        if (row["task_type"] == "a" and tasks["a"] == 5) or answers[answer] == 3:
            continue
        tasks[row["task_type"]] += 1
        answers[answer] += 1
        expected.append(row["id"])
    assert found == expected
    assert set(summary.dropped) == {"per_task_type", "per_answer"}
    assert "the 5 rows of task_type 'a' come before it" in {row["reason"] for row in dropped(run)}


def test_a_capped_mixture_is_a_fair_one(local: None, tmp_path: Path) -> None:
    found, _, _ = chosen(tmp_path, order="mixed", select={"per_task_type": 20})
    losses = {row["id"]: row["mean_loss"] for row in ROWS}
    kept = [losses[name] for name in found]
    assert len(kept) == 40
    assert np.mean(kept) == pytest.approx(np.mean(list(losses.values())), abs=1)  # not the easiest
    easy = sorted(
        found,
        key=lambda name: (losses[name], next(r["row_index"] for r in ROWS if r["id"] == name)),
    )
    decile = {name: rank * 10 // 40 for rank, name in enumerate(easy)}
    for start in range(40 - 10 + 1):
        assert {decile[name] for name in found[start : start + 10]} == set(range(10))


def test_the_selected_corpus_can_be_read_as_data(local: None, tmp_path: Path) -> None:
    found, run, _ = chosen(tmp_path, order="similarity_rank", select={"per_task_type": 20})
    data = (DataConfig(path=str(run.selected.path / "corpus-*.jsonl")),)
    raw = [row for shard in shards_of(data, "sft") for row in read_shard(shard, data[shard.data])]
    assert [row.error for row in raw] == [""] * len(raw)
    by_id = {row["id"]: json.loads(row["row"]) for row in ROWS}
    assert [row.value for row in raw] == [by_id[name] for name in found]


def test_many_files_are_in_order_by_their_names(
    local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.select.stage.ROWS_PER_FILE", 7)
    _, run, _ = chosen(tmp_path, order="easy_to_hard")
    assert len(list(run.selected.path.glob("corpus-*.jsonl"))) == 9


def test_nothing_to_select_writes_nothing(local: None, tmp_path: Path) -> None:
    recipe, run = run_with_scores(tmp_path)
    assert recipe.select == SelectConfig()
    assert select(recipe, run) is None
    assert not run.selected.path.exists()


def test_what_a_crash_has_left_is_not_taken_for_the_selection(local: None, tmp_path: Path) -> None:
    recipe, run = run_with_scores(tmp_path, order="length")
    left = run.selected.path / ".work" / "judged" / "half.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"PAR1")
    (run.selected.path / "corpus-00099.jsonl").write_text("{half")
    with pytest.raises(InputError, match="run select first"):
        encode(recipe, run)
    summary = select(recipe, run)
    assert summary is not None
    assert summary.rows == len(corpus(run)) == N
    assert not left.exists()
    before = {path: path.stat().st_mtime_ns for path in run.selected.path.iterdir()}
    assert select(recipe, run) == summary
    assert {path: path.stat().st_mtime_ns for path in run.selected.path.iterdir()} == before


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"ranges": {"mean_los": [0, 1]}}, "no such column of numbers; they have .*mean_loss"),
        ({"ranges": {"mean_loss": [90, None]}}, "drops every row: 60 by ranges.mean_loss"),
        ({"per_task_type": {"c": 1}}, "task_type 'c'; there are 'a', 'b'"),
        ({"dedup": "prompt"}, "has no duplicates/"),
    ],
)
def test_rules_that_cannot_be_are_one_clear_line(
    local: None, tmp_path: Path, rules: dict[str, Any], said: str
) -> None:
    recipe, run = run_with_scores(tmp_path, select=rules)
    (run.scores.path / "duplicates" / "answer.parquet").unlink()
    with pytest.raises(InputError, match=said):
        select(recipe, run)
    assert not run.selected.marker.exists()
