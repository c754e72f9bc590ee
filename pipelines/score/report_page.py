"""The page of a scored corpus, `scores/report.html`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.rundir import RunDirectory
from eval.report.corpus.heatmap import chat_heatmap, scored_tokens, text_heatmap
from eval.report.corpus.histogram import HistogramCounts
from eval.report.corpus.model import CorpusReport, ListedRow, Repeats, TokenHeatmap
from eval.report.corpus.page import render_corpus
from eval.report.corpus.reasons import reasons
from nlirg.atomic_io import write_text
from nlirg.config.score_columns import columns_for
from nlirg.corpus.profile import CorpusProfile
from nlirg.corpus.records import Document, Record
from nlirg.corpus.rows import STORED, stored_record
from nlirg.corpus.tokens import TokenFiles
from pipelines.chat import chat_of
from pipelines.recipe import Recipe
from pipelines.score.ledger import TOKENS
from pipelines.score.survey import Duplicates, Survey, group_batches

MAPPED = 100  # of the listed rows, those with a heat map
BEGINNING = 400  # characters kept of a listed text; the page shows fewer
DESCRIBED = (*STORED, "row_index", "task_type", "band", "language")
# What `eval.report.corpus.reasons` looks at.
REASONS = ("band", "similarity", "mean_loss", "n_trained", "zone_discarded", "truncated", "anomaly")

Spoken = Record | Document


def write(
    recipe: Recipe,
    run: RunDirectory,
    total: Survey,
    profile: CorpusProfile,
    quarantined: dict[str, int],
) -> Path:
    """Write `scores/report.html` from the scores, their duplicates and token files.

    Args:
        recipe: of the run; its model's tokenizer spells out the tokens of suspicious rows.
        run: holds the scores.
        total: survey of the scores.
        profile: duplicates, commonest answers, lengths, languages.
        quarantined: reason -> rows set aside.

    Returns:
        The file written.

    Raises:
        InputError: if the model's tokenizer cannot be loaded.
    """
    folder = run.scores.path
    duplicates = Duplicates(folder / "duplicates")
    duplicates.count_in(total)
    heat_maps = HeatMaps(recipe, folder / TOKENS, total.histograms)
    report = CorpusReport(
        title=recipe.name,
        model=recipe.model,
        all=total.all,
        types=total.types,
        zones=total.zone_shares(),
        truncated=total.truncated,
        flagged=total.flagged,
        histograms=total.drawn(),
        profile=profile,
        quarantined=quarantined,
        listed=_listed(recipe, total, duplicates.repeats(total.top["row_index"]), heat_maps),
    )
    path = folder / "report.html"
    write_text(path, render_corpus(report))
    return path


class HeatMaps:
    """Draws suspicious rows with the tokenizer they were encoded with."""

    def __init__(
        self, recipe: Recipe, tokens: Path, histograms: Mapping[str, HistogramCounts]
    ) -> None:
        self.tokenizer = chat_of(recipe).tokenizer
        self.loss_on, self.histograms = recipe.encode.loss_on, histograms
        self.tokens = TokenFiles(tokens)

    def sample(self, row: Mapping[str, Any], record: Spoken, repeats: Repeats) -> TokenHeatmap:
        """A row of the scores in full, with why it stands out."""
        (place,) = self.tokens.places(np.array([row["row_index"]]))
        tokens = self.tokens.row(place)
        lists = (tokens.input_ids.tolist(), tokens.labels.tolist(), tokens.loss.tolist())
        entropy = None if tokens.entropy is None else tokens.entropy.tolist()
        scored = scored_tokens(*lists, entropy, row["spans"])
        why = reasons(row, scored.spans, repeats, self.histograms)
        if isinstance(record, Document):
            return text_heatmap(scored, record.text, self._decode, why)
        return chat_heatmap(scored, record.messages, self.loss_on, self._decode, why)

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def _listed(
    recipe: Recipe, total: Survey, repeats: Mapping[int, Repeats], heat_maps: HeatMaps
) -> list[ListedRow]:
    """The most suspicious rows in order; the first of them with heat maps."""
    scores = [column.name for column in columns_for(recipe.score) if column.listed]
    described, samples = {}, {}
    mapped = set(total.top["row_index"][:MAPPED].tolist())
    for row in _rows(total, [*dict.fromkeys([*DESCRIBED, *scores, *REASONS, "spans"])]):
        index = row["row_index"]
        record = stored_record(row, recipe.data, recipe.encode.task)
        described[index] = _beginning(row, record, scores)
        if index in mapped:
            samples[index] = heat_maps.sample(row, record, repeats.get(index, Repeats()))
    return [
        ListedRow(
            **described[index],
            repeats=repeats.get(index, Repeats()),
            sample=samples.get(index),
        )
        for index in total.top["row_index"].tolist()
    ]


def _rows(total: Survey, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The most suspicious rows in the order of the corpus; only row groups with some are read."""
    top = total.top
    for group in np.unique(top["group"]):
        wanted = pa.array(top["row_index"][top["group"] == group])
        for batch in group_batches(total.groups[group], columns):
            yield from batch.filter(pc.field("row_index").isin(wanted)).to_pylist()


def _beginning(row: Mapping[str, Any], record: Spoken, scores: list[str]) -> dict[str, Any]:
    """What the list shows of a row; its texts are cut here, so that few stay in memory."""
    prompt, answer = _texts(record)
    return {
        **{name: row[name] for name in ("id", "source", "line", "task_type", "band")},
        "language": row["language"] or "",
        "prompt": prompt[:BEGINNING],
        "answer": answer[:BEGINNING],
        "scores": {name: float(row[name]) for name in scores},
    }


def _texts(record: Spoken) -> tuple[str, str]:
    """The last question and the answer to it, or nothing and the text of a document."""
    if isinstance(record, Document):
        return "", record.text
    *before, answer = record.messages
    asked = [message["content"] for message in before if message["role"] != "assistant"]
    called = json.dumps(answer.get("tool_calls"), ensure_ascii=False)
    return (asked or [""])[-1], answer["content"] or called
