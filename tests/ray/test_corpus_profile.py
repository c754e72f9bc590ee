"""Planted duplicates and repeated answers are found on a real cluster, however rows are stored."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from cluster.rundir import StageFolder
from nlirg.corpus.profile import CorpusProfile
from nlirg.errors import InputError
from pipelines.recipe import Recipe, validate
from pipelines.score.duplicates import _told, compared_text, compared_turns, find_duplicates

pytestmark = pytest.mark.ray

FIRST = 1 << 32  # of one file's first row, so that row_indices are not row numbers
CALL = {"id": "call00000", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}


SCORED = {
    "id": "r",
    "source": "a.jsonl",
    "line": 1,
    "data": 0,
    "n_tokens": 30,
    "n_trained": 10,
    "language": "en",
}


def recipe(task: str = "sft") -> Recipe:
    raw = {"name": "a", "model": "none", "data": ["a.jsonl"], "encode": {"task": task}}
    return validate(raw, "test")


def words(rng: random.Random, count: int) -> str:
    return " ".join("".join(rng.choices("abcdefghij", k=rng.randint(2, 8))) for _ in range(count))


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def conversation(prompt: str, answer: str, task_type: str = "") -> dict[str, Any]:
    row = json.dumps({"prompt": prompt, "completion": answer})
    return {"row": row, "task_type": task_type}


def write(folder: Path, rows: list[dict[str, Any]], files: int = 1) -> StageFolder:
    """Store rows, their row_indices those of the list, spread over files."""
    folder.mkdir(parents=True)
    for number in range(files):
        table = pa.Table.from_pylist([{**SCORED, **row} for row in rows[number::files]])
        places = [FIRST + i for i in range(number, len(rows), files)]
        pq.write_table(
            table.append_column("row_index", pa.array(places)), folder / f"{number}.parquet"
        )
    return StageFolder(folder)


def groups(stage: StageFolder, of: str, kind: str) -> dict[int, tuple[int, int]]:
    """Row number -> (number of the group's first row, size)."""
    table = pads.dataset(stage.path / "duplicates").to_table(
        filter=(pads.field("of") == of) & (pads.field("kind") == kind)
    )
    return {
        row["row_index"] - FIRST: (row["group"] - FIRST, row["size"]) for row in table.to_pylist()
    }


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """300 different rows; 100 with one answer; near and exact copies of some of the first."""
    rng = random.Random(0)
    texts = [(words(rng, 30), words(rng, 60)) for _ in range(300)]
    rows = [conversation(*text, "a") for text in texts]
    rows += [conversation(words(rng, 30), "I cannot  help.", "b") for _ in range(99)]
    rows.append(conversation(words(rng, 30), "i cannot help.", "b"))
    rows.append(conversation(texts[7][0].upper(), texts[7][1] + "\n", "a"))  # 400: row 7 again
    rows.append(conversation(words(rng, 30), texts[8][1] + " Ok!", "a"))  # 401: nearly 8's answer
    rows.append(conversation(texts[9][0] + "?", words(rng, 60), "a"))  # 402: nearly 9's prompt
    return rows


@pytest.fixture(scope="module")
def found(ray_cluster: None, rows: list, tmp_path_factory) -> tuple[StageFolder, CorpusProfile]:
    stage = write(tmp_path_factory.mktemp("profile") / "scores", rows)
    (stage.path / "duplicates").mkdir()
    (stage.path / "duplicates" / "old.parquet").write_text("half-writ")
    (stage.path / ".profile").mkdir()
    (stage.path / ".profile" / "old.parquet").write_text("half-writ")
    return stage, find_duplicates(stage, recipe())


def test_planted_duplicates_are_found_and_nothing_else(found) -> None:
    stage, _ = found
    refused = dict.fromkeys(range(300, 400), (300, 100))
    assert groups(stage, "answer", "exact") == refused | {7: (7, 2), 400: (7, 2)}
    near = refused | {7: (7, 2), 400: (7, 2), 8: (8, 2), 401: (8, 2)}
    assert groups(stage, "answer", "near") == near
    assert groups(stage, "prompt", "exact") == {7: (7, 2), 400: (7, 2)}
    assert groups(stage, "prompt", "near") == {7: (7, 2), 400: (7, 2), 9: (9, 2), 402: (9, 2)}
    assert groups(stage, "row", "near") == groups(stage, "row", "exact") == {7: (7, 2), 400: (7, 2)}


def test_the_summary_says_what_repeats(found) -> None:
    stage, profile = found
    assert CorpusProfile.model_validate_json((stage.path / "profile.json").read_text()) == profile
    top = profile.all.answers[0]
    assert (top.text, top.count, top.share) == ("I cannot  help.", 100, 100 / 403)
    assert [(row.task_type, row.rows) for row in profile.types] == [("a", 303), ("b", 100)]
    (b,) = (row for row in profile.types if row.task_type == "b")
    assert (b.answers[0].share, b.openings[0].text) == (1.0, "i cannot help")
    assert profile.all.prompt_tokens.max == 20
    counts = {(row.of, row.kind): row for row in profile.duplicates}
    answers = counts["answer", "exact"]
    assert (answers.rows, answers.groups, answers.largest) == (102, 2, 100)
    assert answers.example == "I cannot  help."
    assert counts["answer", "near"].groups == 3
    assert len(counts) == 6
    assert "; 100 rows (24.8%) have one answer: 'I cannot  help.'" in _told(profile)


def test_what_a_crash_left_behind_is_gone(found) -> None:
    stage, _ = found
    names = sorted(path.name for path in stage.path.iterdir())
    assert names == ["0.parquet", "duplicates", "profile.json"]
    assert {path.name for path in (stage.path / "duplicates").iterdir()} == {
        "answer.parquet",
        "prompt.parquet",
        "row.parquet",
    }


def test_files_and_their_order_do_not_matter(found, rows, tmp_path: Path, monkeypatch) -> None:
    stage, profile = found
    monkeypatch.setattr(
        "pipelines.score.duplicates.ROWS_PER_TASK", 100
    )  # bands shared by several tasks
    other = write(tmp_path / "scores", rows, files=7)
    assert find_duplicates(other, recipe()) == profile
    for name in ("prompt", "answer", "row"):
        path = f"duplicates/{name}.parquet"
        assert pq.read_table(other.path / path).equals(pq.read_table(stage.path / path))


def test_documents(ray_cluster: None, tmp_path: Path) -> None:
    text = words(random.Random(1), 80)
    texts = ["a", text, "A\n", "!", text + ".", "短"]
    stage = write(
        tmp_path / "scores",
        [{"row": json.dumps({"text": text}), "task_type": ""} for text in texts],
    )
    profile = find_duplicates(stage, recipe("cpt"))
    assert groups(stage, "row", "exact") == {0: (0, 2), 2: (0, 2)}
    assert groups(stage, "row", "near") == {0: (0, 2), 2: (0, 2), 1: (1, 2), 4: (1, 2)}
    assert {row.of for row in profile.duplicates} == {"row"}
    assert profile.all.answers == profile.all.openings == []


def test_a_corpus_without_duplicates(ray_cluster: None, tmp_path: Path) -> None:
    stage = write(tmp_path / "scores", [conversation("one?", "two")])
    profile = find_duplicates(stage, recipe())
    assert all(row.rows == row.largest == 0 and row.example == "" for row in profile.duplicates)
    assert not any(groups(stage, of, "near") for of in ("prompt", "answer", "row"))


def test_a_shared_system_turn_does_not_make_questions_alike() -> None:
    system = turn("system", "Answer as our support desk does. " * 20)
    one, other = (
        compared_turns([system, turn("user", text), turn("assistant", "Yes.")])["prompt"]
        for text in ("Where is my parcel?", "How do I reset the router?")
    )
    assert (one.near, one.shown) == ("where is my parcel?", "Where is my parcel?")
    assert one.exact != other.exact
    alone = compared_turns([turn("user", "Where is my parcel?"), turn("assistant", "Yes.")])
    assert alone["prompt"].near == one.near
    assert alone["prompt"].exact != one.exact, "another system turn, another task"


def test_calls_are_compared_without_their_ids() -> None:
    asked = turn("user", "x?")
    calls = [
        compared_turns([asked, turn("assistant", "", tool_calls=[{**CALL, "id": name}])])
        for name in ("call00000", "call00001")
    ]
    assert calls[0] == calls[1]
    assert '"name": "f"' in calls[0]["answer"].shown


def test_long_texts_are_shown_by_their_beginning() -> None:
    shown = compared_text("x" * 1000)["row"].shown
    assert shown == "x" * 160 + "…"


def test_wrong_scores_are_told_in_one_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="holds no scored rows"):
        find_duplicates(StageFolder(empty), recipe())
    (empty / "0.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(InputError, match=r"0\.parquet is no whole Parquet file"):
        find_duplicates(StageFolder(empty), recipe())
    old = write(tmp_path / "old", [conversation("one?", "two")])
    pq.write_table(
        pq.read_table(old.path / "0.parquet").drop_columns(["language"]), old.path / "0.parquet"
    )
    with pytest.raises(InputError, match="has no column language: score the corpus again"):
        find_duplicates(old, recipe())
