"""Rows of a corpus on their way to tokens: one home for what every stage does with a row.

    for shard in shards_of(recipe.data, task):
        source = recipe.data[shard.data]
        for raw in read_shard(shard, source):
            record = parse(raw, source, task)
            row = encoded_row(tokenizer, record, recipe.encode)

Scoring, the preflight and selection all go this way, so that they judge a row alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from nlirg.chat import encode_chat
from nlirg.config import DataConfig, EncodeConfig
from nlirg.corpus import SUFFIXES, TEXT, RawRow, Shard, list_shards
from nlirg.errors import BadRowError
from nlirg.packing import document_labels, encode_document, piece_lengths
from nlirg.records import Document, Record, parse_document, parse_row

Task = Literal["sft", "cpt"]


def shards_of(data: Sequence[DataConfig], task: Task) -> list[Shard]:
    """Cut a recipe's sources into shards, in order; `Shard.data` says which source each is of.

    Raises:
        InputError: if a source cannot be read, or has no column that its `columns` names.
    """
    suffixes = (*SUFFIXES, TEXT) if task == "cpt" else SUFFIXES
    return [
        shard._replace(data=index)
        for index, source in enumerate(data)
        for shard in list_shards([source.path], suffixes=suffixes)
    ]


def parse(raw: RawRow, source: DataConfig, task: Task) -> Record | Document:
    """Turn a row into a conversation, or for `cpt` into a document.

    Args:
        raw: as `nlirg.corpus.read_shard` gives it.
        source: of the row; its `columns` say what the row's keys mean.
        task: of the recipe's `encode`.

    Raises:
        BadRowError: if the row could not be read or cannot be trained on.
    """
    if raw.error:
        raise BadRowError(raw.error)
    parser = parse_document if task == "cpt" else parse_row
    return parser(raw.value, raw.source, raw.line)


def original(raw: RawRow) -> str:
    """The row as it stood in its source, as one line of JSON."""
    return json.dumps(raw.value, ensure_ascii=False)


def encoded_row(tokenizer: Any, record: Record | Document, config: EncodeConfig) -> dict[str, Any]:
    """Token ids and labels of one record, with what its scores should show of it.

    Returns:
        id, task_type, what the row says (`messages` and `tools` as JSON, or `text`), truncated,
        and int32 arrays: input_ids [T], labels [T], segments (lengths summing to T; each is
        scored and trained on its own).

    Raises:
        BadRowError: if the record cannot be encoded (`nlirg.chat.OverlongError`: only for its
            length).
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
