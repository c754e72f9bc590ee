"""Reading corpora: the rows of a shard as they stand, faults as rows.

Nothing here judges what a row means; `nlirg.corpus.records` does.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, TextIO

import ijson
import pyarrow as pa

from nlirg.config.corpus import DataConfig
from nlirg.corpus import hub
from nlirg.corpus.files import (
    UNDECODABLE,
    as_text,
    is_damage,
    open_bytes,
    open_unpacked,
    unreadable,
)
from nlirg.corpus.sources import DELIMITERS, Shard, is_cut
from nlirg.corpus.tables import (
    open_parquet,
    read_dataset,
    read_delimited,
    read_header,
    read_parquet,
)
from nlirg.errors import InputError, first_line

MAX_DEPTH = 64  # nesting of one array element; deeper is an attack, not a row
BOM = "\ufeff"


class RawRow(NamedTuple):
    """One row as it stands in its source.

    Attributes:
        source: the file's absolute path or URI, or the dataset's name.
        line: line number (of a CSV row, of its first line), or number of an array's element or a
            table's row; all from 1.
        value: the parsed JSON, the table's row as a dictionary, or `{"text": line}` of a line of
            text; None if `error`.
        error: why the row could not be read, "" if it could.
    """

    source: str
    line: int
    value: Any
    error: str


def read_shard(shard: Shard, source: DataConfig) -> Iterator[RawRow]:
    """Read a shard's rows; blank lines are passed over, but numbered.

    A malformed line becomes a row with `error`. Where nothing after a fault can be told apart (in
    an array, or a damaged compressed or Parquet file), the shard ends in such a row.

    Args:
        shard: as `nlirg.corpus.sources.list_shards` gives it.
        source: which it was cut from, `data[shard.data]`.

    Raises:
        InputError: if the source can no longer be read.
    """
    last = shard.line - 1
    try:
        for row in READERS[shard.layout](shard, source):
            last = row.line
            yield row
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as fault:
        if not is_damage(fault):
            raise unreadable(shard.path, fault) from None
        reason = first_line(fault)
        error = f"the file is damaged after row {last}, what follows is lost: {reason}"
        yield RawRow(shard.path, last + 1, None, error)


def _read_lines(shard: Shard, source: DataConfig) -> Iterator[RawRow]:
    parse: Callable[[str], Any] = _text_row if shard.layout == "text" else _json_row
    for number, line in enumerate(_lines(shard, source), start=shard.line):
        if not line.strip():
            continue
        value, error = None, ""
        try:
            value = parse(line)
        except json.JSONDecodeError as fault:
            error = f"not JSON: {fault.msg} at column {fault.colno}"
        except (ValueError, RecursionError) as fault:
            error = f"not usable JSON: {fault}"
        if UNDECODABLE in line:
            place = line.index(UNDECODABLE) + 1
            value, error = None, f"not {source.encoding.upper()} at character {place}"
        yield RawRow(shard.path, number, value, error)


def _lines(shard: Shard, source: DataConfig) -> Iterator[str]:
    if is_cut(shard.path, source.encoding):
        with open_bytes(shard.path, source.path) as file:
            file.seek(shard.start)
            stream: BinaryIO = io.BytesIO(file.read(shard.stop - shard.start))
    else:
        stream = open_unpacked(shard.path, source.path)
    return _decoded(stream, source.encoding, is_top=shard.start == 0)


def _decoded(stream: BinaryIO, encoding: str, is_top: bool) -> Iterator[str]:
    with as_text(stream, encoding) as text:
        if is_top:
            yield text.readline().removeprefix(BOM)
        yield from text


def _json_row(line: str) -> Any:
    return json.loads(line.strip())


def _text_row(line: str) -> dict[str, str]:
    return {"text": line.removesuffix("\n").removesuffix("\r")}


def _read_table(shard: Shard, source: DataConfig) -> Iterator[RawRow]:
    delimiter, header = DELIMITERS[shard.layout], []
    try:
        if shard.start:
            top = _decoded(open_unpacked(shard.path, source.path), source.encoding, is_top=True)
            header = read_header(top, delimiter)
        for row in read_delimited(_lines(shard, source), delimiter, shard.line, header):
            yield RawRow(shard.path, *row)
    except ValueError as fault:
        raise InputError(f"data {shard.path}: its header cannot be read: {fault}") from None


def _read_parquet(shard: Shard, source: DataConfig) -> Iterator[RawRow]:
    with open_bytes(shard.path, source.path) as file, open_parquet(file) as table:
        rows = read_parquet(table, shard.start, shard.stop)
        for number, value in enumerate(rows, start=shard.line):
            yield RawRow(shard.path, number, value, "")


def _read_dataset(shard: Shard, source: DataConfig) -> Iterator[RawRow]:
    dataset, _ = hub.load(source, shard.version)
    rows = read_dataset(dataset, shard.start, shard.stop)
    for number, value in enumerate(rows, start=shard.line):
        yield RawRow(shard.path, number, value, "")


def _read_array(shard: Shard, source: DataConfig) -> Iterator[RawRow]:
    number = 0
    with as_text(open_unpacked(shard.path, source.path), source.encoding) as text:
        try:
            for number, value in enumerate(_elements(_Utf8(text)), start=1):
                yield RawRow(shard.path, number, value, "")
        except ijson.JSONError as fault:
            # Its first line is the reason; of text that is not UTF-8 ijson gives the repr of bytes.
            reason = str(fault).removeprefix("b'").replace("\\n", "\n").splitlines()[0]
            error = f"array is malformed after element {number}, the rest is lost: {reason}"
            yield RawRow(shard.path, number + 1, None, error)


class _Utf8:
    """Decoded text as the UTF-8 that ijson parses; what was undecodable is no UTF-8 either."""

    def __init__(self, text: TextIO) -> None:
        self.text, self.begun = text, False

    def read(self, size: int = -1) -> bytes:
        """Read so many characters."""
        text = self.text.read(size)
        if text and not self.begun:
            text, self.begun = text.removeprefix(BOM) or self.text.read(size), True
        return text.encode(errors="surrogateescape")


def _elements(file: _Utf8) -> Iterator[Any]:
    """Yield the elements of a JSON array one by one.

    Does what `ijson.items(file, "item")` does, whose path strings take memory quadratic in the
    nesting: a few kilobytes of brackets would exhaust the machine.
    """
    depth, builder = 0, ijson.ObjectBuilder()
    for event, value in ijson.basic_parse(file, use_float=True):
        opens, closes = event.startswith("start_"), event.startswith("end_")
        depth -= closes
        inside = depth > 0
        if inside:
            builder.event(event, value)
        depth += opens
        if depth > MAX_DEPTH:
            raise ijson.JSONError(f"nested deeper than {MAX_DEPTH} levels")
        if inside and depth == 1:
            yield builder.value
            builder = ijson.ObjectBuilder()


READERS: dict[str, Callable[[Shard, DataConfig], Iterator[RawRow]]] = {
    "array": _read_array,
    "lines": _read_lines,
    "text": _read_lines,
    "csv": _read_table,
    "tsv": _read_table,
    "parquet": _read_parquet,
    "dataset": _read_dataset,
}
