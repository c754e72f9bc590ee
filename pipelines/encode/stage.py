"""Turn the selected rows into training rows with Ray Data: held-out rows left out, text packed.

A training row's position is its rank in the recipe's order. Token ids, labels and the base model's
losses come from the scores as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.rundir import RunDirectory, StageFolder
from cluster.session import connect
from nlirg.corpus.packing import pack
from nlirg.errors import InputError
from pipelines.encode.holdout import choose_holdout
from pipelines.positions import find, open_by_position
from pipelines.ray_data import configure, parquet_files, read_columns, root_cause, watch_parquet
from pipelines.recipe import Recipe
from pipelines.score.stage import Score
from pipelines.select.stage import MAX_PARTITIONS, Select, selected_index
from pipelines.stage import Stage, Summary
from pipelines.store import identity

ROWS_PER_BATCH = 1024
# Documents packed together: enough to fill packs well, few enough for a worker's memory.
GROUP_DOCUMENTS = 4096
GROUP_TOKENS = 8 << 20
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "position": pa.int64(),
        "task_type": pa.string(),
        "input_ids": pa.list_(pa.int32()),
        "labels": pa.list_(pa.int32()),
        "n_trained": pa.int32(),
        "base_loss": pa.list_(pa.float32()),
        "segments": pa.list_(pa.int32()),
    }
)
SCORED = ["token_loss" if name == "base_loss" else name for name in SCHEMA.names]


class SelectBatch:
    """Take the columns to train on of the rows that are, their ranks as positions."""

    def __init__(self, index: Path | None, holdout: frozenset[str]) -> None:
        self.index = index
        self.holdout = pa.array(sorted(holdout), pa.string())

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Select from a batch of scored rows."""
        kept = ranked(batch, self.index)
        kept = kept.filter(pc.invert(pc.is_in(kept["id"], self.holdout)))
        return kept.select(SCORED).rename_columns(SCHEMA.names).cast(SCHEMA)


