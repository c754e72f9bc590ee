"""Score a corpus with Ray Data: read and encode -> one forward pass in an actor pool -> Parquet.

A run that dies is continued by the same command: `pipelines.score.ledger` knows what is finished.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.plan import model_pool
from cluster.rundir import RunDirectory, StageFolder
from cluster.session import connect
from nlirg.config.corpus import MIXING
from nlirg.corpus.rows import shards_of
from nlirg.corpus.sources import Shard
from nlirg.errors import InputError
from nlirg.models.loading import check_vocabulary
from pipelines.chat import chat_of
from pipelines.progress import say
from pipelines.ray_data import configure, root_cause, watch_parquet
from pipelines.recipe import Recipe
from pipelines.score import report_page
from pipelines.score.check import REASONS, check_bad_rows, check_every_row_once
from pipelines.score.duplicates import find_duplicates
from pipelines.score.ids import IdCheck
from pipelines.score.ledger import Finished, Ledger, collect_bad
from pipelines.score.rows import (
    WINDOW_ROWS,
    MakeScorer,
    ReadShard,
    ScoreRows,
    WriteRows,
    model_scorer,
)
from pipelines.score.survey import survey
from pipelines.stage import Stage, Summary
from pipelines.store import identity

if TYPE_CHECKING:
    from ray.data import Dataset

# Rows go on to the models, and to files, when this much is ready: Ray's own 128 MiB would let
# the models wait until a whole shard is read.
BLOCK_BYTES = 8 << 20


class ScoreSummary(Summary):
    """What scoring found in the corpus.

    Attributes:
        rows: rows scored.
        samples: texts they are trained as; more than the rows where the chat template renders
            earlier turns differently later, and of plain text.
        mean_loss: nats per trained token.
        tokens: trained tokens.
        truncated: answers cut at the limit.
        notes: what the chat template does not know, in words -> rows that have it.
        bands: band of similarity -> rows.
        zones: loss zone -> share of trained tokens.
        quarantined: reason -> rows set aside.
        skipped: those of them that were only too long.
        duplicates: of what, and kind -> rows.
        seconds: that this attempt took.
    """

    rows: int
    samples: int
    mean_loss: float
    tokens: int
    truncated: int
    notes: dict[str, int]
    bands: dict[str, int]
    zones: dict[str, float]
    quarantined: dict[str, int]
    skipped: int
    duplicates: dict[str, int]
    seconds: float


@dataclass(frozen=True)
class Score(Stage[ScoreSummary]):
    """Score the corpus under the base model, into `scores/`.

    Attributes:
        make_scorer: makes what scores the rows, in every actor.
    """

    make_scorer: MakeScorer = model_scorer

    name = "score"
    summary_type = ScoreSummary

    def folder(self, run: RunDirectory) -> StageFolder:
        """Return `scores/`."""
        return run.scores

    def settings(self, recipe: Recipe, run: RunDirectory) -> dict[str, Any]:
        """Return what the scores depend on: model, sources, encoding and options."""
        reference = recipe.score.reference_model
        shards = shards_of(recipe.data, recipe.encode.task)
        return {
            "model": identity(recipe.model),
            "template": recipe.template,
            "reference_model": reference and identity(reference),
            "sources": [source.model_dump(exclude={"path", *MIXING}) for source in recipe.data],
            "data": [
                [identity(path), version]
                for path, version in dict.fromkeys((shard.path, shard.version) for shard in shards)
            ],
            "encode": recipe.encode.model_dump(mode="json"),
            "score": recipe.score.meaning(),
        }

    def check(self, recipe: Recipe) -> None:
        """Refuse a source, a model or an option that cannot be used."""
        task, config = recipe.encode.task, recipe.score
        shards_of(recipe.data, task)
        tokenizer = chat_of(recipe).tokenizer
        if config.ifd and task == "cpt":
            raise InputError(
                "score.ifd compares answers with and without their prompts, and plain text has "
                "none: set it to false"
            )
        if config.reference_model is not None:
            check_vocabulary("score.reference_model", config.reference_model, tokenizer)

    def work(self, recipe: Recipe, run: RunDirectory, resumed: bool) -> ScoreSummary:
        """Score what an earlier attempt has not scored yet.

        Raises:
            InputError: if a source cannot be read, no row can be used or too many cannot, ids
                repeat, or the model gives losses that are not finite.
        """
        shards = shards_of(recipe.data, recipe.encode.task)
        ledger = Ledger(run.scores.path)
        finished = Finished()
        if resumed:
            finished = ledger.resume()
            say("score", f"continued: {finished.rows.total()} rows are scored already")
        else:
            ledger.clear()
        if not finished.files:  # else an earlier attempt has checked them
            _check_ids(recipe, run, shards)
        connect(recipe.cluster)
        started = time.monotonic()
        _write_scores(recipe, _to_read(shards, ledger, finished), ledger, self.make_scorer)
        summary = _summary(recipe, run, ledger, finished, len(shards))
        return ScoreSummary(**summary, seconds=time.monotonic() - started)

    def describe(self, recipe: Recipe, run: RunDirectory, summary: ScoreSummary) -> Iterator[str]:
        """Yield what a user must know of the corpus before training on it."""
        bands = ", ".join(f"{name} {count}" for name, count in summary.bands.items())
        yield f"{summary.rows} rows, mean loss {summary.mean_loss:.2f} nats per trained token"
        if recipe.encode.task == "sft" and summary.samples != summary.rows:
            yield (
                f"{summary.rows} rows -> {summary.samples} samples: the chat template does not go "
                "on with the text of an earlier answer, so answers have samples of their own"
            )
        for note, rows in summary.notes.items():
            yield f"{note} ({rows} rows)"
        yield f"similarity of loss and entropy: {bands}"
        if summary.truncated:
            yield f"{summary.truncated} answers cut at {recipe.encode.max_length} tokens"
        if reasons := summary.quarantined:
            top = "; ".join(f"{reason} ({n})" for reason, n in list(reasons.items())[:REASONS])
            yield f"{sum(reasons.values())} rows set aside: {top}; see {run.quarantine}"
        yield f"see {run.scores.path / 'report.html'}"

    def tidy(self, run: RunDirectory) -> None:
        """Delete the ledger's account of parts."""
        shutil.rmtree(Ledger(run.scores.path).parts)


