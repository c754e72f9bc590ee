"""What a killed run leaves behind, and what is made of it; rows verified before the marker."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nlirg.errors import InputError
from nlirg.weighting.zones import ZONES
from pipelines.score import check
from pipelines.score.check import check_bad_rows, verified_totals
from pipelines.score.ledger import BadRows, Ledger, ShardRows, collect_bad, position


def table(*places: tuple[int, int], prefix: str = "r") -> pa.Table:
    """Scored rows at (shard, line); each has an id of its own."""
    count = len(places)
    return pa.table(
        {
            "id": [f"{prefix}{shard}.{line}" for shard, line in places],
            "position": [position(shard, line) for shard, line in places],
            "source": [f"/data/{shard}.jsonl" for shard, _ in places],
            "line": [line for _, line in places],
            "band": ["high"] * count,
            "truncated": [line == 1 for _, line in places],
            "n_trained": [line for _, line in places],
            "mean_loss": [float(line) for _, line in places],
            **{f"zone_{zone}": [float(zone == "low")] * count for zone in ZONES},
        }
    )


def ids(files: list[str]) -> list[str]:
    return sorted(name for file in files for name in pq.read_table(file)["id"].to_pylist())


def test_a_second_attempt_takes_what_is_finished_and_removes_the_rest(tmp_path: Path) -> None:
    first = Ledger(tmp_path)
    first.write(table((0, 1), (0, 2), (1, 1)))
    first.write(table((1, 5)))
    whole = Path(next(tmp_path.glob("*.parquet")))
    (tmp_path / "half.parquet").write_bytes(whole.read_bytes()[:-9])
    (tmp_path / f".{whole.name}.x1").write_bytes(b"PAR1")
    (tmp_path / "report.html").write_text("kept")
    second = Ledger(tmp_path)
    finished = second.resume()
    assert finished.rows == Counter({0: 2, 1: 2})
    assert {shard: len(files) for shard, files in finished.where.items()} == {0: 1, 1: 2}
    assert not (tmp_path / "half.parquet").exists()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".html", ".parquet", ".parquet"]
    second.write(table((2, 1)))
    assert ids(second.files(finished)) == ["r0.1", "r0.2", "r1.1", "r1.5", "r2.1"]


def test_what_a_dead_attempt_adds_later_is_nobodys(tmp_path: Path) -> None:
    dead = Ledger(tmp_path)
    dead.write(table((0, 1)))
    alive = Ledger(tmp_path)
    finished = alive.resume()
    dead.write(table((0, 2), (0, 3)))  # by a worker that has outlived its driver
    alive.write(table((0, 2)))
    assert ids(alive.files(finished)) == ["r0.1", "r0.2"]
    assert len(list(tmp_path.glob("*.parquet"))) == 2


def test_tasks_that_run_twice_leave_everything_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    bad = [{"source": "a", "line": 3, "id": None, "reason": "no answer", "overlong": False}]
    for _ in range(2):
        ledger.write(table((0, 1), (0, 2)))
        ledger.finish_shard(0, ShardRows(2, 1), bad)
    assert ids(ledger.files(ledger.resume())) == ["r0.1", "r0.2"]
    assert ledger.all_shards(1) == {0: ShardRows(2, 1)}
    assert collect_bad(ledger, tmp_path / "bad.jsonl").unusable == {"no answer": 1}
    assert [json.loads(line) for line in (tmp_path / "bad.jsonl").open()] == bad


def test_a_part_that_was_not_read_is_told(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.finish_shard(1, ShardRows(2, 0), [])
    assert ledger.shard_rows(0) is None
    with pytest.raises(InputError, match="part 0 of the corpus was not read"):
        ledger.all_shards(2)


def test_bad_rows_stand_in_the_order_of_the_corpus_and_are_counted_by_reason(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path)
    for shard in (10, 2):
        row = {"line": shard, "reason": f"prompt has {shard} tokens", "overlong": True}
        ledger.finish_shard(shard, ShardRows(0, 2), [row, {**row, "overlong": False}])
    found = collect_bad(ledger, tmp_path / "bad.jsonl")
    assert found.unusable == found.overlong == {"prompt has # tokens": 2}
    assert found.commonest() == {"prompt has # tokens": 4}
    assert [json.loads(line)["line"] for line in (tmp_path / "bad.jsonl").open()] == [2, 2, 10, 10]


def written(folder: Path, *tables: pa.Table) -> list[str]:
    ledger = Ledger(folder)
    for rows in tables:
        ledger.write(rows)
    return ledger.files(ledger.resume())


def test_totals_weigh_rows_by_their_trained_tokens(tmp_path: Path) -> None:
    files = written(tmp_path, table((0, 1), (0, 3)), table((1, 2)))
    found = verified_totals(files, {0: ShardRows(2, 5), 1: ShardRows(1, 0)}).summary()
    assert found["rows"] == 3
    assert (found["tokens"], found["truncated"], found["bands"]) == (6, 1, {"high": 3})
    assert found["mean_loss"] == pytest.approx((1 * 1 + 3 * 3 + 2 * 2) / 6)
    assert found["zones"] == {zone: float(zone == "low") for zone in ZONES}


def test_repeated_ids_name_one_and_both_places(tmp_path: Path) -> None:
    again = table((1, 7)).set_column(0, "id", [["r0.2"]])
    files = written(tmp_path, table((0, 1), (0, 2)), again)
    with pytest.raises(InputError, match=r"1 ids .* 'r0.2'") as caught:
        verified_totals(files, {0: ShardRows(2, 0), 1: ShardRows(1, 0)})
    assert "/data/0.jsonl:2" in str(caught.value)
    assert "/data/1.jsonl:7" in str(caught.value)


def test_different_ids_of_one_hash_are_no_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "id_hashes", lambda names: np.zeros(len(names), np.uint64))
    files = written(tmp_path, table((0, 1), (0, 2)))
    assert verified_totals(files, {0: ShardRows(2, 0)}).rows == {0: 2}


@pytest.mark.parametrize("usable", [1, 3])
def test_rows_that_are_missing_or_too_many_are_told(tmp_path: Path, usable: int) -> None:
    files = written(tmp_path, table((0, 1), (0, 2)))
    with pytest.raises(InputError, match=f"part 0 .* {usable} usable rows, and 2 of it"):
        verified_totals(files, {0: ShardRows(usable, 0)})


@pytest.mark.parametrize(
    ("limit", "usable", "bad", "allowed"),
    [
        (0.1, 90, 10, True),
        (0.1, 89, 11, False),
        (5, 10, 5, True),
        (5, 10_000, 6, False),
        (0, 1000, 0, True),
        (0, 1000, 1, False),
        (1, 1000, 1, True),
    ],
)
def test_bad_rows_are_bounded_by_share_or_number(
    limit: float, usable: int, bad: int, allowed: bool
) -> None:
    found = BadRows(Counter({"no answer": bad}), Counter({"too long": 10**6}))
    if allowed:
        check_bad_rows(usable, found, limit, Path("q.jsonl"))
        return
    with pytest.raises(InputError, match=rf"{bad} of {usable + bad} rows .*no answer \({bad} rows"):
        check_bad_rows(usable, found, limit, Path("q.jsonl"))


def test_a_corpus_without_a_usable_row_says_why() -> None:
    with pytest.raises(InputError, match=r"no usable row .* no answer .* see q.jsonl"):
        check_bad_rows(0, BadRows(Counter({"no answer": 2})), 1.0, Path("q.jsonl"))
    with pytest.raises(InputError, match=r"no usable row .* too long"):
        check_bad_rows(0, BadRows(overlong=Counter({"too long": 2})), 10, Path("q.jsonl"))
