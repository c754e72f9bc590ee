"""Near duplicates are what all-pairs Jaccard finds; groups depend on texts and row order alone."""

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlirg.corpus import duplicates
from nlirg.corpus.duplicates import BANDS, NEAR, SHINGLE, VALUES, normal_form

HAN = "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会"
WORDS = ["the", "ticket", "was", "closed", "after", "a", "long", "call", "about", "routers"]
TEXTS = st.text(max_size=40)


def shingles(text: str) -> set[str]:
    return {text[i : i + SHINGLE] for i in range(max(len(text) - SHINGLE + 1, 1))}


def jaccard(a: str, b: str) -> float:
    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


def edges_of(texts: list[str], row_indices: np.ndarray | None = None) -> np.ndarray:
    """Near duplicates among texts, by every band."""
    row_indices = np.arange(len(texts)) if row_indices is None else row_indices
    exact = np.array([duplicates.exact_key(text) for text in texts], dtype=np.int64)
    values = duplicates.min_hashes(texts)
    signature = duplicates.signatures(values)
    found = []
    for keys in duplicates.band_keys(values).T:
        run = duplicates.in_runs(keys, exact)
        found.append(duplicates.near_edges(keys[run], row_indices[run], signature[run]))
    return duplicates.forest(np.concatenate(found))


def groups_of(texts: list[str]) -> list[int]:
    """Group of every text, row_indices 0, 1, 2 and so on."""
    exact = np.array([duplicates.exact_key(text) for text in texts], dtype=np.int64)
    first = duplicates.exact_groups(exact, np.arange(len(texts)))
    return duplicates.near_groups(first, edges_of(texts)).tolist()


def edited(text: str, share: float, rng: random.Random) -> str:
    places = rng.sample(range(len(text)), round(share * len(text)))
    return "".join("#" if i in places else character for i, character in enumerate(text))


