"""Scoring and encoding on a real cluster: the corpus goes in, every row comes out or is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as pads
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from nlirg.errors import InputError
from nlirg.models import load_model
from pipelines.encode import encode
from pipelines.recipe import load_recipe
from pipelines.score import score
from pipelines.store import open_run

pytestmark = pytest.mark.ray

GOOD = [
    {
        "id": f"r{i}",
        "instruction": f"question {i} " * (1 + i % 4),
        "output": f"answer {i} " * 3,
        "task_type": "ab"[i % 2],
    }
    for i in range(24)
]
BAD = [
    '{"instruction": "no answer", "output": ""}',
    "{not json",
    "[1, 2]",
    json.dumps({"instruction": "far too long " * 400, "output": "x"}),
]


def recipe_for(tmp_path: Path, model: Path, lines: list[str], **more: Any) -> Any:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = tmp_path / "r.yaml"
    raw = {
        "name": "a",
        "storage": str(tmp_path / "runs"),
        "model": str(model),
        "data": [str(corpus)],
        "score": {"precision": "fp32", "batch_size": 4},
        "encode": {"max_length": 256},
    }
    path.write_text(yaml.safe_dump(raw | more))
    return load_recipe(path)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    files = [str(path) for path in sorted(folder.glob("*.parquet"))]
    return pads.dataset(files).to_table().to_pylist()


@pytest.fixture(scope="module")
def scored(ray_cluster: None, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory):
    tmp_path = tmp_path_factory.mktemp("scored")
    lines = [json.dumps(row) for row in GOOD]
    lines[5:5] = BAD
    recipe = recipe_for(tmp_path, tiny_model_dir, lines, holdout=4)
    run = open_run(recipe)
    return recipe, run, score(recipe, run), encode(recipe, run)


def test_every_row_is_scored_or_quarantined_with_its_line(scored) -> None:
    _, run, summary, _ = scored
    rows = rows_of(run.scores.path)
    rows.sort(key=lambda row: row["position"])
    assert [row["id"] for row in rows] == [row["id"] for row in GOOD]
    assert summary["rows"] == len(GOOD)
    bad = [json.loads(line) for line in run.quarantine.read_text().splitlines()]
    assert [row["line"] for row in bad] == [6, 7, 8, 9]
    assert sum(summary["quarantined"].values()) == len(BAD)
    assert any("longer" in reason or "room" in reason for reason in summary["quarantined"])
    assert all(row["source"].endswith("corpus.jsonl") for row in bad)


def test_scores_equal_a_plain_forward_of_the_model(scored, tiny_model_dir: Path) -> None:
    _, run, summary, _ = scored
    model = load_model(str(tiny_model_dir), torch.float32).eval()
    encoded = {row["id"]: row for row in rows_of(run.encoded.path)}
    total = count = 0.0
    for row in rows_of(run.scores.path):
        if row["id"] not in encoded:
            continue  # held out
        ids = torch.tensor([encoded[row["id"]]["input_ids"]])
        labels = torch.tensor(encoded[row["id"]]["labels"])[1:]
        with torch.no_grad():
            log_p = model(ids).logits[0, :-1].double().log_softmax(-1)
        trained = labels != -100
        loss = -log_p[trained].gather(-1, labels[trained, None]).squeeze(-1)
        entropy = -(log_p[trained].exp() * log_p[trained]).sum(-1)
        cosine = (loss @ entropy / loss.norm() / entropy.norm()).item()
        assert row["mean_loss"] == pytest.approx(loss.mean().item(), abs=1e-4)
        assert row["mean_entropy"] == pytest.approx(entropy.mean().item(), abs=1e-4)
        assert row["similarity"] == pytest.approx(cosine, abs=1e-4)
        shares = sum(row[f"zone_{zone}"] for zone in ("low", "mid", "high", "discarded"))
        assert shares == pytest.approx(1)
        total, count = total + loss.sum().item(), count + len(loss)
    assert count
    assert sum(summary["zones"].values()) == pytest.approx(1)


def test_holdout_rows_are_not_trained_and_are_kept_for_the_evaluation(scored) -> None:
    _, run, _, summary = scored
    held = [json.loads(line) for line in run.holdout.read_text().splitlines()]
    trained = rows_of(run.encoded.path)
    assert len(held) == 4 == summary["holdout"]
    assert {row["id"] for row in held} | {row["id"] for row in trained} == {r["id"] for r in GOOD}
    assert summary["rows"] == len(trained) == len(GOOD) - 4
    assert summary["trained_tokens"] == sum(row["n_trained"] for row in trained)
    for row in trained:
        labels = np.array(row["labels"])
        ids = np.array(row["input_ids"])
        assert row["n_trained"] == (labels != -100).sum()
        assert (labels[labels != -100] == ids[labels != -100]).all()


def test_training_reads_the_rows_in_the_order_of_the_corpus(scored, tmp_path: Path) -> None:
    from pipelines.train_worker import read_encoded

    _, run, _, _ = scored
    by_id = {row["id"]: row["input_ids"] for row in rows_of(run.encoded.path)}
    corpus = read_encoded(run.encoded.path, tmp_path)
    expected = [by_id[row["id"]] for row in GOOD if row["id"] in by_id]
    assert [row["input_ids"].tolist() for row in corpus.rows] == expected
    assert corpus.n_trained.sum() == run.encoded.summary()["trained_tokens"]


def test_a_second_call_reads_what_is_there(scored) -> None:
    recipe, run, summary, encoded = scored
    before = {path: path.stat().st_mtime_ns for path in run.scores.path.iterdir()}
    assert score(recipe, run) == summary
    assert encode(recipe, run) == encoded
    assert {path: path.stat().st_mtime_ns for path in run.scores.path.iterdir()} == before


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (BAD[:3], "no usable row in the corpus (3 quarantined"),
        ([""], "is empty"),
        ([json.dumps(GOOD[0])] * 2, "'r0'"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_one_error_and_no_marker(
    ray_cluster: None, tiny_model_dir: Path, tmp_path: Path, lines: list[str], said: str
) -> None:
    recipe = recipe_for(tmp_path, tiny_model_dir, lines)
    run = open_run(recipe)
    with pytest.raises(InputError) as caught:
        score(recipe, run)
    assert said in str(caught.value)
    assert not run.scores.marker.exists()


def test_a_model_that_returns_nan_stops_the_stage(
    ray_cluster: None, tiny_model_dir: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "model"
    broken.mkdir()
    for path in tiny_model_dir.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    recipe = recipe_for(tmp_path, broken, [json.dumps(row) for row in GOOD[:4]])
    run = open_run(recipe)
    with pytest.raises(InputError, match="NaN"):
        score(recipe, run)
    assert not run.scores.marker.exists()
