"""What a killed run leaves behind, and what is made of it; rows verified before the marker."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nlirg.corpus.tokens import TokenFiles, token_table
from nlirg.errors import InputError
from nlirg.labels import IGNORE
from nlirg.weighting.zones import ZONES
from pipelines.score import check
from pipelines.score import survey as survey_module
from pipelines.score.check import check_bad_rows, check_every_row_once
from pipelines.score.ledger import BadRows, Ledger, ShardRows, collect_bad, row_index
from pipelines.score.survey import survey
from tests.pipelines.made_scores import TOKENS_SCHEMA


def table(*places: tuple[int, int], prefix: str = "r") -> pa.Table:
    """Scored rows at (shard, line); each has an id of its own."""
    count = len(places)
    return pa.table(
        {
            "id": [f"{prefix}{shard}.{line}" for shard, line in places],
            "row_index": [row_index(shard, line) for shard, line in places],
            "source": [f"/data/{shard}.jsonl" for shard, _ in places],
            "line": [line for _, line in places],
            "band": ["high"] * count,
            "sample_tokens": [[line + 1] for _, line in places],
            "notes": pa.array([["odd"] if line == 1 else [] for _, line in places]),
            "truncated": [line == 1 for _, line in places],
            "n_trained": [line for _, line in places],
            "task_type": [""] * count,
            "n_spans": [0] * count,
            "n_tokens": [line + 1 for _, line in places],
            **dict.fromkeys(("mean_entropy", "similarity", "anomaly"), [0.5] * count),
            "mean_loss": [float(line) for _, line in places],
            **{f"zone_{zone}": [float(zone == "low")] * count for zone in ZONES},
        }
    )


def write(ledger: Ledger, scores: pa.Table) -> None:
    """Write scores with tokens that tell whose they are."""
    rows = [
        {
            "row_index": index,
            "input_ids": [line] * (line + 1),
            "labels": [IGNORE] + [line] * line,
            "token_loss": [0.5] * line,
            "token_entropy": [],
        }
        for index, line in zip(*(scores[n].to_pylist() for n in ("row_index", "line")), strict=True)
    ]
    ledger.write(scores, token_table(pa.Table.from_pylist(rows, TOKENS_SCHEMA), entropy=False))


def ids(files: list[str]) -> list[str]:
    return sorted(name for file in files for name in pq.read_table(file)["id"].to_pylist())


def test_a_second_attempt_takes_what_is_finished_and_removes_the_rest(tmp_path: Path) -> None:
    first = Ledger(tmp_path)
    write(first, table((0, 1), (0, 2), (1, 1)))
    write(first, table((1, 5)))
    whole = Path(next(tmp_path.glob("*.parquet")))
    (tmp_path / "half.parquet").write_bytes(whole.read_bytes()[:-9])
    (tmp_path / f".{whole.name}.x1").write_bytes(b"PAR1")
    (tmp_path / "report.html").write_text("kept")
    second = Ledger(tmp_path)
    finished = second.resume()
    assert finished.rows == Counter({0: 2, 1: 2})
    assert {shard: len(files) for shard, files in finished.where.items()} == {0: 1, 1: 2}
    assert not (tmp_path / "half.parquet").exists()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [
        "",
        ".html",
        ".parquet",
        ".parquet",
    ]
    write(second, table((2, 1)))
    assert ids(second.files(finished)) == ["r0.1", "r0.2", "r1.1", "r1.5", "r2.1"]


def test_what_a_dead_attempt_adds_later_is_nobodys(tmp_path: Path) -> None:
    dead = Ledger(tmp_path)
    write(dead, table((0, 1)))
    alive = Ledger(tmp_path)
    finished = alive.resume()
    write(dead, table((0, 2), (0, 3)))  # by a worker that has outlived its driver
    write(alive, table((0, 2)))
    assert ids(alive.files(finished)) == ["r0.1", "r0.2"]
    assert len(list(tmp_path.glob("*.parquet"))) == 2


def test_scores_and_tokens_are_finished_together_or_not_at_all(tmp_path: Path) -> None:
    first = Ledger(tmp_path)
    for line in (1, 2, 3):
        write(first, table((0, line)))
    by_line = {pq.read_table(path)["line"][0].as_py(): path for path in tmp_path.glob("*.parquet")}
    by_line[1].unlink()  # killed between tokens and scores
    (first.tokens / f"{by_line[2].stem}.arrow").write_bytes(b"ARROW1 half")
    (first.tokens / ".half.arrow.x1").write_bytes(b"")
    second = Ledger(tmp_path)
    finished = second.resume()
    assert finished.rows == {0: 1}
    for line in (1, 2):
        write(second, table((0, line)))
    assert ids(second.files(finished)) == ["r0.1", "r0.2", "r0.3"]
    assert len(list(second.tokens.iterdir())) == 3
    tokens = TokenFiles(second.tokens)
    for place, line in zip(tokens.places(np.array([3, 1, 2])), (3, 1, 2), strict=True):
        assert tokens.row(place).input_ids.tolist() == [line] * (line + 1)


def test_tasks_that_run_twice_leave_everything_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    bad = [{"source": "a", "line": 3, "id": None, "reason": "no answer", "overlong": False}]
    for _ in range(2):
        write(ledger, table((0, 1), (0, 2)))
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
        write(ledger, rows)
    return ledger.files(ledger.resume())


def test_totals_weigh_rows_by_their_trained_tokens(tmp_path: Path) -> None:
    total = survey(written(tmp_path, table((0, 1), (0, 3)), table((1, 2))))
    check_every_row_once(total, {0: ShardRows(2, 5), 1: ShardRows(1, 0)})
    found = total.summary()
    assert found["rows"] == 3
    assert (found["tokens"], found["truncated"], found["bands"]) == (6, 1, {"high": 3})
    assert found["mean_loss"] == pytest.approx((1 * 1 + 3 * 3 + 2 * 2) / 6)
    assert found["zones"] == {zone: float(zone == "low") for zone in ZONES}


def test_repeated_ids_name_one_and_both_places(tmp_path: Path) -> None:
    again = table((1, 7)).set_column(0, "id", [["r0.2"]])
    total = survey(written(tmp_path, table((0, 1), (0, 2)), again))
    with pytest.raises(InputError, match=r"1 ids .* 'r0.2'") as caught:
        check_every_row_once(total, {0: ShardRows(2, 0), 1: ShardRows(1, 0)})
    assert "/data/0.jsonl:2" in str(caught.value)
    assert "/data/1.jsonl:7" in str(caught.value)


def test_different_ids_of_one_hash_are_no_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (check, survey_module):
        monkeypatch.setattr(module, "id_hashes", lambda names: np.zeros(len(names), np.uint64))
    total = survey(written(tmp_path, table((0, 1), (0, 2))))
    check_every_row_once(total, {0: ShardRows(2, 0)})
    assert total.shards == {0: 2}


@pytest.mark.parametrize("usable", [1, 3])
def test_rows_that_are_missing_or_too_many_are_told(tmp_path: Path, usable: int) -> None:
    total = survey(written(tmp_path, table((0, 1), (0, 2))))
    with pytest.raises(InputError, match=f"part 0 .* {usable} usable rows, and 2 of it"):
        check_every_row_once(total, {0: ShardRows(usable, 0)})


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
