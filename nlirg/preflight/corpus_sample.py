"""A random sample of a corpus, encoded in this process as the stages would do it."""

from __future__ import annotations

import json
import random
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from nlirg.chat.conversation import trained_turns
from nlirg.chat.encoder import (
    ChatEncoder,
    EncodedChat,
    EncodedSample,
    OverlongError,
    limited,
)
from nlirg.chat.thinking import split_thinking
from nlirg.config.corpus import DataConfig, EncodeConfig
from nlirg.corpus.files import kind
from nlirg.corpus.reader import RawRow, read_shard
from nlirg.corpus.records import Document, Record
from nlirg.corpus.rows import encoded_row, id_of, original, parse
from nlirg.corpus.sources import Shard, Task
from nlirg.errors import BadRowError, InputError
from nlirg.labels import IGNORE
from nlirg.preflight.corpus_checks import Fault, Probe, first_change, squeezed

READ_SHARDS = 16  # places of a large corpus that are read
READ_ROWS = 20_000  # rows read from all of them


@dataclass(frozen=True)
class CorpusSample:
    """Rows drawn at random from the corpus.

    Attributes:
        rows: in the order of the corpus.
        sources: that of every row.
        numbers: its index in the recipe's `data`.
        total: rows of the corpus; an estimate unless `exact`.
        exact: whether every row of the corpus was read.
        read: rows that were read.
        repeated: ids that stand on more than one usable row of these, and where.
    """

    rows: list[RawRow]
    sources: list[DataConfig]
    numbers: list[int]
    total: int
    exact: bool
    read: int = 0
    repeated: dict[str, list[str]] = field(default_factory=dict)

    def described(self) -> str:
        """Return how large the corpus is, in words."""
        return f"the corpus has {'' if self.exact else 'about '}{self.total:,}"


def draw(
    shards: Sequence[Shard],
    data: Sequence[DataConfig],
    count: int,
    seed: int,
    task: Task = "sft",
) -> CorpusSample:
    """Draw rows at random, each of those read equally likely.

    Of a large corpus a few shards at random are read from their beginnings, and its number of
    rows is estimated from the size of the rows drawn.

    Args:
        shards: of the corpus.
        data: its sources, which the shards were cut from.
        count: rows to draw.
        seed: of the draw.
        task: of the recipe's `encode`.

    Raises:
        InputError: if the corpus holds no row.
    """
    chance = random.Random(seed)
    chosen = sorted(chance.sample(range(len(shards)), min(len(shards), READ_SHARDS)))
    quota = READ_ROWS // len(chosen)
    kept: list[tuple[int, RawRow, int]] = []
    places: dict[str, list[str]] = {}
    read, exact = 0, len(chosen) == len(shards)
    for index in chosen:
        number = shards[index].data
        source = data[number]
        for row_of_shard, row in enumerate(read_shard(shards[index], source)):
            if row_of_shard == quota:
                exact = False
                break
            # Reservoir sampling: the n-th row replaces a kept one with probability count / n.
            place = len(kept) if read < count else chance.randrange(read + 1)
            if place < count:
                kept[place : place + 1] = [(read, row, number)]
            _note_id(places, row, source, task)
            read += 1
    if not kept:
        raise InputError("the corpus holds no rows")
    kept.sort(key=lambda item: item[0])
    rows = [row for _, row, _ in kept]
    total = read if exact else max(read, _estimated(shards, rows))
    repeated = {name: found for name, found in places.items() if len(found) > 1}
    numbers = [number for *_, number in kept]
    sources = [data[number] for number in numbers]
    return CorpusSample(rows, sources, numbers, total, exact, read, repeated)


def _note_id(places: dict[str, list[str]], row: RawRow, source: DataConfig, task: Task) -> None:
    """Note where a usable row's own id stands."""
    if not (name := id_of(row, source)):
        return
    try:
        parse(row, source, task)
    except BadRowError:
        return
    places.setdefault(name, []).append(f"{row.source}:{row.line}")


def _estimated(shards: Sequence[Shard], rows: Sequence[RawRow]) -> int:
    """Estimate a corpus's rows: those counted, else by bytes and the mean size of some rows.

    Of packed files it is the packed size, by what zlib makes of those rows.
    """
    texts = [original(row).encode(errors="replace") for row in rows]
    size = {
        False: sum(map(len, texts)) / len(texts),
        True: len(zlib.compress(b"\n".join(texts))) / len(texts),
    }
    return round(
        sum(
            (shard.stop - shard.start) / (1 if shard.counted else size[bool(kind(shard.path)[1])])
            for shard in shards
        )
    )


