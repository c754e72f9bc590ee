"""Files of samples: appended while answers come in, read back to go on after a stop."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from eval.generation.harness_format import own_part, sample_row
from eval.schema.case import Suite
from eval.schema.sample import Sample
from nlirg.errors import InputError

Row = TypeVar("Row")


def samples_path(folder: Path, suite: Suite) -> Path:
    """The file of one variant's samples of one suite."""
    return folder / f"samples_{suite}.jsonl"


def read_samples(path: Path) -> list[Sample]:
    """Read a file of samples, in its order.

    Raises:
        InputError: if the file cannot be read or a line is not a sample.
    """
    return read_lines(path, _sample, "a sample", f"delete {path.parent} and evaluate again")


def read_lines(path: Path, parse: Callable[[str], Row], what: str, remedy: str) -> list[Row]:
    """Read a file that an evaluation wrote, one row a line.

    Args:
        path: of the file.
        parse: turns a line into a row; raises a ValueError, such as pydantic's, if it is none.
        what: a row is.
        remedy: what to do if the file is damaged.

    Raises:
        InputError: naming file, line and remedy, if the file cannot be read or a line is no row.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}; {remedy}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8; {remedy}") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            rows.append(parse(line))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not {what} ({fault(error)}); {remedy}") from None
    return rows


def fault(error: Exception) -> str:
    """What was wrong with a file's content, in one line."""
    if isinstance(error, ValidationError):  # as text it has several, and an address
        return str(error.errors()[0]["msg"])
    if isinstance(error, RecursionError):
        return "nested too deep"
    return str(error)


def _sample(line: str) -> Sample:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"a JSON object is expected, not {type(row).__name__}")
    return Sample.model_validate(own_part(row))


def resume_samples(path: Path) -> list[Sample]:
    """Read what an interrupted run left, dropping a last line it did not finish writing."""
    if not path.is_file():
        return []
    drop_torn_line(path)
    return read_samples(path)


def drop_torn_line(path: Path) -> None:
    """Cut off a last line that was not written to its end."""
    with path.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def append_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Add samples and have them on the disk before returning."""
    append_lines(path, samples_text(samples))


def append_lines(path: Path, text: str) -> None:
    """Add whole lines and have them on the disk before returning."""
    with path.open("ab") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def rows_text(samples: Sequence[Sample]) -> str:
    """A complete suite's samples as JSON lines that the lm-evaluation-harness's tools read too."""
    rows = (sample_row(sample, i) for i, sample in enumerate(samples))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def samples_text(samples: Sequence[Sample]) -> str:
    """Samples as JSON lines."""
    return "".join(sample.model_dump_json() + "\n" for sample in samples)
