from pathlib import Path

import pytest
import yaml

from nlirg.errors import InputError
from pipelines import cli

MINIMAL = {"name": "a", "model": "none/such", "data": ["none.jsonl"], "holdout": 2}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | {"storage": str(tmp_path / "runs")}))
    return path


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["nlirg", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def test_dry_run_shows_the_resolved_recipe_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recipe: Path
) -> None:
    assert call(monkeypatch, "run", recipe, "train.epochs=4", "--dry-run") == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["train"]["epochs"] == 4
    assert shown["train"]["weighting"]["x0"] == 1.2
    assert not (recipe.parent / "runs").exists()


@pytest.mark.parametrize("stage", ["run", "score", "select", "encode", "train", "evaluate", "tune"])
def test_bad_input_is_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recipe: Path,
    stage: str,
) -> None:
    assert call(monkeypatch, stage, recipe, "train.epoch=4") == 2
    error = capsys.readouterr().err
    assert "did you mean train.epochs" in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("score", "none.jsonl"),
        ("run", "none.jsonl"),
        ("select", "scores is not complete"),
        ("encode", "scores is not complete"),
        ("train", "encoded is not complete"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_marked_done(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recipe: Path,
    stage: str,
    said: str,
) -> None:
    assert call(monkeypatch, stage, recipe, "order=mixed") == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not list((recipe.parent / "runs").rglob("_SUCCESS"))


def test_a_run_that_could_not_be_evaluated_is_refused_before_it_trains(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recipe: Path
) -> None:
    monkeypatch.setattr("pipelines.score.stage.Score.check", lambda *_: None)
    for stage in ("run", "tune"):
        for words, said in (
            (["holdout=0"], "set evaluate.domain"),
            (["evaluate.ood=none_such.jsonl"], "none_such.jsonl"),
        ):
            assert call(monkeypatch, stage, recipe, f"name={stage}-{len(said)}", *words) == 2
            assert said in capsys.readouterr().err


def test_unknown_model_folder_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recipe: Path
) -> None:
    (recipe.parent / "d.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    words = [f"data=[{recipe.parent / 'd.jsonl'}]", "model=./none_such"]
    assert call(monkeypatch, "score", recipe, *words) == 2
    error = capsys.readouterr().err
    assert "./none_such" in error
    assert len(error.strip().splitlines()) == 1


def test_an_unforeseen_error_is_told_in_one_line_and_never_looks_like_a_failed_gate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recipe: Path
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("pipelines.score.stage.Score.check", broken)
    assert call(monkeypatch, "score", recipe) == 2
    assert "ZeroDivisionError: division by zero" in capsys.readouterr().err


def test_ctrl_c_says_how_to_continue(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recipe: Path
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.score.stage.Score.check", interrupted)
    assert call(monkeypatch, "score", recipe) == 130
    assert "run the same command again" in capsys.readouterr().err


def test_the_reason_of_a_worker_is_found_in_rays_text() -> None:
    from pipelines.ray_data import root_cause

    def failed() -> None:
        with root_cause():
            raise RuntimeError("task failed\n  File x\nnlirg.errors.InputError: row 7 is NaN\n")

    with pytest.raises(InputError, match=r"^row 7 is NaN$"):
        failed()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere", "--arm", "nlirg"], "nowhere: holds no recipe.yaml"),
        (["RUN", "--arm", "nlirg", "--scale", "2"], "--scale: 2 is no scale"),
        (["RUN", "--arm", "other"], "--arm other: "),
        (["RUN", "--arm", "nlirg"], "run evaluate first"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recipe: Path,
    words: list[str],
    told: str,
) -> None:
    run = recipe.parent / "run"
    run.mkdir()
    recipe.rename(run / "recipe.yaml")
    assert call(monkeypatch, "export", *(run if word == "RUN" else word for word in words)) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.strip().splitlines()) == 1
    assert [path.name for path in run.iterdir()] == ["recipe.yaml"]
