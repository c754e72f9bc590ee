"""The page of scores that lie in Parquet: what it reads, in which order, in how much memory."""

import json
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.rundir import RunDirectory
from nlirg.corpus.profile import CorpusProfile
from nlirg.labels import IGNORE
from pipelines.ray_data import parquet_files
from pipelines.recipe import Recipe, validate
from pipelines.score import report_page
from pipelines.score.survey import Duplicates, survey
from tests.eval.corpus_report_fixture import type_profile
from tests.pipelines.made_scores import TOKENS_SCHEMA, write_tokens

PROMPT = "Which? "


def scored_row(tokenizer, index: int) -> dict:
    """A conversation whose anomaly grows and falls with its index, in no simple order.

    Its tokens are among the columns, for `write_scores` to write apart.
    """
    answer = f"answer {index} of all"
    asked, said = (tokenizer.encode(text) for text in (PROMPT, answer))
    entry = {"answer": 0, "start": 0, "end": 6, "score": 2.0, "mean_loss": 5.0}
    return {
        "id": f"r{index}",
        "row_index": index,
        "source": "/data/a.jsonl",
        "line": index,
        "task_type": "ab"[index % 2],
        "data": 0,
        "row": json.dumps({"prompt": PROMPT, "completion": answer}),
        "language": "en",
        "truncated": index % 10 == 0,
        "notes": ["tools"] if index % 3 else [],
        "sample_tokens": [len(asked + said)],
        "n_tokens": len(asked + said),
        "n_trained": len(said),
        **dict.fromkeys(("max_loss", "mean_entropy", "divergence", "filtered_rank"), 1.0),
        "mean_loss": 1.0 + index % 2,
        "similarity": 0.6,
        "similarity_centered": 0.1,
        "min_k": -1.0,
        "band": "good" if index % 4 else "suspect",
        "zone_low": 0.5,
        "zone_mid": 0.5,
        "zone_high": 0.0,
        "zone_discarded": 0.0,
        "n_spans": 1,
        "spans": [entry | {"mean_entropy": 0.1, "pattern": "overconfident_error"}],
        "anomaly": float(index * 37 % 101),
        "input_ids": asked + said,
        "labels": [IGNORE] * len(asked) + said,
        "token_loss": np.linspace(0, 9, len(said)).tolist(),
        "token_entropy": np.linspace(0, 9, len(said)).tolist(),
    }


def write_scores(
    run: RunDirectory, rows: list[dict], per_file: int, entropy: bool = False
) -> list[str]:
    """Write scores and tokens as scoring does; returns the files of scores."""
    run.scores.path.mkdir(parents=True)
    for start in range(0, len(rows), per_file):
        part = rows[start : start + per_file]
        write_tokens(run.scores.path / "tokens", f"{start:08d}.arrow", part, entropy)
        table = pa.Table.from_pylist(part).drop_columns(TOKENS_SCHEMA.names[1:])
        pq.write_table(table, run.scores.path / f"{start:08d}.parquet")
    return parquet_files(run.scores.path)


def write_duplicates(folder: Path, row_indices: list[int]) -> None:
    folder.mkdir()
    found = {"of": "answer", "group": row_indices[0], "size": len(row_indices)}
    rows = [{"row_index": index, "task_type": "ab"[index % 2], **found} for index in row_indices]
    exact = [{**row, "kind": "exact"} for row in rows]
    near = [{**row, "kind": "near", "size": 99} for row in rows[:1]]
    pq.write_table(pa.Table.from_pylist(exact + near), folder / "answer.parquet")


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory(str(tmp_path), "corpus")


@pytest.fixture
def recipe(tiny_model_dir) -> Recipe:
    raw = {"name": "corpus", "model": str(tiny_model_dir), "data": ["a.jsonl"]}
    return validate(raw, "test")


def written(recipe: Recipe, run: RunDirectory, most: int = 60) -> dict:
    """Write the page and read its data back."""
    total = survey(parquet_files(run.scores.path), most)
    profile = CorpusProfile(all=type_profile(rows=60), types=[], duplicates=[])
    path = report_page.write(recipe, run, total, profile, {"answer is empty": 3})
    assert path == run.scores.path / "report.html"
    text = path.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)
    return json.loads(data)


