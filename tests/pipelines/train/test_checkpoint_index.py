"""A torn index of checkpoints is replaced by its copy, a whole one is left alone."""

import pytest

from pipelines.train.checkpoint_index import COPY, INDEX, copy_index, repair_index


@pytest.fixture
def folder(tmp_path):
    (tmp_path / INDEX).write_text('{"checkpoint_results": [8]}')
    copy_index(tmp_path)
    return tmp_path


@pytest.mark.parametrize("torn", ["", '{"checkpoint_res', "\x00\x00\x00"])
def test_a_torn_index_gets_its_copy_back(folder, torn):
    (folder / INDEX).write_text(torn)
    repair_index(folder)
    assert (folder / INDEX).read_text() == '{"checkpoint_results": [8]}'


def test_a_whole_index_is_left_as_it_is(folder):
    (folder / INDEX).write_text('{"checkpoint_results": [8, 16]}')
    repair_index(folder)
    assert (folder / INDEX).read_text() == '{"checkpoint_results": [8, 16]}'


def test_an_index_torn_at_its_first_writing_means_no_checkpoint(tmp_path):
    (tmp_path / INDEX).write_text("{")
    repair_index(tmp_path)
    assert not (tmp_path / INDEX).exists()


def test_without_an_index_there_is_nothing_to_do(tmp_path):
    copy_index(tmp_path)
    repair_index(tmp_path / "none")
    assert not (tmp_path / COPY).exists()
