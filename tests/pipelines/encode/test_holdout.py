"""Rows kept for the evaluation: fit to be cases, selected, and unlike what is trained."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.rundir import StageFolder
from nlirg.config.corpus import DataConfig
from nlirg.errors import InputError
from pipelines.encode.holdout import choose_holdout
from pipelines.row_table import write_row_table

USABLE = {"prompt": "one", "completion": "two"}
CALLING = {"tools": [{"function": {"name": "f"}}]}
DATA = (DataConfig(path="a.jsonl"),)


def scores(folder: Path, rows: int, usable: set[int], groups: list[list[int]] = ()) -> StageFolder:
    """A scored corpus of rows r0, r1, …; `groups` of nearly equal prompts."""
    table = pa.Table.from_pylist(
        [
            {
                "id": f"r{number}",
                "row_index": number,
                "task_type": "",
                "source": "a.jsonl",
                "line": number,
                "data": 0,
                "row": json.dumps(USABLE if number in usable else USABLE | CALLING),
            }
            for number in range(rows)
        ]
    )
    (folder / "duplicates").mkdir()
    pq.write_table(table, folder / "0.parquet")
    alike = [(row_index, group[0]) for group in groups for row_index in group]
    duplicates = {
        "row_index": pa.array([row_index for row_index, _ in alike], pa.int64()),
        "of": pa.array(["prompt"] * len(alike), pa.string()),
        "kind": pa.array(["near"] * len(alike), pa.string()),
        "group": pa.array([group for _, group in alike], pa.int64()),
    }
    pq.write_table(pa.table(duplicates), folder / "duplicates" / "prompt.parquet")
    return StageFolder(folder)


def select_only(path: Path, row_indices: list[int]) -> Path:
    table = pa.table({"row_index": row_indices, "rank": range(len(row_indices))})
    write_row_table(path, table)
    return path


def test_rows_that_can_be_held_out_are_found_behind_many_that_cannot(tmp_path: Path) -> None:
    scored, path = scores(tmp_path, 100, {3, 77}), tmp_path / "holdout.jsonl"
    assert choose_holdout(scored, None, 2, path, DATA) == {"r3", "r77"}
    assert {json.loads(line)["id"] for line in path.read_text().splitlines()} == {"r3", "r77"}
    with pytest.raises(InputError, match="holdout is 3, and only 2 rows can be cases: lower it"):
        choose_holdout(scored, None, 3, path, DATA)


def test_rows_whose_prompt_nearly_recurs_are_not_held_out(tmp_path: Path) -> None:
    scored = scores(tmp_path, 10, set(range(10)), [[0, 1, 2, 3], [4, 5, 6, 7]])
    path = tmp_path / "holdout.jsonl"
    assert choose_holdout(scored, None, 2, path, DATA) == {"r8", "r9"}
    with pytest.raises(InputError, match=r"only 2 rows can be cases \(8 rows share their prompt"):
        choose_holdout(scored, None, 3, path, DATA)


def test_only_selected_rows_are_held_out_and_only_they_can_be_alike(tmp_path: Path) -> None:
    scored = scores(tmp_path, 10, set(range(10)), [[0, 1, 2, 3], [4, 5, 6, 7]])
    index = select_only(tmp_path / "index.arrow", [9, 0, 4, 5])  # 0 alone of its group
    assert choose_holdout(scored, index, 2, tmp_path / "holdout.jsonl", DATA) == {"r9", "r0"}


def test_no_holdout_needs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    assert choose_holdout(StageFolder(tmp_path), None, 0, path, DATA) == frozenset()
    assert not (tmp_path / "h.jsonl").exists()
