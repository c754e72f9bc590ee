"""Score a corpus with Ray Data: read -> tokenize -> one forward pass in an actor pool -> Parquet.

Rows that cannot be used are set aside by the reading tasks in one file per shard, so that a task
which Ray runs twice leaves no row twice; the files become `quarantine.jsonl` at the end. What was
scored, token ids and labels, stands beside its scores: encoding takes it from there, so the loss
of a token cannot be taken for that of another.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.plan import model_pool
from cluster.rundir import RunDirectory, atomic_path, fingerprint
from cluster.session import connect
from nlirg.chat import OverlongError, encode_chat
from nlirg.config import ZONES, EncodeConfig, ScoreConfig
from nlirg.corpus import SUFFIXES, TEXT, RawRow, Shard, list_shards, read_shard
from nlirg.errors import BadRowError, InputError
from nlirg.packing import document_labels, encode_document, piece_lengths
from nlirg.records import Document, Record, parse_document, parse_row
from pipelines.progress import say
from pipelines.ray_data import configure, root_cause, watch_parquet
from pipelines.recipe import Recipe
from pipelines.store import identity

ROWS_PER_BLOCK = 256
NUMBER = re.compile(r"\d+")
INT32S, FLOATS = pa.list_(pa.int32()), pa.list_(pa.float32())


@cache
def _tokenizer(model: str, task: str) -> Any:
    """The tokenizer, loaded once per worker process."""
    from nlirg.models import load_tokenizer

    return load_tokenizer(model, chat=task == "sft")


class ReadShard:
    """Turn one shard of the corpus into encoded rows; bad rows go to the quarantine folder."""

    def __init__(self, model: str, encode: EncodeConfig, quarantine: Path) -> None:
        self.model, self.encode, self.quarantine = model, encode, quarantine

    def __call__(self, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the rows of the shard `item` names."""
        shard = Shard(**{field: item[field] for field in Shard._fields})
        bad: list[dict[str, Any]] = []
        for raw in read_shard(shard):
            place = {"source": raw.source, "line": raw.line}
            name = None
            try:
                record = self._record(raw)
                name = record.id
                row = encoded_row(_tokenizer(self.model, self.encode.task), record, self.encode)
            except BadRowError as error:
                overlong = isinstance(error, OverlongError)
                bad.append({**place, "id": name, "reason": str(error), "overlong": overlong})
                continue
            # Blocks arrive in any order; this is the row's place in the corpus.
            yield {**row, **place, "position": (item["index"] << 32) + raw.line}
        with atomic_path(self.quarantine / f"{item['index']:08d}.jsonl") as temporary:
            temporary.write_text(
                "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in bad), encoding="utf-8"
            )

    def _record(self, raw: RawRow) -> Record | Document:
        if raw.error:
            raise BadRowError(raw.error)
        parse = parse_document if self.encode.task == "cpt" else parse_row
        return parse(raw.value, raw.source, raw.line)


def encoded_row(tokenizer: Any, record: Record | Document, config: EncodeConfig) -> dict[str, Any]:
    """Token ids and labels of one record, with what its scores should show of it.

    Returns:
        id, task_type, what the row says (`messages` and `tools` as JSON, or `text`), truncated,
        and int32 arrays: input_ids [T], labels [T], segments (lengths summing to T; each is
        scored and trained on its own).

    Raises:
        BadRowError: if the record cannot be encoded.
    """
    if isinstance(record, Document):
        ids, truncated = encode_document(tokenizer, record.text), False
        segments = piece_lengths(len(ids), config.pack_length)
        labels = document_labels(ids, segments)
        said = {"text": record.text}
    else:
        ids, labels, truncated = encode_chat(
            tokenizer,
            record.messages,
            config.max_length,
            config.overlong,
            config.template_options,
            tools=record.tools,
            loss_on=config.loss_on,
        )
        segments = [len(ids)]
        said = {
            key: json.dumps(value, ensure_ascii=False)
            for key, value in (("messages", record.messages), ("tools", record.tools))
        }
    arrays = {"input_ids": ids, "labels": labels, "segments": segments}
    return {
        "id": record.id,
        "task_type": record.task_type,
        **said,
        "truncated": truncated,
        **{key: np.asarray(value, dtype=np.int32) for key, value in arrays.items()},
    }


