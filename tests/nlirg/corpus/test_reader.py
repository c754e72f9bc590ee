import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlirg.config.corpus import DataConfig
from nlirg.corpus.reader import RawRow, read_shard
from nlirg.corpus.sources import list_shards

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text('a"\\é三\n', max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
lines = st.sampled_from([b'{"a": 1}', b"", b"  ", b"{", b"\xff", '["三"]'.encode(), b'{"b": 2}\r'])
reuse = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(*paths: Path, shard_bytes: int = 1 << 20, **options: object) -> list[RawRow]:
    data = [DataConfig(path=str(path), **options) for path in paths]
    shards = list_shards(data, "cpt", shard_bytes)
    return [row for shard in shards for row in read_shard(shard, data[shard.data])]


@given(
    content=st.lists(lines, max_size=20), end=st.sampled_from([b"", b"\n"]), size=st.integers(1, 99)
)
@reuse
def test_every_line_is_read_once_with_its_number_for_any_shard_size(tmp_path, content, end, size):
    path = write(tmp_path / "x.jsonl", b'{"first": 0}\n' + b"\n".join(content) + end)
    expected = [1] + [i for i, line in enumerate(content, start=2) if line.strip()]
    found = rows(path, shard_bytes=size)
    assert [row.line for row in found] == expected
    assert found == rows(path)
    shards = list_shards([DataConfig(path=str(path))], shard_bytes=size)
    assert [shard.stop for shard in shards[:-1]] == [shard.start for shard in shards[1:]]


@given(content=st.lists(values, min_size=1, max_size=8))
@reuse
def test_an_array_and_its_lines_hold_the_same_rows(tmp_path, content):
    array = write(tmp_path / "x.json", json.dumps(content, indent=1))
    jsonl = write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, content)))
    expected = [(i, value, "") for i, value in enumerate(content, start=1)]
    assert [row[1:] for row in rows(array)] == expected
    assert [row[1:] for row in rows(jsonl)] == expected


def test_every_line_of_text_is_a_row_as_it_stands(tmp_path) -> None:
    path = write(tmp_path / "x.txt", "[one\r\n\n  \n two  \n三")
    assert [(row.line, row.value) for row in rows(path, shard_bytes=1)] == [
        (1, {"text": "[one"}),
        (4, {"text": " two  "}),
        (5, {"text": "三"}),
    ]


def test_text_that_is_not_utf8_is_an_error_row(tmp_path) -> None:
    bad, good = rows(write(tmp_path / "x.txt", b"\xff\ngood"))
    assert "not UTF-8 at character 1" in bad.error
    assert good.value == {"text": "good"}


def test_numbers_of_arrays_are_plain_floats(tmp_path) -> None:
    (row,) = rows(write(tmp_path / "x.json", "[1.5]"))
    assert type(row.value) is float


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_a_byte_order_mark_is_no_content(tmp_path, name) -> None:
    body = '[{"a": 1}]' if name == "x.json" else '{"a": 1}'
    (row,) = rows(write(tmp_path / name, b"\xef\xbb\xbf" + body.encode()))
    assert row == RawRow(str(tmp_path / name), 1, {"a": 1}, "")


def test_lines_in_a_json_file_are_recognised(tmp_path) -> None:
    assert [r.value for r in rows(write(tmp_path / "x.json", '{"a": 1}\n{"a": 2}'))] == [
        {"a": 1},
        {"a": 2},
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": }', "not JSON: Expecting value at column 7"),
        (b'{"a": "\xff"}', "not UTF-8 at character 8"),
        (b"[" * 100_000, "not usable JSON"),
        (b"9" * 5000, "not usable JSON"),
    ],
)
def test_a_malformed_line_is_an_error_row_and_the_rest_is_read(tmp_path, line, reason) -> None:
    good, bad, after = rows(write(tmp_path / "x.jsonl", b'{"a": 1}\n' + line + b'\n{"a": 2}\n'))
    assert (good.value, after.value, after.line) == ({"a": 1}, {"a": 2}, 3)
    assert reason in bad.error
    assert (bad.line, bad.value) == (2, None)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (b'[{"a": 1}, {"a": 2}, {"a" 3}, {"a": 4}]', "separated by a colon"),
        (b'[{"a": 1}, {"a": 2}', "premature EOF"),
        (b'[{"a": 1}, {"a": 2}, NaN]', "invalid char"),
        (b'[{"a": 1}, {"a": 2}, "\xff"]', "invalid bytes in UTF8"),
        (b'[{"a": 1}, {"a": 2}] x', "trailing garbage"),
        (b'[{"a": 1}, {"a": 2}, ' + b"[" * 100_000, "nested deeper"),
    ],
)
def test_a_malformed_array_is_read_up_to_the_fault(tmp_path, array, reason) -> None:
    *good, bad = rows(write(tmp_path / "x.json", array))
    assert [row.value for row in good[:2]] == [{"a": 1}, {"a": 2}]
    assert "after element 2" in bad.error
    assert reason in bad.error
    assert "\n" not in bad.error
    assert bad.line == 3


def test_nan_in_a_line_is_read_as_python_does(tmp_path) -> None:
    (row,) = rows(write(tmp_path / "x.jsonl", "NaN"))
    assert math.isnan(row.value)
