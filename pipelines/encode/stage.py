"""Plan the training samples with Ray Data: held-out rows left out, text packed.

The plan names rows of the corpus and ranges of their tokens. Training reads the tokens themselves,
with the base model's losses, where scoring has written them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as pads

from cluster.rundir import RunDirectory, StageFolder
from cluster.session import connect
from nlirg.corpus.arrangement.mixing import domain_sources
from nlirg.errors import InputError
from pipelines.encode.holdout import alike_rows, choose_holdout
from pipelines.encode.plan import Apart, planned_packs, planned_rows
from pipelines.ray_data import configure, parquet_files, root_cause, watch_parquet
from pipelines.recipe import Recipe
from pipelines.score.stage import Score
from pipelines.select.stage import Select, selected_index
from pipelines.stage import Stage, Summary
from pipelines.store import identity

COUNTED = ["number", "alone", "n_tokens", "n_trained"]


class EncodeSummary(Summary):
    """What is there to train on.

    Attributes:
        rows: of the corpus, or packs of plain text.
        alone: those of them that may be held out: nearly the same as no other, of the domain.
        samples: that they are trained as.
        tokens: all tokens.
        trained_tokens: those with a label.
        holdout: rows kept from training.
        truncated: scored rows cut at the limit.
        skipped: scored rows set aside for being too long.
        documents: of plain text, those in the packs.
        utilisation: of plain text, the share of the packs' room that is filled.
    """

    rows: int
    alone: int
    samples: int
    tokens: int
    trained_tokens: int
    holdout: int
    truncated: int
    skipped: int
    documents: int | None = None
    utilisation: float | None = None


class Encode(Stage[EncodeSummary]):
    """Plan the training samples, in `encoded/*.parquet`.

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
            "domain": domain_sources(recipe.data),
        }

    def check(self, recipe: Recipe) -> None:
        """Refuse to hold out plain text."""
        if recipe.holdout and recipe.encode.task == "cpt":
            raise InputError(
                "holdout is for conversations, and plain text asks nothing: set holdout to 0 and "
                "evaluate.domain to a file of cases"
            )

    def work(self, recipe: Recipe, run: RunDirectory, resumed: bool) -> EncodeSummary:
        """Write the plan.

        Raises:
            InputError: if the corpus is not selected yet, or nothing is left to train on.
        """
        folder, scored = run.encoded.path, run.scores
        index = selected_index(recipe, run)
        corpus = Score().summary(run)
        connect(recipe.cluster)
        configure(recipe.cluster.stall_timeout_s)
        holdout = choose_holdout(scored, index, recipe.holdout, run.holdout, recipe.data)
        domain = tuple(domain_sources(recipe.data))
        apart = Apart(alike_rows(scored, index, ["prompt", "row"]), domain)
        packed: dict[str, Any] = {}
        if recipe.encode.task == "cpt":
            length = recipe.encode.pack_length
            rows, packed["documents"] = planned_packs(scored.path, index, length, apart)
        else:
            rows = planned_rows(scored.path, index, holdout, apart)
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
        rows = f"{summary.rows} rows"
        if summary.samples != summary.rows:
            rows += f" -> {summary.samples} samples"
        parts = [f"{rows}, {summary.trained_tokens} tokens to train"]
        if summary.utilisation is not None:
            filled = f"{summary.utilisation:.1%}"
            parts.append(f"{summary.documents} documents fill {filled} of the packs")
        if summary.truncated:
            parts.append(f"{summary.truncated} rows cut at the limit")
        if summary.skipped:
            parts.append(f"{summary.skipped} too long, skipped")
        yield "; ".join(parts)


def _counts(folder: Path) -> dict[str, int]:
    """Count rows, samples and tokens from the files."""
    rows = alone = samples = tokens = trained = 0
    if files := parquet_files(folder):
        for batch in pads.dataset(files).to_batches(columns=COUNTED):
            samples += batch.num_rows
            first = batch["number"].to_numpy() == 0
            rows += int(np.count_nonzero(first))
            alone += int(np.count_nonzero(first & batch["alone"].to_numpy(zero_copy_only=False)))
            tokens += int(np.sum(batch["n_tokens"].to_numpy()))
            trained += int(np.sum(batch["n_trained"].to_numpy()))
    if not trained:
        raise InputError("no row is left to train on: lower holdout, or add rows to the corpus")
    counts = {"rows": rows, "alone": alone, "samples": samples}
    return {**counts, "tokens": tokens, "trained_tokens": trained}
