"""Plan the training samples with Ray Data: held-out rows left out, text packed.

The plan names rows of the corpus and ranges of their tokens. Training reads the tokens themselves,
with the base model's losses, where scoring has written them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as pads

from cluster.rundir import RunDirectory, Stage, fingerprint
from cluster.session import connect
from nlirg.errors import InputError
from pipelines.encode.holdout import choose_holdout
from pipelines.encode.plan import planned_packs, planned_rows
from pipelines.progress import say
from pipelines.ray_data import configure, parquet_files, root_cause, watch_parquet
from pipelines.recipe import Recipe
from pipelines.select.stage import selected_index, selection_mark
from pipelines.store import identity


def encode(recipe: Recipe, run: RunDirectory) -> dict[str, Any]:
    """Plan the training samples in `encoded/*.parquet` and return the summary.

    `recipe.holdout` of them, chosen by the hash of their ids among those whose prompt no other
    selected row has or nearly has, are kept from training and written to `holdout.jsonl` for the
    evaluation. Plain text has none.

    Returns:
        rows, holdout, tokens (all), trained_tokens, truncated (scored rows cut at the limit),
        skipped (rows that were too long and set aside); of plain text also documents, packs and
        utilisation (the share of the packs' room that is filled).

    Raises:
        InputError: if the corpus is not scored or selected yet, plain text is to be held out, or
            nothing is left to train on.
    """
    stage, scored = run.encoded, run.scores
    corpus = scored.summary()
    index = selected_index(recipe, run)
    if recipe.holdout and recipe.encode.task == "cpt":
        raise InputError(
            "holdout is for conversations, and plain text asks nothing: set holdout to 0 and "
            "evaluate.domain to a file of cases"
        )
    mark = _fingerprint(recipe, scored, index)
    if (done := stage.finished(mark)) is not None:
        say("encode", f"already done: {done['rows']} rows")
        return done
    shutil.rmtree(stage.path, ignore_errors=True)
    connect(recipe.cluster)
    configure(recipe.cluster.stall_timeout_s)
    holdout = choose_holdout(scored, index, recipe.holdout, run.holdout, recipe.data)
    if recipe.encode.task == "cpt":
        rows, documents = planned_packs(scored.path, index, recipe.encode.pack_length)
    else:
        rows = planned_rows(scored.path, index, holdout)
    stage.path.mkdir(parents=True)
    with watch_parquet("encode", stage.path), root_cause():
        rows.write_parquet(str(stage.path))
    summary = _summary(stage) | {"holdout": len(holdout)}
    summary |= {key: corpus[key] for key in ("truncated", "skipped")}
    if recipe.encode.task == "cpt":
        summary |= _packed(summary, documents, recipe.encode.pack_length)
    stage.succeed(mark, summary)
    say("encode", _told(summary))
    return summary


def _fingerprint(recipe: Recipe, scored: Stage, index: Path | None) -> str:
    """What decides the encoded rows."""
    return fingerprint(
        {
            "scores": scored.fingerprint(),
            "selected": None if index is None else selection_mark(recipe, scored),
            "model": identity(recipe.model),
            "encode": recipe.encode.model_dump(mode="json"),
            "holdout": recipe.holdout,
        }
    )


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


def _summary(stage: Stage) -> dict[str, Any]:
    """Count samples and tokens from the files."""
    rows = tokens = trained = 0
    if files := parquet_files(stage.path):
        for batch in pads.dataset(files).to_batches(columns=["n_tokens", "n_trained"]):
            rows += batch.num_rows
            tokens += int(np.sum(batch["n_tokens"].to_numpy()))
            trained += int(np.sum(batch["n_trained"].to_numpy()))
    if not trained:
        raise InputError("no row is left to train on: lower holdout, or add rows to the corpus")
    return {"rows": rows, "tokens": tokens, "trained_tokens": trained}
