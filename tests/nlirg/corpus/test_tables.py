import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlirg.config.corpus import DataConfig
from nlirg.corpus.reader import RawRow, read_shard
from nlirg.corpus.sources import list_shards
from nlirg.corpus.tables import RECORD_CHARS, read_delimited
from nlirg.errors import InputError

cells = st.text(alphabet="ab\"',;\t\n\r 三\\", max_size=6)
turns = st.lists(
    st.fixed_dictionaries({"role": st.just("user"), "content": cells}, optional={"name": cells}),
    min_size=1,
    max_size=3,
)
reuse = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)


def delimited(text: str, delimiter: str = ",") -> list:
    return list(read_delimited(io.StringIO(text, newline="\n"), delimiter))


def read(path, **options) -> list[RawRow]:
    source = DataConfig(path=str(path))
    return [row for shard in list_shards([source], **options) for row in read_shard(shard, source)]


@given(
    rows=st.lists(st.fixed_dictionaries({"a": cells, "b 1": cells}), min_size=1, max_size=9),
    size=st.integers(1, 200),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@reuse
def test_rows_of_text_are_the_same_from_every_format(tmp_path, rows, size, quoting) -> None:
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.zst").write_bytes(pa.compress(lines.encode(), "zstd", asbytes=True))
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        with (tmp_path / f"a{suffix}").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, quoting=quoting)
            writer.writeheader()
            writer.writerows(rows)
    for suffix in (".parquet", ".jsonl", ".jsonl.zst", ".csv", ".tsv"):
        found = read(tmp_path / f"a{suffix}", shard_bytes=size)
        assert [(row.value, row.error) for row in found] == [(row, "") for row in rows], suffix
        numbers = [row.line for row in found]
        assert numbers == sorted(set(numbers))


@given(text=st.text(alphabet='ab,"\n\r', max_size=60), size=st.integers(1, 40))
@reuse
def test_any_csv_however_broken_is_cut_without_changing_a_row(tmp_path, text, size) -> None:
    (tmp_path / "x.csv").write_bytes(b'\xef\xbb\xbf"a\n1",b\n' + text.encode())
    cut, whole = (read(tmp_path / "x.csv", shard_bytes=n) for n in (size, 1 << 20))
    assert [row[:3] for row in cut] == [row[:3] for row in whole]


@given(rows=st.lists(turns, min_size=1, max_size=5))
@reuse
def test_absent_fields_of_turns_stay_absent_in_parquet(tmp_path, rows) -> None:
    messages = [{"messages": row} for row in rows]
    pq.write_table(pa.Table.from_pylist(messages), tmp_path / "a.parquet")
    assert [row.value for row in read(tmp_path / "a.parquet")] == messages


def test_columns_that_are_null_keep_their_place(tmp_path) -> None:
    table = pa.table({"a": [None, "x"], "b": pa.array([None, [{"k": None}]])})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [row.value for row in read(tmp_path / "a.parquet")] == [
        {"a": None, "b": None},
        {"a": "x", "b": [{}]},
    ]


def test_a_row_is_named_by_the_first_of_its_lines() -> None:
    text = 'a,b\n1,"x\ny"\n\n2,z\n'
    assert delimited(text) == [(2, {"a": "1", "b": "x\ny"}, ""), (5, {"a": "2", "b": "z"}, "")]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("1,2,3", "row has 3 cells, the header 2"),
        ("1", "row has 1 cells"),
        ('1,"x\ny",3', "row has 3 cells"),
        ('1,"he said "hi"",x', "quoting is wrong"),
        ('1,"never closed', "quoting is wrong"),
        ('1,5" pipe', "a quote stands inside a cell"),
        ("1,\udcff", "not of the file's encoding"),
        ('1,"\udcff\n2,x"', "not of the file's encoding"),
        ("1,x\ry", "quoting is wrong: new-line character"),
    ],
)
def test_a_faulty_row_is_one_bad_row(bad, reason) -> None:
    after = '3,"multi\nline"\n4,"quoted"\n5,x\n'
    first, fault, *rest = delimited(f"a,b\n0,x\n{bad}\n{after}")
    assert first == (2, {"a": "0", "b": "x"}, "")
    assert (fault[0], fault[1]) == (3, None)
    assert reason in fault[2]
    assert [row for _, row, _ in rest] == [
        {"a": "3", "b": "multi\nline"},
        {"a": "4", "b": "quoted"},
        {"a": "5", "b": "x"},
    ]


def test_a_quote_that_nothing_closes_is_one_bad_row() -> None:
    assert [error for *_, error in delimited('a\n"x\ny\nz\n')] == ["a quote is not closed", "", ""]


def test_an_open_quote_does_not_take_the_file_into_memory() -> None:
    read = 0

    def lines():
        nonlocal read
        yield from ("a,b\n", '1,"open\n')
        for read in range(5000):
            yield f"{read},{'x' * 1000}\n"

    rows = read_delimited(lines(), ",")
    assert next(rows)[2] == "a quote is not closed"
    assert read * 1000 < 2 * RECORD_CHARS
    assert sum(1 for _ in rows) == 5000


def test_long_cells_are_no_fault() -> None:
    long = "x" * 900_000
    assert delimited(f'a\n"{long}"\n') == [(2, {"a": long}, "")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [('"a,b\n1,2\n', "a quote is not closed"), ("a,b,a\n", "two columns are called 'a'")],
)
def test_a_header_that_cannot_be_used(tmp_path, text, reason) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=rf"x\.csv: its header cannot be read: {reason}"):
        read(tmp_path / "x.csv")
