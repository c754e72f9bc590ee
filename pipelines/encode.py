"""Turn the scored corpus into training rows with Ray Data: held-out rows left out, text packed.

Token ids, labels and the base model's losses come from the scores as they are.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.rundir import RunDirectory, Stage, atomic_path, fingerprint
from cluster.session import connect
from eval.suites import holdout_cases
from nlirg.errors import InputError
from nlirg.packing import pack
from nlirg.records import Record
from pipelines.progress import say
from pipelines.ray_data import configure, parquet_files, root_cause, watch_parquet
from pipelines.recipe import Recipe
from pipelines.store import identity

ROWS_PER_BATCH = 1024
# Documents packed together: enough to fill packs well, few enough for a worker's memory.
GROUP_DOCUMENTS = 4096
GROUP_TOKENS = 8 << 20
COLUMNS = ["id", "task_type", "messages", "tools"]
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
    """Take the columns to train on, without the held-out rows."""

    def __init__(self, holdout: frozenset[str]) -> None:
        self.holdout = pa.array(sorted(holdout), pa.string())

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Select from a batch of scored rows."""
        kept = batch.filter(pc.invert(pc.is_in(batch["id"], self.holdout)))
        return kept.select(SCORED).rename_columns(SCHEMA.names).cast(SCHEMA)


class PackGroup:
    """Pack neighbouring documents of the scored corpus."""

    def __init__(self, pack_length: int) -> None:
        self.pack_length = pack_length

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        """Pack the one group of `_groups` that `batch` holds."""
        group, first, last, files = (batch[key][0] for key in ("group", "first", "last", "files"))
        place = pads.field("position")
        table = pads.dataset(list(files)).to_table(
            SCORED, filter=(place >= int(first)) & (place <= int(last))
        )
        documents = table.sort_by("position").to_pandas().to_dict("records")
        rows = [
            {**row, "position": (int(group) << 32) + number}
            for number, row in enumerate(pack(documents, self.pack_length))
        ]
        return pa.Table.from_pylist(rows, schema=SCHEMA)


def encode(recipe: Recipe, run: RunDirectory) -> dict[str, Any]:
    """Encode the scored rows into `encoded/*.parquet` and return the summary.

    `recipe.holdout` rows, chosen by the hash of their ids, are kept from training and written to
    `holdout.jsonl` for the evaluation. Plain text has none.

    Returns:
        rows, holdout, tokens (all), trained_tokens, truncated (rows cut at the limit, held-out
        ones included), skipped (rows that were too long and set aside); of plain text also
        documents, packs and utilisation (the share of the packs' room that is filled).

    Raises:
        InputError: if the corpus is not scored yet, plain text is to be held out, or nothing is
            left to train on.
    """
    stage, scored = run.encoded, run.scores
    corpus = scored.summary()
    if recipe.holdout and recipe.encode.task == "cpt":
        raise InputError(
            "holdout is for conversations, and plain text asks nothing: set holdout to 0 and "
            "evaluate.domain to a file of cases"
        )
    mark = fingerprint(
        {
            "scores": json.loads(scored.marker.read_text(encoding="utf-8"))["fingerprint"],
            "model": identity(recipe.model),
            "encode": recipe.encode.model_dump(mode="json"),
            "holdout": recipe.holdout,
        }
    )
    if (done := stage.finished(mark)) is not None:
        say("encode", f"already done: {done['rows']} rows")
        return done
    shutil.rmtree(stage.path, ignore_errors=True)
    connect(recipe.cluster)
    holdout = _holdout(scored, recipe.holdout, run.holdout)
    _write_encoded(recipe, scored.path, stage.path, holdout)
    summary = _summary(stage) | {"holdout": len(holdout)}
    summary |= {key: corpus[key] for key in ("truncated", "skipped")}
    if recipe.encode.task == "cpt":
        summary |= _packed(summary, corpus["rows"], recipe.encode.pack_length)
    stage.succeed(mark, summary)
    say("encode", _told(summary))
    return summary


def _packed(summary: dict[str, Any], documents: int, pack_length: int) -> dict[str, Any]:
    """How well documents were packed."""
    packs = summary["rows"]
    room = packs * pack_length
    return {"documents": documents, "packs": packs, "utilisation": summary["tokens"] / room}


def _told(summary: dict[str, Any]) -> str:
    """What a user must know before training on the rows."""
    told = f"{summary['rows']} rows, {summary['trained_tokens']} tokens to train"
    if "packs" in summary:
        told += f"; {summary['documents']} documents fill {summary['utilisation']:.1%} of the packs"
    told += f"; {summary['truncated']} rows cut at the limit" if summary["truncated"] else ""
    return told + (f"; {summary['skipped']} too long, skipped" if summary["skipped"] else "")


