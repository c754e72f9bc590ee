"""Choose the rows that are kept from training and asked in the evaluation."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads

from cluster.rundir import StageFolder
from eval.cases.suites import holdout_cases
from nlirg.atomic_io import atomic_path
from nlirg.config.corpus import DataConfig
from nlirg.corpus.arrangement.mixing import domain_sources
from nlirg.corpus.arrangement.ordering import hash_rank
from nlirg.corpus.records import Record
from nlirg.corpus.rows import STORED, stored_record
from nlirg.errors import InputError
from pipelines.ray_data import parquet_files
from pipelines.row_table import find, open_row_table
from pipelines.select.stage import duplicate_groups


def choose_holdout(
    scored: StageFolder, index: Path | None, count: int, path: Path, data: Sequence[DataConfig]
) -> frozenset[str]:
    """Choose `count` of the selected rows, write them to `path` and return their ids.

    They are those of smallest hash, so that adding rows to a corpus moves few rows across, among
    the rows whose prompt no other selected row has or nearly has: what is trained must not give
    the answers away. Sources with a weight are mixed into the domain, and are not asked.

    Args:
        scored: the scored corpus.
        index: see `pipelines.select.stage.selected_index`.
        count: of rows.
        path: of the file, an object with id, task_type, messages and tools a line.
        data: sources of the recipe.

    Raises:
        InputError: if there are not enough such rows that can be cases.
    """
    if not count:
        return frozenset()

    shared = alike_rows(scored, index, ["prompt"])
    # Some rows cannot be cases (an answer without words, a function call): others replace them.
    candidates = 2 * count
    while True:
        records = _first_by_hash(scored, index, shared, candidates, data)
        chosen = list(itertools.islice(filter(_usable, records), count))
        if len(chosen) == count or len(records) < candidates:
            break
        candidates *= 4
    if len(chosen) < count:
        alike = f" ({len(shared)} rows share their prompt, or nearly)" if len(shared) else ""
        raise InputError(
            f"holdout is {count}, and only {len(chosen)} rows can be cases{alike}: lower it"
        )
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for record in chosen:
            out.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
    return frozenset(record.id for record in chosen)


def alike_rows(scored: StageFolder, index: Path | None, of: Sequence[str]) -> np.ndarray:
    """Row indices of the selected rows that are the same as another selected one, or nearly.

    Args:
        scored: the scored corpus.
        index: see `pipelines.select.stage.selected_index`.
        of: what is compared: "prompt", "answer", "row".

    Returns:
        int64, ascending.
    """
    found = [np.empty(0, np.int64)]
    for part in of:
        table = duplicate_groups(scored, part, "near")
        row_indices, groups = table["row_index"].to_numpy(), table["group"].to_numpy()
        if index is not None:
            selected = find(open_row_table(index), row_indices) >= 0
            row_indices, groups = row_indices[selected], groups[selected]
        _, member, size = np.unique(groups, return_inverse=True, return_counts=True)
        found.append(row_indices[size[member] > 1])
    return np.unique(np.concatenate(found))


def _names(
    scored: StageFolder, index: Path | None, shared: np.ndarray, domain: Sequence[int]
) -> Iterator[str]:
    """Ids of the rows that may be held out, a batch in memory at a time."""
    dataset = pads.dataset(parquet_files(scored.path))
    selected = None if index is None else open_row_table(index)
    for batch in dataset.to_batches(columns=["id", "row_index", "data"]):
        row_indices = batch["row_index"].to_numpy()
        may = ~np.isin(row_indices, shared) & np.isin(batch["data"].to_numpy(), domain)
        if selected is not None:
            may &= find(selected, row_indices) >= 0
        yield from batch["id"].filter(may).to_pylist()


def _first_by_hash(
    scored: StageFolder,
    index: Path | None,
    shared: np.ndarray,
    count: int,
    data: Sequence[DataConfig],
) -> list[Record]:
    """The rows with the `count` smallest hashes of their ids, in that order."""
    names = heapq.nsmallest(
        count, _names(scored, index, shared, domain_sources(data)), key=hash_rank
    )
    table = pads.dataset(parquet_files(scored.path)).to_table(
        list(STORED), filter=pads.field("id").isin(names)
    )
    rows = sorted(table.to_pylist(), key=lambda row: hash_rank(row["id"]))
    records = (stored_record(row, data, "sft") for row in rows)
    return [record for record in records if isinstance(record, Record)]


def _usable(record: Record) -> bool:
    """Whether a row can be asked and its answer be compared."""
    if record.tools or any("tool_calls" in m or m["role"] == "tool" for m in record.messages):
        return False  # evaluation calls no functions
    try:
        return bool(holdout_cases([record]))
    except InputError:
        return False
