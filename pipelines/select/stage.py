"""Select and order the scored rows with Ray Data, and write them in the user's own format.

Rules and keys are computed where the rows lie, and a few narrow columns of them are sorted
globally. The sorted files are read back a batch at a time: caps, which need the order, are applied
there, and a row's rank is its place in that stream. Only row_indices and ranks, 16 bytes a row, are
ever together in one process; other stages look them up in a memory-mapped index.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from cluster.rundir import RunDirectory, StageFolder
from cluster.session import connect
from nlirg.atomic_io import atomic_path
from nlirg.config.corpus import Order, SelectConfig
from nlirg.config.score_columns import columns_for
from nlirg.corpus.arrangement.ordering import KEY_COLUMNS, mixed_places, sort_keys
from nlirg.corpus.arrangement.selection import (
    KEPT,
    Caps,
    Drop,
    check_ranges,
    repeated,
    rule_columns,
    rule_drops,
)
from nlirg.errors import InputError
from pipelines.ray_data import configure, parquet_files, read_columns, root_cause, watch_parquet
from pipelines.recipe import Recipe
from pipelines.row_table import find, open_row_table, write_row_table
from pipelines.score.stage import Score
from pipelines.stage import Stage, Summary

ROWS_PER_BATCH = 4096
ROWS_PER_FILE = 16384  # of the selected corpus
MAX_PARTITIONS = 200
INDEX = "index.arrow"
CAPPED_BY = ("per_task_type", "per_answer")
PLACE = ["id", "source", "line"]
DROPPED = [*PLACE, "rule", "reason"]
SORTED_BY = ["dropped", "key", "row_index"]


def duplicate_groups(scored: StageFolder, of: str, kind: str) -> pa.Table:
    """Row indices and groups of the rows that have duplicates, sorted by row index.

    Args:
        scored: the scored corpus.
        of: "prompt", "answer" or "row".
        kind: "exact", or "near", whose groups hold the exact ones too.

    Raises:
        InputError: if duplicates were not looked for.
    """
    files = parquet_files(scored.path / "duplicates")
    if not files:
        raise InputError(f"{scored.path} has no duplicates/: delete that folder and run score")
    table = pads.dataset(files).to_table(
        ["row_index", "group"], filter=(pads.field("of") == of) & (pads.field("kind") == kind)
    )
    return table.sort_by("row_index").combine_chunks()


class JudgeRows:
    """Say of scored rows what drops them and what they are sorted by."""

    def __init__(self, select: SelectConfig, order: Order, seed: int, repeats: Path) -> None:
        self.select, self.order, self.seed, self.repeats = select, order, seed, repeats

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Judge a batch of scored rows; dropped ones come last when sorted."""
        columns = {name: batch[name].to_numpy() for name in rule_columns(self.select)}
        drops = rule_drops(columns, batch.num_rows, self.select)
        repeats = open_row_table(self.repeats)
        index = find(repeats, batch["row_index"].to_numpy())
        for row in np.flatnonzero(index >= 0):
            drops[row] = Drop("dedup", repeats["reason"][index[row]].as_py())
        dropped = np.array([drop != KEPT for drop in drops])
        keys = sort_keys(self.order, batch[KEY_COLUMNS[self.order]].to_numpy(), self.seed)
        return pa.table(
            {
                **{name: batch[name] for name in (*PLACE, "row_index", "task_type", "mean_loss")},
                "dropped": pa.array(dropped.astype(np.int8)),
                # Those dropped stay in the order of the corpus.
                "key": np.where(dropped, 0.0, keys),
                "rule": pa.array([drop.rule for drop in drops]),
                "reason": pa.array([drop.reason for drop in drops]),
            }
        )


