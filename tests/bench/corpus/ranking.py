"""Corpora with errors put together from scored rows, and how well detectors rank those errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from tests.bench.corpus.injections import INJECTIONS

DRAWN = 300  # rows of a corpus
SEEDS = range(10)  # corpora drawn from a world
RATES = (0.01, 0.05, 0.1, 0.2)
MIXED = "all kinds"  # every error of another kind, in turn

# Column -> whether high (+) or low (-) values are suspicious; both are tried where it is unclear.
# Perplexity is left out: it ranks as the mean loss does.
DIRECTIONS = {
    "anomaly": "+",
    "mean_loss": "+",
    "max_loss": "+",
    "mean_entropy": "+-",
    "zone_low": "-",
    "zone_mid": "+",
    "zone_high": "+",
    "zone_discarded": "+",
    "similarity": "+-",
    "similarity_centered": "+-",
    "filtered_rank": "+",
    "divergence": "+",
    "n_spans": "+",
    "min_k": "-",
    "ifd": "+",
    "surprise": "+",
    "surprise_z": "+",
    "tail_surprise": "+",
    "peak_surprise": "+",
    "end_loss": "+",
    "length": "+-",
}
# These look at the whole corpus, so no column of a row can hold them: z of a column within a task
# type, and the mean of the ranks by several columns.
WITHIN_TYPE = ("anomaly", "mean_loss", "surprise", "min_k")
RANKED = ("mean_loss", "surprise", "end_loss")
BASELINES = ("random", "+length", "-length")


class Pool(NamedTuple):
    """The scored rows of a world.

    Attributes:
        types: [n] task type of each row.
        columns: name -> [n, 1 + kinds]: of the clean row and of the row with each error; NaN
            where a row cannot carry that error.
    """

    types: np.ndarray
    columns: dict[str, np.ndarray]


class Cell(NamedTuple):
    """How well a detector finds errors of one kind at one rate, a figure per corpus drawn."""

    auroc: list[float]
    ap: list[float]


Cells = dict[tuple[str, float, str], Cell]  # by kind, rate and detector


def auroc(scores: np.ndarray, bad: np.ndarray) -> float:
    """Chance that a bad row scores above a clean one, ties counting half (Mann–Whitney's U).

    Args:
        scores: [n], higher is more suspicious.
        bad: bool [n]; there are rows of both sorts.
    """
    ranks = stats.rankdata(scores)[bad]
    count = len(ranks)
    return float((ranks.sum() - count * (count + 1) / 2) / (count * (len(bad) - count)))


def average_precision(scores: np.ndarray, bad: np.ndarray) -> float:
    """Mean over the bad rows of the precision at their score; rows that tie are taken together.

    Args:
        scores: [n], higher is more suspicious.
        bad: bool [n]; at least one is.
    """
    values, place = np.unique(-scores, return_inverse=True)
    rows = np.bincount(place, minlength=len(values))
    hits = np.bincount(place, weights=bad, minlength=len(values))
    return float((hits * hits.cumsum() / rows.cumsum()).sum() / hits.sum())


def corpus_of(
    pool: Pool, kind: str, rate: float, seed: int, drawn: int = DRAWN
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a corpus with errors.

    Args:
        pool: what to draw from.
        kind: of the errors, one of `INJECTIONS`, or `MIXED`.
        rate: share of bad rows, at least one.
        seed: of the draw.
        drawn: rows of the corpus, if the pool has as many.

    Returns:
        [n] rows of the pool, and [n] the version of each: 0 is clean.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(pool.types))[:drawn]
    kinds = list(INJECTIONS)
    usable = ~np.isnan(next(iter(pool.columns.values())))
    version = np.zeros(len(rows), int)
    for index in range(max(1, round(rate * len(rows)))):
        wanted = 1 + (index % len(kinds) if kind == MIXED else kinds.index(kind))
        free = np.flatnonzero((version == 0) & usable[rows, wanted])
        version[rng.choice(free)] = wanted
    return rows, version


def rankings(pool: Pool, rows: np.ndarray, version: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """What every detector says of a corpus: name -> [n], higher is more suspicious."""
    columns = {name: values[rows, version] for name, values in pool.columns.items()}
    found = {
        sign + name: columns[name] if sign == "+" else -columns[name]
        for name, signs in DIRECTIONS.items()
        for sign in signs
    }
    for name in WITHIN_TYPE:
        name = DIRECTIONS[name] + name
        found[f"{name} within type"] = _within(found[name], pool.types[rows])
    ranks = [stats.rankdata(columns[name]) for name in RANKED]
    found["ranks of " + ", ".join(RANKED)] = np.mean(ranks, axis=0)
    found["random"] = np.random.default_rng(seed).random(len(rows))
    return found


def per_row(detector: str) -> bool:
    """Whether a row's own scores are enough for a detector, and it is none of the baselines."""
    return not (
        detector in BASELINES
        or detector.endswith(" within type")
        or detector.startswith("ranks of ")
    )


def _within(values: np.ndarray, types: np.ndarray) -> np.ndarray:
    """Values [n] as z within their task types [n]."""
    result = np.zeros_like(values)
    for name in np.unique(types):
        mine = types == name
        result[mine] = (values[mine] - values[mine].mean()) / max(values[mine].std(), 1e-9)
    return result


def evaluate(pool: Pool, seeds: Sequence[int] = SEEDS, rates: Sequence[float] = RATES) -> Cells:
    """Every detector on corpora of every kind and rate of errors, one per seed."""
    found: Cells = defaultdict(lambda: Cell([], []))
    for kind in (*INJECTIONS, MIXED):
        for rate in rates:
            for seed in seeds:
                rows, version = corpus_of(pool, kind, rate, seed)
                bad = version > 0
                for name, scores in rankings(pool, rows, version, seed).items():
                    cell = found[kind, rate, name]
                    cell.auroc.append(auroc(scores, bad))
                    cell.ap.append(average_precision(scores, bad))
    return dict(found)


def mean_precision(cells: Cells, detector: str, rates: Sequence[float]) -> float:
    """Average precision of a detector, its mean over the kinds and over rates and draws."""
    return float(np.mean([cells[kind, rate, detector].ap for kind in INJECTIONS for rate in rates]))
