"""Equal and nearly equal texts: normal forms, MinHash signatures, groups.

Two texts are *exact* duplicates if their normal forms are equal, and *near* duplicates if the
Jaccard similarity of their sets of shingles, runs of five characters of the normal form, is
estimated at `NEAR` or more. Characters serve every script alike: in English five of them are about
a word, in Chinese a phrase. Similarity is estimated by MinHash (Broder 1997), candidates are found
by bands of its values (locality-sensitive hashing; Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", chapter 3), and what is linked by a chain of near duplicates is one group.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SHINGLE = 5
NEAR = 0.8
# A pair of similarity s shares a band with probability 1 - (1 - s**BAND_VALUES)**BANDS: .998 at
# .8, .63 at .6, .08 at .4.
BANDS, BAND_VALUES = 21, 6
VALUES = BANDS * BAND_VALUES
# Texts of one band key that are compared with all others of it, one after the other; what is like
# none of them is left to the other bands. A bound on work, not reached by texts that are alike.
LEADERS = 16
_COMPARED_AT_ONCE = 1 << 16
_SEED = 42
_PAD = "\0"  # a shorter text is filled up, and is one shingle

Keys = NDArray[np.int64]
Edges = NDArray[np.int64]


def normal_form(text: str) -> str:
    """NFKC (full-width forms become half-width), without case, any white space as one space.

    Punctuation stays: `a < b` and `a > b` are different answers.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def exact_key(text: str) -> int:
    """64 bits of a hash, as a signed integer.

    Among n different texts some two share a key with a probability of n²/2⁶⁵: 3e-8 for a million.
    """
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def shingle_hashes(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Hashes of the shingles of all texts, one after the other.

    Returns:
        hashes [shingles], and offsets [texts + 1]: text i has `hashes[offsets[i]:offsets[i + 1]]`,
        at least one.
    """
    padded = [text.ljust(SHINGLE, _PAD) for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in padded], dtype=np.int64)
    count = max(len(codes) - SHINGLE + 1, 0)
    hashes = np.zeros(count, dtype=np.uint64)
    for place in range(SHINGLE):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + codes[place : place + count]
    inside = np.ones(len(codes), dtype=bool)
    for place in range(1, SHINGLE):  # would reach into the next text
        inside[np.cumsum(lengths) - place] = False
    offsets = np.concatenate([[0], np.cumsum(lengths - SHINGLE + 1)]).astype(np.uint64)
    return _mixed(hashes[inside[:count]]), offsets


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over all 64 (the finalizer of MurmurHash3)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        values = (values ^ (values >> np.uint64(33))) * np.uint64(factor)
    return values ^ (values >> np.uint64(33))


def min_hashes(texts: Sequence[str]) -> NDArray[np.uint32]:
    """The MinHash values of texts in normal form, shape `[texts, VALUES]`."""
    if not texts:
        return np.empty((0, VALUES), dtype=np.uint32)
    hashes, offsets = shingle_hashes(texts)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, VALUES, _SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32)


def band_keys(values: NDArray[np.uint32]) -> Keys:
    """One key per band of MinHash values, shape `[texts, BANDS]`: equal where the band is equal."""
    bands = values.reshape(len(values), BANDS, BAND_VALUES).astype(np.uint64)
    keys = np.zeros(bands.shape[:2], dtype=np.uint64)
    for place in range(BAND_VALUES):
        keys = _mixed(keys ^ bands[:, :, place]) * np.uint64(0x9E3779B97F4A7C15)
    return keys.view(np.int64)


def signatures(values: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The low byte of every MinHash value: enough to compare texts, shape `[texts, VALUES]`."""
    return values.astype(np.uint8)


def similarity(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Estimated Jaccard similarity of texts, pair by pair, from signatures `[pairs, VALUES]`.

    Bytes of different values agree once in 256 (b-bit minwise hashing, Li and König 2010). The
    standard error is at most sqrt(s (1 - s) / VALUES), .036 at s = .8.
    """
    equal = [
        (a[i : i + _COMPARED_AT_ONCE] == b[i : i + _COMPARED_AT_ONCE]).mean(axis=1)
        for i in range(0, len(a), _COMPARED_AT_ONCE)
    ]
    chance = 1 / 256
    return (np.concatenate([*equal, np.empty(0)]) - chance) / (1 - chance)


def near_pairs(texts: Sequence[str], others: Sequence[str]) -> list[tuple[int, int]]:
    """Find equal and nearly equal texts of two small sets, every pair of which is compared.

    Args:
        texts: n of them, as they are written.
        others: m.

    Returns:
        Indices in `texts` and in `others`, in order.
    """
    mine, theirs = (
        signatures(min_hashes([normal_form(text) for text in part])) for part in (texts, others)
    )
    pairs = []
    for index, signature in enumerate(mine):
        alike = similarity(np.broadcast_to(signature, theirs.shape), theirs) >= NEAR
        pairs += [(index, int(other)) for other in np.flatnonzero(alike)]
    return pairs


def in_runs(keys: Keys, exact: Keys) -> NDArray[np.int64]:
    """Texts that share a band key with a different text.

    Args:
        keys: of one band, shape `[rows]`, in order of row_index.
        exact: exact keys of the same rows; of equal texts only the first counts.

    Returns:
        Indices of the rows, those of one key together and in order of row_index.
    """
    order = np.lexsort((exact, keys))  # stable: row_indices stay in order
    new = _changes(keys[order]) | _changes(exact[order])
    firsts = np.sort(order[new])
    order = firsts[np.argsort(keys[firsts], kind="stable")]
    starts = np.flatnonzero(_changes(keys[order]))
    sizes = np.diff(np.append(starts, len(order)))
    return order[np.repeat(sizes > 1, sizes)]


def near_edges(keys: Keys, row_indices: Keys, signature: NDArray[np.uint8]) -> Edges:
    """Pairs of near duplicates among rows as `in_runs` orders them.

    Every row is compared with the first row of its key, those unlike it with the first of them,
    and so on: a thousand alike cost a thousand comparisons, not half a million.

    Args:
        keys: of one band, shape `[rows]`.
        row_indices: of the rows, shape `[rows]`.
        signature: of the rows, shape `[rows, VALUES]`.

    Returns:
        Row indices, shape `[pairs, 2]`, the first row of the key before the other.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    left = np.arange(len(keys))
    for _ in range(LEADERS):
        if not len(left):
            break
        new = _changes(keys[left])
        leaders = left[new][np.cumsum(new) - 1]
        near = similarity(signature[left], signature[leaders]) >= NEAR
        found.append(np.stack([row_indices[leaders], row_indices[left]], axis=1)[near & ~new])
        left = left[~near]  # a leader is like itself
    return np.concatenate(found)


def _changes(values: Keys) -> NDArray[np.bool_]:
    """Where a value differs from the one before it; the first always does."""
    return np.append(True, values[1:] != values[:-1])[: len(values)]


def forest(edges: Edges) -> Edges:
    """The same connected components by fewest edges, each from a component's least row_index.

    Args:
        edges: row_indices, shape `[edges, 2]`.

    Returns:
        Shape `[nodes - components, 2]`, in order of the second column.
    """
    if not len(edges):
        return edges
    nodes, places = np.unique(edges, return_inverse=True)
    start, end = places.reshape(-1, 2).T
    graph = coo_array((np.ones(len(start), dtype=bool), (start, end)), shape=(len(nodes),) * 2)
    labels = connected_components(graph, directed=False)[1]
    first = np.unique(labels, return_index=True)[1]  # nodes are in order
    linked = np.stack([nodes[first][labels], nodes], axis=1)
    return linked[linked[:, 0] != linked[:, 1]]


def exact_groups(exact: Keys, row_indices: Keys) -> Keys:
    """Row index of the first row with the same text, for every row.

    Args:
        exact: exact keys, shape `[rows]`.
        row_indices: of the rows, rising, shape `[rows]`.
    """
    _, first, inverse = np.unique(exact, return_index=True, return_inverse=True)
    return row_indices[first][inverse]


def near_groups(exact: Keys, edges: Edges) -> Keys:
    """Row index of the first row of the near duplicates' group, for every row.

    Args:
        exact: what `exact_groups` gives, shape `[rows]`.
        edges: between first rows, as `forest` gives them.
    """
    if not len(edges):
        return exact
    place = np.minimum(np.searchsorted(edges[:, 1], exact), len(edges) - 1)
    return np.where(edges[place, 1] == exact, edges[place, 0], exact)


def group_sizes(groups: Keys) -> NDArray[np.int64]:
    """Rows of the group that each row is in, shape `[rows]`."""
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return counts[inverse]
