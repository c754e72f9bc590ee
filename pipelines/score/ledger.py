"""What scoring has finished, so that a crash loses no row and scores none twice.

    scores/
      settings.json               whose unfinished files these are
      tokens/<attempt>-<digest>.arrow  tokens of some scored rows (`nlirg.corpus.tokens`)
      <attempt>-<digest>.parquet  their scores; named so, and last, once both are complete
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
from nlirg.corpus.tokens import SUFFIX, open_token_file, write_token_file
from nlirg.errors import InputError
from pipelines.ray_data import parquet_files

TOKENS = "tokens"  # folder of the token files
NUMBER = re.compile(r"\d+")
LINE_BITS = 32


def row_index(shard: int, line: int) -> int:
    """A row's place in the corpus: sorted by it, rows stand in the corpus's order."""
    return (shard << LINE_BITS) + line


def shards_of_rows(row_indices: np.ndarray) -> np.ndarray:
    """Index of the shard of each row."""
    return row_indices >> LINE_BITS


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
        self.folder, self.parts, self.tokens = folder, folder / ".ledger", folder / TOKENS
        self.attempt = uuid.uuid4().hex[:8]

    def clear(self) -> None:
        """Remove everything that was scored."""
        for below in (self.parts, self.tokens):
            shutil.rmtree(below, ignore_errors=True)
        for path in [*self.folder.glob("*.parquet"), *self._temporaries()]:
            path.unlink()

    def resume(self) -> Finished:
        """Find what earlier attempts have finished, and remove what they have not."""
        for temporary in self._temporaries():
            temporary.unlink()
        rows: Counter[int] = Counter()
        where: dict[int, list[str]] = defaultdict(list)
        files = [path for path in parquet_files(self.folder) if self._whole(path)]
        self._remove_unpaired(files)
        for path in files:
            row_indices = pq.read_table(path, columns=["row_index"])["row_index"].to_numpy()
            for shard, count in zip(
                *np.unique(shards_of_rows(row_indices), return_counts=True), strict=True
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

    def write(self, scores: pa.Table, tokens: pa.Table) -> None:
        """Write scores and tokens of the same rows; a task that runs twice replaces its own.

        Args:
            scores: a row each, sorted by `row_index`.
            tokens: of the same rows, see `nlirg.corpus.tokens.token_table`.
        """
        row_index = scores["row_index"].to_numpy()
        digest = hashlib.blake2b(row_index.tobytes(), digest_size=8).hexdigest()
        path = self.folder / f"{self.attempt}-{digest}.parquet"
        with atomic_path(self._tokens_of(path)) as temporary:
            write_token_file(temporary, tokens)
        # Last: where there are scores, there are tokens.
        with atomic_path(path) as temporary:
            pq.write_table(scores, temporary)

    def files(self, finished: Finished) -> list[str]:
        """Paths of the scored rows, without what a process of a dead attempt has added."""
        taken = []
        for path in parquet_files(self.folder):
            name = Path(path).name
            if name in finished.files or name.startswith(f"{self.attempt}-"):
                taken.append(path)
            else:
                Path(path).unlink()
        self._remove_unpaired(taken)
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
        files = [*self.folder.glob(".*"), *self.tokens.glob(".*")]
        return [path for path in files if path.is_file()]

    def _tokens_of(self, scores: str | Path) -> Path:
        """The token file of a file of scores."""
        return self.tokens / f"{Path(scores).stem}{SUFFIX}"

    def _whole(self, scores: str) -> bool:
        """Whether a file of scores and its tokens are complete; if not, both are removed."""
        try:
            rows = pq.read_metadata(scores).num_rows
            whole = open_token_file(self._tokens_of(scores)).num_rows == rows
        except (OSError, pa.ArrowInvalid, InputError):
            whole = False
        if not whole:
            Path(scores).unlink()
            self._tokens_of(scores).unlink(missing_ok=True)
        return whole

    def _remove_unpaired(self, scores: Iterable[str]) -> None:
        """Remove tokens of rows whose scores were never written."""
        wanted = {self._tokens_of(path) for path in scores}
        for path in self.tokens.glob("*"):
            if path not in wanted:
                path.unlink(missing_ok=True)


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
