"""Ids that stand on more than one row, found before a model has run.

Of every row that brings an id 8 bytes are kept, its hash. Where hashes repeat, the rows are read
again: rows that cannot be used repeat nothing, and two ids of one hash are no repetition. What is
found here would be found in the scores too (`pipelines.score.check`), hours later.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from nlirg.config.corpus import DataConfig
from nlirg.corpus.files import kind
from nlirg.corpus.reader import RawRow, read_shard
from nlirg.corpus.rows import MADE_ALIKE, UNIQUE_IDS, id_of, parse, repetition
from nlirg.corpus.sources import Shard, Task
from nlirg.errors import BadRowError, InputError
from pipelines.progress import Progress
from pipelines.ray_data import root_cause
from pipelines.score.survey import id_hashes

IN_PROCESS = 256 << 20  # bytes that this process reads itself: some seconds
ROW_BYTES = 512  # of a table, whose shards count rows
PACKED = 5  # times what a packed file is, when unpacked
TOGETHER = 8  # shards of one task
BATCH = 4096
LOOKED_FOR = 10_000  # repeated ids of which one is to be shown on two rows
TABLES = ("csv", "tsv", "parquet", "dataset")  # where every row has the same columns


class IdCheck:
    """The check of one corpus.

    Args:
        data: sources of the recipe.
        task: of the recipe's `encode`.
        shards: of the sources.
    """

    def __init__(self, data: Sequence[DataConfig], task: Task, shards: Sequence[Shard]) -> None:
        self.data, self.task, self.shards = data, task, shards
        # Ids that are made hold a file's name, not its folder: of files that differ in the
        # folder alone they can repeat.
        names = Counter(PurePath(path).name for path in {shard.path for shard in shards})
        self.namesakes = {name for name, files in names.items() if files > 1}

    @property
    def is_small(self) -> bool:
        """Whether this process reads the corpus sooner than Ray would."""
        return sum(map(_bytes, self.shards)) <= IN_PROCESS

    def here(self) -> None:
        """Carry out the check in this process.

        Raises:
            InputError: if an id stands on more than one usable row, naming it and two places.
        """
        self._judge([self.hashes(shard) for shard in self.shards])

    def on_cluster(self) -> None:
        """Carry out the check in Ray tasks; as `here`."""
        import ray

        hashes: Any = ray.remote(_hashes_of)
        groups = [self.shards[at : at + TOGETHER] for at in range(0, len(self.shards), TOGETHER)]
        check = ray.put(self)
        calls = {hashes.remote(check, group): place for place, group in enumerate(groups)}
        found: dict[int, list[np.ndarray]] = {}
        with Progress("score ids", total=len(groups), unit="part") as progress, root_cause():
            waiting = list(calls)
            while waiting:
                ready, waiting = ray.wait(waiting, timeout=1.0)
                for call in ready:
                    found[calls.pop(call)] = ray.get(call)
                progress.to(len(found))
        self._judge([array for place in range(len(groups)) for array in found[place]])

    def hashes(self, shard: Shard) -> np.ndarray:
        """Hashes of the ids of a shard's rows, those left out that cannot repeat."""
        names = (name for _, name in self._named(shard))
        arrays = []
        while batch := list(itertools.islice(names, BATCH)):
            arrays.append(id_hashes(batch))
        return np.concatenate([np.empty(0, np.uint64), *arrays])

    def _named(self, shard: Shard) -> Iterator[tuple[RawRow, str]]:
        """The rows of a shard that have an id, and their ids."""
        source = self.data[shard.data]
        made = PurePath(shard.path).name in self.namesakes
        if not made and source.columns.get("id", "id") is None:
            return
        rows = read_shard(shard, source)
        if shard.layout in TABLES and not made:
            rows = _unless_without(rows, source)
        for raw in rows:
            if name := id_of(raw, source, made=made):
                yield raw, name

    def _judge(self, hashes: Sequence[np.ndarray]) -> None:
        """Refuse ids that stand on more than one usable row; `hashes` are those of each shard."""
        everything = np.concatenate([np.empty(0, np.uint64), *hashes])
        everything.sort()
        repeated = np.unique(everything[1:][everything[1:] == everything[:-1]])
        del everything
        if not len(repeated):
            return
        looked_for = repeated[:LOOKED_FOR]
        places: dict[str, str] = {}
        for shard, own in zip(self.shards, hashes, strict=True):
            if not np.isin(own, looked_for).any():
                continue
            for raw, name in self._usable(shard, looked_for):
                place = f"{raw.source}:{raw.line}"
                if (other := places.setdefault(name, place)) != place:
                    told = repetition(len(repeated), name, other, place)
                    brought = id_of(raw, self.data[shard.data])
                    raise InputError(f"{told}: {UNIQUE_IDS if brought else MADE_ALIKE}")

    def _usable(self, shard: Shard, hashes: np.ndarray) -> Iterator[tuple[RawRow, str]]:
        """The usable rows of a shard whose ids have these hashes."""
        wanted = set(hashes.tolist())
        for raw, name in self._named(shard):
            if int(id_hashes([name])[0]) not in wanted:
                continue
            try:
                parse(raw, self.data[shard.data], self.task)
            except BadRowError:
                continue
            yield raw, name


def _hashes_of(check: IdCheck, shards: Sequence[Shard]) -> list[np.ndarray]:
    """A task: the hashes of some shards' ids."""
    return [check.hashes(shard) for shard in shards]


def _unless_without(rows: Iterator[RawRow], source: DataConfig) -> Iterator[RawRow]:
    """The rows of a table; none if it has no column of ids, as its first row shows."""
    for raw in rows:
        yield raw
        if isinstance(raw.value, dict):
            break
    else:
        return
    if source.columns.get("id") in raw.value or "id" in raw.value:
        yield from rows


def _bytes(shard: Shard) -> int:
    """About how many bytes a shard holds."""
    size = shard.stop - shard.start
    if shard.counted:
        return size * ROW_BYTES
    return size * (PACKED if kind(shard.path)[1] else 1)
