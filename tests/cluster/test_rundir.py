import subprocess
import sys
from pathlib import Path

import pytest

from cluster.rundir import RunDirectory, StageFolder, fingerprint
from nlirg.atomic_io import atomic_path, write_json
from nlirg.errors import InputError


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b", "..", "ü"])
def test_names_cannot_leave_the_storage(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="name"):
        RunDirectory(str(tmp_path), name)


def test_uri_storage_is_refused_not_misread(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mount the bucket"):
        RunDirectory("s3://bucket/runs", "a")


def test_a_stage_is_complete_only_with_its_marker(tmp_path: Path) -> None:
    stage = StageFolder(tmp_path / "scores")
    assert stage.finished("f") is None
    with pytest.raises(InputError, match="not complete"):
        stage.summary()
    stage.path.mkdir()
    (stage.path / "part.parquet").write_bytes(b"half")
    assert stage.finished("f") is None
    stage.succeed("f", {"rows": 3})
    assert stage.finished("f") == {"rows": 3} == stage.summary()


def test_a_stage_made_with_other_settings_is_refused(tmp_path: Path) -> None:
    stage = StageFolder(tmp_path)
    stage.succeed("one", {})
    with pytest.raises(InputError, match="other settings"):
        stage.finished("two")


def test_unfinished_work_is_continued_by_the_same_settings_only(tmp_path: Path) -> None:
    stage = StageFolder(tmp_path / "arm")
    assert not stage.claim("one")
    assert stage.claim("one")
    with pytest.raises(InputError, match="unfinished work with other settings"):
        stage.claim("two")
    assert stage.finished("one") is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"fingerprint": "one"}', "[" * 20_000, "\xff"]
)
def test_a_damaged_marker_is_named_with_what_to_do(tmp_path: Path, content: str) -> None:
    stage = StageFolder(tmp_path)
    stage.succeed("one", {})
    stage.marker.write_text(content, encoding="latin-1")
    for read in (lambda: stage.finished("one"), stage.summary, stage.fingerprint):
        with pytest.raises(InputError, match=r"_SUCCESS: damaged; delete this file") as told:
            read()
        assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_note_of_unfinished_work_is_named(tmp_path: Path, content: str) -> None:
    stage = StageFolder(tmp_path)
    stage.claim("one")
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(InputError, match=rf"settings\.json: damaged; delete {tmp_path} to start"):
        stage.claim("one")


def test_a_run_is_worked_on_by_one_process_at_a_time(tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path), "a")
    code = (
        "from cluster.rundir import RunDirectory\n"
        f"with RunDirectory({str(tmp_path)!r}, 'a').locked(): pass"
    )
    words = [sys.executable, "-c", code]
    with run.locked():
        done = subprocess.run(words, capture_output=True, text=True)
        assert "in use by another process" in done.stderr
    assert subprocess.run(words).returncode == 0


def test_fingerprint_ignores_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1, "b": [1, 2]}) != fingerprint({"a": 1, "b": [2, 1]})


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})

    def fail_half_way() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail_half_way()
    assert '"a": 1' in path.read_text()
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert '"a": 1' in path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["file.json"]


def test_a_sweep_shares_the_corpus_and_nothing_else(tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path), "a")
    sweep = run.sweep()
    assert sweep.encoded.path == run.encoded.path
    assert sweep.scores.path == run.scores.path
    assert sweep.arm("x").path != run.arm("x").path
    assert sweep.path == run.tune.path
