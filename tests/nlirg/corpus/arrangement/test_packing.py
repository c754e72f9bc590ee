import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlirg.corpus.arrangement.packing import (
    best_fit,
    cut,
    document_labels,
    encode_document,
    pack,
    piece_lengths,
)
from nlirg.errors import BadRowError
from nlirg.labels import IGNORE

SIZE = 16
lengths = st.lists(st.integers(1, SIZE), max_size=60)


def document(number: int, length: int, task_type: str = "") -> dict:
    return {"id": f"d{number}", "row_index": number, "task_type": task_type, "n_tokens": length}


@given(lengths=lengths)
def test_every_item_is_packed_once_and_no_pack_overflows(lengths) -> None:
    packs = best_fit(lengths, SIZE)
    assert sorted(item for pack in packs for item in pack) == list(range(len(lengths)))
    assert all(0 < sum(lengths[item] for item in pack) <= SIZE for pack in packs)


@given(lengths=lengths)
def test_each_item_went_where_the_least_space_was_left(lengths) -> None:
    """The pack sizes equal those of the obvious quadratic algorithm."""
    spaces: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [space for space in spaces if space >= length]
        if fitting:
            spaces.remove(min(fitting))
        spaces.append((min(fitting) if fitting else SIZE) - length)
    packed = [SIZE - sum(lengths[item] for item in pack) for pack in best_fit(lengths, SIZE)]
    assert sorted(packed) == sorted(spaces)


def test_known_packs_in_the_order_of_the_corpus() -> None:
    assert best_fit([3, 10, 5, 6, 8], SIZE) == [[0, 2, 4], [1, 3]]
    assert best_fit([], SIZE) == []


def test_many_documents_fill_their_packs() -> None:
    sizes = np.random.default_rng(0).lognormal(5.5, 1, 20_000).clip(2, 2048).astype(int).tolist()
    packs = best_fit(sizes, 2048)
    assert sum(sizes) / (2048 * len(packs)) > 0.99


@pytest.mark.parametrize("length", [0, SIZE + 1])
def test_what_fits_into_no_pack_is_refused(length) -> None:
    with pytest.raises(ValueError, match="lengths must lie in"):
        best_fit([1, length], SIZE)


@pytest.mark.parametrize(
    ("length", "pieces"), [(5, [5]), (16, [16]), (17, [16, 1]), (40, [16, 16, 8])]
)
def test_only_what_is_longer_than_a_pack_is_split(length, pieces) -> None:
    assert piece_lengths(length, SIZE) == pieces


@given(sizes=st.lists(st.integers(2, 3 * SIZE), max_size=20))
def test_no_token_is_lost_or_doubled_and_each_piece_begins_untrained(sizes) -> None:
    packs = pack([document(number, size) for number, size in enumerate(sizes)], SIZE)
    tokens = [
        (piece["row_index"], place)
        for row in packs
        for piece in row["pieces"]
        for place in range(piece["start"], piece["stop"])
    ]
    assert sorted(tokens) == [(n, place) for n, size in enumerate(sizes) for place in range(size)]
    for row in packs:
        lengths = [piece["stop"] - piece["start"] for piece in row["pieces"]]
        assert sum(lengths) == row["n_tokens"] <= SIZE
        assert all(piece["start"] % SIZE == 0 for piece in row["pieces"])
        labels = [document_labels([1] * length, [length]) for length in lengths]
        assert row["n_trained"] == sum(label != IGNORE for part in labels for label in part)


def test_pieces_of_a_document_are_consecutive() -> None:
    first, second = cut(document(1, 20), SIZE)
    assert [(first.start, first.stop), (second.start, second.stop)] == [(0, 16), (16, 20)]
    assert (first.row_index, second.row_index, second.document) == (1, 1, "d1")


def test_a_pack_is_named_by_its_documents_and_typed_by_their_common_type() -> None:
    a, b, c = (document(n, 4, kind) for n, kind in enumerate(["wiki", "wiki", "web"]))
    (same,), (mixed,) = pack([a, b], SIZE), pack([a, b, c], SIZE)
    assert (same["task_type"], mixed["task_type"]) == ("wiki", "")
    assert same["id"] == pack([a, b], SIZE)[0]["id"] != mixed["id"]


def test_a_document_ends_on_the_end_of_sequence_token(tiny_tokenizer) -> None:
    ids = encode_document(tiny_tokenizer, "the answer\n")
    assert ids[-1] == tiny_tokenizer.eos_token_id
    assert tiny_tokenizer.decode(ids[:-1]) == "the answer\n"


@pytest.mark.parametrize(
    ("text", "reason"), [("a<|im_end|>b", "special token '<|im_end|>'"), ("", "no tokens")]
)
def test_texts_that_are_no_documents(tiny_tokenizer, text, reason) -> None:
    with pytest.raises(BadRowError) as caught:
        encode_document(tiny_tokenizer, text)
    assert reason in str(caught.value)
