"""A random sample of a corpus, encoded in this process as the stages would do it."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nlirg.chat import OverlongError, encode_chat, encode_prompt
from nlirg.config import EncodeConfig
from nlirg.corpus import RawRow, Shard, read_shard
from nlirg.errors import BadRowError, InputError
from nlirg.packing import document_labels, encode_document, piece_lengths
from nlirg.preflight import Fault, Probe, first_change, squeezed
from nlirg.records import Record, parse_document, parse_row

READ_SHARDS = 16  # places of a large corpus that are read
READ_ROWS = 20_000  # rows read from all of them
UNLIMITED = 1 << 40  # tokens


@dataclass(frozen=True)
class Sample:
    """Rows drawn at random from the corpus.

    Attributes:
        rows: in the order of the corpus.
        total: rows of the corpus; an estimate unless `exact`.
        exact: whether every row of the corpus was read.
    """

    rows: list[RawRow]
    total: int
    exact: bool

    def described(self) -> str:
        """How large the corpus is, in words."""
        return f"the corpus has {'' if self.exact else 'about '}{self.total:,}"


def draw(shards: Sequence[Shard], count: int, seed: int) -> Sample:
    """Draw rows at random, each of those read equally likely.

    Of a large corpus a few shards at random are read from their beginnings, and its number of
    rows is estimated from the size of the rows drawn.

    Args:
        shards: of the corpus.
        count: rows to draw.
        seed: of the draw.

    Raises:
        InputError: if the corpus holds no row.
    """
    chance = random.Random(seed)
    chosen = sorted(chance.sample(range(len(shards)), min(len(shards), READ_SHARDS)))
    quota = READ_ROWS // len(chosen)
    kept: list[tuple[int, RawRow]] = []
    read, exact = 0, len(chosen) == len(shards)
    for index in chosen:
        for row_of_shard, row in enumerate(read_shard(shards[index])):
            if row_of_shard == quota:
                exact = False
                break
            # Reservoir sampling: the n-th row replaces a kept one with probability count / n.
            place = len(kept) if read < count else chance.randrange(read + 1)
            if place < count:
                kept[place : place + 1] = [(read, row)]
            read += 1
    if not kept:
        raise InputError("the corpus holds no rows")
    rows = [row for _, row in sorted(kept, key=lambda item: item[0])]
    return Sample(rows, read if exact else max(read, _estimated(shards, rows)), exact)


def _estimated(shards: Sequence[Shard], rows: Sequence[RawRow]) -> int:
    """Rows of a corpus by its bytes and the mean size of some rows."""
    sizes = [
        len(json.dumps(row.value, ensure_ascii=False).encode(errors="replace")) for row in rows
    ]
    return round(sum(shard.stop - shard.start for shard in shards) / float(np.mean(sizes)))


@dataclass(frozen=True)
class Corpus:
    """The encoded sample.

    Attributes:
        sample: the rows as drawn.
        probes: usable rows.
        faults: the others.
    """

    sample: Sample
    probes: list[Probe]
    faults: list[Fault]


def encode_sample(tokenizer: Any, sample: Sample, config: EncodeConfig) -> Corpus:
    """Encode the rows of a sample as the pipeline's own stages do."""
    probes, faults = [], []
    probe = _document_probe if config.task == "cpt" else _chat_probe
    for row in sample.rows:
        place = f"{Path(row.source).name}:{row.line}"
        try:
            if row.error:
                raise BadRowError(row.error)
            probes.append(probe(tokenizer, row, place, config))
        except BadRowError as error:
            faults.append(Fault(place, str(error)))
    return Corpus(sample, probes, faults)


def _chat_probe(tokenizer: Any, row: RawRow, place: str, config: EncodeConfig) -> Probe:
    record = parse_row(row.value, row.source, row.line)

    def encoded(limit: int) -> Any:
        return encode_chat(
            tokenizer,
            record.messages,
            limit,
            config.overlong,
            config.template_options,
            tools=record.tools,
            loss_on=config.loss_on,
        )

    full = encoded(UNLIMITED)
    ids, labels = full.input_ids, full.labels
    if len(ids) > config.max_length:
        try:
            ids, labels, _ = encoded(config.max_length)
        except OverlongError:
            ids, labels = [], []
    last = record.messages[-1]
    return Probe(
        place=place,
        answer=last["content"] or json.dumps(last.get("tool_calls"), ensure_ascii=False),
        characters=len(_decoded(tokenizer, full.input_ids)),
        full_length=len(full.input_ids),
        input_ids=np.array(ids, np.int64),
        labels=np.array(labels, np.int64),
        lost=_lost_in_chat(tokenizer, record, full.input_ids, config.template_options),
    )


def _lost_in_chat(
    tokenizer: Any, record: Record, ids: Sequence[int], options: Mapping[str, Any]
) -> str:
    """What tokenizing changes of a conversation's text or generation prompt; "" if nothing."""
    *context, answer = record.messages
    if context[-1]["role"] == "assistant":
        return ""  # the answer goes on with an answer: nothing generates from there
    try:
        text, prompt = encode_prompt(tokenizer, context, options, tools=record.tools)
    except BadRowError as error:
        return f"no generation prompt: {error}"
    if list(ids[: len(prompt)]) != prompt:
        return "generation would see another prompt than training"
    if changed := first_change(text, _decoded(tokenizer, prompt)):
        return f"prompt {changed}"
    said = _decoded(tokenizer, ids[len(prompt) :])
    if squeezed(answer["content"]) not in squeezed(said):
        return f"answer {first_change(answer['content'].strip(), said) or 'is cut'}"
    return ""


def _document_probe(tokenizer: Any, row: RawRow, place: str, config: EncodeConfig) -> Probe:
    text = parse_document(row.value, row.source, row.line).text
    ids = encode_document(tokenizer, text)
    plain = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    changed = first_change(text, plain)
    labels = document_labels(ids, piece_lengths(len(ids), config.pack_length))
    return Probe(
        place=place,
        answer=text,
        characters=len(text),
        full_length=len(ids),
        input_ids=np.array(ids, np.int64),
        labels=np.array(labels, np.int64),
        lost=changed and f"text {changed}",
    )


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text
