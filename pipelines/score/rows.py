"""The three steps of scoring on a cluster: a shard is read, a model scores, scores are written.

What was scored, token ids and what of them is trained, is written beside its losses once: training
takes it from there, so the loss of a token cannot be taken for that of another.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nlirg.chat.encoder import OverlongError
from nlirg.config.corpus import ScoreConfig
from nlirg.config.score_columns import columns_for
from nlirg.corpus.profile import language
from nlirg.corpus.reader import read_shard
from nlirg.corpus.records import Document, Record
from nlirg.corpus.rows import STORED, encoded_row, original, parse, stored_record
from nlirg.corpus.sources import Shard
from nlirg.corpus.tokens import token_table
from nlirg.errors import BadRowError
from nlirg.labels import IGNORE
from nlirg.scoring.divergence import Span
from nlirg.scoring.scores import TokenScores, excess_loss, instruction_difficulty, sample_scores
from nlirg.scoring.spans import character_spans, text_spans, trained_answers
from pipelines.chat import chat_of
from pipelines.recipe import Recipe
from pipelines.score.ledger import Ledger, ShardRows, row_index, shards_of_rows

WINDOW_ROWS = 512  # of one call of an actor: enough to find rows of like length
INT32S, FLOAT32S = pa.list_(pa.int32()), pa.list_(pa.float32())
LISTS = ("input_ids", "labels", "segments")
TOKEN_COLUMNS = [f"token_{name}" for name in TokenScores._fields]
SPAN = pa.struct(
    {
        "answer": pa.int32(),
        "start": pa.int32(),
        "end": pa.int32(),
        "score": pa.float32(),
        "mean_loss": pa.float32(),
        "mean_entropy": pa.float32(),
        "pattern": pa.string(),
    }
)
# Of a row that is read and encoded; where it stands and what it says as it stood go into the table
# of scores.
PLACED = {
    "id": pa.string(),
    "row_index": pa.int64(),
    "source": pa.string(),
    "line": pa.int64(),
    "data": pa.int32(),
    "task_type": pa.string(),
    "row": pa.string(),
    "language": pa.string(),
    "truncated": pa.bool_(),
    "notes": pa.list_(pa.string()),
}
ENCODED = pa.schema({**PLACED, **dict.fromkeys(LISTS, INT32S)})


def scores_schema(config: ScoreConfig) -> pa.Schema:
    """Columns of `scores/*.parquet`."""
    scores = {column.name: pa.type_for_alias(column.dtype) for column in columns_for(config)}
    samples = dict.fromkeys(("sample_tokens", "sample_trained"), INT32S)
    return pa.schema({**PLACED, **samples, **scores, "spans": pa.list_(SPAN)})


class TokenScorer(Protocol):
    """What scores samples; `nlirg.scoring.scorer.Scorer` is the one that holds a model."""

    def score(
        self, samples: Sequence[tuple[np.ndarray, np.ndarray]], names: Sequence[str] | None = None
    ) -> list[TokenScores]:
        """Score every trained token of samples of token ids [T] and labels [T]."""


MakeScorer = Callable[[str, ScoreConfig], TokenScorer]


def model_scorer(model: str, config: ScoreConfig) -> TokenScorer:
    """A scorer that holds a model."""
    from nlirg.scoring.scorer import Scorer

    return Scorer(model, config.precision, config.batch_tokens)


class ReadShard:
    """Turns a shard of the corpus into encoded rows, and notes in the ledger what it gave."""

    def __init__(self, recipe: Recipe, ledger: Ledger) -> None:
        self.recipe, self.ledger = recipe, ledger

    def __call__(self, items: pa.Table) -> Iterator[pa.Table]:
        """Yield the rows that are not scored yet, some hundreds at a time.

        Args:
            items: one row: `index` and `shard`, and `files` of scores that hold rows of it.
        """
        (item,) = items.to_pylist()
        scored = _scored_lines(item["files"], item["index"])
        usable = len(scored)
        bad: list[dict[str, Any]] = []
        rows = self._rows(item["index"], Shard(**item["shard"]), scored, bad)
        while window := list(itertools.islice(rows, WINDOW_ROWS)):
            usable += len(window)
            yield pa.Table.from_pylist(window, ENCODED)
        self.ledger.finish_shard(item["index"], ShardRows(usable, len(bad)), bad)

    def _rows(
        self, index: int, shard: Shard, scored: set[int], bad: list[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """The rows that can be used; what is wrong with the others is added to `bad`."""
        task, source = self.recipe.encode.task, self.recipe.data[shard.data]
        chat = chat_of(self.recipe)
        for raw in read_shard(shard, source):
            if raw.line in scored:
                continue
            place, name = {"source": raw.source, "line": raw.line}, None
            try:
                record = parse(raw, source, task)
                name = record.id
                row = encoded_row(chat, record, self.recipe.encode)
            except BadRowError as error:
                overlong = isinstance(error, OverlongError)
                bad.append({**place, "id": name, "reason": str(error), "overlong": overlong})
                continue
            yield {
                **row,
                **place,
                "data": shard.data,
                "row": original(raw),
                "language": language(_answer(record)),
                "row_index": row_index(index, raw.line),
            }


def _answer(record: Record | Document) -> str:
    """What is learned of a record: its text, or the last answer."""
    if isinstance(record, Document):
        return record.text
    answer: str = record.messages[-1]["content"]
    return answer


def _scored_lines(files: list[str], shard: int) -> set[int]:
    """Lines of a shard that files of scores hold."""
    lines: set[int] = set()
    for path in files:
        table = pq.ParquetFile(path).read(columns=["row_index", "line"])
        mine = shards_of_rows(table["row_index"].to_numpy()) == shard
        lines.update(table["line"].to_numpy()[mine].tolist())
    return lines


class Samples:
    """Encoded rows as what a model reads: every segment of a row by itself."""

    def __init__(self, rows: pa.Table) -> None:
        lists = (rows[name].to_numpy() for name in LISTS)
        parts = [
            list(zip(*(np.split(values, np.cumsum(sizes)[:-1]) for values in pair), strict=True))
            for *pair, sizes in zip(*lists, strict=True)
        ]
        self.names = rows["id"].to_pylist()
        self.parts: list[list[tuple[np.ndarray, np.ndarray]]] = parts

    def without_prompts(self) -> Samples:
        """The same rows, of which nothing but the trained tokens is read."""
        from nlirg.scoring.scorer import without_context

        alone = copy(self)
        alone.parts = [[without_context(*part) for part in row] for row in self.parts]
        return alone

    def scored_by(self, scorer: TokenScorer) -> list[TokenScores]:
        """What a model makes of the trained tokens of every row."""
        names = [name for name, row in zip(self.names, self.parts, strict=True) for _ in row]
        found = iter(scorer.score([part for row in self.parts for part in row], names))
        rows = (list(itertools.islice(found, len(row))) for row in self.parts)
        return [TokenScores(*map(np.concatenate, zip(*row, strict=True))) for row in rows]


class ScoreRows:
    """One actor: a model, and the reference model if there is one."""

    def __init__(self, recipe: Recipe, make_scorer: MakeScorer) -> None:
        self.ifd, reference = recipe.score.ifd, recipe.score.reference_model
        self.scorer = make_scorer(recipe.model, recipe.score)
        self.reference = make_scorer(reference, recipe.score) if reference else None

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Add what the models make of the trained tokens of encoded rows."""
        if not rows.num_rows:
            return rows
        samples = Samples(rows)
        tokens = samples.scored_by(self.scorer)
        columns = {
            column: pa.array([getattr(row, name) for row in tokens], FLOAT32S)
            for column, name in zip(TOKEN_COLUMNS, TokenScores._fields, strict=True)
        }
        if self.ifd:
            alone = samples.without_prompts().scored_by(self.scorer)
            columns["ifd"] = _compared(instruction_difficulty, tokens, alone)
        if self.reference is not None:
            other = samples.scored_by(self.reference)
            columns["excess_loss"] = _compared(excess_loss, tokens, other)
        for name, values in columns.items():
            rows = rows.append_column(name, values)
        return rows