class GroupRows:
    """Say which rows are packed together: neighbours in the order."""

    def __init__(self, index: Path | None, starts: np.ndarray) -> None:
        self.index, self.starts = index, starts

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add the number of its group to every row of a batch of scored rows."""
        rows = ranked(batch, self.index)
        group = np.searchsorted(self.starts, rows["position"].to_numpy(), side="right") - 1
        return rows.append_column("group", pa.array(group))


def pack_group(pack_length: int, batch: pa.Table) -> pa.Table:
    """Pack the documents of one group."""
    group = batch["group"][0].as_py()
    documents = batch.sort_by("position").to_pandas().to_dict("records")
    rows = [
        {**row, "position": (group << 32) + number}
        for number, row in enumerate(pack(documents, pack_length))
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def ranked(rows: pa.Table, index: Path | None) -> pa.Table:
    """Replace positions by ranks, leaving out rows without one; without an index nothing changes.

    Args:
        rows: scored rows, or some of their columns.
        index: see `pipelines.select.stage.selected_index`.
    """
    if index is None:
        return rows
    ranks = open_by_position(index)
    found = find(ranks, rows["position"].to_numpy())
    place = rows.schema.get_field_index("position")
    kept = rows.filter(found >= 0)
    return kept.set_column(place, "position", ranks["rank"].take(found[found >= 0]))


class EncodeSummary(Summary):
    """What is there to train on.

    Attributes:
        rows: samples, or packs of plain text.
        tokens: all tokens.
        trained_tokens: those with a label.
        holdout: rows kept from training.
        truncated: scored rows cut at the limit.
        skipped: scored rows set aside for being too long.
        documents: of plain text, those in the packs.
        utilisation: of plain text, the share of the packs' room that is filled.
    """

    rows: int
    tokens: int
    trained_tokens: int
    holdout: int
    truncated: int
    skipped: int
    documents: int | None = None
    utilisation: float | None = None


class Encode(Stage[EncodeSummary]):
    """Encode the selected rows into `encoded/*.parquet`.

    `recipe.holdout` of them, chosen by the hash of their ids among those whose prompt no other
    selected row has or nearly has, are kept from training and written to `holdout.jsonl` for the
    evaluation. Plain text has none.
    """

    name = "encode"
    summary_type = EncodeSummary
    attempt = "restart"

    def folder(self, run: RunDirectory) -> StageFolder:
        """Return `encoded/`."""
        return run.encoded

    def settings(self, recipe: Recipe, run: RunDirectory) -> dict[str, Any]:
        """Return what decides the encoded rows."""
        select = Select()
        return {
            "scores": run.scores.fingerprint(),
            "selected": None if select.idle(recipe) else select.fingerprint(recipe, run),
            "model": identity(recipe.model),
            "encode": recipe.encode.model_dump(mode="json"),
            "holdout": recipe.holdout,
        }

    def check(self, recipe: Recipe) -> None:
        """Refuse to hold out plain text."""
        if recipe.holdout and recipe.encode.task == "cpt":
            raise InputError(
                "holdout is for conversations, and plain text asks nothing: set holdout to 0 and "
                "evaluate.domain to a file of cases"
            )

    def work(self, recipe: Recipe, run: RunDirectory, resumed: bool) -> EncodeSummary:
        """Write the rows to train on.

        Raises:
            InputError: if the corpus is not selected yet, or nothing is left to train on.
        """
        folder, scored = run.encoded.path, run.scores
        index = selected_index(recipe, run)
        corpus = Score().summary(run)
        connect(recipe.cluster)
        configure(recipe.cluster.stall_timeout_s)
        holdout = choose_holdout(scored, index, recipe.holdout, run.holdout)
        packed: dict[str, Any] = {}
        if recipe.encode.task == "cpt":
            rows, packed["documents"] = _packs(scored.path, index, recipe.encode.pack_length)
        else:
            rows = read_columns(parquet_files(scored.path), SCORED).map_batches(
                SelectBatch(index, holdout), batch_size=ROWS_PER_BATCH, batch_format="pyarrow"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with watch_parquet("encode", folder), root_cause():
            rows.write_parquet(str(folder))
        counts = _counts(folder)
        if packed:
            packed["utilisation"] = counts["tokens"] / (counts["rows"] * recipe.encode.pack_length)
        return EncodeSummary(
            **counts,
            **packed,
            holdout=len(holdout),
            truncated=corpus.truncated,
            skipped=corpus.skipped,
        )

    def describe(self, recipe: Recipe, run: RunDirectory, summary: EncodeSummary) -> Iterator[str]:
        """Yield what a user must know before training on the rows."""
        parts = [f"{summary.rows} rows, {summary.trained_tokens} tokens to train"]
        if summary.utilisation is not None:
            filled = f"{summary.utilisation:.1%}"
            parts.append(f"{summary.documents} documents fill {filled} of the packs")
        if summary.truncated:
            parts.append(f"{summary.truncated} rows cut at the limit")
        if summary.skipped:
            parts.append(f"{summary.skipped} too long, skipped")
        yield "; ".join(parts)


def _packs(source: Path, index: Path | None, pack_length: int) -> tuple[Any, int]:
    """Pack the documents, neighbours in the order together; rows of packs, and documents."""
    starts, documents = group_starts(source, index, GROUP_DOCUMENTS, GROUP_TOKENS)
    grouped = read_columns(parquet_files(source), SCORED).map_batches(
        GroupRows(index, starts), batch_size=ROWS_PER_BATCH, batch_format="pyarrow"
    )
    rows = grouped.groupby("group", num_partitions=min(len(starts), MAX_PARTITIONS)).map_groups(
        partial(pack_group, pack_length), batch_format="pyarrow"
    )
    return rows, documents


def group_starts(
    source: Path, index: Path | None, documents: int, tokens: int
) -> tuple[np.ndarray, int]:
    """Cut the corpus into runs of neighbouring documents to pack together.

    Args:
        source: folder of the scores.
        index: see `pipelines.select.stage.selected_index`.
        documents: at most so many in a run.
        tokens: at most so many in a run, if it has more than one document.

    Returns:
        [groups] position of the first document of each, or its rank where there is an index; and
        the number of documents. How scoring happened to spread them over files does not matter.
    """
    table = pads.dataset(parquet_files(source)).to_table(["position", "n_tokens"])
    rows = ranked(table, index).sort_by("position")
    starts: list[int] = []
    count = size = 0
    for position, length in zip(*(column.to_numpy() for column in rows.columns), strict=True):
        if not starts or count == documents or size + length > tokens:
            starts.append(position)
            count = size = 0
        count, size = count + 1, size + length
    return np.array(starts, np.int64), rows.num_rows


def _counts(folder: Path) -> dict[str, int]:
    """Count rows and tokens from the files."""
    rows = tokens = trained = 0
    if files := parquet_files(folder):
        for batch in pads.dataset(files).to_batches(columns=["input_ids", "n_trained"]):
            rows += batch.num_rows
            tokens += len(batch["input_ids"].flatten())
            trained += int(np.sum(batch["n_trained"].to_numpy()))
    if not trained:
        raise InputError("no row is left to train on: lower holdout, or add rows to the corpus")
    return {"rows": rows, "tokens": tokens, "trained_tokens": trained}
