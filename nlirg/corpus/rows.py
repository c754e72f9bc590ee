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
from nlirg.corpus.arrangement.packing import document_labels, encode_document, piece_lengths
from nlirg.corpus.formats.columns import (
    EXTRAS,
    FORMATS,
    Columns,
    listed_keys,
    possible_columns,
    renamed,
    written,
)
from nlirg.corpus.reader import RawRow, read_shard
from nlirg.corpus.records import (
    Document,
    NoFormatError,
    Record,
    as_json,
    identity,
    own_id,
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
    missing = {column for column in source.columns.values() if column is not None}
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
    try:
        return _parsed(raw.value, raw, source.columns, task)
    except NoFormatError as error:
        told = f"{error}; its keys are {listed_keys(raw.value)}"
        raise BadRowError(f"{told}: {_remedy(raw, source.columns, task)}") from None


def _parsed(value: Any, raw: RawRow, columns: Columns, task: Task) -> Record | Document:
    row = renamed(value, columns) if columns else value
    parser = parse_document if task == "cpt" else parse_row
    return parser(row, raw.source, raw.line)


def _remedy(raw: RawRow, columns: Columns, task: Task) -> str:
    """What `columns` must say for the row to be read; what they could say if that is not known."""
    for tried in possible_columns(raw.value, columns) if task == "sft" else ():
        try:
            _parsed(raw.value, raw, tried, task)
        except BadRowError:
            continue
        return f"set {written(tried)}"
    example = "{text: KEY}" if task == "cpt" else "{instruction: KEY, output: KEY}"
    return f"say which of them it is in columns, as in columns: {example}"


def id_of(raw: RawRow, source: DataConfig, *, made: bool = False) -> str:
    """The id that a row has if it can be used; "" if it cannot have one.

    Args:
        raw: the row.
        source: of the row.
        made: also give the id that is made for a row without one; else "".
    """
    if raw.error or not isinstance(raw.value, dict):
        return ""
    try:
        row = renamed(raw.value, source.columns) if source.columns else raw.value
        name = identity(row, raw.source, raw.line) if made else own_id(row)
        name.encode()
    except (BadRowError, UnicodeEncodeError):  # half a surrogate: the row is refused
        return ""
    return name


UNIQUE_IDS = (
    "ids must be unique; name another key of the source in its columns ({id: KEY}), or set "
    "columns: {id: null}, and ids are made from file name, line and content"
)
MADE_ALIKE = (
    "these rows have no id, and it is made of file name, line and content, in all of which they "
    "are alike: leave one of them out"
)


def repetition(count: int, name: str, first: str, second: str) -> str:
    """What is told of ids that stand on more than one row.

    Args:
        count: of such ids.
        name: one of them.
        first: where it stands.
        second: where it stands again.
    """
    return f"{count} ids stand on more than one row, e.g. {name!r} at {first} and {second}"


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
        id, task_type, truncated, notes (what of it is not read or the template does not know, in
        words), and int32 arrays: input_ids [T], labels [T], segments (lengths summing to T; each
        is a text of its own, scored and trained without the others: a training sample, or a piece
        of a document).

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
        truncated, notes = encoded.truncated, (*record.notes, *encoded.notes)
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
