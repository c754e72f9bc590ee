"""The runner of stages: what is done once, continued, started anew, refused, and checked when."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster.rundir import FORMAT, RunDirectory, StageFolder
from nlirg.atomic_io import write_json
from nlirg.errors import InputError
from pipelines.recipe import Recipe, validate
from pipelines.run import COMMANDS, ROAD, stages
from pipelines.stage import Attempt, Stage, Summary, run_stage, run_stages, state


class Counted(Summary):
    rows: int


@dataclass
class Noting(Stage[Counted]):
    """A stage that notes what the runner asks of it."""

    label: str = "one"
    value: Any = 1
    fails: bool = False
    refuses: str = ""
    nothing: str = ""
    kind: Attempt = "resume"
    on_corpus: bool = False
    code: int = 0
    notes: list[str] = field(default_factory=list)

    name = "noting"
    summary_type = Counted

    def __post_init__(self) -> None:
        self.attempt = self.kind  # type: ignore[misc]
        self.needs_corpus = self.on_corpus  # type: ignore[misc]

    @property
    def title(self) -> str:
        return self.label

    def folder(self, run: RunDirectory) -> StageFolder:
        return StageFolder(run.path / self.label)

    def settings(self, recipe: Recipe, run: RunDirectory) -> Any:
        return self.value

    def check(self, recipe: Recipe) -> None:
        self.notes.append(f"check {self.label}")
        if self.refuses == "check":
            raise InputError(f"{self.label} is refused")

    def check_corpus(self, recipe: Recipe, run: RunDirectory) -> None:
        self.notes.append(f"corpus {self.label}")

    def idle(self, recipe: Recipe) -> str:
        return self.nothing

    def work(self, recipe: Recipe, run: RunDirectory, resumed: bool) -> Counted:
        (folder := self.folder(run).path).mkdir(parents=True, exist_ok=True)
        left = len(list(folder.glob("part-*")))
        self.notes.append(f"work {self.label} resumed={resumed} left={left}")
        (folder / f"part-{left}").touch()
        if self.fails:
            raise RuntimeError("killed")
        return Counted(rows=7)

    def describe(self, recipe: Recipe, run: RunDirectory, summary: Counted) -> Iterator[str]:
        yield f"{summary.rows} rows"

    def conclude(self, recipe: Recipe, run: RunDirectory, summary: Counted) -> int:
        return self.code


@pytest.fixture
def recipe() -> Recipe:
    raw = {"name": "r", "model": "m", "data": ["d.jsonl"], "arms": {"a": {}, "b": {}}}
    return validate(raw, "test")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path), "r")


def test_what_is_done_is_read_and_never_done_twice(recipe, run, capsys) -> None:
    stage = Noting()
    assert run_stage(stage, recipe, run) == run_stage(stage, recipe, run) == Counted(rows=7)
    assert stage.notes == ["work one resumed=False left=0"]
    assert capsys.readouterr().err.splitlines() == ["[one] 7 rows", "[one] already done: 7 rows"]
    with pytest.raises(InputError, match="was made with other settings"):
        run_stage(Noting(value=2), recipe, run)


@pytest.mark.parametrize(
    ("kind", "again"),
    [
        ("resume", "work one resumed=True left=1"),
        ("restart", "work one resumed=False left=0"),
        ("always", "work one resumed=True left=1"),
    ],
)
def test_unfinished_work_is_continued_or_thrown_away(recipe, run, kind, again) -> None:
    with pytest.raises(RuntimeError):
        run_stage(Noting(kind=kind, fails=True), recipe, run)
    assert not StageFolder(run.path / "one").marker.exists()
    stage = Noting(kind=kind)
    run_stage(stage, recipe, run)
    assert stage.notes == [again]


def test_unfinished_work_of_other_settings_is_not_mixed_with_ours(recipe, run) -> None:
    with pytest.raises(RuntimeError):
        run_stage(Noting(fails=True), recipe, run)
    with pytest.raises(InputError, match="unfinished work with other settings"):
        run_stage(Noting(value=2), recipe, run)


def test_a_stage_that_is_always_entered_leaves_no_old_marker_when_it_fails(recipe, run) -> None:
    run_stage(Noting(kind="always"), recipe, run)
    with pytest.raises(RuntimeError):
        run_stage(Noting(kind="always", fails=True, value=2), recipe, run)
    assert not StageFolder(run.path / "one").marker.exists()


def test_everything_is_checked_before_anything_starts(recipe, run) -> None:
    notes: list[str] = []
    refused = [Noting("a", notes=notes), Noting("b", refuses="check", notes=notes)]
    with pytest.raises(InputError, match="b is refused"):
        run_stages(refused, recipe, run)
    assert notes == ["check a", "check b"]
    assert not run.path.exists()


def test_later_stages_are_held_against_the_corpus_before_the_first_of_them_starts(
    recipe, run
) -> None:
    notes: list[str] = []
    road = [
        Noting("encode", notes=notes),
        Noting("train", on_corpus=True, notes=notes),
        Noting("report", notes=notes, kind="always", code=1),
    ]
    outcome = run_stages(road, recipe, run)
    assert outcome.exit_code == 1
    assert outcome.summaries == dict.fromkeys(["encode", "train", "report"], Counted(rows=7))
    assert [note.split(" resumed")[0] for note in notes] == [
        *("check encode", "check train", "check report"),
        "work encode",
        *("corpus train", "corpus report"),
        *("work train", "work report"),
    ]
    notes.clear()
    run_stages(road, recipe, run)  # what is complete is not checked again
    assert [note.split(" resumed")[0] for note in notes] == [
        "check report",
        "corpus report",
        "work report",
    ]


def test_a_stage_without_work_does_nothing_and_says_why(recipe, run, capsys) -> None:
    outcome = run_stages([Noting(nothing="no rules")], recipe, run)
    assert (outcome.summaries, outcome.exit_code) == ({"one": None}, 0)
    assert capsys.readouterr().err == "[one] nothing to do: no rules\n"
    assert not run.path.exists()


def test_a_marker_of_another_version_is_refused_and_one_that_lacks_numbers_is_damaged(
    recipe, run
) -> None:
    stage = Noting()
    run_stage(stage, recipe, run)
    marker = stage.folder(run).marker
    record = {"fingerprint": stage.fingerprint(recipe, run), "summary": {"rows": 7}}
    write_json(marker, record)
    with pytest.raises(InputError, match=r"written by another version of nlirg \(format 1"):
        run_stage(stage, recipe, run)
    write_json(marker, {**record, "format": FORMAT, "summary": {"lines": 7}})
    with pytest.raises(InputError, match="_SUCCESS: damaged; delete this file"):
        run_stage(stage, recipe, run)


def test_states_are_read_from_the_folder_alone(recipe, run) -> None:
    assert state(Noting(nothing="no rules"), recipe, run) == "nothing to do"
    assert state(Noting(), recipe, run) == "to do"
    with pytest.raises(RuntimeError):
        run_stage(Noting(fails=True), recipe, run)
    assert state(Noting(), recipe, run) == "unfinished"
    run_stage(Noting(), recipe, run)
    assert state(Noting(), recipe, run) == "done"


def test_every_command_takes_its_stages_from_the_one_list(recipe) -> None:
    def titles(command: str) -> list[str]:
        return [stage.title for stage in stages(command, recipe)]

    road = ["score", "select", "encode", "replay", "train a", "train b", "evaluate", "report"]
    assert titles("run") == road
    assert titles("tune") == [*road[:4], "tune"], "the corpus is selected before a sweep, too"
    assert titles("evaluate") == ["evaluate", "report"]
    assert set(COMMANDS) == {*ROAD, "tune", "run"}
    for name in set(ROAD) - {"evaluate", "train"}:
        assert titles(name) == [name]
