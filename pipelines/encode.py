"""Encode the scored corpus with Ray Data: chat template -> token ids and labels -> Parquet."""

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
import pyarrow.dataset as pads

from cluster.plan import compute_cores
from cluster.rundir import RunDirectory, Stage, atomic_path, fingerprint
from cluster.session import connect
from eval.suites import holdout_cases
from nlirg.config import EncodeConfig
from nlirg.errors import InputError
from nlirg.records import Record
from pipelines.progress import say
from pipelines.ray_data import configure, root_cause, watch_parquet
from pipelines.recipe import Recipe
from pipelines.store import identity

ROWS_PER_BATCH = 256
COLUMNS = ["id", "task_type", "messages"]
INPUTS = [*COLUMNS, "position"]
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "position": pa.int64(),
        "task_type": pa.string(),
        "input_ids": pa.list_(pa.int32()),
        "labels": pa.list_(pa.int32()),
        "n_trained": pa.int32(),
    }
)


class EncodeBatch:
    """Turn messages into token ids and labels; rows of the holdout are left out."""

    def __init__(self, model: str, config: EncodeConfig, holdout: frozenset[str]) -> None:
        from nlirg.models import load_tokenizer

        self.tokenizer = load_tokenizer(model)
        self.config, self.holdout = config, holdout

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        """Encode a batch with columns id, task_type, messages (JSON) and position."""
        from nlirg.chat import encode_chat

        rows = []
        for name, task_type, messages, position in zip(
            *(batch[key] for key in INPUTS), strict=True
        ):
            if name in self.holdout:
                continue
            sample = encode_chat(
                self.tokenizer,
                json.loads(messages),
                self.config.max_length,
                self.config.overlong,
                self.config.template_options,
            )
            rows.append(
                {
                    "id": name,
                    "position": position,
                    "task_type": task_type,
                    "input_ids": sample.input_ids,
                    "labels": sample.labels,
                    "n_trained": sum(label != -100 for label in sample.labels),
                }
            )
        return pa.Table.from_pylist(rows, schema=SCHEMA)


def encode(recipe: Recipe, run: RunDirectory) -> dict[str, Any]:
    """Encode the scored rows into `encoded/*.parquet` and return the summary.

    `recipe.holdout` rows, chosen by the hash of their ids, are kept from training and written to
    `holdout.jsonl` for the evaluation.

    Returns:
        rows, holdout, tokens (all), trained_tokens.

    Raises:
        InputError: if the corpus is not scored yet, or nothing is left to train on.
    """
    stage, scored = run.encoded, run.scores
    scored.summary()
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
    stage.succeed(mark, summary)
    say("encode", f"{summary['rows']} rows, {summary['trained_tokens']} tokens to train")
    return summary


def _write_encoded(recipe: Recipe, source: Path, folder: Path, holdout: frozenset[str]) -> None:
    """Run the Ray Data pipeline."""
    import ray

    configure(recipe.cluster.stall_timeout_s)
    files = [str(path) for path in sorted(source.glob("*.parquet"))]
    rows = ray.data.read_parquet(files, columns=INPUTS).map_batches(
        EncodeBatch,
        fn_constructor_args=(recipe.model, recipe.encode, holdout),
        batch_size=ROWS_PER_BATCH,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=compute_cores()),
    )
    folder.mkdir(parents=True)
    with watch_parquet("encode", folder), root_cause():
        rows.write_parquet(str(folder))


def _ids(scored: Stage) -> Iterator[str]:
    """Ids of the scored rows, a batch in memory at a time."""
    files = [str(path) for path in sorted(scored.path.glob("*.parquet"))]
    for batch in pads.dataset(files).to_batches(columns=["id"]):
        yield from batch["id"].to_pylist()


def _holdout(scored: Stage, count: int, path: Path) -> frozenset[str]:
    """Choose the `count` ids of smallest hash and write their rows to `path`.

    The choice depends on the ids alone: adding rows to a corpus moves few rows across.
    """
    if not count:
        return frozenset()

    def rank(name: str) -> bytes:
        return hashlib.sha256(name.encode()).digest()

    # Some rows cannot be cases (an answer without words, say): others take their places.
    candidates = heapq.nsmallest(2 * count, _ids(scored), key=rank)
    files = [str(file) for file in sorted(scored.path.glob("*.parquet"))]
    table = pads.dataset(files).to_table(COLUMNS, filter=pads.field("id").isin(candidates))
    rows = sorted(table.to_pylist(), key=lambda row: rank(row["id"]))
    records = [Record(row["id"], json.loads(row["messages"]), row["task_type"]) for row in rows]
    chosen = list(itertools.islice(filter(_usable, records), count))
    if len(chosen) < count:
        raise InputError(f"holdout is {count}, and only {len(chosen)} rows can be cases: lower it")
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for record in chosen:
            out.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
    return frozenset(record.id for record in chosen)


def _usable(record: Record) -> bool:
    """Whether a row can be asked and its answer be compared."""
    try:
        return bool(holdout_cases([record]))
    except InputError:
        return False


def _summary(stage: Stage) -> dict[str, Any]:
    """Count rows and tokens from the files."""
    files = [str(path) for path in sorted(stage.path.glob("*.parquet"))]
    rows = tokens = trained = 0
    if files:
        for batch in pads.dataset(files).to_batches(columns=["input_ids", "n_trained"]):
            rows += batch.num_rows
            tokens += len(batch["input_ids"].flatten())
            trained += int(np.sum(batch["n_trained"].to_numpy()))
    if not trained:
        raise InputError("no row is left to train on: lower holdout, or add rows to the corpus")
    return {"rows": rows, "tokens": tokens, "trained_tokens": trained}