def test_sums_are_those_of_the_rows(run, tiny_tokenizer):
    rows = [scored_row(tiny_tokenizer, i) for i in range(60)]
    files = write_scores(run, rows, 16)
    write_duplicates(run.scores.path / "duplicates", [3, 5, 7])
    found = survey(files, 10)
    Duplicates(run.scores.path / "duplicates").count_in(found)
    tokens = [row["n_trained"] for row in rows]
    assert (found.all.rows, found.all.tokens) == (60, sum(tokens))
    assert found.all.bands == {"suspect": 15, "good": 45}
    assert found.all.mean_loss == pytest.approx(
        np.average([row["mean_loss"] for row in rows], weights=tokens)
    )
    assert found.types["b"].mean_loss == pytest.approx(2.0)
    assert (found.types["b"].repeated_answers, found.types["a"].repeated_answers) == (3, 0)
    assert (found.truncated, found.flagged) == (6, 60)
    assert found.zone_shares() == pytest.approx({"low": 0.5, "mid": 0.5, "high": 0, "discarded": 0})
    expected = sorted(rows, key=lambda row: (-row["anomaly"], row["row_index"]))
    assert found.top["row_index"].tolist() == [row["row_index"] for row in expected[:10]]


def test_files_and_row_groups_do_not_matter(recipe, run, tiny_tokenizer, tmp_path):
    rows = [scored_row(tiny_tokenizer, i) for i in range(40)]
    other = RunDirectory(str(tmp_path), "other")
    write_scores(run, rows, 40)
    write_scores(other, rows[::-1], 7)
    assert written(recipe, run) == written(recipe, other)


def test_the_page_lists_the_most_suspicious_rows_with_heat_maps(
    recipe, run, tiny_tokenizer, monkeypatch
):
    monkeypatch.setattr(report_page, "MAPPED", 5)
    rows = [scored_row(tiny_tokenizer, i) for i in range(60)]
    write_scores(run, rows, 16)
    expected = sorted(rows, key=lambda row: (-row["anomaly"], row["row_index"]))[:20]
    first = expected[0]["row_index"]
    write_duplicates(run.scores.path / "duplicates", [first, 5])
    data = written(recipe, run, 20)
    assert [row[0] for row in data["rows"]] == [row["id"] for row in expected]
    assert data["rows"][0][8] == [0, 99, 0]  # the near group is the larger one
    assert len(data["samples"]) == 5
    _, answer = data["samples"][0]["turns"]
    said = "".join(piece[0] for piece in answer["pieces"])
    assert said == f"answer {first} of all"
    assert [piece[0] for piece in answer["pieces"] if piece[3] == 0] != []
    assert all(piece[2] is None for piece in answer["pieces"])  # entropies were not kept
    assert answer["pieces"][-1][1] == 9.0
    assert "ifd" not in data["scores"]


def test_documents_have_heat_maps_too(recipe, run, tiny_tokenizer):
    cpt = recipe.model_copy(update={"encode": recipe.encode.model_copy(update={"task": "cpt"})})
    row = scored_row(tiny_tokenizer, 1)
    row["row"] = json.dumps({"text": "answer 1 of all"})
    row["input_ids"] = row["input_ids"][-row["n_trained"] :]
    row["labels"] = [IGNORE, *row["input_ids"][1:]]
    row["token_loss"] = row["token_entropy"] = row["token_loss"][1:]
    write_scores(run, [row], 1, entropy=True)
    (sample,) = written(cpt, run)["samples"]
    (turn,) = sample["turns"]
    assert "".join(piece[0] for piece in turn["pieces"]) == "answer 1 of all"
    assert turn["pieces"][0][1:3] == [None, None]
    assert turn["pieces"][-1][1:3] == [9.0, 9.0]


def test_memory_does_not_grow_with_the_corpus(run, tiny_tokenizer, tmp_path):
    """Ten times the rows, the same peak of Python's and of Arrow's memory but for 8 bytes a row."""
    rows = [scored_row(tiny_tokenizer, i) for i in range(512)]
    peaks = []
    for name, times in (("one", 4), ("ten", 40)):
        folder = tmp_path / name / "scores"
        folder.mkdir(parents=True)
        for part in range(times):
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{part:04d}.parquet")
        survey(parquet_files(folder), 500)  # what is loaded once is loaded
        tracemalloc.start()
        before = pa.total_allocated_bytes()
        survey(parquet_files(folder), 500)
        peaks.append(tracemalloc.get_traced_memory()[1])
        assert pa.total_allocated_bytes() - before < 1e6
        tracemalloc.stop()
    hashes = 8 * 36 * len(rows)  # of the ids of the rows that the second has more
    assert peaks[1] - 1.1 * hashes < 1.2 * peaks[0]
