"""Reading corpora: JSON Lines and text in byte ranges, JSON arrays whole, faults as rows.

Nothing here judges what a row means; `nlirg.records` does.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import ijson

from nlirg.config import DataConfig
from nlirg.errors import InputError

SHARD_BYTES = 4 << 20  # small enough to feed many tasks, large enough to be worth one
SUFFIXES = (".json", ".jsonl", ".ndjson")  # what is read of a directory
TEXT = ".txt"
MAX_DEPTH = 64  # nesting of one array element; deeper is an attack, not a row

BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"


class Shard(NamedTuple):
    """A part of a file that can be read on its own.

    Attributes:
        path: absolute path.
        start: first byte; of JSON Lines, the beginning of a line.
        stop: byte after the last one.
        line: number of the shard's first line, from 1.
        layout: one JSON array, whose only shard is the whole file; a JSON value a line; or a
            plain text a line.
        data: index of the shard's source in the recipe's `data`.
        version: what tells a source that lies elsewhere from a later one of the same name: size
            and time of change of a remote file, revision of a dataset; "" of a local file.
    """

    path: str
    start: int
    stop: int
    line: int
    layout: Literal["array", "lines", "text"]
    data: int = 0
    version: str = ""


class RawRow(NamedTuple):
    """One row as it stands in its file.

    Attributes:
        source: absolute path of the file.
        line: line number, or index of an array's element; both from 1.
        value: the parsed JSON (of a line of text `{"text": line}`), None if `error`.
        error: why the row could not be read, "" if it could.
    """

    source: str
    line: int
    value: Any
    error: str


def list_shards(
    paths: Sequence[str],
    shard_bytes: int = SHARD_BYTES,
    suffixes: Collection[str] = SUFFIXES,
) -> list[Shard]:
    """Cut files into shards; a file that several of the paths name counts once.

    Every file is read through once, to cut at line ends and to number the lines.

    Args:
        paths: files, directories (their files with one of `suffixes`) and globs, in order. In a
            *.txt file every line is a row.
        shard_bytes: bytes after which a shard of lines ends at the next line end.
        suffixes: of the files read of a directory.

    Raises:
        InputError: if a path names no file, or a file cannot be read, is empty or compressed.
    """
    files = dict.fromkeys(file for path in paths for file in _expand(path, suffixes))
    return [shard for file in files for shard in _cut(file, shard_bytes)]


def read_shard(shard: Shard, source: DataConfig | None = None) -> Iterator[RawRow]:
    """Read a shard's rows; blank lines are passed over, but numbered.

    A malformed line becomes a row with `error`. A malformed array ends in such a row, since
    nothing after the fault can be told apart.

    Raises:
        InputError: if the file has gone.
    """
    try:
        with Path(shard.path).open("rb") as file:
            file.seek(shard.start)
            if shard.layout == "array":
                yield from _read_array(shard, file)
            else:
                yield from _read_lines(shard, file, PARSERS[shard.layout])
    except OSError as error:
        raise InputError(f"data {shard.path}: cannot read it: {error.strerror}") from None


def _expand(path: str, suffixes: Collection[str]) -> list[Path]:
    given = Path(path).expanduser().absolute()
    if given.is_dir():
        files = sorted(file for file in given.iterdir() if file.suffix in suffixes)
        if not files:
            wanted = ", ".join(f"*{suffix}" for suffix in suffixes)
            raise InputError(f"data {path}: the directory holds no {wanted}")
        return files
    if given.exists():
        return [given]
    if glob.has_magic(path):
        matches = glob.glob(str(given), recursive=True)  # noqa: PTH207 - Path.glob: relative only
        files = sorted(file for file in map(Path, matches) if file.is_file())
        if not files:
            raise InputError(f"data {path}: no file matches")
        return files
    raise InputError(f"data {path}: no such file or directory")


def _cut(path: Path, shard_bytes: int) -> list[Shard]:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
            if head.startswith(GZIP):
                raise InputError(f"data {path}: is compressed; unpack it first")
            text = head.removeprefix(BOM).lstrip()
            if not text and len(head) < 4096:
                raise InputError(f"data {path}: is empty")
            file.seek(0)
            if path.suffix == TEXT:
                return list(_cut_lines(path, file, shard_bytes, "text"))
            if text.startswith(b"[") and path.suffix not in {".jsonl", ".ndjson"}:
                return [Shard(str(path), 0, path.stat().st_size, 1, "array")]
            return list(_cut_lines(path, file, shard_bytes, "lines"))
    except OSError as error:
        raise InputError(f"data {path}: cannot read it: {error.strerror}") from None


def _cut_lines(
    path: Path, file: BinaryIO, shard_bytes: int, layout: Literal["lines", "text"]
) -> Iterator[Shard]:
    start, line = 0, 1
    while block := file.read(shard_bytes):
        block += b"" if block.endswith(b"\n") else file.readline()
        yield Shard(str(path), start, start + len(block), line, layout)
        start += len(block)
        line += block.count(b"\n")


def _text_row(line: str) -> dict[str, str]:
    return {"text": line.removesuffix("\n").removesuffix("\r")}


PARSERS: dict[str, Callable[[str], Any]] = {
    "lines": lambda line: json.loads(line.strip()),
    "text": _text_row,
}


def _read_lines(shard: Shard, file: BinaryIO, parse: Callable[[str], Any]) -> Iterator[RawRow]:
    for number, raw in enumerate(_lines(file, shard.stop), start=shard.line):
        line = raw.removeprefix(BOM) if number == 1 else raw
        if not line.strip():
            continue
        value, error = None, ""
        try:
            value = parse(line.decode())
        except UnicodeDecodeError as fault:
            error = f"not UTF-8 at byte {fault.start + 1} of the line"
        except json.JSONDecodeError as fault:
            error = f"not JSON: {fault.msg} at column {fault.colno}"
        except (ValueError, RecursionError) as fault:
            error = f"not usable JSON: {fault}"
        yield RawRow(shard.path, number, value, error)


def _lines(file: BinaryIO, stop: int) -> Iterable[bytes]:
    position = file.tell()
    while position < stop and (line := file.readline()):
        position += len(line)
        yield line


def _read_array(shard: Shard, file: BinaryIO) -> Iterator[RawRow]:
    if file.read(len(BOM)) != BOM:
        file.seek(0)
    number = 0
    try:
        for number, value in enumerate(_elements(file), start=1):
            yield RawRow(shard.path, number, value, "")
    except ijson.JSONError as fault:
        # Its first line is the reason; of text that is not UTF-8 ijson gives the repr of bytes.
        reason = str(fault).removeprefix("b'").replace("\\n", "\n").splitlines()[0]
        error = f"array is malformed after element {number}, the rest is lost: {reason}"
        yield RawRow(shard.path, number + 1, None, error)


def _elements(file: BinaryIO) -> Iterator[Any]:
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
