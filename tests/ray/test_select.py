"""Selection and order on a real cluster: every row is in the corpus, in its place, or named."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from cluster.rundir import RunDirectory
from nlirg.config import DataConfig, SelectConfig
from nlirg.corpus import read_shard
from nlirg.errors import InputError
from nlirg.rows import shards_of
from pipelines.encode import encode
from pipelines.positions import open_by_position
from pipelines.recipe import Recipe, validate
from pipelines.select import select
from pipelines.train_worker import read_encoded

pytestmark = pytest.mark.ray

N = 60
BANDS = ("high", "good", "fair", "suspect")
HOSTILE = 'a/b "quoted" \\ 中文 \u2028 \n tab\t 😀'
DUPLICATES = pa.schema(
    {"position": pa.int64(), "of": pa.string(), "kind": pa.string(), "group": pa.int64()}
)


def scored_row(number: int) -> dict[str, Any]:
    """A row as scoring leaves it; scores take few values, so that there are ties."""
    tokens = 2 + number % 5
    said = {"instruction": f"q{number} {HOSTILE}", "output": f"a{number % 7}", "extra": None}
    turns = [
        {"role": "user", "content": said["instruction"]},
        {"role": "assistant", "content": said["output"]},
    ]
    return {
        "id": f"r{number}",
        "position": (number // 25 << 32) + number % 25,
        "source": f"/corpus/{number // 25}.jsonl",
        "line": number % 25,
        "task_type": "ab"[number % 2],
        "row": json.dumps(said, ensure_ascii=False),
        "messages": json.dumps(turns),
        "tools": "[]",
        "truncated": False,
        "n_tokens": tokens + 1,
        "n_trained": tokens,
        "mean_loss": float(number * 7 % 11),
        "band": BANDS[number % 4],
        "similarity_centered": (number * 5 % 9) / 9,
        "filtered_rank": float(number * 3 % 4),
        "input_ids": [number] * (tokens + 1),
        "labels": [-100] + [number] * tokens,
        "segments": [tokens + 1],
        "token_loss": [1.0] * tokens,
    }


ROWS = [scored_row(number) for number in range(N)]
BY_POSITION = {row["position"]: row for row in ROWS}


def same_answers(kind: str = "exact") -> list[dict[str, Any]]:
    """Rows with one answer: every seventh."""
    return [
        {
            "position": ROWS[number]["position"],
            "of": "answer",
            "kind": kind,
            "group": ROWS[number % 7]["position"],
        }
        for number in range(N)
    ]


def run_with_scores(
    folder: Path, files: int = 3, seed: int = 0, **settings: Any
) -> tuple[Recipe, RunDirectory]:
    """A run whose scores lie in so many files, their rows shuffled among them."""
    raw = {"name": "a", "storage": str(folder), "model": "none", "data": ["none.jsonl"]}
    recipe = validate(raw | settings, "test")
    run = RunDirectory(recipe.storage, recipe.name)
    order = np.random.default_rng(seed).permutation(N)
    (run.scores.path / "duplicates").mkdir(parents=True)
    for number, part in enumerate(np.array_split(order, files)):
        table = pa.Table.from_pylist([ROWS[index] for index in part])
        pq.write_table(table, run.scores.path / f"{number}.parquet")
    table = pa.Table.from_pylist([*same_answers(), *same_answers("near")], schema=DUPLICATES)
    pq.write_table(table, run.scores.path / "duplicates" / "answer.parquet")
    run.scores.succeed("scored", {"rows": N, "truncated": 0, "skipped": 0})
    return recipe, run


def corpus(run: RunDirectory) -> list[str]:
    """Lines of the selected corpus."""
    files = sorted(run.selected.path.glob("corpus-*.jsonl"))
    return [line for file in files for line in file.read_bytes().decode().split("\n") if line]


def dropped(run: RunDirectory) -> list[dict[str, Any]]:
    text = (run.selected.path / "dropped.jsonl").read_text()
    return [json.loads(line) for line in text.split("\n") if line]


def ids(run: RunDirectory) -> list[str]:
    """Ids of the selected rows in order, as the index has them."""
    table = open_by_position(run.selected.path / "index.arrow").sort_by("rank")
    assert table["rank"].to_pylist() == list(range(table.num_rows))
    return [BY_POSITION[position]["id"] for position in table["position"].to_pylist()]


def chosen(folder: Path, **settings: Any) -> tuple[list[str], RunDirectory, dict[str, Any]]:
    recipe, run = run_with_scores(folder, **settings)
    summary = select(recipe, run)
    assert summary is not None
    found = ids(run)
    by_id = {row["id"]: row["row"] for row in ROWS}
    assert corpus(run) == [by_id[name] for name in found]
    assert len(found) == summary["rows"]
    lost = dropped(run)
    assert sorted([*found, *(row["id"] for row in lost)]) == sorted(by_id)
    assert summary["dropped"] == dict(Counter(row["rule"] for row in lost))
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
    ray_cluster: None, tmp_path: Path, order: str, column: str, sign: int
) -> None:
    found, run, _ = chosen(tmp_path, order=order)
    expected = sorted(ROWS, key=lambda row: (sign * row[column], row["position"]))
    assert found == [row["id"] for row in expected]
    assert dropped(run) == []


def test_a_mixture_has_every_difficulty_in_every_stretch(ray_cluster: None, tmp_path: Path) -> None:
    found, _, _ = chosen(tmp_path, order="mixed")
    easy = sorted(ROWS, key=lambda row: (row["mean_loss"], row["position"]))
    decile = {row["id"]: rank * 10 // N for rank, row in enumerate(easy)}
    for start in range(N - 10 + 1):
        assert {decile[name] for name in found[start : start + 10]} == set(range(10))


@pytest.mark.parametrize("order", ["random", "mixed", "filtered_rank"])
def test_files_and_blocks_of_the_scores_do_not_matter(
    ray_cluster: None, tmp_path: Path, order: str
) -> None:
    rules = {"ranges": {"mean_loss": [None, 9]}, "dedup": "answer", "per_task_type": 2}
    first, second = (
        chosen(tmp_path / str(files), files=files, seed=files, order=order, select=rules)
        for files in (1, 7)
    )
    assert first[0] == second[0]
    assert dropped(first[1]) == dropped(second[1])


def test_rules_name_what_they_drop(ray_cluster: None, tmp_path: Path) -> None:
    rules = {"bands": ["high", "good", "fair"], "ranges": {"mean_loss": [1, 9]}}
    found, run, _ = chosen(tmp_path, order="length", select=rules)
    by_id = {row["id"]: row for row in ROWS}
    assert set(found) == {
        row["id"] for row in ROWS if row["band"] != "suspect" and 1 <= row["mean_loss"] <= 9
    }
    lost = dropped(run)
    assert [by_id[row["id"]]["position"] for row in lost] == sorted(
        by_id[row["id"]]["position"] for row in lost
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
    ray_cluster: None, tmp_path: Path, near: bool
) -> None:
    rules = {"bands": ["good", "fair", "suspect"], "dedup": "answer", "near": near}
    found, run, summary = chosen(tmp_path, order="similarity_rank", select=rules)
    first = {}
    for row in ROWS:
        if row["band"] != "high":
            first.setdefault(int(row["id"][1:]) % 7, row["id"])
    assert set(found) == set(first.values())
    assert summary["dropped"] == {"bands": 15, "dedup": N - 15 - 7}
    for row in dropped(run):
        if row["rule"] == "dedup":
            original = first[int(row["id"][1:]) % 7]
            how = "nearly repeats" if near else "repeats"
            assert row["reason"] == f"{how} the answer of row {original!r}"


def test_caps_keep_the_first_rows_of_the_order(ray_cluster: None, tmp_path: Path) -> None:
    rules = {"per_task_type": {"a": 5}, "per_answer": 3}
    found, run, summary = chosen(tmp_path, order="easy_to_hard", select=rules)
    tasks, answers, expected = Counter[str](), Counter[int](), []
    for row in sorted(ROWS, key=lambda row: (row["mean_loss"], row["position"])):
        answer = int(row["id"][1:]) % 7
        if (row["task_type"] == "a" and tasks["a"] == 5) or answers[answer] == 3:
            continue
        tasks[row["task_type"]] += 1
        answers[answer] += 1
        expected.append(row["id"])
    assert found == expected
    assert set(summary["dropped"]) == {"per_task_type", "per_answer"}
    assert "the 5 rows of task_type 'a' come before it" in {row["reason"] for row in dropped(run)}


def test_a_capped_mixture_is_a_fair_one(ray_cluster: None, tmp_path: Path) -> None:
    found, _, _ = chosen(tmp_path, order="mixed", select={"per_task_type": 20})
    losses = {row["id"]: row["mean_loss"] for row in ROWS}
    kept = [losses[name] for name in found]
    assert len(kept) == 40
    assert np.mean(kept) == pytest.approx(np.mean(list(losses.values())), abs=1)  # not the easiest
    easy = sorted(
        found, key=lambda name: (losses[name], next(r["position"] for r in ROWS if r["id"] == name))
    )
    decile = {name: rank * 10 // 40 for rank, name in enumerate(easy)}
    for start in range(40 - 10 + 1):
        assert {decile[name] for name in found[start : start + 10]} == set(range(10))


def test_the_selected_corpus_can_be_read_as_data(ray_cluster: None, tmp_path: Path) -> None:
    found, run, _ = chosen(tmp_path, order="similarity_rank", select={"per_task_type": 20})
    data = (DataConfig(path=str(run.selected.path / "corpus-*.jsonl")),)
    raw = [row for shard in shards_of(data, "sft") for row in read_shard(shard, data[shard.data])]
    assert [row.error for row in raw] == [""] * len(raw)
    by_id = {row["id"]: json.loads(row["row"]) for row in ROWS}
    assert [row.value for row in raw] == [by_id[name] for name in found]


def test_many_files_are_in_order_by_their_names(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipelines.select as module

    monkeypatch.setattr(module, "ROWS_PER_FILE", 7)
    recipe, run = run_with_scores(tmp_path, order="easy_to_hard")
    original = module.RankRows

    class Small(original):
        def __call__(self, batch: pa.Table) -> pa.Table:
            rows = super().__call__(batch)
            return rows.drop_columns("file").append_column(
                "file", pa.array(rows["rank"].to_numpy() // 7)
            )

    monkeypatch.setattr(module, "RankRows", Small)
    select(recipe, run)
    assert len(list(run.selected.path.glob("corpus-*.jsonl"))) == 9
    by_id = {row["id"]: row["row"] for row in ROWS}
    assert corpus(run) == [by_id[name] for name in ids(run)]


def test_nothing_to_select_writes_nothing(ray_cluster: None, tmp_path: Path) -> None:
    recipe, run = run_with_scores(tmp_path)
    assert recipe.select == SelectConfig()
    assert select(recipe, run) is None
    assert not run.selected.path.exists()


def test_what_a_crash_has_left_is_not_taken_for_the_selection(
    ray_cluster: None, tmp_path: Path
) -> None:
    recipe, run = run_with_scores(tmp_path, order="length")
    left = run.selected.path / ".work" / "judged" / "half.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"PAR1")
    (run.selected.path / "corpus-00099.jsonl").write_text("{half")
    with pytest.raises(InputError, match="run select first"):
        encode(recipe, run)
    summary = select(recipe, run)
    assert summary is not None
    assert summary["rows"] == len(corpus(run)) == N
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
    ray_cluster: None, tmp_path: Path, rules: dict[str, Any], said: str
) -> None:
    recipe, run = run_with_scores(tmp_path, select=rules)
    (run.scores.path / "duplicates" / "answer.parquet").unlink()
    with pytest.raises(InputError, match=said):
        select(recipe, run)
    assert not run.selected.marker.exists()


def test_training_reads_the_selected_rows_in_the_order(ray_cluster: None, tmp_path: Path) -> None:
    found, run, _ = chosen(tmp_path, order="filtered_rank", select={"bands": ["high", "good"]})
    recipe, _ = validate_again(run), run
    summary = encode(recipe, run)
    (trained,) = read_encoded(run.encoded.path, tmp_path / "cache")
    assert [f"r{row['input_ids'][0]}" for row in trained.rows] == found
    assert summary["rows"] == len(found) == N // 2


def validate_again(run: RunDirectory) -> Recipe:
    raw = {"name": "a", "storage": str(run.path.parent), "model": "none", "data": ["none.jsonl"]}
    rules = {"order": "filtered_rank", "select": {"bands": ["high", "good"]}}
    return validate(raw | rules, "test")


def test_documents_are_packed_with_their_neighbours_in_the_order(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.encode.GROUP_DOCUMENTS", 8)
    cpt = {"task": "cpt", "pack_length": 12}
    recipe, run = run_with_scores(
        tmp_path, order="easy_to_hard", encode=cpt, select={"bands": ["high", "good", "fair"]}
    )
    select(recipe, run)
    summary = encode(recipe, run)
    assert summary["documents"] == 45
    packs = sorted(
        pads.dataset([str(p) for p in run.encoded.path.glob("*.parquet")]).to_table().to_pylist(),
        key=lambda row: row["position"],
    )
    order = ids(run)
    seen = [{f"r{token}" for token in pack["input_ids"]} for pack in packs]
    groups = [pack["position"] >> 32 for pack in packs]
    for number in range(-(-45 // 8)):
        members = set().union(
            *(s for s, group in zip(seen, groups, strict=True) if group == number)
        )
        assert members == set(order[number * 8 : number * 8 + 8])
