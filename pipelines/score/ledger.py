"""What scoring has finished, so that a crash loses no row and scores none twice.

    scores/
      settings.json               whose unfinished files these are
      <attempt>-<digest>.parquet  scored rows; named so once they are complete
      .ledger/<shard>.json        how many rows a shard gives, written once it is read to its end
      .ledger/<shard>.jsonl       the rows of the shard that were set aside

An attempt reads the rows that lie in no file yet. Processes of a dead attempt may outlive it for
some seconds: a file is taken only if it was finished when the attempt began, or bears its name.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nlirg.atomic_io import atomic_path, write_json
from nlirg.errors import InputError
from pipelines.ray_data import parquet_files

NUMBER = re.compile(r"\d+")
LINE_BITS = 32


def position(shard: int, line: int) -> int:
    """A row's place in the corpus: sorted by it, rows stand in the corpus's order."""
    return (shard << LINE_BITS) + line


def shards_of_positions(positions: np.ndarray) -> np.ndarray:
    """Index of the shard of each position."""
    return positions >> LINE_BITS


class ShardRows(NamedTuple):
    """What a shard gives: rows to score, and rows that were set aside."""

    usable: int
    bad: int


@dataclass(frozen=True)
class Finished:
    """Rows that earlier attempts have scored.

    Attributes:
        files: names of their files.
        rows: shard -> how many of its rows.
        where: shard -> paths of the files that hold some of its rows.
    """

    files: frozenset[str] = frozenset()
    rows: Counter[int] = field(default_factory=Counter)
    where: dict[int, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class BadRows:
    """Reasons why rows were set aside -> rows, those that are only too long by themselves."""

    unusable: Counter[str] = field(default_factory=Counter)
    overlong: Counter[str] = field(default_factory=Counter)

    def commonest(self) -> dict[str, int]:
        """All reasons, the commonest first."""
        return dict((self.unusable + self.overlong).most_common())


class Ledger:
    """The ledger of one folder of scores, for one attempt at filling it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.parts = folder, folder / ".ledger"
        self.attempt = uuid.uuid4().hex[:8]

    def clear(self) -> None:
        """Remove everything that was scored."""
        shutil.rmtree(self.parts, ignore_errors=True)
        for path in [*self.folder.glob("*.parquet"), *self._temporaries()]:
            path.unlink()

    def resume(self) -> Finished:
        """Find what earlier attempts have finished, and remove what they have not."""
        for temporary in self._temporaries():
            temporary.unlink()
        rows: Counter[int] = Counter()
        where: dict[int, list[str]] = defaultdict(list)
        files = [path for path in parquet_files(self.folder) if _whole(path)]
        for path in files:
            positions = pq.read_table(path, columns=["position"])["position"].to_numpy()
            for shard, count in zip(
                *np.unique(shards_of_positions(positions), return_counts=True), strict=True
            ):
                rows[int(shard)] += int(count)
                where[int(shard)].append(path)
        return Finished(frozenset(Path(path).name for path in files), rows, dict(where))

    def finish_shard(self, shard: int, rows: ShardRows, bad: Iterable[dict[str, Any]]) -> None:
        """Note a shard that is read to its end; a task that runs twice notes the same."""
        with atomic_path(self._part(shard, "jsonl")) as temporary:
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in bad)
            temporary.write_text("".join(lines), encoding="utf-8")
        write_json(self._part(shard, "json"), rows._asdict())

    def shard_rows(self, shard: int) -> ShardRows | None:
        """What a shard gives; None if no attempt has read it to its end."""
        part = self._part(shard, "json")
        return ShardRows(**json.loads(part.read_text())) if part.is_file() else None

    def all_shards(self, count: int) -> dict[int, ShardRows]:
        """What every one of `count` shards gives.

        Raises:
            InputError: if one is not read to its end.
        """
        found = {index: self.shard_rows(index) for index in range(count)}
        missing = [index for index, rows in found.items() if rows is None]
        if missing:
            raise InputError(
                f"part {missing[0]} of the corpus was not read to its end: run the same command "
                "again, it reads what is missing"
            )
        return {index: rows for index, rows in found.items() if rows is not None}

    def write(self, rows: pa.Table) -> None:
        """Write scored rows to one file; a task that runs twice replaces its own."""
        places = np.sort(rows["position"].to_numpy())
        digest = hashlib.blake2b(places.tobytes(), digest_size=8).hexdigest()
        with atomic_path(self.folder / f"{self.attempt}-{digest}.parquet") as temporary:
            pq.write_table(rows, temporary)

    def files(self, finished: Finished) -> list[str]:
        """Paths of the scored rows, without what a process of a dead attempt has added."""
        taken = []
        for path in parquet_files(self.folder):
            name = Path(path).name
            if name in finished.files or name.startswith(f"{self.attempt}-"):
                taken.append(path)
            else:
                Path(path).unlink()
        return taken

    def bad_rows(self) -> Iterator[str]:
        """JSON lines of the rows that were set aside, in the corpus's order."""
        for part in sorted(self.parts.glob("*.jsonl")):
            with part.open(encoding="utf-8") as lines:
                yield from lines

    def _part(self, shard: int, suffix: str) -> Path:
        return self.parts / f"{shard:08d}.{suffix}"

    def _temporaries(self) -> list[Path]:
        """What a killed process was writing."""
        return [path for path in self.folder.glob(".*") if path.is_file()]


def _whole(path: str) -> bool:
    """Whether a Parquet file is complete; one that is not is removed."""
    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowInvalid):
        Path(path).unlink()
        return False
    return True


def collect_bad(ledger: Ledger, path: Path) -> BadRows:
    """Write the rows that were set aside to one file, and count their reasons."""
    bad = BadRows()
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for line in ledger.bad_rows():
            row = json.loads(line)
            reasons = bad.overlong if row["overlong"] else bad.unusable
            # "prompt has 612 tokens" and "prompt has 700 tokens" are one reason.
            reasons[NUMBER.sub("#", row["reason"])] += 1
            out.write(line)
    return bad