class RankRows:
    """Take the selected rows as they stood in the corpus, with their ranks."""

    def __init__(self, index: Path, rows_per_file: int) -> None:
        self.index, self.rows_per_file = index, rows_per_file

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Select from a batch of scored rows; columns: row, rank, file (its number)."""
        index = open_row_table(self.index)
        found = find(index, batch["row_index"].to_numpy())
        ranks = index["rank"].take(found[found >= 0]).combine_chunks()
        rows = batch["row"].filter(found >= 0)
        return pa.table(
            {"row": rows, "rank": ranks, "file": ranks.to_numpy() // self.rows_per_file}
        )


def write_file(folder: Path, batch: pa.Table) -> pa.Table:
    """Write one file of the selected corpus; a task that Ray runs twice replaces it."""
    rows = batch.sort_by("rank")["row"].to_pylist()
    with atomic_path(folder / f"corpus-{batch['file'][0].as_py():05d}.jsonl") as temporary:
        temporary.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8", newline="\n")
    return pa.table({"rows": [len(rows)]})


class SelectSummary(Summary):
    """How many rows were selected, and rule -> rows dropped."""

    rows: int
    dropped: dict[str, int]


class Select(Stage[SelectSummary]):
    """Select and order the scored rows, into `selected/`.

    Writes `corpus-*.jsonl`, the selected rows as they stood, in order (the files by their names),
    `dropped.jsonl` (id, source, line, rule, reason) and `index.arrow` (row_index, rank).
    """

    name = "select"
    summary_type = SelectSummary
    attempt = "restart"

    def folder(self, run: RunDirectory) -> StageFolder:
        """Return `selected/`."""
        return run.selected

    def idle(self, recipe: Recipe) -> str:
        """Return why nothing is selected, for a recipe without rules and without an order."""
        selects = recipe.order != "random" or recipe.select != SelectConfig()
        return "" if selects else "every row is trained, shuffled"

    def settings(self, recipe: Recipe, run: RunDirectory) -> dict[str, Any]:
        """Return what decides the selection: the scores, the rules, the order, the seed."""
        return {
            "scores": run.scores.fingerprint(),
            "select": recipe.select.model_dump(mode="json"),
            "order": recipe.order,
            "seed": recipe.seed,
        }

    def check(self, recipe: Recipe) -> None:
        """Refuse rules on columns that the scores of this recipe do not have."""
        numbers = {column.name for column in columns_for(recipe.score) if column.selectable}
        check_ranges(recipe.select, numbers)

    def work(self, recipe: Recipe, run: RunDirectory, resumed: bool) -> SelectSummary:
        """Judge, sort and write the rows.

        Raises:
            InputError: if no row is left.
        """
        folder, scored = run.selected.path, run.scores
        connect(recipe.cluster)
        configure(recipe.cluster.stall_timeout_s)
        work = folder / ".work"
        work.mkdir(parents=True)
        dropped = _arrange(recipe, scored, run.selected, work)
        rows = open_row_table(folder / INDEX).num_rows
        _verify(rows + dropped.total(), Score().summary(run).rows, "judged")
        _verify(_write_corpus(scored, folder, rows), rows, "written")
        shutil.rmtree(work)
        return SelectSummary(rows=rows, dropped=dict(dropped.most_common()))

    def describe(self, recipe: Recipe, run: RunDirectory, summary: SelectSummary) -> Iterator[str]:
        """Yield the number of rows and what dropped the others."""
        dropped = ", ".join(f"{count} by {rule}" for rule, count in summary.dropped.items())
        account = f"{summary.rows} rows, order {recipe.order}"
        yield account + (f"; dropped {dropped}" if dropped else "")


def selected_index(recipe: Recipe, run: RunDirectory) -> Path | None:
    """Return the file of the selected rows' `row_index` and `rank`, sorted by row index.

    Returns:
        None if the recipe selects nothing: then every scored row counts, in the corpus's order.

    Raises:
        InputError: if the selection is not made yet, or was made with other settings.
    """
    stage = Select()
    if stage.idle(recipe):
        return None
    stage.require(recipe, run)
    return run.selected.path / INDEX


def _verify(found: int, expected: int, what: str) -> None:
    if found != expected:
        raise RuntimeError(f"select: {found} rows were {what}, there are {expected}")


def _arrange(recipe: Recipe, scored: StageFolder, stage: StageFolder, work: Path) -> Counter[str]:
    """Write the index and `dropped.jsonl`; return rule -> rows dropped."""
    config, order = recipe.select, recipe.order
    capped = any(getattr(config, cap) is not None for cap in CAPPED_BY)
    # Easy rows must not fill the caps of a mixture, so chance decides there.
    first: Order = "random" if order == "mixed" and capped else order
    kept, by_difficulty = work / "kept.parquet", ["mean_loss", "row_index"]
    batches = _sorted(_judged(recipe, first, scored, work), SORTED_BY, work / "judged")
    dropped = _admit(batches, scored, config, kept, stage.path / "dropped.jsonl")
    if first != order:
        batches = _sorted(read_columns([str(kept)], by_difficulty), by_difficulty, work / "mixed")
        row_indices = np.concatenate([batch["row_index"].to_numpy() for batch in batches])
    else:
        row_indices = pq.read_table(kept, columns=["row_index"])["row_index"].to_numpy()
    ranks = np.arange(len(row_indices))
    if order == "mixed":
        ranks = mixed_places(ranks, len(ranks), recipe.seed)
    write_row_table(stage.path / INDEX, pa.table({"row_index": row_indices, "rank": ranks}))
    return dropped


def _judged(recipe: Recipe, order: Order, scored: StageFolder, work: Path) -> Any:
    """The columns that are sorted, of all scored rows."""
    repeats, config = work / "repeats.arrow", recipe.select
    write_row_table(repeats, _repeats(scored, config))
    columns = [*PLACE, "row_index", "task_type", "mean_loss", KEY_COLUMNS[order]]
    columns = list(dict.fromkeys([*columns, *rule_columns(config)]))
    return read_columns(parquet_files(scored.path), columns).map_batches(
        JudgeRows(config, order, recipe.seed, repeats),
        batch_size=ROWS_PER_BATCH,
        batch_format="pyarrow",
    )


def _repeats(scored: StageFolder, config: SelectConfig) -> pa.Table:
    """Return the rows that repeat an earlier one of those bands and ranges keep, with reasons."""
    schema = pa.schema({"row_index": pa.int64(), "reason": pa.string()})
    if config.dedup is None:
        return schema.empty_table()
    groups = duplicate_groups(scored, config.dedup, "near" if config.near else "exact")
    columns = list(dict.fromkeys(["row_index", "id", *rule_columns(config)]))
    rows = pads.dataset(parquet_files(scored.path)).to_table(
        columns, filter=pads.field("row_index").isin(groups["row_index"])
    )
    values = {name: rows[name].to_numpy() for name in rule_columns(config)}
    passed = np.array([drop == KEPT for drop in rule_drops(values, rows.num_rows, config)], bool)
    rows = rows.filter(passed).sort_by("row_index")
    row_indices, names = rows["row_index"].to_numpy(), rows["id"].to_pylist()
    first = repeated(groups["group"].to_numpy()[find(groups, row_indices)])
    again = np.flatnonzero(first != np.arange(len(first)))
    how = "nearly repeats" if config.near else "repeats"
    what = "" if config.dedup == "row" else f"the {config.dedup} of "
    reasons = [f"{how} {what}row {names[first[row]]!r}" for row in again]
    return pa.table({"row_index": row_indices[again], "reason": reasons}, schema=schema)


def _sorted(rows: Any, keys: list[str], folder: Path) -> Iterator[pa.RecordBatch]:
    """Sort rows globally into files, and read them back in order, a batch in memory at a time."""
    with watch_parquet("select", folder), root_cause():
        rows.sort(keys).write_parquet(str(folder))
    files = [pq.ParquetFile(file) for file in parquet_files(folder)]
    files = [file for file in files if file.metadata.num_rows]
    # Files are told apart by their first rows: their names need not follow the order.
    first = [next(file.iter_batches(1, columns=keys)).to_pylist()[0] for file in files]
    for number in sorted(range(len(files)), key=lambda n: [first[n][key] for key in keys]):
        yield from files[number].iter_batches()


def _admit(
    batches: Iterator[pa.RecordBatch],
    scored: StageFolder,
    config: SelectConfig,
    kept: Path,
    lost: Path,
) -> Counter[str]:
    """Part sorted rows into those to keep and those dropped, by a rule before or by a cap now.

    Returns:
        Rule -> rows dropped.

    Raises:
        InputError: if none is kept, or a cap is of a task type that there is not.
    """
    caps, counts = Caps(config), Counter[str]()
    answers = duplicate_groups(scored, "answer", "exact") if config.per_answer else None
    schema = pa.schema({"row_index": pa.int64(), "mean_loss": pa.float64()})
    with (
        atomic_path(lost) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as out,
        pq.ParquetWriter(kept, schema) as writer,
    ):
        for batch in batches:
            rows = _capped(batch, caps, answers)
            stays = pc.equal(rows["rule"], "")
            writer.write_table(rows.filter(stays).select(schema.names).cast(schema))
            for row in rows.filter(pc.invert(stays)).select(DROPPED).to_pylist():
                counts[row["rule"]] += 1
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
    if not pq.read_metadata(kept).num_rows:
        most = ", ".join(f"{count} by {rule}" for rule, count in counts.most_common())
        raise InputError(f"select drops every row: {most}; loosen its rules")
    caps.check()
    return counts


def _capped(batch: pa.RecordBatch, caps: Caps, answers: pa.Table | None) -> pa.Table:
    """Note the caps that drop rows which no rule before has dropped."""
    rows = pa.Table.from_batches([batch])
    open_ = np.flatnonzero(rows["dropped"].to_numpy() == 0)
    if not len(open_):
        return rows
    left = rows.take(open_)
    groups: list[int | None] = [None] * len(open_)
    if answers is not None:
        found = find(answers, left["row_index"].to_numpy())
        groups = pc.take(answers["group"], pa.array(found, mask=found < 0)).to_pylist()
    drops = caps.drops(left["task_type"].to_pylist(), groups)
    for column in ("rule", "reason"):
        told = np.array(rows[column].to_pylist(), object)
        told[open_] = [getattr(drop, column) for drop in drops]
        rows = rows.set_column(rows.schema.get_field_index(column), column, pa.array(told))
    return rows


def _write_corpus(scored: StageFolder, folder: Path, rows: int) -> int:
    """Write the selected rows as they stood; return how many."""
    rank = RankRows(folder / INDEX, ROWS_PER_FILE)
    parts = (
        read_columns(parquet_files(scored.path), ["row_index", "row"])
        .map_batches(rank, batch_size=ROWS_PER_BATCH, batch_format="pyarrow")
        .groupby("file", num_partitions=min(-(-rows // ROWS_PER_FILE), MAX_PARTITIONS))
        .map_groups(partial(write_file, folder), batch_format="pyarrow")
    )
    with root_cause():
        return sum(int(batch["rows"].sum()) for batch in parts.iter_batches())
