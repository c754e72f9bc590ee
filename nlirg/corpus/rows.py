"""Rows of a corpus on their way to tokens: one home for what every stage does with a row.

    for shard in shards_of(recipe.data, task):
        source = recipe.data[shard.data]
        for raw in read_shard(shard, source):
            record = parse(raw, source, task)
            row = encoded_row(chat, record, recipe.encode)

Scoring, the preflight and selection all go this way, so that they judge a row alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from nlirg.chat.encoder import ChatEncoder
from nlirg.config.corpus import DataConfig, EncodeConfig
from nlirg.corpus.packing import document_labels, encode_document, piece_lengths
from nlirg.corpus.reader import RawRow, read_shard
from nlirg.corpus.records import (
    EXTRAS,
    FORMATS,
    OPTIONAL,
    Document,
    Record,
    as_json,
    parse_document,
    parse_row,
)
from nlirg.corpus.sources import Shard, Task, list_shards
from nlirg.errors import BadRowError, InputError

LOOKED_AT = 1000  # rows of a file without a schema that are asked which columns it has


def shards_of(data: Sequence[DataConfig], task: Task) -> list[Shard]:
    """Cut a recipe's sources into shards, in order; `Shard.data` says which source each is of.

    Raises:
        InputError: if a source cannot be read, or its `columns` map to a key that no format has,
            or from a column that it has not (without a schema: not in a file's first rows).
    """
    for source in data:
        if unknown := sorted(source.columns.keys() - {*FORMATS, *EXTRAS}):
            keys = ", ".join((*FORMATS, *EXTRAS))
            raise InputError(f"data {source.path}: columns: no key is {unknown[0]!r}, only {keys}")
    shards = list_shards(data, task)
    for index, source in enumerate(data):
        if source.columns:
            _check_columns(source, [shard for shard in shards if shard.data == index])
    return shards


def _check_columns(source: DataConfig, shards: Sequence[Shard]) -> None:
    firsts = {shard.path: shard for shard in reversed(shards)}
    seen: dict[str, None] = {}
    missing = set(source.columns.values())
    for path in sorted(firsts):
        for raw in islice(read_shard(firsts[path], source), LOOKED_AT):
            if isinstance(raw.value, dict):
                seen.update(dict.fromkeys(raw.value))
                missing -= raw.value.keys()
            if not missing:
                return
    if seen:
        name = min(missing)
        key = next(key for key, column in source.columns.items() if column == name)
        raise InputError(
            f"data {source.path}: no column {name!r}, which columns names for {key}; it has "
            + ", ".join(seen)
        )


def parse(raw: RawRow, source: DataConfig, task: Task) -> Record | Document:
    """Turn a row into a conversation, or for `cpt` into a document.

    Args:
        raw: as `nlirg.corpus.reader.read_shard` gives it.
        source: of the row; its `columns` say what the row's keys mean.
        task: of the recipe's `encode`.

    Raises:
        BadRowError: if the row could not be read or cannot be trained on.
    """
    if raw.error:
        raise BadRowError(raw.error)
    value = _renamed(raw.value, source.columns) if source.columns else raw.value
    parser = parse_document if task == "cpt" else parse_row
    return parser(value, raw.source, raw.line)


def _renamed(value: Any, columns: Mapping[str, str]) -> Any:
    """The row under our keys; where `columns` says what its format is, its own does not count."""
    if not isinstance(value, dict):
        return value
    for key, column in columns.items():
        if column not in value and key not in OPTIONAL:
            raise BadRowError(f"row has no {column!r}, which columns names for {key}")
    decided = any(key in FORMATS for key in columns)
    dropped = {*columns.values(), *(FORMATS if decided else ())}
    kept = {key: item for key, item in value.items() if key not in dropped}
    return kept | {key: value[column] for key, column in columns.items() if column in value}


# The columns of scored rows that `stored_record` reads.
STORED = ("id", "source", "line", "data", "row")


def stored_record(
    row: Mapping[str, Any], data: Sequence[DataConfig], task: Task
) -> Record | Document:
    """Parse a scored row: what it says is stored once, as it stood.

    Args:
        row: the columns `STORED`, of which `data` is the number of the row's source and `row` what
            `original` gave.
        data: the sources of the recipe.
        task: of the recipe's `encode`.
    """
    raw = RawRow(row["source"], row["line"], json.loads(row["row"]), "")
    return replace(parse(raw, data[row["data"]], task), id=row["id"])


def original(raw: RawRow) -> str:
    """The row as it stood in its source, as one line of JSON (`nlirg.corpus.records.as_json`)."""
    return json.dumps(raw.value, ensure_ascii=False, default=as_json)


def encoded_row(
    chat: ChatEncoder, record: Record | Document, config: EncodeConfig
) -> dict[str, Any]:
    """Token ids and labels of one record, with what its scores should show of it.

    Returns:
        id, task_type, truncated, notes (what of it the template does not know, in words), and int32
        arrays: input_ids [T], labels [T], segments (lengths summing to T; each is a text of its
        own, scored and trained without the others: a training sample, or a piece of a document).

    Raises:
        BadRowError: if the record cannot be encoded (`nlirg.chat.encoder.OverlongError`: only for
            its length).
    """
    notes: tuple[str, ...] = ()
    if isinstance(record, Document):
        ids, truncated = encode_document(chat.tokenizer, record.text), False
        segments = piece_lengths(len(ids), config.pack_length)
        labels = document_labels(ids, segments)
    else:
        encoded = chat.encode(
            record.messages,
            record.tools,
            loss_on=config.loss_on,
            max_length=config.max_length,
            overlong=config.overlong,
        )
        truncated, notes = encoded.truncated, encoded.notes
        ids = [token for sample in encoded.samples for token in sample.input_ids]
        labels = [label for sample in encoded.samples for label in sample.labels]
        segments = [len(sample.input_ids) for sample in encoded.samples]
    arrays = {"input_ids": ids, "labels": labels, "segments": segments}
    return {
        "id": record.id,
        "task_type": record.task_type,
        "truncated": truncated,
        "notes": list(notes),
        **{key: np.asarray(value, dtype=np.int32) for key, value in arrays.items()},
    }