def _write_encoded(recipe: Recipe, source: Path, folder: Path, holdout: frozenset[str]) -> None:
    """Run the Ray Data pipeline."""
    import ray

    configure(recipe.cluster.stall_timeout_s)
    if recipe.encode.task == "cpt":
        groups = _groups(source, GROUP_DOCUMENTS, GROUP_TOKENS)
        rows = ray.data.from_items(groups, override_num_blocks=len(groups)).map_batches(
            PackGroup(recipe.encode.pack_length), batch_size=1
        )
    else:
        rows = ray.data.read_parquet(parquet_files(source), columns=SCORED).map_batches(
            SelectBatch(holdout), batch_size=ROWS_PER_BATCH, batch_format="pyarrow"
        )
    folder.mkdir(parents=True)
    with watch_parquet("encode", folder), root_cause():
        rows.write_parquet(str(folder))


def _groups(source: Path, documents: int, tokens: int) -> list[dict[str, Any]]:
    """Runs of neighbouring documents to pack together: the same ones for the same corpus.

    Returns:
        Of each its number, its first and last position, and the files they lie in: how scoring
        happened to spread the rows over files does not matter.
    """
    tables = {
        file: pads.dataset(file).to_table(["position", "n_tokens"])
        for file in parquet_files(source)
    }
    spans = {
        file: (pc.min(table["position"]).as_py(), pc.max(table["position"]).as_py())
        for file, table in tables.items()
        if table.num_rows
    }
    groups: list[dict[str, Any]] = []
    count = size = 0
    rows = pa.concat_tables(tables.values()).sort_by("position")
    for position, length in zip(*(column.to_pylist() for column in rows.columns), strict=True):
        if not groups or count == documents or size + length > tokens:
            groups.append({"group": len(groups), "first": position})
            count = size = 0
        groups[-1]["last"] = position
        count, size = count + 1, size + length
    for group in groups:
        first, last = group["first"], group["last"]
        group["files"] = [f for f, (low, high) in spans.items() if low <= last and high >= first]
    return groups


def _ids(scored: Stage) -> Iterator[str]:
    """Ids of the scored rows, a batch in memory at a time."""
    for batch in pads.dataset(parquet_files(scored.path)).to_batches(columns=["id"]):
        yield from batch["id"].to_pylist()


def _holdout(scored: Stage, count: int, path: Path) -> frozenset[str]:
    """Choose the `count` ids of smallest hash and write their rows to `path`.

    The choice depends on the ids alone: adding rows to a corpus moves few rows across.
    """
    if not count:
        return frozenset()

    # Some rows cannot be cases (an answer without words, a function call): others replace them.
    candidates = 2 * count
    while True:
        records = _first_by_hash(scored, candidates)
        chosen = list(itertools.islice(filter(_usable, records), count))
        if len(chosen) == count or len(records) < candidates:
            break
        candidates *= 4
    if len(chosen) < count:
        raise InputError(f"holdout is {count}, and only {len(chosen)} rows can be cases: lower it")
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for record in chosen:
            out.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
    return frozenset(record.id for record in chosen)


def _first_by_hash(scored: Stage, count: int) -> list[Record]:
    """The rows with the `count` smallest hashes of their ids, in that order."""

    def rank(name: str) -> bytes:
        return hashlib.sha256(name.encode()).digest()

    names = heapq.nsmallest(count, _ids(scored), key=rank)
    table = pads.dataset(parquet_files(scored.path)).to_table(
        COLUMNS, filter=pads.field("id").isin(names)
    )
    return [
        Record(
            **{**row, "messages": json.loads(row["messages"]), "tools": json.loads(row["tools"])}
        )
        for row in sorted(table.to_pylist(), key=lambda row: rank(row["id"]))
    ]


def _usable(record: Record) -> bool:
    """Whether a row can be asked and its answer be compared."""
    if record.tools or any("tool_calls" in m or m["role"] == "tool" for m in record.messages):
        return False  # evaluation calls no functions
    try:
        return bool(holdout_cases([record]))
    except InputError:
        return False


def _summary(stage: Stage) -> dict[str, Any]:
    """Count rows and tokens from the files."""
    rows = tokens = trained = 0
    if files := parquet_files(stage.path):
        for batch in pads.dataset(files).to_batches(columns=["input_ids", "n_trained"]):
            rows += batch.num_rows
            tokens += len(batch["input_ids"].flatten())
            trained += int(np.sum(batch["n_trained"].to_numpy()))
    if not trained:
        raise InputError("no row is left to train on: lower holdout, or add rows to the corpus")
    return {"rows": rows, "tokens": tokens, "trained_tokens": trained}