def corpus(rng: random.Random, count: int) -> list[str]:
    """Texts of 50 to 300 characters, English and Chinese in turns."""
    texts = []
    for number in range(count):
        size = rng.randint(50, 300)
        parts = rng.choices(HAN, k=size) if number % 2 else rng.choices(WORDS, k=size // 5)
        texts.append(("" if number % 2 else " ").join(parts))
    return texts


def test_normal_form_ignores_width_case_and_white_space_but_not_punctuation() -> None:
    assert normal_form("  Ａ\tb\u3000\nC！ ") == "a b c!"
    assert normal_form("a < b") != normal_form("a > b")
    assert normal_form(" \n") == normal_form("") == ""


@given(TEXTS)
def test_normal_form_is_its_own(text: str) -> None:
    assert normal_form(normal_form(text)) == normal_form(text)


def test_shingles_end_with_their_text() -> None:
    texts = ["abcdefg", "", "ab", "abcde", "好的已经处理"]
    hashes, offsets = duplicates.shingle_hashes(texts)
    assert np.diff(offsets.astype(int)).tolist() == [3, 1, 1, 1, 2]
    one_by_one = [duplicates.shingle_hashes([text])[0] for text in texts]
    assert np.array_equal(hashes, np.concatenate(one_by_one))
    assert len(set(hashes.tolist())) == 7  # "abcde" stands twice


def test_no_texts() -> None:
    assert duplicates.min_hashes([]).shape == (0, VALUES)
    assert duplicates.band_keys(duplicates.min_hashes([])).shape == (0, BANDS)
    assert edges_of([]).shape == (0, 2)


@settings(max_examples=30)
@given(st.lists(TEXTS, min_size=1, max_size=6), st.randoms())
def test_a_signature_depends_on_its_text_alone(texts: list[str], rng: random.Random) -> None:
    alone = np.concatenate([duplicates.min_hashes([text]) for text in texts])
    order = rng.sample(range(len(texts)), len(texts))
    assert np.array_equal(duplicates.min_hashes([texts[i] for i in order]), alone[order])


@given(TEXTS)
def test_a_text_is_its_own_duplicate(text: str) -> None:
    signature = duplicates.signatures(duplicates.min_hashes([text, text]))
    assert duplicates.similarity(signature[:1], signature[1:]) == 1
    assert groups_of(["something else", text, text])[1:] in ([1, 1], [0, 0])


def test_similarity_is_jaccards() -> None:
    rng = random.Random(0)
    texts = corpus(rng, 200)
    others = [edited(text, rng.uniform(0, 0.1), rng) for text in texts]
    true = np.array([jaccard(a, b) for a, b in zip(texts, others, strict=True)])
    a, b = (duplicates.signatures(duplicates.min_hashes(half)) for half in (texts, others))
    error = duplicates.similarity(a, b) - true
    assert abs(error.mean()) < 0.01
    assert np.sqrt((error**2).mean()) < np.sqrt(0.25 / VALUES)


def test_planted_edits_are_found_and_nothing_else() -> None:
    """Pairs well above the threshold all, pairs well below it never; between them an estimate."""
    rng = random.Random(1)
    texts = corpus(rng, 60)
    texts += [edited(text, rng.choice([0.01, 0.02, 0.03, 0.05, 0.1]), rng) for text in texts]
    sets = [shingles(text) for text in texts]
    pairs = {
        (i, j): len(sets[i] & sets[j]) / len(sets[i] | sets[j])
        for i, j in combinations(range(len(texts)), 2)
    }
    found = {tuple(edge) for edge in edges_of(texts).tolist()}
    margin = 0.1
    sure = {pair for pair, value in pairs.items() if value >= NEAR + margin}
    assert len(sure) >= 5
    assert sure <= found
    assert min(pairs[pair] for pair in found) > NEAR - margin
    clear = {pair for pair, value in pairs.items() if value >= NEAR}
    assert len(found & clear) >= 0.85 * max(len(clear), len(found))


def test_pairs_of_two_sets_are_those_that_are_alike() -> None:
    long = "the ticket was closed after a long call about routers in the old town hall"
    others = ["quite another text", long.upper() + "!", long]
    assert duplicates.near_pairs([long, "nothing of it"], others) == [(0, 1), (0, 2)]
    assert duplicates.near_pairs([long], []) == duplicates.near_pairs([], others) == []


def test_groups_are_chains_and_named_by_their_first_row() -> None:
    rng = random.Random(2)
    (a, b) = corpus(rng, 2)
    texts = ["", a, b, a + " x", "?", b, a + " xy", ""]
    assert groups_of(texts) == [0, 1, 2, 1, 4, 2, 1, 0]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=20), st.randoms())
def test_a_forest_does_not_depend_on_the_order_of_edges(pairs: list, rng: random.Random) -> None:
    edges = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    shuffled = np.array(rng.sample(pairs, len(pairs)), dtype=np.int64).reshape(-1, 2)
    links = duplicates.forest(edges)
    assert np.array_equal(duplicates.forest(shuffled[:, ::-1]), links)
    assert np.array_equal(duplicates.forest(links), links)


def test_a_forest_keeps_the_components() -> None:
    edges = np.array([[5, 9], [9, 2], [1, 7], [5, 2], [7, 1]])
    links = duplicates.forest(edges)
    assert links.tolist() == [[2, 5], [1, 7], [2, 9]]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_group_sizes_count_rows(keys: list[int]) -> None:
    groups = duplicates.exact_groups(np.array(keys), np.arange(len(keys)) * 10)
    assert groups.tolist() == [10 * keys.index(key) for key in keys]
    assert duplicates.group_sizes(groups).tolist() == [keys.count(key) for key in keys]


@pytest.mark.parametrize("copies", [1_000, 20_000])
def test_equal_texts_make_no_pairs(copies: int) -> None:
    """As many candidate pairs as rows would make a thousand equal answers half a million."""
    keys = np.zeros(copies, dtype=np.int64)
    exact = np.array([7] * (copies - 1) + [8])
    assert duplicates.in_runs(keys, exact).tolist() == [0, copies - 1]
    signature = np.zeros((copies, VALUES), dtype=np.uint8)
    assert len(duplicates.near_edges(keys, np.arange(copies), signature)) == copies - 1
