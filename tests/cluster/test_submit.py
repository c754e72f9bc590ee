from pathlib import Path

import pytest

from cluster.submit import PACKAGE_LIMIT, entrypoint, package_size, submit
from nlirg.errors import InputError


def test_package_leaves_out_what_ray_would_not_need(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_bytes(b"x" * 10)
    for name in (".git", ".venv", "runs", "a.egg-info"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "big").write_bytes(b"x" * 1000)
    assert package_size(tmp_path) == 10


def test_a_folder_too_large_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(PACKAGE_LIMIT + 1)
    with pytest.raises(InputError, match="100 MiB"):
        submit(["score", "r.yaml"], "http://127.0.0.1:1", tmp_path)


def test_words_cannot_become_other_commands() -> None:
    assert entrypoint(["score", "r.yaml", "name=a; rm -rf /"]) == (
        "python -m pipelines score r.yaml 'name=a; rm -rf /'"
    )
