"""Token files: what is read is what was written, a piece is a range of it, faults are named."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlirg.corpus.tokens import Pieces, PlannedSamples, TokenFiles, token_table, write_token_file
from nlirg.errors import InputError
from nlirg.labels import IGNORE

Row = tuple[int, list[bool]]


def token(index: int, place: int) -> int:
    """The id of a token, which float32 holds exactly."""
    return (1000 * index + place) % (1 << 24)


def table(rows: list[Row], entropy: bool) -> pa.Table:
    """Rows of tokens whose ids and losses tell which row and place they are from."""
    ids = [[token(index, place) for place in range(len(trained))] for index, trained in rows]
    labels = [
        [token if is_trained else IGNORE for token, is_trained in zip(row, trained, strict=True)]
        for row, (_, trained) in zip(ids, rows, strict=True)
    ]
    losses = [[float(label) for label in row if label != IGNORE] for row in labels]
    scored = {
        "row_index": pa.array([index for index, _ in rows], pa.int64()),
        "input_ids": pa.array(ids, pa.list_(pa.int32())),
        "labels": pa.array(labels, pa.list_(pa.int32())),
        "token_loss": pa.array(losses, pa.list_(pa.float32())),
        "token_entropy": pa.array(losses, pa.list_(pa.float32())),
    }
    # Sliced and in two chunks, as tables of a pipeline are.
    twice = pa.concat_tables([pa.table(scored)] * 2)
    return token_table(twice.slice(len(rows) - 1, len(rows)), entropy)


def write(folder: Path, rows: list[Row], files: int = 1, entropy: bool = False) -> TokenFiles:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        if part := rows[number::files]:
            write_token_file(folder / f"{number}.arrow", table(part, entropy))
    return TokenFiles(folder)


@given(
    st.dictionaries(
        st.integers(0, 2**40), st.lists(st.booleans(), min_size=1, max_size=20), min_size=1
    ),
    st.integers(1, 3),
    st.booleans(),
    st.data(),
)
def test_rows_and_pieces_are_those_of_their_row_index(
    tmp_path_factory, known, files, entropy, data
) -> None:
    tokens = write(tmp_path_factory.mktemp("tokens"), list(known.items()), files, entropy)
    asked = data.draw(st.permutations(list(known)))
    for index, place in zip(asked, tokens.places(np.array(asked)), strict=True):
        trained = np.array(known[index])
        ids = np.array([token(index, place) for place in range(len(trained))], np.int32)
        row = tokens.row(place)
        assert row.input_ids.tolist() == ids.tolist()
        assert row.labels.tolist() == np.where(trained, ids, IGNORE).tolist()
        assert (row.input_ids.dtype, row.labels.dtype) == (np.int32, np.int32)
        assert row.loss.tolist() == ids[trained].astype(np.float32).tolist()
        assert (row.entropy is not None) == entropy
        start = data.draw(st.integers(0, len(trained) - 1))
        stop = data.draw(st.integers(start + 1, len(trained)))
        piece = tokens.piece(place, start, stop)
        assert piece.input_ids.tolist() == ids[start:stop].tolist()
        assert piece.labels.tolist() == row.labels[start:stop].tolist()
        wanted = ids[start:stop][trained[start:stop]].astype(np.float32)
        assert piece.loss.tolist() == wanted.tolist()


def test_a_sample_is_its_pieces_one_after_the_other(tmp_path: Path) -> None:
    tokens = write(tmp_path, [(7, [False, True, True]), (3, [False, True])])
    pieces = Pieces(np.array([3, 7, 7]), np.array([0, 1, 0]), np.array([2, 3, 3]))
    samples = PlannedSamples(tokens, pieces, np.array([0, 2, 3]))
    packed, whole = samples
    assert packed["input_ids"].tolist() == [3000, 3001, 7001, 7002]
    assert packed["labels"].tolist() == [IGNORE, 3001, 7001, 7002]
    assert packed["base_loss"].tolist() == [3001, 7001, 7002]
    assert packed["segments"].tolist() == [2, 2]
    assert whole["input_ids"].tolist() == [7000, 7001, 7002]
    assert len(samples) == 2


def test_files_that_cannot_be_read_or_do_not_fit_are_named(tmp_path: Path) -> None:
    rows = [(1, [False, True]), (2, [False, True])]
    with pytest.raises(InputError, match="holds no token files"):
        TokenFiles(tmp_path)
    tokens = write(tmp_path, rows)
    with pytest.raises(InputError, match="lacks 2 rows of the corpus"):
        tokens.places(np.array([0, 1, 3]))
    write_token_file(tmp_path / "again.arrow", table(rows[:1], entropy=False))
    with pytest.raises(InputError, match="holds 1 rows twice"):
        TokenFiles(tmp_path)
    (tmp_path / "again.arrow").write_bytes((tmp_path / "0.arrow").read_bytes()[:-30])
    with pytest.raises(InputError, match=r"again\.arrow is no whole token file"):
        TokenFiles(tmp_path)


def test_no_file_handle_stays_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    tokens = write(tmp_path, [(number, [False, True]) for number in range(40)], files=20)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert tokens.row(tokens.places(np.array([39]))[0]).input_ids.tolist() == [39000, 39001]