def _check_ids(recipe: Recipe, run: RunDirectory, shards: list[Shard]) -> None:
    """Refuse ids that repeat before a model is loaded; Ray is started for a large corpus alone."""
    check = IdCheck(recipe.data, recipe.encode.task, shards)
    try:
        if check.is_small:
            check.here()
        else:
            connect(recipe.cluster)
            check.on_cluster()
    except InputError:
        run.scores.clear()  # nothing is scored: the corpus may be mended under the same name
        raise


def _to_read(shards: list[Shard], ledger: Ledger, finished: Finished) -> list[dict[str, Any]]:
    """The shards that have rows to score, and where those lie that are scored."""
    items = []
    for index, shard in enumerate(shards):
        given = ledger.shard_rows(index)
        if given is None or given.usable != finished.rows[index]:
            files = finished.where.get(index, [])
            items.append({"index": index, "shard": shard._asdict(), "files": files})
    return items


def _write_scores(
    recipe: Recipe, items: list[dict[str, Any]], ledger: Ledger, make_scorer: MakeScorer
) -> None:
    """Run the Ray Data pipeline."""
    if not items:
        return
    import ray

    configure(recipe.cluster.stall_timeout_s)
    context = ray.data.DataContext.get_current().copy()
    context.target_max_block_size = BLOCK_BYTES
    with (
        ray.data.DataContext.current(context),
        watch_parquet("score", ledger.folder),
        root_cause(),
    ):
        written = _written(recipe, items, ledger, make_scorer)
        for _ in written.iter_batches(batch_size=None, prefetch_batches=0):
            pass  # the rows are in their files


def _written(
    recipe: Recipe, items: list[dict[str, Any]], ledger: Ledger, make_scorer: MakeScorer
) -> Dataset:
    """The pipeline, in the data context there is; what comes out are numbers of rows."""
    import ray

    pool = model_pool(recipe.cluster.score_actors)
    windows = (
        ray.data.from_items(items, override_num_blocks=len(items))
        .map_batches(ReadShard(recipe, ledger), batch_size=1, batch_format="pyarrow")
        .repartition(target_num_rows_per_block=WINDOW_ROWS)
    )
    scored = windows.map_batches(
        ScoreRows,
        fn_constructor_args=(recipe, make_scorer),
        batch_size=WINDOW_ROWS,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=pool.actors),
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus,
    )
    return scored.map_batches(WriteRows(recipe, ledger), batch_size=None, batch_format="pyarrow")


def _summary(
    recipe: Recipe, run: RunDirectory, ledger: Ledger, finished: Finished, shards: int
) -> dict[str, Any]:
    """Check what was scored, look for duplicates in it, and write its report."""
    bad = collect_bad(ledger, run.quarantine)
    given = ledger.all_shards(shards)
    usable = sum(rows.usable for rows in given.values())
    check_bad_rows(usable, bad, recipe.score.max_bad_rows, run.quarantine)
    total = survey(ledger.files(finished))
    check_every_row_once(total, given)
    profile = find_duplicates(run.scores, recipe)
    quarantined = bad.commonest()
    report_page.write(recipe, run, total, profile, quarantined)
    return {
        **total.summary(),
        "quarantined": quarantined,
        "skipped": bad.overlong.total(),
        "duplicates": {f"{row.of} ({row.kind})": row.rows for row in profile.duplicates},
    }
