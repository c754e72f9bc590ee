"""What tells one file of a run's input from another."""

import os
from pathlib import Path

import pytest

from pipelines import store


def test_a_file_is_hashed_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    digest = store.hashlib.file_digest

    def counted(content, name):
        read.append(content.name)
        return digest(content, name)

    monkeypatch.setattr(store.hashlib, "file_digest", counted)
    file = tmp_path / "weights"
    file.write_text("one")
    first = store.identity(file)
    assert store.identity(file) == first
    assert len(read) == 1
    file.write_text("two")
    os.utime(file, ns=(1, 1))
    assert store.identity(file) != first
    assert len(read) == 2
