"""A corpus and the base model's own answers, as one corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from nlirg.corpus.arrangement.mixing import REPLAY
from nlirg.forward.batching import EncodedCorpus, SampleRows


def beside(corpus: EncodedCorpus, replay: EncodedCorpus) -> EncodedCorpus:
    """Return a corpus with the base model's own answers as one more source and task type."""
    count = len(replay)
    first = np.zeros(len(corpus), np.int64)
    tasks, source = (kinds if len(kinds) else first for kinds in (corpus.tasks, corpus.source))
    return replace(
        corpus,
        rows=JoinedRows([corpus.rows, replay.rows], [len(corpus), count]),
        n_trained=np.concatenate([corpus.n_trained, replay.n_trained]),
        task_types=(*corpus.task_types, REPLAY),
        tasks=np.concatenate([tasks, np.full(count, len(corpus.task_types))]),
        sources=(*corpus.sources, REPLAY),
        source=np.concatenate([source, np.full(count, len(corpus.sources))]),
        replay=len(corpus.sources),
    )


class JoinedRows:
    """Rows of several corpora, one after the other."""

    def __init__(self, parts: Sequence[SampleRows], counts: Sequence[int]) -> None:
        self._parts, self._starts = parts, np.cumsum([0, *counts[:-1]])

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._parts[part][index - int(self._starts[part])]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return chain.from_iterable(self._parts)
