"""General text, to see how far a model's predictions outside the domain have moved.

The shipped passages are encyclopedic, narrative, spoken, instructive... in Chinese and English,
written for this project. A version never changes once it is released: `manifest.json` holds the
SHA-256 of its file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlirg.config.corpus import BUILTIN
from nlirg.errors import HALF_SURROGATE, InputError

FOLDER = Path(__file__).parent
SHIPPED = FOLDER / "v1.jsonl"
# Watched while a model trains, and so another text than the one that is reported in the end.
GUARD = FOLDER / "guard_v1.jsonl"


@dataclass(frozen=True)
class Passage:
    """One text; `task_type` says what kind of text it is."""

    id: str
    text: str
    task_type: str = ""


def general_passages(path: str | None) -> list[Passage]:
    """Read the texts that an evaluation measures: the user's, or the shipped ones for None.

    Args:
        path: JSON lines with `text` and, as they like, `id` and `task_type`; or, where it ends
            in `.txt`, plain text whose paragraphs are separated by empty lines.

    Raises:
        InputError: naming file and line, if a file or line cannot be used, or the shipped file is
            not the one that was released.
    """
    return _passages(path, SHIPPED, "evaluate.general")


def guard_passages(source: str) -> list[Passage]:
    """Read the texts that training watches: the user's, or the shipped ones for `builtin`.

    No text of the shipped ones is among those that `general_passages` ships, so that no model is
    chosen by what is reported of it.

    Args:
        source: `builtin`, or a file as `general_passages` takes it.

    Raises:
        InputError: as `general_passages`.
    """
    return _passages(None if source == BUILTIN else source, GUARD, "train.guard.general")


def _passages(path: str | None, shipped: Path, key: str) -> list[Passage]:
    """Read a file of the user's, which a key of the recipe names, or else the shipped one."""
    source = shipped if path is None else Path(path)
    where = f"{key}: {source}"
    try:
        content = source.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{where}: cannot read the general text: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{where}: not UTF-8 text; save it as UTF-8") from None
    if path is None:
        _require_released(content, shipped, key)
    found = list(_paragraphs(text) if source.suffix == ".txt" else _lines(text, where))
    if len(found) < 2:
        raise InputError(f"{where}: holds {len(found)} texts; at least two are needed")
    ids = [passage.id for passage in found]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"{where}: id {twice!r} appears twice; ids must be unique")
    return found


def _require_released(content: bytes, shipped: Path, key: str) -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    if hashlib.sha256(content).hexdigest() != manifest[shipped.name]:
        raise InputError(
            f"{shipped}: changed since its release; install the package again, or name your copy "
            f"in {key}"
        )


def _paragraphs(text: str) -> Iterator[Passage]:
    blocks = (block.strip() for block in text.replace("\r\n", "\n").split("\n\n"))
    for number, block in enumerate(filter(None, blocks), start=1):
        yield Passage(str(number), block)


def _lines(text: str, where: str) -> Iterator[Passage]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _passage(line, f"{where}:{number}", number)


def _passage(line: str, where: str, number: int) -> Passage:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}") from None
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: needs a key `text` that holds a text")
    passage = Passage(str(row.get("id", number)), text, str(row.get("task_type", "")))
    try:
        "".join([passage.id, passage.text, passage.task_type]).encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: {HALF_SURROGATE}") from None
    return passage