def trained_in(labels: np.ndarray, sizes: np.ndarray) -> list[int]:
    """Trained tokens of each part of labels [T]; nothing predicts the first token of a part.

    Args:
        labels: of the parts, one after the other.
        sizes: of the parts, summing to T.
    """
    parts = np.split(labels, np.cumsum(sizes)[:-1])
    return [int(np.count_nonzero(part[1:] != IGNORE)) for part in parts]


def _compared(
    score: Callable[[np.ndarray, np.ndarray], float],
    first: list[TokenScores],
    second: list[TokenScores],
) -> pa.Array:
    """A score of each row from two losses of its tokens."""
    values = [score(a.loss, b.loss) for a, b in zip(first, second, strict=True)]
    return pa.array(values, pa.float64())


class WriteRows:
    """Adds the scores of rows whose tokens are scored, and writes scores and tokens to files."""

    def __init__(self, recipe: Recipe, ledger: Ledger) -> None:
        self.recipe, self.ledger = recipe, ledger
        self.schema = scores_schema(recipe.score)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Write `rows`; returns their number, so that they do not travel any further."""
        if rows.num_rows:
            rows = rows.sort_by("row_index").combine_chunks()
            tokens = token_table(rows, self.recipe.score.token_entropy)
            self.ledger.write(self._scored(rows), tokens)
        return pa.table({"rows": [rows.num_rows]})

    def _scored(self, rows: pa.Table) -> pa.Table:
        """The columns of `scores_schema`."""
        lists = (rows[name].to_numpy() for name in (*LISTS, *TOKEN_COLUMNS))
        scores = [
            self._scores(rows.slice(number, 1), ids, labels, TokenScores(*tokens))
            | {"sample_tokens": sizes, "sample_trained": trained_in(labels, sizes)}
            for number, (ids, labels, sizes, *tokens) in enumerate(zip(*lists, strict=True))
        ]
        known = set(rows.column_names)
        columns = [
            rows[field.name]
            if field.name in known
            else pa.array([row[field.name] for row in scores], field.type)
            for field in self.schema
        ]
        return pa.table(columns, schema=self.schema)

    def _scores(
        self, row: pa.Table, ids: np.ndarray, labels: np.ndarray, tokens: TokenScores
    ) -> dict[str, Any]:
        """Scores of one row, its suspicious spans as ranges of characters of what it says."""
        scores = {"n_tokens": len(ids), "n_trained": len(tokens.loss), **sample_scores(tokens)}
        return scores | {"spans": self._located(scores["spans"], row, ids, labels)}

    def _located(
        self, spans: list[Span], row: pa.Table, ids: np.ndarray, labels: np.ndarray
    ) -> list[dict[str, Any]]:
        if not spans:
            return []
        task = self.recipe.encode.task
        tokenizer = chat_of(self.recipe).tokenizer
        (stored,) = row.select(list(STORED)).to_pylist()
        record = stored_record(stored, self.recipe.data, task)
        if isinstance(record, Document):
            return text_spans(tokenizer, ids, labels, record.text, spans)
        answers = trained_answers(record.messages, self.recipe.encode.loss_on)
        return character_spans(tokenizer, ids, labels, answers, spans)
