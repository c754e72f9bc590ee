"""The page of a scored corpus, `scores/report.html`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.rundir import RunDirectory
from eval.report.corpus.heat import chat_sample, scored_tokens, text_sample
from eval.report.corpus.model import CorpusReport, ListedRow, Repeats, Sample
from eval.report.corpus.page import render_corpus
from eval.report.corpus.reasons import reasons
from eval.report.corpus.tally import Tally
from nlirg.atomic_io import write_text
from nlirg.corpus.profile import Hygiene
from nlirg.models.loading import load_tokenizer
from pipelines.recipe import Recipe
from pipelines.score.survey import Duplicates, Survey, group_batches, survey

LISTED, MAPPED = 10_000, 100  # rows of the list, and those of them with a heat map
BEGINNING = 400  # characters kept of a listed text; the page shows fewer
# What rows can be sorted by; the last two only where the recipe asks for them.
SCORES = (
    "anomaly",
    "mean_loss",
    "max_loss",
    "mean_entropy",
    "similarity",
    "similarity_centered",
    "filtered_rank",
    "divergence",
    "min_k",
    "n_trained",
    "ifd",
    "excess_loss",
)
SAID = ("messages", "text")  # of a conversation and of a document
DESCRIBED = ("id", "source", "line", "position", "task_type", "band", "language", *SAID)
TOKENS = ("input_ids", "labels", "token_loss", "token_entropy", "spans")
REASONS = ("band", "similarity", "mean_loss", "n_trained", "zone_discarded", "truncated", "anomaly")


def write(recipe: Recipe, run: RunDirectory, hygiene: Hygiene, quarantined: dict[str, int]) -> Path:
    """Write `scores/report.html` from `scores/*.parquet` and `scores/duplicates/*.parquet`.

    Args:
        recipe: of the run; its model's tokenizer spells out the tokens of suspicious rows.
        run: holds the scores.
        hygiene: duplicates, commonest answers, lengths, languages.
        quarantined: reason -> rows set aside.

    Returns:
        The file written.

    Raises:
        InputError: if the model's tokenizer cannot be loaded.
    """
    folder = run.scores.path
    duplicates = Duplicates(folder / "duplicates")
    found = survey(folder, duplicates, LISTED)
    heat_maps = HeatMaps(recipe, found.tallies)
    report = CorpusReport(
        title=recipe.name,
        model=recipe.model,
        all=found.all,
        types=found.types,
        zones=found.zone_shares(),
        truncated=found.truncated,
        flagged=found.flagged,
        histograms=found.histograms(),
        hygiene=hygiene,
        quarantined=quarantined,
        listed=_listed(found, duplicates.repeats(found.top["position"]), heat_maps),
    )
    path = folder / "report.html"
    write_text(path, render_corpus(report))
    return path


class HeatMaps:
    """Draws suspicious rows with the tokenizer they were encoded with."""

    def __init__(self, recipe: Recipe, tallies: Mapping[str, Tally]) -> None:
        self.tokenizer = load_tokenizer(recipe.model, chat=recipe.encode.task == "sft")
        self.loss_on, self.tallies = recipe.encode.loss_on, tallies

    def sample(self, row: Mapping[str, Any], repeats: Repeats) -> Sample:
        """A row of the scores in full, with why it stands out."""
        lists = (row["input_ids"], row["labels"], row["token_loss"], row.get("token_entropy"))
        scored = scored_tokens(*lists, row["spans"])
        why = reasons(row, scored.spans, repeats, self.tallies)
        if "messages" in row:
            messages = json.loads(row["messages"])
            return chat_sample(scored, messages, self.loss_on, self._decode, why)
        return text_sample(scored, row["text"], self._decode, why)

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def _listed(found: Survey, repeats: Mapping[int, Repeats], heat_maps: HeatMaps) -> list[ListedRow]:
    """The most suspicious rows in order; the first of them with heat maps."""
    columns = _present(found, (*DESCRIBED, *SCORES))
    scores = [name for name in SCORES if name in columns]
    described = {
        row["position"]: _beginning(row, scores) for row in _rows(found, found.top, columns)
    }
    columns = _present(found, ("position", *SAID, *TOKENS, *REASONS))
    samples = {
        row["position"]: heat_maps.sample(row, repeats.get(row["position"], Repeats()))
        for row in _rows(found, found.top[:MAPPED], columns)
    }
    return [
        ListedRow(
            **described[position],
            repeats=repeats.get(position, Repeats()),
            sample=samples.get(position),
        )
        for position in found.top["position"].tolist()
    ]


def _present(found: Survey, columns: Iterable[str]) -> list[str]:
    """Those of the columns that the scores have."""
    if not found.groups:
        return []
    known = set(pq.read_schema(found.groups[0][0]).names)
    return [name for name in columns if name in known]


def _rows(found: Survey, top: np.ndarray, columns: list[str]) -> Iterator[dict[str, Any]]:
    """These rows of the corpus, in its order; row groups without any of them are not read."""
    for group in np.unique(top["group"]):
        wanted = pa.array(top["position"][top["group"] == group])
        for batch in group_batches(found.groups[group], columns):
            yield from batch.filter(pc.field("position").isin(wanted)).to_pylist()


def _beginning(row: dict[str, Any], scores: list[str]) -> dict[str, Any]:
    """What the list shows of a row; its texts are cut here, so that few stay in memory."""
    prompt, answer = _texts(row)
    return {
        **{name: row[name] for name in ("id", "source", "line", "task_type", "band")},
        "language": row["language"] or "",
        "prompt": prompt[:BEGINNING],
        "answer": answer[:BEGINNING],
        "scores": {name: float(row[name]) for name in scores},
    }


def _texts(row: Mapping[str, Any]) -> tuple[str, str]:
    """The last question and the answer to it, or nothing and the text of a document."""
    if "messages" not in row:
        return "", row["text"]
    messages = json.loads(row["messages"])
    answer = messages[-1]
    asked = [message["content"] for message in messages[:-1] if message["role"] != "assistant"]
    called = json.dumps(answer.get("tool_calls"), ensure_ascii=False)
    return (asked or [""])[-1], answer["content"] or called
