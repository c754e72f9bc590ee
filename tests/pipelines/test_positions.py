"""Tables looked up by position."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.positions import find, open_by_position, write_by_position

positions = st.integers(0, 2**62)


@given(st.lists(positions, unique=True), st.lists(positions))
def test_what_is_found_is_the_row_of_that_position(tmp_path_factory, known, asked) -> None:
    path: Path = tmp_path_factory.mktemp("positions") / "table.arrow"
    values = pa.table({"position": pa.array(known, pa.int64()), "name": pa.array(map(str, known))})
    write_by_position(path, values)
    table = open_by_position(path)
    asked += known[::2]
    found = find(table, np.array(asked, np.int64))
    for position, index in zip(asked, found, strict=True):
        if position in known:
            assert table["name"][int(index)].as_py() == str(position)
        else:
            assert index == -1
