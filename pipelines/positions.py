"""Tables looked up by the rows' positions in the corpus, memory-mapped by every process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from nlirg.atomic_io import atomic_path


def write_by_position(path: Path, table: pa.Table) -> None:
    """Write a table with a column `position` (int64), sorted by it, for `open_by_position`."""
    table = table.sort_by("position").combine_chunks()
    with atomic_path(path) as temporary, pa.ipc.new_file(str(temporary), table.schema) as out:
        out.write_table(table)


def open_by_position(path: Path) -> pa.Table:
    """Memory-map what `write_by_position` wrote."""
    table: pa.Table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return table


def find(table: pa.Table, positions: np.ndarray) -> np.ndarray:
    """Find rows in a table sorted by `position`.

    Returns:
        [n] index of the table's row with each of the positions [n], -1 where there is none.
    """
    if not table.num_rows:
        return np.full(len(positions), -1)
    (column,) = table["position"].chunks  # a single one is not copied
    known = column.to_numpy()
    index = np.searchsorted(known, positions)
    index[index == len(known)] = 0
    return np.where(known[index] == positions, index, -1)
