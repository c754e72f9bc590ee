"""Files wherever they lie: on disk or, through `pyarrow.fs`, in a bucket; unpacked while read."""

from __future__ import annotations

import codecs
import glob
import io
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, TextIO, cast
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from nlirg.errors import InputError, first_line

BUCKETS = ("s3://", "gs://")
CODECS = {".gz": "gzip", ".zst": "zstd"}
DENIED = ("ACCESS_DENIED", "HTTP status 403", "PERMISSION_DENIED", "UNAUTHENTICATED")
# What pyarrow says of a fault on the way, not in the file.
ON_THE_WAY = ("AWS Error", "google::cloud::Status")

UNDECODABLE = "\udcff"  # stands in text for bytes that are not of its encoding; decoders give none
codecs.register_error("nlirg.undecodable", lambda fault: (UNDECODABLE, cast(Any, fault).end))


class File(NamedTuple):
    """A file of a corpus.

    Attributes:
        path: absolute path, or `scheme://bucket/key`.
        size: bytes, compressed if it is.
        version: size and time of change of a file in a bucket; "" of a local one.
    """

    path: str
    size: int
    version: str


def is_remote(path: str) -> bool:
    """Whether a path names something in a bucket."""
    return path.startswith(BUCKETS)


def kind(path: str) -> tuple[str, str | None]:
    """A file's suffix in lower case, without that of its compression, and the codec of that."""
    pure = PurePosixPath(path.lower())
    codec = CODECS.get(pure.suffix)
    return (pure.with_suffix("").suffix if codec else pure.suffix), codec


def find_files(uri: str, wanted: Callable[[str], bool]) -> list[File]:
    """Files that a path, a directory or a glob names, in order of name.

    Args:
        uri: local path, or `s3://` or `gs://` with pyarrow's options as its query.
        wanted: tells by its path whether a file of a directory is to be read.

    Raises:
        InputError: if it names none, or its bucket cannot be reached.
    """
    files = _find_remote(uri, wanted) if is_remote(uri) else _find_local(uri, wanted)
    if files is None:
        raise InputError(f"data {_bare(uri)}: no such file or directory")
    if not files:
        raise InputError(
            f"data {_bare(uri)}: "
            + ("no file matches" if glob.has_magic(uri) else "the directory holds no file to read")
        )
    return files


def open_bytes(path: str, uri: str) -> BinaryIO:
    """Open a file for reading at any place, packed as it is.

    Args:
        path: of the file.
        uri: of the source that names the file; says how its bucket is reached.

    Raises:
        OSError: if it cannot be opened.
    """
    if is_remote(path):
        return cast(BinaryIO, _filesystem(uri).open_input_file(_key(path)))
    return Path(path).open("rb")


def open_unpacked(path: str, uri: str) -> BinaryIO:
    """Open a file for reading from its beginning, unpacked by its suffix; `open_bytes`' arguments.

    Raises:
        OSError: if it cannot be opened.
    """
    codec = kind(path)[1]
    if is_remote(path):
        filesystem = _filesystem(uri)
        return cast(BinaryIO, filesystem.open_input_stream(_key(path), compression=codec))
    return cast(BinaryIO, pa.input_stream(path, compression=codec))


def as_text(stream: BinaryIO, encoding: str) -> TextIO:
    """Decode a stream into lines that end at line feeds alone; `UNDECODABLE` marks faults."""
    return io.TextIOWrapper(stream, encoding, errors="nlirg.undecodable", newline="\n")


def is_damage(fault: Exception) -> bool:
    """Whether a fault lies in a file's content; else it may be gone at another try."""
    return getattr(fault, "errno", None) is None and not any(
        sign in str(fault) for sign in ON_THE_WAY
    )


def unreadable(path: str, fault: Exception) -> InputError:
    """The error of a file that cannot be read, in one line."""
    number = getattr(fault, "errno", None)
    said = os.strerror(number) if number else first_line(fault)
    hint = ""
    if any(sign in said for sign in DENIED):
        hint = "; give credentials through the environment (AWS_PROFILE, AWS_ACCESS_KEY_ID, ...)"
    return InputError(f"data {path}: cannot read it: {said}{hint}")


def _find_local(path: str, wanted: Callable[[str], bool]) -> list[File] | None:
    given = Path(path).expanduser().absolute()
    try:
        if given.is_dir():
            found = [file for file in given.iterdir() if wanted(file.name) and file.is_file()]
        elif given.exists():
            found = [given]
        elif glob.has_magic(path):
            matches = glob.glob(str(given), recursive=True)  # noqa: PTH207 - Path.glob: relative only
            found = [file for file in map(Path, matches) if file.is_file()]
        else:
            return None
        return [File(str(file), file.stat().st_size, "") for file in sorted(found)]
    except OSError as fault:
        raise unreadable(path, fault) from None


def _find_remote(uri: str, wanted: Callable[[str], bool]) -> list[File] | None:
    bare = _bare(uri)
    scheme, key = bare.split("://")
    try:
        infos = _list(_filesystem(uri), key.rstrip("/"), wanted)
    except (OSError, ValueError) as fault:  # ValueError: of a pattern
        raise unreadable(bare, fault) from None
    if infos is None:
        return None
    return [
        File(f"{scheme}://{info.path}", info.size, f"{info.size}-{info.mtime_ns}")
        for info in sorted(infos, key=lambda info: info.path)
        if info.is_file
    ]


def _list(
    filesystem: pafs.FileSystem, key: str, wanted: Callable[[str], bool]
) -> list[pafs.FileInfo] | None:
    bucket = key.partition("/")[0]
    if filesystem.get_file_info(bucket).type == pafs.FileType.NotFound:
        raise InputError(f"data {key}: there is no bucket {bucket!r}, or it is not yours to read")
    given = filesystem.get_file_info(key)
    if given.is_file:
        return [given]
    if given.type == pafs.FileType.Directory:
        listed = filesystem.get_file_info(pafs.FileSelector(key))
        return [info for info in listed if wanted(info.base_name)]
    if glob.has_magic(key):
        from fsspec.implementations.arrow import ArrowFSWrapper

        matches = ArrowFSWrapper(filesystem).glob(key)
        return cast(list[pafs.FileInfo], filesystem.get_file_info(matches)) if matches else []
    return None


@lru_cache
def _filesystem(uri: str) -> pafs.FileSystem:
    """The file system of a URI's bucket, with the options of its query."""
    parts = urlsplit(uri, allow_fragments=False)
    if ":" in parts.netloc.rpartition("@")[0]:
        raise InputError(
            f"data {_bare(uri)}: a recipe is no place for a secret key; give credentials through "
            "the environment (AWS_PROFILE, AWS_ACCESS_KEY_ID, ...)"
        )
    query = f"?{parts.query}" if parts.query else ""
    try:
        filesystem, _ = pafs.FileSystem.from_uri(f"{parts.scheme}://{parts.netloc}{query}")
    except (OSError, pa.ArrowInvalid) as fault:
        raise unreadable(_bare(uri), fault) from None
    return filesystem


def _bare(uri: str) -> str:
    """A URI without user and options, which may be secret; a path as it is."""
    if not is_remote(uri):
        return uri
    parts = urlsplit(uri, allow_fragments=False)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _key(path: str) -> str:
    return path.partition("://")[2]
