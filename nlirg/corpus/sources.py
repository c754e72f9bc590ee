"""A recipe's `data` to shards: parts of files and datasets that can be read on their own.

Local files of lines are cut at line ends, CSV and TSV at ends of rows, Parquet files at row groups,
datasets anywhere. JSON arrays, compressed files and text in a bucket are one shard each.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa

from nlirg.config.corpus import DataConfig
from nlirg.corpus import hub
from nlirg.corpus.files import (
    File,
    find_files,
    is_remote,
    kind,
    open_bytes,
    open_unpacked,
    unreadable,
)
from nlirg.corpus.tables import cut_delimited, open_parquet, row_groups
from nlirg.errors import InputError

SHARD_BYTES = 4 << 20  # small enough to feed many tasks, large enough to be worth one
HEAD = 4096  # bytes by which a file is recognised
TEXT = ".txt"
LINES = {".jsonl", ".ndjson"}
DELIMITERS = {"csv": ",", "tsv": "\t"}
BOM = b"\xef\xbb\xbf"
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")  # read of a directory

Task = Literal["sft", "cpt"]
Layout = Literal["array", "lines", "text", "csv", "tsv", "parquet", "dataset"]


class Shard(NamedTuple):
    """A part of a file or dataset that can be read on its own; JSON can hold all of it.

    Attributes:
        path: absolute path, `scheme://bucket/key`, or name of a dataset.
        start: first byte, the beginning of a line or of a row; of Parquet and datasets first row.
        stop: byte or row after the last one.
        line: number of the shard's first line or row, from 1.
        layout: JSON array; a JSON value a line; a plain text a line; CSV; TSV; Parquet; dataset.
        data: index of the shard's source in the recipe's `data`.
        version: tells a source that lies elsewhere from a later one of the same name: size and
            time of change of a file in a bucket, commit of a dataset of the hub; else "".
    """

    path: str
    start: int
    stop: int
    line: int
    layout: Layout
    data: int
    version: str

    @property
    def counted(self) -> bool:
        """Whether `start` and `stop` count rows; else bytes, packed if the file is."""
        return self.layout in ("parquet", "dataset")


def list_shards(
    data: Sequence[DataConfig], task: Task = "sft", shard_bytes: int = SHARD_BYTES
) -> list[Shard]:
    """Cut sources into shards; a file that several of them name counts once.

    Local files of lines are read through once, to cut at line ends and to number the lines.

    Args:
        data: the sources, in order. Of a directory its files with one of `SUFFIXES` are read, for
            `cpt` also *.txt, where every line is a row; each may be compressed (*.gz, *.zst).
        task: of the recipe's `encode`.
        shard_bytes: bytes after which a shard ends where it may.

    Raises:
        InputError: if a source cannot be read, is empty, or is not of a kind that is read; if two
            sources name one file and say different things of it.
    """
    shards: list[Shard] = []
    owners: dict[str, DataConfig] = {}
    for index, source in enumerate(data):
        for name, found in _found(source, task, shard_bytes):
            owner = owners.setdefault(name, source)
            if owner is source:
                shards += [shard._replace(data=index) for shard in found]
            elif owner != source.model_copy(update={"path": owner.path}):
                raise InputError(f"data {name}: two sources name it with different settings")
    return shards


def is_cut(path: str, encoding: str) -> bool:
    """Whether a file of lines or rows of text is cut into shards.

    It must lie here, unpacked, and the bytes of line feed and quote mean these wherever they
    stand, unlike in UTF-16.
    """
    if is_remote(path) or kind(path)[1]:
        return False
    escaping = ("utf-7", "hz", "iso2022")
    return "\n".encode(encoding) == b"\n" and not codecs.lookup(encoding).name.startswith(escaping)


def _found(
    source: DataConfig, task: Task, shard_bytes: int
) -> Iterator[tuple[str, Iterator[Shard]]]:
    """Everything a source names, with its shards, cut only when they are asked for."""
    if hub.is_dataset(source.path):
        yield hub.dataset_name(source), _cut_dataset(source, shard_bytes)
        return
    _check_encoding(source)
    suffixes = (*SUFFIXES, TEXT) if task == "cpt" else SUFFIXES
    for file in find_files(source.path, lambda name: kind(name)[0] in suffixes):
        yield file.path, _cut(file, source, shard_bytes)


def _check_encoding(source: DataConfig) -> None:
    try:
        "\n".encode(source.encoding)
    except LookupError:
        raise InputError(f"data {source.path}: there is no encoding {source.encoding!r}") from None


def _cut_dataset(source: DataConfig, shard_bytes: int) -> Iterator[Shard]:
    dataset, version = hub.load(source)
    name, count = hub.dataset_name(source), len(dataset)
    if not count:
        raise InputError(f"data {name}: is empty")
    step = max(1, shard_bytes * dataset.data.num_rows // max(1, dataset.data.nbytes))
    for start in range(0, count, step):
        yield Shard(name, start, min(start + step, count), start + 1, "dataset", 0, version)


def _cut(file: File, source: DataConfig, shard_bytes: int) -> Iterator[Shard]:
    suffix, _ = kind(file.path)
    try:
        if suffix == ".parquet":
            yield from _cut_parquet(file, source, shard_bytes)
            return
        with open_unpacked(file.path, source.path) as stream:
            head = stream.read(HEAD)
        layout = _layout(file.path, suffix, head, source.encoding)
        whole = Shard(file.path, 0, file.size, 1, layout, 0, file.version)
        if layout == "array" or not is_cut(file.path, source.encoding):
            yield whole
        elif layout in DELIMITERS:
            yield from _cut_delimited(whole, shard_bytes)
        else:
            yield from _cut_lines(whole, shard_bytes)
    except OSError as fault:
        raise unreadable(file.path, fault) from None


def _layout(path: str, suffix: str, head: bytes, encoding: str) -> Layout:
    text = head.decode(encoding, errors="replace").removeprefix("\ufeff").lstrip()
    if not text and len(head) < HEAD:
        raise InputError(f"data {path}: is empty")
    if head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        raise InputError(f"data {path}: is compressed; let its name end in .gz or .zst")
    if suffix == ".csv":
        return "csv"
    if suffix == ".tsv":
        return "tsv"
    if suffix == TEXT:
        return "text"
    if text.startswith("[") and suffix not in LINES:
        return "array"
    if suffix not in SUFFIXES and not text.startswith("{"):
        read = ", ".join((*SUFFIXES, TEXT))
        raise InputError(f"data {path}: is no JSON, and its name ends in none of {read}")
    return "lines"


def _cut_delimited(whole: Shard, shard_bytes: int) -> Iterator[Shard]:
    with Path(whole.path).open("rb") as file:
        skipped = len(BOM) if file.read(len(BOM)) == BOM else 0
        file.seek(skipped)
        lines = io.TextIOWrapper(file, "latin-1", newline="\n")  # a character is a byte
        for start, stop, line in cut_delimited(lines, DELIMITERS[whole.layout], shard_bytes):
            begin = start + skipped if start else 0
            yield whole._replace(start=begin, stop=stop + skipped, line=line)


def _cut_lines(whole: Shard, shard_bytes: int) -> Iterator[Shard]:
    start, line = 0, 1
    with Path(whole.path).open("rb") as file:
        while block := file.read(shard_bytes):
            block += b"" if block.endswith(b"\n") else file.readline()
            yield whole._replace(start=start, stop=start + len(block), line=line)
            start += len(block)
            line += block.count(b"\n")


def _cut_parquet(file: File, source: DataConfig, shard_bytes: int) -> Iterator[Shard]:
    if kind(file.path)[1]:
        raise InputError(f"data {file.path}: unpack it first; Parquet is compressed within")
    try:
        with open_bytes(file.path, source.path) as stream, open_parquet(stream) as table:
            metadata = table.metadata
    except pa.ArrowInvalid:
        raise InputError(
            f"data {file.path}: is no whole Parquet file (half-written?); write it anew"
        ) from None
    if not metadata.num_rows:
        raise InputError(f"data {file.path}: is empty")
    for start, stop in row_groups(metadata, shard_bytes):
        yield Shard(file.path, start, stop, start + 1, "parquet", 0, file.version)
