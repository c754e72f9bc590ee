import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nlirg.config.corpus import DataConfig
from nlirg.corpus.reader import RawRow, read_shard
from nlirg.corpus.sources import Shard, list_shards
from nlirg.errors import InputError

ROWS = [{"instruction": "问\n1", "output": 'say "hi",\tyes'}, {"instruction": "2", "output": ""}]
CSV = 'instruction,output\r\n"问\n1","say ""hi"",\tyes"\r\n2,\r\n'
TSV = 'instruction\toutput\n"问\n1"\t"say ""hi"",\tyes"\n2\t\n'
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TEXTS = {
    "a.json": json.dumps(ROWS, ensure_ascii=False),
    "a.jsonl": JSONL,
    "a.ndjson": JSONL,
    "lines.json": JSONL,
    "a.csv": CSV,
    "A.CSV": CSV,
    "a.tsv": TSV,
    "a.dump": JSONL,
}
PACKED = {"": bytes, ".gz": gzip.compress, ".zst": lambda b: pa.compress(b, "zstd", asbytes=True)}


def read(*data: DataConfig | Path, task: str = "sft", **options) -> list[RawRow]:
    sources = [s if isinstance(s, DataConfig) else DataConfig(path=str(s)) for s in data]
    shards = list_shards(sources, task, **options)
    return [row for shard in shards for row in read_shard(shard, sources[shard.data])]


def values(*data: DataConfig | Path, **options) -> list:
    rows = read(*data, **options)
    assert not [row.error for row in rows if row.error]
    return [row.value for row in rows]


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("name", TEXTS)
def test_every_kind_of_file_holds_the_same_rows(tmp_path, name, packing) -> None:
    path = tmp_path / (name + packing)
    for mark in ("", "\ufeff"):
        path.write_bytes(PACKED[packing]((mark + TEXTS[name]).encode()))
        assert values(path) == ROWS


@pytest.mark.parametrize("encoding", ["gbk", "gb18030", "utf-16", "utf-16-le", "utf-8-sig"])
@pytest.mark.parametrize("name", TEXTS)
def test_another_encoding_is_read_where_the_source_names_it(tmp_path, name, encoding) -> None:
    path = tmp_path / name
    path.write_bytes(TEXTS[name].encode(encoding))
    assert values(DataConfig(path=str(path), encoding=encoding), shard_bytes=1) == ROWS


def test_parquet_is_cut_at_row_groups(tmp_path) -> None:
    rows = [{"n": n, "output": f"{n}" * 50} for n in range(1000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=90)
    data = [DataConfig(path=str(tmp_path))]
    for size, count in ((1, 12), (1 << 30, 1)):
        shards = list_shards(data, shard_bytes=size)
        assert len(shards) == count
        assert all(shard.counted for shard in shards)
        assert [shard.stop for shard in shards[:-1]] == [shard.start for shard in shards[1:]]
        found = [row for shard in shards for row in read_shard(shard, data[0])]
        assert [(row.line, row.value) for row in found] == list(enumerate(rows, start=1))


def test_a_directory_is_read_whole_and_text_only_as_documents(tmp_path) -> None:
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"text"))
    (tmp_path / "folder.csv").mkdir()
    known = sorted(name for name in TEXTS if name != "a.dump")
    assert [Path(row.source).name for row in read(tmp_path)][::2] == known
    assert {"text": "text"} in values(tmp_path, task="cpt")


