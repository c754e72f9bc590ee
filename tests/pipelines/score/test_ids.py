import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlirg.config.corpus import DataConfig
from nlirg.corpus.reader import read_shard
from nlirg.corpus.rows import id_of, parse, shards_of
from nlirg.corpus.sources import list_shards
from nlirg.errors import BadRowError, InputError
from pipelines.recipe import Recipe
from pipelines.score import ids, stage
from pipelines.score.ids import IdCheck
from pipelines.store import open_run
from tests.road import score


def row(name: object = None, text: str = "q", **more: object) -> dict:
    given = {} if name is None else {"id": name}
    return {"question": text, "answer": "a", **given, **more}


def write(path: Path, rows: list) -> DataConfig:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return DataConfig(path=str(path))


def check(*sources: DataConfig, task: str = "sft", shard_bytes: int = 4 << 20) -> None:
    shards_of(sources, task)
    IdCheck(sources, task, list_shards(sources, task, shard_bytes)).here()


def refused(*sources: DataConfig, **how: object) -> str:
    with pytest.raises(InputError) as caught:
        check(*sources, **how)
    return str(caught.value)


def test_two_sources_that_count_from_zero(tmp_path) -> None:
    first = write(tmp_path / "a.jsonl", [row(n) for n in range(5)])
    second = write(tmp_path / "b.jsonl", [row(n, "other") for n in range(5)])
    said = refused(first, second)
    assert said.startswith("5 ids stand on more than one row")
    a, b = said.split(" at ")[1].split(": ids must")[0].split(" and ")
    assert (a.split(":")[0], b.split(":")[0]) == (first.path, second.path)
    assert a.split(":")[1] == b.split(":")[1]
    # What it says to do helps.
    assert "set columns: {id: null}" in said
    check(first, second.model_copy(update={"columns": {"id": None}}))
    third = write(tmp_path / "c.jsonl", [row(n, key=f"c{n}") for n in range(5)])
    assert "name another key of the source in its columns ({id: KEY})" in refused(first, third)
    check(first, third.model_copy(update={"columns": {"id": "key"}}))


@pytest.mark.parametrize("names", [["x", "x"], [1, "1"], [1.5, 1.5]])
def test_an_id_that_one_file_has_twice(tmp_path, names) -> None:
    source = write(tmp_path / "a.jsonl", [row(names[0]), row("y"), row(), row(names[1])])
    said = refused(source)
    assert said.startswith(f"1 ids stand on more than one row, e.g. {str(names[0])!r} at ")
    assert f"{source.path}:1 and {source.path}:4: " in said


def test_rows_that_cannot_be_used_repeat_nothing(tmp_path) -> None:
    empty = row("x") | {"answer": " "}
    check(write(tmp_path / "a.jsonl", [row("x"), empty, row("y"), {"id": "y"}, [1], row("\ud800")]))
    assert "'x'" in refused(write(tmp_path / "b.jsonl", [row("x"), empty, row("x")]))


def test_rows_without_an_id_repeat_nothing(tmp_path) -> None:
    check(write(tmp_path / "a.jsonl", [row(), row(), row(""), row("")]))


def test_made_ids_repeat_where_name_line_and_content_do(tmp_path) -> None:
    first = write(tmp_path / "a" / "x.jsonl", [row(), row(text="other")])
    second = write(tmp_path / "b" / "x.jsonl", [row(), row(text="another")])
    said = refused(first, second)
    assert said.startswith("1 ids stand on more than one row")
    assert f"{first.path}:1 and {second.path}:1: these rows have no id" in said


def test_ids_are_those_of_the_columns(tmp_path) -> None:
    source = write(tmp_path / "a.jsonl", [row("x", key=1), row("x", key=2)])
    assert "'x'" in refused(source)
    check(source.model_copy(update={"columns": {"id": "key"}}))
    check(source.model_copy(update={"columns": {"task_type": "id"}}))


def test_tables_with_and_without_a_column_of_ids(tmp_path, monkeypatch) -> None:
    rows = [{"question": "q", "answer": "a", "id": n % 2} for n in range(40)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert "2 ids" in refused(DataConfig(path=str(tmp_path / "a.parquet")))
    (tmp_path / "a.csv").write_text("question,answer\n" + "q,a\n" * 40)
    (tmp_path / "b.csv").write_text("question,answer,id\n" + "q,a,7\n" * 40)
    assert "'7'" in refused(DataConfig(path=str(tmp_path / "b.csv")))
    read = []
    monkeypatch.setattr(
        ids, "read_shard", lambda *of: (read.append(raw) or raw for raw in read_shard(*of))
    )
    check(DataConfig(path=str(tmp_path / "a.csv")))
    assert len(read) == 1, "a table shows in its first row that it has no ids"


def test_documents_have_ids_too(tmp_path) -> None:
    source = write(tmp_path / "a.jsonl", [{"text": "x", "id": 1}, {"text": "y", "id": 1}])
    assert "'1'" in refused(source, task="cpt")


def test_two_ids_of_one_hash_are_no_repetition(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(ids, "id_hashes", lambda names: np.zeros(len(names), np.uint64))
    check(write(tmp_path / "a.jsonl", [row("x"), row("y")]))


def test_a_large_corpus_is_not_read_by_this_process(tmp_path) -> None:
    source = write(tmp_path / "a.jsonl", [row(n) for n in range(50)])
    (shard,) = list_shards([source])
    assert IdCheck([source], "sft", [shard]).is_small
    assert not IdCheck([source], "sft", [shard] * 200_000).is_small
    packed = shard._replace(path="a.jsonl.gz", stop=ids.IN_PROCESS // 2)
    assert not IdCheck([source], "sft", [packed]).is_small


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([None, "", "x", 0, "0", 1, [], {}]), max_size=6), min_size=1),
    st.integers(20, 200),
)
def test_exactly_the_ids_of_usable_rows_that_repeat_are_refused(files, shard_bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sources = [
            write(Path(folder) / f"{n}.jsonl", [row(f"first{n}"), *map(row, names)])
            for n, names in enumerate(files)
        ]
        known: set[str] = set()
        repeated = False
        for shard in list_shards(sources, "sft", shard_bytes):
            for raw in read_shard(shard, sources[shard.data]):
                try:
                    name = parse(raw, sources[shard.data], "sft").id
                except BadRowError:
                    assert id_of(raw, sources[shard.data]) == ""
                    continue
                repeated |= name in known
                known.add(name)
        if repeated:
            refused(*sources, shard_bytes=shard_bytes)
        else:
            check(*sources, shard_bytes=shard_bytes)


def test_a_small_corpus_is_refused_without_ray_and_may_be_mended(
    tmp_path, tiny_model_dir, monkeypatch
) -> None:
    class RayStartsError(Exception):
        pass

    def starts(config: object) -> None:
        raise RayStartsError

    monkeypatch.setattr(stage, "connect", starts)
    first = write(tmp_path / "a.jsonl", [row(n) for n in range(5)])
    second = write(tmp_path / "b.jsonl", [row(n) for n in range(5)])
    recipe = Recipe.model_validate(
        {
            "name": "r",
            "storage": str(tmp_path / "runs"),
            "model": str(tiny_model_dir),
            "data": [first.path, second.path],
        }
    )
    run = open_run(recipe)
    for _ in range(2):  # again is no resumption that is not checked
        with pytest.raises(InputError, match="5 ids stand on more than one row"):
            score(recipe, run)
    write(tmp_path / "b.jsonl", [row(n) for n in range(5, 10)])
    with pytest.raises(RayStartsError):
        score(recipe, run)
