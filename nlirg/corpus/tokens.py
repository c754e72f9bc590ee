"""Token files: token ids, which of them are trained and their losses, once on disk.

A token file is an uncompressed Arrow IPC file of one record batch, a row of the corpus a row. Every
process that reads it maps it into memory, so workers of one machine share its pages. Whatever else
speaks of tokens (a plan of training samples, a page) names rows and ranges of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from nlirg.errors import InputError
from nlirg.labels import IGNORE

SUFFIX = ".arrow"
LOSS, ENTROPY = "token_loss", "token_entropy"


def token_table(rows: pa.Table, entropy: bool) -> pa.Table:
    """The columns of a token file, from rows whose tokens are scored.

    Args:
        rows: `row_index`, lists `input_ids` and `labels` of T tokens, and `token_loss` and
            `token_entropy` (nats) of the n that are trained.
        entropy: whether to keep `token_entropy`.

    Returns:
        row_index int64, input_ids int32 [T], trained bool [T], token_loss float32 [n] and
        token_entropy float32 [n]. The label of a trained token is its id, so it is not repeated.
    """
    labels = rows["labels"].combine_chunks()
    mask = pa.array(labels.values.to_numpy() != IGNORE)
    table = rows.select(["row_index", "input_ids"])
    table = table.append_column("trained", pa.ListArray.from_arrays(labels.offsets, mask))
    for name in (LOSS, ENTROPY)[: 1 + entropy]:
        table = table.append_column(name, rows[name])
    return table


def write_token_file(path: Path, table: pa.Table) -> None:
    """Write a token file of one record batch."""
    table = table.combine_chunks()
    with pa.ipc.new_file(str(path), table.schema) as out:
        out.write_table(table)


def open_token_file(path: Path) -> pa.RecordBatch:
    """Memory-map a token file; no file handle stays open.

    Raises:
        InputError: if the file is missing or damaged.
    """
    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).get_batch(0)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{path} is no whole token file: delete {path.parent.parent} and run score again"
        ) from error


@dataclass(frozen=True)
class TokenRow:
    """The tokens of one row of the corpus, or of a piece of it.

    Attributes:
        input_ids: int32 [T].
        trained: bool [T].
        loss: float32 [n], nats, of each trained token.
        entropy: float32 [n], nats; None if it was not kept.
    """

    input_ids: np.ndarray
    trained: np.ndarray
    loss: np.ndarray
    entropy: np.ndarray | None

    @property
    def labels(self) -> np.ndarray:
        """int32 [T]: the ids where they are trained, `IGNORE` elsewhere."""
        return np.where(self.trained, self.input_ids, np.int32(IGNORE))


@dataclass(frozen=True)
class Lists:
    """A column of lists as its memory lies: list i is `values[offsets[i] : offsets[i + 1]]`."""

    values: pa.Array
    offsets: np.ndarray

    @classmethod
    def of(cls, batch: pa.RecordBatch, name: str) -> Lists:
        """A column of a record batch."""
        column = batch.column(name)
        return cls(column.values, column.offsets.to_numpy())

    def cut(self, index: int, start: int, stop: int) -> np.ndarray:
        """Items start..stop - 1 of one list; a view where the memory allows one."""
        first = int(self.offsets[index])
        return self.values[first + start : first + stop].to_numpy(zero_copy_only=False)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.cut(index, 0, int(self.offsets[index + 1] - self.offsets[index]))


class TokenFile:
    """One memory-mapped token file."""

    def __init__(self, path: Path) -> None:
        batch = open_token_file(path)
        self.row_index: np.ndarray = batch.column("row_index").to_numpy()
        self._ids, self._trained = (Lists.of(batch, name) for name in ("input_ids", "trained"))
        self._loss = Lists.of(batch, LOSS)
        self._entropy = Lists.of(batch, ENTROPY) if ENTROPY in batch.schema.names else None

    def row(self, index: int) -> TokenRow:
        """The row at an index of this file."""
        entropy = None if self._entropy is None else self._entropy[index]
        return TokenRow(self._ids[index], self._trained[index], self._loss[index], entropy)

    def piece(self, index: int, start: int, stop: int) -> TokenRow:
        """Tokens start..stop - 1 of a row, with the losses of those of them that are trained."""
        trained = self._trained.cut(index, 0, stop)
        first = int(np.count_nonzero(trained[:start]))
        last = first + int(np.count_nonzero(trained[start:]))
        ids, loss = self._ids.cut(index, start, stop), self._loss.cut(index, first, last)
        return TokenRow(ids, trained[start:], loss, None)


class TokenFiles:
    """All token files of a folder, their rows looked up by row index; 16 bytes a row in memory.

    Raises:
        InputError: if there is none, one is damaged, or a row stands in two of them.
    """

    def __init__(self, folder: Path) -> None:
        paths = sorted(path for path in folder.glob(f"*{SUFFIX}") if path.name[0] != ".")
        if not paths:
            raise InputError(f"{folder} holds no token files: delete {folder.parent}, score again")
        self.folder, self.files = folder, [TokenFile(path) for path in paths]
        sizes = [len(file.row_index) for file in self.files]
        row_index = np.concatenate([file.row_index for file in self.files])
        order = np.argsort(row_index)
        self._row_index = row_index[order]
        self._file = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[order]
        self._line = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])[order]
        twice = self._row_index[1:] == self._row_index[:-1]
        if twice.any():
            raise InputError(
                f"{folder} holds {int(twice.sum())} rows twice: delete {folder.parent}, score again"
            )

    def places(self, row_index: np.ndarray) -> np.ndarray:
        """Where rows [n] stand, for `row` and `piece`; int64 [n].

        Raises:
            InputError: if a row stands in no file.
        """
        places = np.searchsorted(self._row_index, row_index)
        places[places == len(self._row_index)] = 0
        missing = int(np.count_nonzero(self._row_index[places] != row_index))
        if missing:
            raise InputError(
                f"{self.folder} lacks {missing} rows of the corpus: delete {self.folder.parent} "
                "and what was made from it, and score again"
            )
        return places

    def row(self, place: int) -> TokenRow:
        """The tokens of the row at a place."""
        return self.files[self._file[place]].row(int(self._line[place]))

    def piece(self, place: int, start: int, stop: int) -> TokenRow:
        """Tokens start..stop - 1 of the row at a place."""
        return self.files[self._file[place]].piece(int(self._line[place]), start, stop)


@dataclass(frozen=True)
class Pieces:
    """Ranges of tokens of the corpus that are read one after the other, [pieces] each.

    Attributes:
        row_index: int64, the row.
        start: int32, first token.
        stop: int32, one past the last.
    """

    row_index: np.ndarray
    start: np.ndarray
    stop: np.ndarray


class PlannedSamples:
    """Training samples, each put together from pieces of rows when it is asked for.

    Args:
        tokens: where the pieces are read.
        pieces: of all samples, sample by sample.
        offsets: [samples + 1] the first piece of each sample, and the number of pieces.
    """

    def __init__(self, tokens: TokenFiles, pieces: Pieces, offsets: np.ndarray) -> None:
        self._tokens, self._pieces, self._offsets = tokens, pieces, offsets
        self._places = tokens.places(pieces.row_index)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        """`input_ids` and `labels` [T], `base_loss` [n], and `segments`, the pieces' lengths."""
        numbers = range(self._offsets[index], self._offsets[index + 1])
        rows = [self._piece(number) for number in numbers]
        return {
            "input_ids": _joined([row.input_ids for row in rows]),
            "labels": _joined([row.labels for row in rows]),
            "base_loss": _joined([row.loss for row in rows]),
            "segments": np.array([len(row.input_ids) for row in rows]),
        }

    def _piece(self, number: int) -> TokenRow:
        start, stop = self._pieces.start[number], self._pieces.stop[number]
        return self._tokens.piece(self._places[number], int(start), int(stop))


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    """Arrays one after the other; a single one is not copied."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