def test_paths_may_be_files_directories_and_globs(tmp_path) -> None:
    for name in ("b.jsonl", "a.json", "c.ndjson", "notes.txt", "sub.json/d.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"a": 1}')
    (tmp_path / "odd[1].jsonl").write_text('{"a": 1}')

    def names(*paths: str) -> list[str]:
        shards = list_shards([DataConfig(path=str(tmp_path / path)) for path in paths])
        return [str(Path(shard.path).relative_to(tmp_path)) for shard in shards]

    assert names("b.jsonl", "a.json") == ["b.jsonl", "a.json"]
    assert names("notes.txt") == ["notes.txt"]
    assert names("sub.json") == ["sub.json/d.jsonl"]
    assert names("?.json*") == ["a.json", "b.jsonl"]
    assert names("**/d.jsonl") == ["sub.json/d.jsonl"]
    assert names("odd[1].jsonl") == ["odd[1].jsonl"]
    assert names("a.json", "*.json", "a.json") == ["a.json"]


def test_paths_are_absolute_for_workers_in_other_directories(tmp_path, monkeypatch) -> None:
    (tmp_path / "x.jsonl").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert list_shards([DataConfig(path="x.jsonl")])[0].path == str(tmp_path / "x.jsonl")


def test_a_shard_knows_its_source_and_fits_into_json(tmp_path) -> None:
    for name in ("a.jsonl", "b.csv"):
        (tmp_path / name).write_text("x\n1\n")
    shards = list_shards([DataConfig(path=str(tmp_path / name)) for name in ("a.jsonl", "b.csv")])
    assert [(Path(shard.path).name, shard.data) for shard in shards] == [
        ("a.jsonl", 0),
        ("b.csv", 1),
    ]
    assert [Shard(**json.loads(json.dumps(shard._asdict()))) for shard in shards] == shards


def test_one_file_in_two_sources_that_disagree_is_refused(tmp_path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV)
    once = DataConfig(path=str(path))
    assert len(list_shards([once, DataConfig(path=str(tmp_path))])) == 1
    with pytest.raises(InputError, match=r"a\.csv: two sources name it with different settings"):
        list_shards([once, DataConfig(path=str(tmp_path), columns={"output": "x"})])


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nowhere.jsonl", "no such file"),
        ("no*.jsonl", "no file matches"),
        ("empty", "holds no file"),
        ("blank.json", "is empty"),
        ("blank.csv.gz", "is empty"),
        ("none.parquet", "is empty"),
        ("packed.jsonl", "is compressed; let its name end in"),
        ("no.gz", "cannot read it: zlib inflate failed"),
        ("half.parquet", "is no whole Parquet file"),
        ("x.parquet.gz", "unpack it first"),
        ("photo.jpg", "is no JSON, and its name ends in none of"),
        ("saved/state.json", "no such file"),
    ],
)
def test_paths_that_cannot_be_read(tmp_path, path, reason) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.json").write_text("\n \n")
    (tmp_path / "blank.csv.gz").write_bytes(gzip.compress(b" "))
    (tmp_path / "packed.jsonl").write_bytes(gzip.compress(b"{}"))
    (tmp_path / "no.gz").write_bytes(b"{}" * 20)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "x.parquet.gz").write_bytes(b"PAR1")
    pq.write_table(pa.table({"a": pa.array([], pa.string())}), tmp_path / "none.parquet")
    pq.write_table(pa.table({"a": ["x"] * 99}), tmp_path / "half.parquet")
    whole = (tmp_path / "half.parquet").read_bytes()
    (tmp_path / "half.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=reason) as caught:
        list_shards([DataConfig(path=str(tmp_path / path))])
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_encoding_nobody_knows_is_refused(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("x")
    for name in ("klingon", "base64"):
        with pytest.raises(InputError, match=f"there is no encoding '{name}'"):
            list_shards([DataConfig(path=str(tmp_path / "a.txt"), encoding=name)])


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_of_a_damaged_packed_file_the_rows_before_are_kept(tmp_path, name, packing) -> None:
    line = {"a.jsonl": '{"n": %d}\n', "a.csv": "%d\n", "a.txt": "%d\n"}[name]
    packed = PACKED[packing]("".join(line % n for n in range(99_999)).encode())
    (tmp_path / (name + packing)).write_bytes(packed[: len(packed) // 2])
    *good, bad = read(tmp_path / (name + packing), task="cpt")
    assert len(good) > 1000
    assert not any(row.error for row in good)
    assert bad.line == good[-1].line + 1
    assert f"damaged after row {good[-1].line}, what follows is lost: Truncated" in bad.error


def test_of_a_damaged_packed_array_the_rows_before_are_kept(tmp_path) -> None:
    packed = gzip.compress(json.dumps(list(range(99_999))).encode())
    (tmp_path / "a.json.gz").write_bytes(packed[: len(packed) // 2])
    *good, bad = read(tmp_path / "a.json.gz")
    assert [row.value for row in good] == list(range(len(good)))
    assert len(good) > 1000
    assert "damaged" in bad.error


def test_a_damaged_row_group_costs_its_own_rows(tmp_path) -> None:
    path = tmp_path / "a.parquet"
    rows = [{"text": random.Random(n).randbytes(90).hex()} for n in range(400)]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, path, row_group_size=100, compression="zstd", use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    place = column.data_page_offset + column.total_compressed_size // 2
    content = bytearray(path.read_bytes())
    content[place : place + 50] = b"\xff" * 50
    path.write_bytes(content)
    found = read(path, shard_bytes=1)
    assert [row.value for row in found if not row.error] == rows[:100] + rows[200:]
    (bad,) = [row for row in found if row.error]
    assert bad.line == 101


def test_a_file_that_has_gone_is_named(tmp_path) -> None:
    for name, text in (("x.jsonl", "{}"), ("x.csv", "a\n1\n")):
        (tmp_path / name).write_text(text)
        source = DataConfig(path=str(tmp_path / name))
        (shard,) = list_shards([source])
        (tmp_path / name).unlink()
        with pytest.raises(InputError, match=rf"{name}: cannot read it: No such file"):
            list(read_shard(shard, source))
