"""What Ray Data is asked for: no more parts, and no more processes, than a corpus has files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.ray_data import configure, parquet_files, read_columns

pytestmark = pytest.mark.ray


def test_a_small_corpus_is_sorted_in_as_many_parts_as_it_has_files(
    ray_cluster: None, tmp_path: Path
) -> None:
    """Its two hundred default parts take longer than the sort, and so do readers of footers."""
    for file in range(3):
        rows = {"position": list(range(file, 60, 3)), "text": ["x"] * 20}
        pq.write_table(pa.table(rows), tmp_path / f"{file}.parquet")
    configure(60)
    rows = read_columns(parquet_files(tmp_path), ["position"]).sort("position").materialize()
    assert [row["position"] for row in rows.iter_rows()] == list(range(60))
    assert rows.num_blocks() <= 3