@dataclass(frozen=True)
class SampledCorpus:
    """The encoded sample.

    Attributes:
        sample: the rows as drawn.
        probes: training samples of the usable rows.
        faults: the others.
        notes: what the chat template does not know of rows, in words -> rows.
    """

    sample: CorpusSample
    probes: list[Probe]
    faults: list[Fault]
    notes: Counter[str] = field(default_factory=Counter)


def encode_sample(chat: ChatEncoder, sample: CorpusSample, config: EncodeConfig) -> SampledCorpus:
    """Encode the rows of a sample as the pipeline's own stages do."""
    probes, faults = [], []
    notes: Counter[str] = Counter()
    for row, source, number in zip(sample.rows, sample.sources, sample.numbers, strict=True):
        place = f"{Path(row.source).name}:{row.line}"
        try:
            record = parse(row, source, config.task)
            if isinstance(record, Document):
                found = [_document_probe(chat, record, place, config)]
            else:
                whole = chat.encode(record.messages, record.tools, loss_on=config.loss_on)
                found = _probes(chat, record, place, config, whole)
                notes.update({*record.notes, *whole.notes})
            probes += [replace(one, data=number, task_type=record.task_type) for one in found]
        except BadRowError as error:
            faults.append(Fault(place, str(error)))
    return SampledCorpus(sample, probes, faults, notes)


def _document_probe(chat: ChatEncoder, record: Document, place: str, config: EncodeConfig) -> Probe:
    row = encoded_row(chat, record, config)
    ids, labels = (row[name].astype(np.int64) for name in ("input_ids", "labels"))
    lost = _lost_in_text(chat.tokenizer, record.text, ids)
    return Probe(place, record.text, len(record.text), len(ids), ids, labels, lost)


def _probes(
    chat: ChatEncoder, record: Record, place: str, config: EncodeConfig, whole: EncodedChat
) -> list[Probe]:
    """Return a probe of every training sample of a conversation."""
    turns = iter(trained_turns(record.messages, config.loss_on))
    try:
        kept = limited(whole, config.max_length, config.overlong).samples
    except OverlongError:
        kept = []  # the stages skip the row
    probes = []
    for sample, within in zip_longest(whole.samples, kept, fillvalue=EncodedSample([], [])):
        trained = np.array(sample.labels) != IGNORE
        answers = np.count_nonzero(np.diff(trained.astype(int), prepend=0) == 1)
        turn = list(islice(turns, int(answers)))[-1]
        last = record.messages[turn]
        probes.append(
            Probe(
                place=place,
                answer=last["content"] or json.dumps(last.get("tool_calls"), ensure_ascii=False),
                characters=len(_decoded(chat.tokenizer, sample.input_ids)),
                full_length=len(sample.input_ids),
                input_ids=np.array(within.input_ids, np.int64),
                labels=np.array(within.labels, np.int64),
                lost=_lost_in_chat(chat, record, turn, sample.input_ids),
                merges=not within.exact,
            )
        )
    return probes


def _lost_in_text(tokenizer: Any, text: str, ids: np.ndarray) -> str:
    """Return what tokenizing changes of a plain text; "" if nothing."""
    plain = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    changed = first_change(text, plain)
    return changed and f"text {changed}"


def _lost_in_chat(chat: ChatEncoder, record: Record, turn: int, ids: Sequence[int]) -> str:
    """Return what tokenizing changes of a sample that ends on an answer; "" if nothing.

    Args:
        chat: that encoded it.
        record: of the sample.
        turn: the answer's.
        ids: of the whole sample.
    """
    context, answer = record.messages[:turn], record.messages[turn]
    if context[-1]["role"] == "assistant":
        return ""  # the answer goes on with an answer: nothing generates from there
    try:
        text, prompt = chat.prompt(context, record.tools)
    except BadRowError as error:
        return f"no generation prompt: {error}"
    if list(ids[: len(prompt)]) != prompt:
        return "generation would see another prompt than training"
    if changed := first_change(text, _decoded(chat.tokenizer, prompt)):
        return f"prompt {changed}"
    said = _decoded(chat.tokenizer, ids[len(prompt) :])
    words = split_thinking(answer["content"])[1]
    if squeezed(words) not in squeezed(said):
        return f"answer {first_change(words.strip(), said) or 'is cut'}"
    return ""


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text
