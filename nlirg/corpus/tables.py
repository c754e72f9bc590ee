"""Rows of tables: CSV and TSV, Parquet, datasets.

A row is a dictionary of the table's columns. Cells of CSV and TSV are text. In Parquet and
datasets a field of a struct that is null counts as absent: the columns' types give every struct
all the fields that any row has.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from nlirg.corpus import hub
from nlirg.corpus.files import UNDECODABLE

RECORD_CHARS = 1 << 20  # of one CSV record; a quote that is open for longer was never closed
ROWS = 1024  # turned into Python values at once
PAGES = 1 << 20  # bytes of a Parquet column that are read at once


class Cells(NamedTuple):
    """One record of a CSV or TSV file.

    Attributes:
        line: number of its first line, from 1.
        values: its cells, none if `error`.
        error: why it could not be read, "" if it could.
        size: characters of its lines.
    """

    line: int
    values: list[str]
    error: str
    size: int


def read_delimited(
    lines: Iterable[str], delimiter: str, line: int = 1, header: Sequence[str] = ()
) -> Iterator[tuple[int, Any, str]]:
    """Read a part of a CSV or TSV file, quoted as in RFC 4180; blank lines are passed over.

    A quote that is never closed costs the line it stands on and no other. The number of a row is
    that of its first line.

    Args:
        lines: with their line ends, from the beginning of a record on.
        delimiter: between cells.
        line: number of the first of `lines`.
        header: the file's columns; if none are given, the first record has them.

    Yields:
        Number, row (None if it cannot be used), and why not.

    Raises:
        ValueError: if the header cannot be used.
    """
    records = (cells for cells in _records(lines, delimiter, line) if cells.values or cells.error)
    header = header or _header(next(records, None))
    for number, values, error, _ in records:
        if not error and len(values) != len(header):
            error = f"row has {len(values)} cells, the header {len(header)}"
        if any(UNDECODABLE in cell for cell in values):
            error = "bytes are not of the file's encoding"
        yield number, None if error else dict(zip(header, values, strict=True)), error


def read_header(lines: Iterable[str], delimiter: str) -> list[str]:
    """The columns that a CSV or TSV file begins with.

    Raises:
        ValueError: if they cannot be used.
    """
    records = _records(lines, delimiter)
    return _header(next((cells for cells in records if cells.values or cells.error), None))


def cut_delimited(
    lines: Iterable[str], delimiter: str, size: int
) -> Iterator[tuple[int, int, int]]:
    """Cut a CSV or TSV file where `read_delimited` finds a record to end.

    Args:
        lines: of the whole file, without a byte order mark, every byte a character.
        delimiter: between cells.
        size: bytes after which a part ends at the next end of a record.

    Yields:
        First byte of a part, the one after its last, and the number of its first line.
    """
    start = stop = 0
    first = 1
    for cells in _records(lines, delimiter, limit=4 * RECORD_CHARS):  # of at most 4 bytes each
        if stop - start >= size:
            yield start, stop, first
            start, first = stop, cells.line
        stop += cells.size
    yield start, stop, first


def row_groups(metadata: pq.FileMetaData, size: int) -> Iterator[tuple[int, int]]:
    """Cut a Parquet file at row groups.

    Args:
        metadata: of the file.
        size: unpacked bytes after which a part ends at the next row group.

    Yields:
        Indices of a part's first row and of the one after its last.
    """
    start = stop = filled = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        stop += group.num_rows
        filled += group.total_byte_size
        if filled >= size:
            yield start, stop
            start, filled = stop, 0
    if stop > start:
        yield start, stop


def open_parquet(file: Any) -> pq.ParquetFile:
    """A Parquet file whose columns are read page by page.

    Raises:
        pyarrow.ArrowInvalid: if it is no whole Parquet file.
    """
    return pq.ParquetFile(file, buffer_size=PAGES, page_checksum_verification=True)


def read_parquet(table: pq.ParquetFile, start: int, stop: int) -> Iterator[dict[str, Any]]:
    """Read the row groups that make up the rows `start` to `stop` (exclusive)."""
    groups, first = [], 0
    for index in range(table.metadata.num_row_groups):
        if start <= first < stop:
            groups.append(index)
        first += table.metadata.row_group(index).num_rows
    nested = _nested(table.schema_arrow)
    for batch in table.iter_batches(batch_size=ROWS, row_groups=groups, use_threads=False):
        for row in batch.to_pylist():
            yield _without_absent(row, nested)


def read_dataset(dataset: Any, start: int, stop: int) -> Iterator[dict[str, Any]]:
    """Read the rows `start` to `stop` (exclusive) of a `datasets.Dataset`."""
    nested = _nested(dataset.features.arrow_schema)
    for row in hub.read_rows(dataset, start, stop):
        yield _without_absent(row, nested)


def _header(record: Cells | None) -> list[str]:
    if record is None or record.error:
        raise ValueError(record.error if record else "there is none")
    if any(UNDECODABLE in column for column in record.values):
        raise ValueError("it is not of the file's encoding")
    columns = [column.strip() for column in record.values]
    if repeated := next((name for name in columns if columns.count(name) > 1), None):
        raise ValueError(f"two columns are called {repeated!r}")
    return columns


def _records(
    lines: Iterable[str], delimiter: str, number: int = 1, limit: int = RECORD_CHARS
) -> Iterator[Cells]:
    source, ahead = iter(lines), deque[str]()
    while taken := _take(source, ahead, limit):
        values, error = _cells(taken, delimiter)
        if error:
            # The lines after a faulty one may be rows of their own.
            ahead.extendleft(reversed(taken[1:]))
            del taken[1:]
        yield Cells(number, values, error, sum(map(len, taken)))
        number += len(taken)


def _take(source: Iterator[str], ahead: deque[str], limit: int) -> list[str]:
    """Lines up to the first at whose end every quote is closed."""
    taken: list[str] = []
    size = quotes = 0
    while not taken or (quotes % 2 and size <= limit):
        line = ahead.popleft() if ahead else next(source, None)
        if line is None:
            break
        taken.append(line)
        size += len(line)
        quotes += line.count('"')
    return taken


def _cells(lines: list[str], delimiter: str) -> tuple[list[str], str]:
    """The cells of a record, or what is wrong with its quotes."""
    if sum(line.count('"') for line in lines) % 2:
        return [], "a quote is not closed"
    csv.field_size_limit(8 * RECORD_CHARS)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        values = next(reader)
    except csv.Error as fault:
        return [], f"quoting is wrong: {fault}"
    if reader.line_num < len(lines):
        return [], "a quote stands inside a cell that is not quoted"
    return values, ""


def _nested(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if pa.types.is_nested(field.type)]


def _without_absent(row: dict[str, Any], nested: list[str]) -> dict[str, Any]:
    return row | {column: _present(row[column]) for column in nested}


def _present(value: Any) -> Any:
    """A nested value without the null fields of its structs."""
    if isinstance(value, dict):
        return {key: _present(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_present(item) for item in value]
    return value
