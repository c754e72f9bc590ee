"""Tables looked up by the rows' row_indices in the corpus, memory-mapped by every process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from nlirg.atomic_io import atomic_path


def write_row_table(path: Path, table: pa.Table) -> None:
    """Write a table with a column `row_index` (int64), sorted by it, for `open_row_table`."""
    table = table.sort_by("row_index").combine_chunks()
    with atomic_path(path) as temporary, pa.ipc.new_file(str(temporary), table.schema) as out:
        out.write_table(table)


def open_row_table(path: Path) -> pa.Table:
    """Memory-map what `write_row_table` wrote."""
    table: pa.Table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return table


def find(table: pa.Table, row_indices: np.ndarray) -> np.ndarray:
    """Find rows in a table sorted by `row_index`.

    Returns:
        [n] index of the table's row with each of the row_indices [n], -1 where there is none.
    """
    if not table.num_rows:
        return np.full(len(row_indices), -1)
    (column,) = table["row_index"].chunks  # a single one is not copied
    known = column.to_numpy()
    index = np.searchsorted(known, row_indices)
    index[index == len(known)] = 0
    return np.where(known[index] == row_indices, index, -1)
