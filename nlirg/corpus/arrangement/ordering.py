"""Orders of a corpus: what its rows are sorted by, and how difficulties are mixed.

Every order sorts by one key per row, ascending; equal keys stay in the order of the corpus.
"""

from __future__ import annotations

import hashlib

import numpy as np

from nlirg.config.corpus import Order
from nlirg.config.score_columns import ORDERED_BY, RANDOM

# The column each order's keys are made of.
KEY_COLUMNS = {order: column.name for order, column in ORDERED_BY.items()} | {RANDOM: "id"}
QUANTILES = 10
KEY_BITS = 53  # a float64 holds integers of so many bits exactly


def sort_keys(order: Order, values: np.ndarray, seed: int) -> np.ndarray:
    """Keys of an order; the row with the smallest comes first.

    Args:
        order: `similarity_rank` puts the rows first whose losses follow the model's entropies
            best: the reference tool's ascending order of its `similarity_rank`, which is the
            negative of `similarity_centered` (without its flag `--desc` the tool reverses that
            order). `filtered_rank` and `easy_to_hard` put easy rows first, `length` short
            answers; `mixed` sorts as `easy_to_hard` does, for `mixed_places` to spread.
            `random` shuffles by the rows' ids alone, so that no other row, file or machine
            changes who comes before whom.
        values: [n] the column of `KEY_COLUMNS[order]`, without NaN; rows whose score is
            degenerate stand where the score's own definition puts them (`nlirg.scoring.scores`).
        seed: of `random`.

    Returns:
        [n] float64.
    """
    if order == RANDOM:
        return np.array([_hashed(name, seed) for name in values], np.float64)
    keys = np.asarray(values, np.float64)
    return -keys if ORDERED_BY[order].descending else keys


def _hashed(name: str, seed: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> (64 - KEY_BITS)


def mixed_places(ranks: np.ndarray, rows: int, seed: int, quantiles: int = QUANTILES) -> np.ndarray:
    """Places that keep every stretch of a corpus as difficult as the whole.

    Difficulty is cut into quantiles as equal as can be, and the places take them in turns, always
    in the same seeded sequence: any `quantiles` consecutive rows hold one of each, the last ones
    too. Which row of its quantile comes in which turn is drawn from the seed.

    Args:
        ranks: [m] ranks by difficulty, each in 0..rows - 1.
        rows: rows of the corpus.
        seed: of the draw.
        quantiles: number of quantiles.

    Returns:
        [m] int64; over all ranks a permutation of 0..rows - 1.
    """
    ranks = np.asarray(ranks, np.int64)
    sequence = np.random.default_rng(seed).permutation(quantiles)
    turn = np.argsort(sequence)  # of each quantile, within a round
    # Rows that fill no whole round belong to the quantiles that have the first turns.
    sizes = rows // quantiles + (turn < rows % quantiles)
    starts = np.cumsum(sizes) - sizes
    quantile = np.searchsorted(np.cumsum(sizes), ranks, side="right")
    places = np.empty(len(ranks), np.int64)
    for number in np.unique(quantile):
        mine = quantile == number
        rounds = np.random.default_rng((seed, int(number))).permutation(sizes[number])
        places[mine] = rounds[ranks[mine] - starts[number]] * quantiles + turn[number]
    return places


def hash_rank(name: str) -> bytes:
    """An id's place in an order that is as good as random and depends on no other id."""
    return hashlib.sha256(name.encode()).digest()
