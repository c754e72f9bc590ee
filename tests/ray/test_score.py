"""The columns of a scored corpus, and corpora and models that cannot be used."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from nlirg.chat.encoder import ChatEncoder
from nlirg.config.corpus import DataConfig, ScoreConfig
from nlirg.corpus.rows import stored_record
from nlirg.corpus.tokens import TokenFiles
from nlirg.errors import InputError
from pipelines.ray_data import parquet_files
from pipelines.recipe import Recipe, load_recipe
from pipelines.score import ids as id_check
from pipelines.score.rows import SPAN
from pipelines.store import open_run
from tests.cheap_scorer import CheapScorer, cheap_scorer
from tests.road import score

pytestmark = pytest.mark.ray

ROWS = [
    {
        "id": f"r{n}",
        "instruction": f"Please answer question {n}",
        "output": "the answer is yes " * (1 + n % 5) + f"{n} 7Q#x the question is no",
        "task_type": ["mail", "short"],
        "mine": n,
    }
    for n in range(12)
]
TEXT, INT, LONG, FLOAT = pa.string(), pa.int32(), pa.int64(), pa.float64()
COLUMNS = {
    **dict.fromkeys(("id", "source", "task_type", "row", "language"), TEXT),
    **dict.fromkeys(("row_index", "line"), LONG),
    "truncated": pa.bool_(),
    "notes": pa.list_(TEXT),
    **dict.fromkeys(("sample_tokens", "sample_trained"), pa.list_(INT)),
    **dict.fromkeys(("data", "n_tokens", "n_trained", "n_spans"), INT),
    **dict.fromkeys(("mean_loss", "max_loss", "perplexity", "mean_entropy"), FLOAT),
    **dict.fromkeys(("zone_low", "zone_mid", "zone_high", "zone_discarded"), FLOAT),
    **dict.fromkeys(("similarity", "similarity_centered", "filtered_rank", "divergence"), FLOAT),
    **dict.fromkeys(("min_k", "anomaly", "ifd", "excess_loss"), FLOAT),
    "band": TEXT,
    "spans": pa.list_(SPAN),
}


def recipe_for(tmp_path: Path, model: Path, rows: list[dict[str, Any]], **more: Any) -> Recipe:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = tmp_path / "r.yaml"
    raw = {"name": "a", "storage": str(tmp_path), "model": str(model), "data": [str(corpus)]}
    raw["cluster"] = {"score_actors": 1}
    path.write_text(yaml.safe_dump(raw | more))
    return load_recipe(path)


@pytest.fixture(scope="module")
def scored(ray_cluster: None, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory):
    tmp_path = tmp_path_factory.mktemp("scored")
    options = {
        "precision": "fp32",
        "ifd": True,
        "reference_model": str(tiny_model_dir),
        "token_entropy": True,
    }
    recipe = recipe_for(tmp_path, tiny_model_dir, ROWS, score=options)
    run = open_run(recipe)
    return run, score(recipe, run)


def test_every_file_has_every_column_in_its_type(scored) -> None:
    run, _ = scored
    for file in parquet_files(run.scores.path):
        schema = pq.read_schema(file)
        assert {name: schema.field(name).type for name in schema.names} == COLUMNS


def test_rows_keep_what_they_say_and_where_they_stand(scored, tiny_tokenizer) -> None:
    run, summary = scored
    table = pa.concat_tables(pq.read_table(file) for file in parquet_files(run.scores.path))
    rows = table.sort_by("row_index").to_pylist()
    assert [json.loads(row["row"]) for row in rows] == ROWS
    assert [row["line"] for row in rows] == [row["row_index"] for row in rows] == [*range(1, 13)]
    assert summary.rows == len(rows) == sum(summary.bands.values())
    spans, tokens = 0, TokenFiles(run.scores.path / "tokens")
    places = tokens.places(np.array([row["row_index"] for row in rows]))
    for row, place in zip(rows, places, strict=True):
        messages = stored_record(row, (DataConfig(path="a"),), "sft").messages
        ids, labels, _ = ChatEncoder(tiny_tokenizer).encode(messages).samples[0]
        kept = tokens.row(place)
        assert (kept.input_ids.tolist(), kept.labels.tolist()) == (list(ids), list(labels))
        assert len(kept.loss) == len(kept.entropy) == row["n_trained"]
        assert row["mean_loss"] == pytest.approx(kept.loss.mean(), abs=1e-5)
        assert row["n_tokens"] == len(ids)
        assert row["task_type"] == "mail/short"
        assert row["excess_loss"] == pytest.approx(0, abs=1e-6)  # its own reference
        assert row["ifd"] > 0
        assert row["n_spans"] == len(row["spans"])
        for span in row["spans"]:
            spans += 1
            assert span["answer"] == 0
            assert 0 <= span["start"] < span["end"] <= len(messages[-1]["content"])
    assert spans


def test_the_stage_leaves_a_report_and_no_ledger(scored) -> None:
    run, _ = scored
    names = {path.name for path in run.scores.path.iterdir() if path.suffix != ".parquet"}
    assert {"_SUCCESS", "report.html", "profile.json", "duplicates"} <= names
    assert ".ledger" not in names


def test_a_sample_longer_than_the_context_is_named(
    ray_cluster: None, tiny_model_dir: Path, tmp_path: Path
) -> None:
    long = {"id": "long", "instruction": "one", "output": "z? " * 700}
    recipe = recipe_for(tmp_path, tiny_model_dir, [*ROWS, long])
    run = open_run(recipe)
    with pytest.raises(InputError, match=r"sample long .* more than model .* \(512\)"):
        score(recipe, run)
    assert not run.scores.marker.exists()


def test_settings_that_cannot_be_are_told_before_anything_is_started(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in tiny_model_dir.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": 320, "content": "new"})
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    for more, said in (
        ({"score": {"reference_model": str(other)}}, "vocabulary differs"),
        ({"score": {"ifd": True}, "encode": {"task": "cpt"}}, "plain text has none"),
    ):
        recipe = recipe_for(tmp_path, tiny_model_dir, ROWS, **more)
        with pytest.raises(InputError, match=said):
            score(recipe, open_run(recipe.model_copy(update={"name": said.replace(" ", "-")})))


def test_ids_of_a_large_corpus_are_compared_by_ray_before_a_model_is_made(
    tiny_model_dir: Path, tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(id_check, "IN_PROCESS", -1)
    recipe = recipe_for(tmp_path, tiny_model_dir, [*ROWS, ROWS[4]])
    run = open_run(recipe)
    with pytest.raises(InputError, match=r"1 ids .* 'r4' at .*corpus.jsonl:5 and .*:13: ids must"):
        score(recipe, run, no_scorer)
    assert not run.scores.path.exists()
    recipe = recipe_for(tmp_path, tiny_model_dir, ROWS)
    assert score(recipe, run, cheap_scorer).rows == len(ROWS)


def no_scorer(model: str, config: ScoreConfig) -> CheapScorer:
    raise AssertionError("a model is made")
