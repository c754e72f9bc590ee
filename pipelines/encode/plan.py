"""Plans of training samples: which rows, in which order, and of text which pieces of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from nlirg.corpus.arrangement.packing import pack
from pipelines.ray_data import parquet_files, read_columns
from pipelines.row_table import find, open_row_table
from pipelines.select.stage import MAX_PARTITIONS

ROWS_PER_BATCH = 4096
# Documents packed together: enough to fill packs well, few enough for a worker's memory.
GROUP_DOCUMENTS = 4096
GROUP_TOKENS = 8 << 20
# A row is a training sample: the tokens start..stop - 1 of each piece, one after the other. Samples
# are trained in the order of their ranks, which may leave numbers out; those of one row of the
# corpus share its rank, and are numbered. `data` is the row's source in the recipe, and a row is
# `alone` if it may be held out: no other selected row is nearly the same, and its source is of the
# domain.
PLAN = pa.schema(
    {
        "id": pa.string(),
        "rank": pa.int64(),
        "number": pa.int32(),
        "task_type": pa.string(),
        "data": pa.int32(),
        "alone": pa.bool_(),
        "n_tokens": pa.int32(),
        "n_trained": pa.int32(),
        "pieces": pa.list_(
            pa.struct({"row_index": pa.int64(), "start": pa.int32(), "stop": pa.int32()})
        ),
    }
)
SCORED = ["id", "row_index", "task_type", "data"]
SAMPLES = ["sample_tokens", "sample_trained"]


@dataclass(frozen=True)
class Apart:
    """Which rows may be held out.

    Attributes:
        alike: int64, row indices of the rows that are nearly the same as another, ascending.
        domain: indices of the sources of the domain.
    """

    alike: np.ndarray
    domain: tuple[int, ...]

    def alone(self, rows: pa.Table) -> np.ndarray:
        """Return bool [rows]."""
        unlike = ~np.isin(rows["row_index"].to_numpy(), self.alike)
        alone: np.ndarray = unlike & np.isin(rows["data"].to_numpy(), self.domain)
        return alone


class PlanRows:
    """Plan the samples of every row that is trained."""

    def __init__(self, index: Path | None, holdout: frozenset[str], apart: Apart) -> None:
        self.index, self.apart = index, apart
        self.holdout = pa.array(sorted(holdout), pa.string())

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Plan a batch of scored rows."""
        rows = ranked(batch, self.index)
        rows = rows.filter(pc.invert(pc.is_in(rows["id"], self.holdout))).combine_chunks()
        counts = pc.list_value_length(rows["sample_tokens"]).to_numpy().astype(np.int64)
        sizes, trained = (pc.list_flatten(rows[name]).to_numpy() for name in SAMPLES)
        samples = rows.take(np.repeat(np.arange(rows.num_rows), counts))
        # Where a sample begins in its row: what the samples before it have, less what rows have.
        ends = np.cumsum(sizes)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        begins = ends - sizes
        start = begins - begins[first] if len(begins) else begins
        item = PLAN.field("pieces").type.value_type
        parts = (samples["row_index"].to_numpy(), start, start + sizes)
        pieces = pa.ListArray.from_arrays(
            pa.array(np.arange(len(sizes) + 1, dtype=np.int32)),
            pa.StructArray.from_arrays(
                [pa.array(part).cast(field.type) for part, field in zip(parts, item, strict=True)],
                fields=list(item),
            ),
        )
        columns = {
            "alone": self.apart.alone(samples),
            "number": np.arange(len(sizes)) - first,
            "n_tokens": sizes,
            "n_trained": trained,
            "pieces": pieces,
        }
        planned = samples.select(["id", "rank", "task_type", "data"])
        for name, values in columns.items():
            planned = planned.append_column(name, pa.array(values))
        return planned.select(PLAN.names).cast(PLAN)


