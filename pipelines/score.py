"""Score a corpus with Ray Data: read -> tokenize -> one forward pass in an actor pool -> Parquet.

Rows that cannot be used are set aside by the reading tasks in one file per shard, so that a task
which Ray runs twice leaves no row twice; the files become `quarantine.jsonl` at the end.
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
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.plan import model_pool
from cluster.rundir import RunDirectory, atomic_path, fingerprint
from cluster.session import connect
from nlirg.config import ZONES, EncodeConfig, ScoreConfig
from nlirg.corpus import Shard, list_shards, read_shard
from nlirg.errors import BadRowError, InputError
from nlirg.records import parse_row
from pipelines.progress import say
from pipelines.ray_data import configure, root_cause, watch_parquet
from pipelines.recipe import Recipe
from pipelines.store import identity

ROWS_PER_BLOCK = 256
NUMBER = re.compile(r"\d+")


@cache
def _tokenizer(model: str) -> Any:
    """The tokenizer, loaded once per worker process."""
    from nlirg.models import load_tokenizer

    return load_tokenizer(model)


class ReadShard:
    """Turn one shard of the corpus into encoded rows; bad rows go to the quarantine folder."""

    def __init__(self, model: str, encode: EncodeConfig, quarantine: Path) -> None:
        self.model, self.encode, self.quarantine = model, encode, quarantine

    def __call__(self, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the rows of the shard `item` names."""
        shard = Shard(**{field: item[field] for field in Shard._fields})
        bad: list[dict[str, Any]] = []
        for raw in read_shard(shard):
            try:
                if raw.error:
                    raise BadRowError(raw.error)
                row = self._row(raw.value, raw.source, raw.line)
                # Blocks arrive in any order; this is the row's place in the corpus.
                yield row | {"position": (item["index"] << 32) + raw.line}
            except BadRowError as error:
                bad.append({"source": raw.source, "line": raw.line, "reason": str(error)})
        with atomic_path(self.quarantine / f"{item['index']:08d}.jsonl") as temporary:
            temporary.write_text(
                "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in bad), encoding="utf-8"
            )

    def _row(self, value: Any, source: str, line: int) -> dict[str, Any]:
        from nlirg.chat import encode_chat

        record = parse_row(value, source, line)
        sample = encode_chat(
            _tokenizer(self.model),
            record.messages,
            self.encode.max_length,
            self.encode.overlong,
            self.encode.template_options,
        )
        return {
            "id": record.id,
            "source": source,
            "line": line,
            "task_type": record.task_type,
            "messages": json.dumps(record.messages, ensure_ascii=False),
            "truncated": sample.truncated,
            "input_ids": np.asarray(sample.input_ids, dtype=np.int32),
            "labels": np.asarray(sample.labels, dtype=np.int32),
        }


class ScoreBatch:
    """One actor: the base model, scoring batches of rows."""

    def __init__(self, model: str, config: ScoreConfig) -> None:
        from nlirg.scorer import Scorer

        self.scorer = Scorer(model, config.precision)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Replace the batch's token columns by score columns."""
        from nlirg.scores import sample_scores

        ids, labels = batch.pop("input_ids"), batch.pop("labels")
        tokens = self.scorer.score(list(zip(ids, labels, strict=True)), names=batch["id"])
        scores = [sample_scores(loss, entropy) for loss, entropy in tokens]
        columns = {key: np.array([row[key] for row in scores]) for key in scores[0]}
        return {
            **batch,
            "n_tokens": np.array([len(row) for row in ids]),
            "n_trained": np.array([int((row != -100).sum()) for row in labels]),
            **columns,
        }


def score(recipe: Recipe, run: RunDirectory) -> dict[str, Any]:
    """Score the corpus into `scores/*.parquet` and return the summary.

    Returns:
        rows, quarantined (reason -> rows), truncated, bands (band -> rows), zones (shares of
        answer tokens), mean_loss (nats per answer token), tokens, seconds.

    Raises:
        InputError: if a file is missing, no row can be used, ids repeat, or the model gives
            losses that are not finite.
    """
    stage = run.scores
    shards = list_shards(recipe.data)
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
    _tokenizer(recipe.model)  # a wrong model is told before anything is started
    connect(recipe.cluster)
    started = time.monotonic()
    parts = stage.path / ".quarantine"
    parts.mkdir(parents=True)
    _write_scores(recipe, shards, stage.path, parts)
    quarantined = _collect_quarantine(parts, run.quarantine)
    summary = _summary(stage.path, quarantined) | {"seconds": time.monotonic() - started}
    stage.succeed(mark, summary)
    say("score", _told(summary, recipe.encode.max_length, run))
    return summary


def _told(summary: dict[str, Any], limit: int, run: RunDirectory) -> str:
    """What a user must know of the corpus before training on it."""
    bad, cut = sum(summary["quarantined"].values()), summary["truncated"]
    told = f"{summary['rows']} rows, mean loss {summary['mean_loss']:.2f} nats per answer token"
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
        batch_size=recipe.score.batch_size,
        compute=ray.data.ActorPoolStrategy(size=pool.actors),
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus,
    )
    with watch_parquet("score", folder), root_cause():
        scored.write_parquet(str(folder))


def _collect_quarantine(parts: Path, path: Path) -> dict[str, int]:
    """Join the shards' quarantine files in corpus order; return reason -> rows."""
    reasons: Counter[str] = Counter()
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for part in sorted(parts.glob("*.jsonl")):
            for line in part.read_text(encoding="utf-8").splitlines():
                # "prompt has 612 tokens" and "prompt has 700 tokens" are one reason.
                reasons[NUMBER.sub("#", json.loads(line)["reason"])] += 1
                out.write(line + "\n")
    shutil.rmtree(parts)
    return dict(reasons.most_common())


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