class ScoreBatch:
    """One actor: the base model, scoring batches of rows."""

    def __init__(self, model: str, config: ScoreConfig) -> None:
        from nlirg.scorer import Scorer

        self.scorer = Scorer(model, config.precision, config.batch_tokens)

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        """Add the batch's scores, and the loss of every trained token."""
        from nlirg.scores import sample_scores

        lists = {key: batch.pop(key) for key in ("input_ids", "labels", "segments")}
        tokens = self._segmentwise(batch["id"], *lists.values())
        scores = [sample_scores(loss, entropy) for loss, entropy in tokens]
        return pa.table(
            {
                **{key: pa.array(values.tolist()) for key, values in batch.items()},
                "n_tokens": pa.array([len(ids) for ids in lists["input_ids"]]),
                "n_trained": pa.array([len(loss) for loss, _ in tokens]),
                **{key: pa.array([row[key] for row in scores]) for key in scores[0]},
                **{key: pa.array(list(rows), INT32S) for key, rows in lists.items()},
                "token_loss": pa.array([loss for loss, _ in tokens], FLOATS),
            }
        )

    def _segmentwise(
        self, names: np.ndarray, ids: np.ndarray, labels: np.ndarray, segments: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Loss and entropy of each row's trained tokens, every segment read on its own."""
        borders = [np.cumsum(row)[:-1] for row in segments]
        samples = [
            part
            for row in zip(ids, labels, borders, strict=True)
            for part in zip(np.split(row[0], row[2]), np.split(row[1], row[2]), strict=True)
        ]
        counts = [len(row) for row in segments]
        scored = iter(self.scorer.score(samples, names=np.repeat(names, counts)))
        parts = [[next(scored) for _ in range(count)] for count in counts]
        return [
            (np.concatenate([loss for loss, _ in row]), np.concatenate([h for _, h in row]))
            for row in parts
        ]


def score(recipe: Recipe, run: RunDirectory) -> dict[str, Any]:
    """Score the corpus into `scores/*.parquet` and return the summary.

    Returns:
        rows, quarantined (reason -> rows), skipped (those of them that were only too long),
        truncated, bands (band -> rows), zones (shares of trained tokens), mean_loss (nats per
        trained token), tokens (trained), seconds.

    Raises:
        InputError: if a file is missing, no row can be used, ids repeat, or the model gives
            losses that are not finite.
    """
    stage = run.scores
    suffixes = (*SUFFIXES, TEXT) if recipe.encode.task == "cpt" else SUFFIXES
    shards = list_shards([source.path for source in recipe.data], suffixes=suffixes)
    mark = fingerprint(
        {
            "model": identity(recipe.model),
            "data": [identity(path) for path in dict.fromkeys(shard.path for shard in shards)],
            "encode": recipe.encode.model_dump(mode="json"),
            "score": recipe.score.model_dump(mode="json"),
        }
    )
    if (done := stage.finished(mark)) is not None:
        say("score", f"already done: {done['rows']} rows")
        return done
    shutil.rmtree(stage.path, ignore_errors=True)
    _tokenizer(recipe.model, recipe.encode.task)  # a wrong model is told before anything is started
    connect(recipe.cluster)
    started = time.monotonic()
    parts = stage.path / ".quarantine"
    parts.mkdir(parents=True)
    _write_scores(recipe, shards, stage.path, parts)
    quarantined, skipped = _collect_quarantine(parts, run.quarantine)
    summary = _summary(stage.path, quarantined)
    summary |= {"skipped": skipped, "seconds": time.monotonic() - started}
    stage.succeed(mark, summary)
    say("score", _told(summary, recipe.encode.max_length, run))
    return summary


def _told(summary: dict[str, Any], limit: int, run: RunDirectory) -> str:
    """What a user must know of the corpus before training on it."""
    bad, cut = sum(summary["quarantined"].values()), summary["truncated"]
    told = f"{summary['rows']} rows, mean loss {summary['mean_loss']:.2f} nats per trained token"
    told += f"; {cut} answers cut at {limit} tokens" if cut else ""
    return told + (f"; {bad} rows set aside, see {run.quarantine}" if bad else "")


def _write_scores(recipe: Recipe, shards: list[Shard], folder: Path, parts: Path) -> None:
    """Run the Ray Data pipeline."""
    import ray

    configure(recipe.cluster.stall_timeout_s)
    pool = model_pool(recipe.cluster.score_actors)
    items = [{"index": index, **shard._asdict()} for index, shard in enumerate(shards)]
    rows = ray.data.from_items(items, override_num_blocks=len(items)).flat_map(
        ReadShard(recipe.model, recipe.encode, parts)
    )
    scored = rows.repartition(target_num_rows_per_block=ROWS_PER_BLOCK).map_batches(
        ScoreBatch,
        fn_constructor_args=(recipe.model, recipe.score),
        batch_size=ROWS_PER_BLOCK,
        compute=ray.data.ActorPoolStrategy(size=pool.actors),
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus,
    )
    with watch_parquet("score", folder), root_cause():
        scored.write_parquet(str(folder))


def _collect_quarantine(parts: Path, path: Path) -> tuple[dict[str, int], int]:
    """Join the shards' quarantine files in corpus order.

    Returns:
        Reason -> rows, and how many rows were set aside for their length alone.
    """
    reasons: Counter[str] = Counter()
    overlong = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for part in sorted(parts.glob("*.jsonl")):
            with part.open(encoding="utf-8") as lines:
                for line in lines:
                    row = json.loads(line)
                    overlong += row["overlong"]
                    # "prompt has 612 tokens" and "prompt has 700 tokens" are one reason.
                    reasons[NUMBER.sub("#", row["reason"])] += 1
                    out.write(line)
    shutil.rmtree(parts)
    return dict(reasons.most_common()), overlong


def _summary(folder: Path, quarantined: dict[str, int]) -> dict[str, Any]:
    """Read the columns a summary needs back from the Parquet files, checking ids."""
    files = sorted(folder.glob("*.parquet"))
    columns = ["id", "band", "truncated", "n_trained", "mean_loss"]
    columns += [f"zone_{zone}" for zone in ZONES]
    table = pads.dataset([str(file) for file in files]).to_table(columns) if files else None
    if table is None or not table.num_rows:
        why = next(iter(quarantined), "the files hold no rows")
        raise InputError(
            f"no usable row in the corpus ({sum(quarantined.values())} quarantined; "
            f"most often: {why}); see quarantine.jsonl in {folder.parent}"
        )
    counts = pc.value_counts(table["id"])
    repeated = [row["values"] for row in counts.to_pylist() if row["counts"] > 1]
    if repeated:
        raise InputError(
            f"{len(repeated)} ids stand on more than one row, e.g. {repeated[0]!r}: ids must be "
            "unique (or absent: then they are made from the content)"
        )
    tokens = table["n_trained"].to_numpy()
    bands = pc.value_counts(table["band"]).to_pylist()
    return {
        "rows": table.num_rows,
        "quarantined": quarantined,
        "truncated": int(table["truncated"].to_numpy(zero_copy_only=False).sum()),
        "bands": {row["values"]: row["counts"] for row in bands},
        "zones": {
            zone: float(np.average(table[f"zone_{zone}"].to_numpy(), weights=tokens))
            for zone in ZONES
        },
        "mean_loss": float(np.average(table["mean_loss"].to_numpy(), weights=tokens)),
        "tokens": int(tokens.sum()),
    }