class GroupRows:
    """Say which documents are packed together: those of one source, neighbours in the order.

    Args:
        index: see `pipelines.select.stage.selected_index`.
        starts: see `group_starts`.
        apart: which rows may be held out.
    """

    def __init__(self, index: Path | None, starts: pa.Table, apart: Apart) -> None:
        self.index, self.starts, self.apart = index, starts, apart

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add rank, number of its group and `alone` to every row of a batch of scored rows."""
        rows = ranked(batch, self.index)
        ranks, data = rows["rank"].to_numpy(), rows["data"].to_numpy()
        group = np.zeros(len(ranks), np.int64)
        starts, of = self.starts["rank"].to_numpy(), self.starts["data"].to_numpy()
        for source in np.unique(data):
            (numbers,), mine = np.nonzero(of == source), data == source
            places = np.searchsorted(starts[numbers], ranks[mine], side="right") - 1
            group[mine] = numbers[places]
        rows = rows.append_column("group", pa.array(group))
        return rows.append_column("alone", pa.array(self.apart.alone(rows)))


def pack_group(pack_length: int, batch: pa.Table) -> pa.Table:
    """Pack the documents of one group."""
    group = batch["group"][0].as_py()
    documents = batch.sort_by("rank").to_pylist()
    alone = {document["row_index"]: document["alone"] for document in documents}
    samples = [
        {
            **sample,
            "rank": (group << 32) + number,
            "number": 0,
            "data": documents[0]["data"],
            "alone": all(alone[piece["row_index"]] for piece in sample["pieces"]),
        }
        for number, sample in enumerate(pack(documents, pack_length))
    ]
    return pa.Table.from_pylist(samples, schema=PLAN)


def ranked(rows: pa.Table, index: Path | None) -> pa.Table:
    """Add the rows' ranks, leaving out rows without one; without an index the row index is it.

    Args:
        rows: scored rows, or some of their columns.
        index: see `pipelines.select.stage.selected_index`.
    """
    if index is None:
        return rows.append_column("rank", rows["row_index"])
    ranks = open_row_table(index)
    places = find(ranks, rows["row_index"].to_numpy())
    kept = places >= 0
    return rows.filter(kept).append_column("rank", ranks["rank"].take(places[kept]))


def planned_rows(scores: Path, index: Path | None, holdout: frozenset[str], apart: Apart) -> Any:
    """Plan the samples of every selected row but those held out, as a dataset."""
    return read_columns(parquet_files(scores), [*SCORED, *SAMPLES]).map_batches(
        PlanRows(index, holdout, apart), batch_size=ROWS_PER_BATCH, batch_format="pyarrow"
    )


def planned_packs(
    scores: Path, index: Path | None, pack_length: int, apart: Apart
) -> tuple[Any, int]:
    """Pack the documents, neighbours in the order together; a dataset of packs, and documents."""
    starts, documents = group_starts(scores, index, GROUP_DOCUMENTS, GROUP_TOKENS)
    grouped = read_columns(parquet_files(scores), [*SCORED, "n_tokens"]).map_batches(
        GroupRows(index, starts, apart), batch_size=ROWS_PER_BATCH, batch_format="pyarrow"
    )
    partitions = max(1, min(starts.num_rows, MAX_PARTITIONS))
    packs = grouped.groupby("group", num_partitions=partitions).map_groups(
        partial(pack_group, pack_length), batch_format="pyarrow"
    )
    return packs, documents


def group_starts(
    scores: Path, index: Path | None, documents: int, tokens: int
) -> tuple[pa.Table, int]:
    """Cut the corpus into runs of neighbouring documents of one source, to pack together.

    Args:
        scores: folder of the scores.
        index: see `pipelines.select.stage.selected_index`.
        documents: at most so many in a run.
        tokens: at most so many in a run, if it has more than one document.

    Returns:
        Rank of the first document of each run and `data` of its source, ascending by rank, and the
        number of documents. How scoring happened to spread them over files does not matter.
    """
    table = pads.dataset(parquet_files(scores)).to_table(["row_index", "n_tokens", "data"])
    rows = ranked(table, index).sort_by("rank")
    names = ("rank", "n_tokens", "data")
    starts: list[tuple[int, int]] = []
    open_runs: dict[int, tuple[int, int]] = {}  # documents and tokens of each source's last run
    for rank, length, data in zip(*(rows[name].to_numpy() for name in names), strict=True):
        count, size = open_runs.get(data, (documents, 0))
        if count == documents or size + length > tokens:
            starts.append((rank, data))
            count = size = 0
        open_runs[data] = (count + 1, size + length)
    ranks, sources = (np.array([pair[part] for pair in starts], np.int64) for part in (0, 1))
    return pa.table({"rank": ranks, "data": sources}), rows.num_rows
