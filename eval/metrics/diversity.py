"""How templated a set of answers is: diversity, repetition, shared openings and phrases.

Everything counts *units*: words, or characters for scripts written without spaces. The measures
favour short text (fewer words repeat less), so compare diversity after
`truncate_to_equal_length`.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.schema.report import PhraseShare
from eval.text import OPENING_UNITS, Units, join_units, ngrams

PHRASE_UNITS = 5


TOP_PHRASES = 10


_OVERLAP_UNITS = 3  # a phrase sharing this many units in a row with a listed one is not news


@dataclass(frozen=True)
class NGrams:
    """All n-grams of a set of answers as integers, so that subsets are counted quickly.

    Attributes:
        ids: one entry per occurrence, shape `[occurrences]`; equal n-grams have equal ids.
        owner: index of the answer each occurrence is in, shape `[occurrences]`.
        answers: number of answers.
    """

    ids: NDArray[np.int64]
    owner: NDArray[np.int64]
    answers: int

    @classmethod
    def of(cls, texts: Sequence[Units], n: int) -> NGrams:
        """Number the n-grams of the answers, which are given as units."""
        known: dict[tuple[str, ...], int] = {}
        ids = [known.setdefault(gram, len(known)) for text in texts for gram in ngrams(text, n)]
        lengths = [max(len(text) - n + 1, 0) for text in texts]
        owner = np.repeat(np.arange(len(texts)), lengths)
        return cls(np.array(ids, dtype=np.int64), owner, len(texts))

    def counts(self, keep: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Occurrences of every n-gram, in the answers where `keep` (shape `[answers]`) is true."""
        return np.bincount(self.ids if keep is None else self.ids[keep[self.owner]])

    def distinct(self, keep: NDArray[np.bool_] | None = None) -> float:
        """Distinct n-grams over all n-grams (Li et al. 2016, arXiv 1510.03055); 0 if none."""
        counts = self.counts(keep)
        return float(np.count_nonzero(counts) / max(counts.sum(), 1))

    def top_share(self, keep: NDArray[np.bool_] | None = None, top: int = TOP_PHRASES) -> float:
        """Share of all n-grams that are one of the `top` commonest; 0 if there are none."""
        counts = self.counts(keep)
        return float(np.sort(counts)[-top:].sum() / max(counts.sum(), 1))


def repeated_share(text: Units, n: int = 3) -> float:
    """Share of one answer's n-grams that are repeats of an earlier one: 1 - unique / total.

    0 for an answer with fewer than n units.
    """
    grams = ngrams(text, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def opening(text: Units) -> tuple[str, ...]:
    """The first five units of an answer, fewer if it is shorter."""
    return tuple(text[:OPENING_UNITS])


def closing(text: Units) -> tuple[str, ...]:
    """The last five units of an answer, fewer if it is shorter."""
    return tuple(text[-OPENING_UNITS:])


def compression_ratio(texts: Sequence[str]) -> float:
    """Size of the answers over their size compressed by zlib: higher is more repetitive.

    Shaib et al. 2024 (arXiv 2403.00553), but at the fastest level, which ranks texts alike in a
    tenth of the time. 0 if the answers are all empty.
    """
    raw = "\n".join(texts).encode()
    return len(raw) / len(zlib.compress(raw, level=1)) if any(texts) else 0.0


Texts = Mapping[str, Sequence[Units]]  # by variant; not all need to have equally many answers


def top_openings(texts: Texts, top: int = TOP_PHRASES) -> list[PhraseShare]:
    """The commonest openings of any variant, and the share of answers beginning with each."""
    return _most_shared(texts, lambda answer: [opening(answer)], top)


def top_closings(texts: Texts, top: int = TOP_PHRASES) -> list[PhraseShare]:
    """The commonest closings of any variant, and the share of answers ending on each."""
    return _most_shared(texts, lambda answer: [closing(answer)], top)


def top_phrases(texts: Texts, top: int = TOP_PHRASES) -> list[PhraseShare]:
    """The five-unit phrases in most answers of any variant, and the share that contains each."""
    return _most_shared(texts, lambda answer: dict.fromkeys(ngrams(answer, PHRASE_UNITS)), top)


def _most_shared(
    texts: Texts, parts: Callable[[Units], Iterable[tuple[str, ...]]], top: int
) -> list[PhraseShare]:
    """Parts of at least two answers by their largest share, leaving out overlapping ones."""
    counts = {
        name: Counter(part for answer in answers if answer for part in parts(answer))
        for name, answers in texts.items()
    }
    answers = {name: len(each) for name, each in texts.items()}
    best: dict[tuple[str, ...], float] = {}
    for variant, counter in counts.items():
        for phrase, count in counter.items():
            if count > 1:
                best[phrase] = max(best.get(phrase, 0.0), count / answers[variant])
    chosen: list[PhraseShare] = []
    seen: set[tuple[str, ...]] = set()
    for phrase in sorted(best, key=lambda phrase: (-best[phrase], phrase)):
        pieces = ngrams(phrase, min(_OVERLAP_UNITS, len(phrase)))
        if seen.isdisjoint(pieces):
            seen.update(pieces)
            shares = {name: counter[phrase] / answers[name] for name, counter in counts.items()}
            chosen.append(PhraseShare(phrase=join_units(phrase), shares=shares))
        if len(chosen) == top:
            break
    return chosen
