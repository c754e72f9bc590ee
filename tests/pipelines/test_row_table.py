"""Tables looked up by row_index."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.row_table import find, open_row_table, write_row_table

row_indices = st.integers(0, 2**62)


@given(st.lists(row_indices, unique=True), st.lists(row_indices))
def test_what_is_found_is_the_row_of_that_index(tmp_path_factory, known, asked) -> None:
    path: Path = tmp_path_factory.mktemp("row_indices") / "table.arrow"
    values = pa.table({"row_index": pa.array(known, pa.int64()), "name": pa.array(map(str, known))})
    write_row_table(path, values)
    table = open_row_table(path)
    asked += known[::2]
    found = find(table, np.array(asked, np.int64))
    for row_index, index in zip(asked, found, strict=True):
        if row_index in known:
            assert table["name"][int(index)].as_py() == str(row_index)
        else:
            assert index == -1
