"""Scoring and encoding on a real cluster: the corpus goes in, every row comes out or is named."""

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from cluster.rundir import RunDirectory
from nlirg.corpus.tokens import TokenFiles
from nlirg.errors import InputError
from nlirg.models.chat import load_chat
from nlirg.models.loading import load_model
from pipelines.encode.plan import Apart, GroupRows, group_starts, pack_group
from pipelines.encode.stage import Encode
from pipelines.recipe import load_recipe
from pipelines.store import open_run
from pipelines.train.encoded import read_encoded
from tests.cheap_scorer import cheap_scorer
from tests.road import encode, score

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
CALL = {"name": "get_news", "arguments": {"topics": ["sports"], "location": "New York"}}
# Every row of a format of its own, so that none can stand for the rest.
MIXED = [
    {
        "id": "sharegpt",
        "system": "You know the news.",
        "tools": json.dumps([{"name": "get_news", "parameters": {"type": "object"}}]),
        "conversations": [
            {"from": "human", "value": "What is new?"},
            {"from": "function_call", "value": json.dumps(CALL)},
            {"from": "observation", "value": '{"news": "The Yankees won"}'},
            {"from": "gpt", "value": "The Yankees won."},
        ],
    },
    {
        "id": "alpaca",
        "system": "Be kind.",
        "instruction": "one more",
        "output": "three",
        "history": [["one question", "one answer"]],
    },
    {
        "id": "openai",
        "messages": [
            {"role": "user", "content": "What is new?"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "function": CALL}]},
            {"role": "tool", "content": "the Mets lost", "tool_call_id": "x"},
            {"role": "assistant", "content": "They lost."},
        ],
    },
    {"id": "completion", "prompt": "one", "completion": "two"},
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
        "score": {"precision": "fp32", "max_bad_rows": 0.5},
        "encode": {"max_length": 256},
        "cluster": {"score_actors": 1},
    }
    path.write_text(yaml.safe_dump(raw | more))
    return load_recipe(path)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    files = [str(path) for path in sorted(folder.glob("*.parquet"))]
    return pads.dataset(files).to_table().to_pylist()


def samples_of(run: RunDirectory) -> list[dict[str, Any]]:
    """The training samples: rows of the plan in order, with what training reads of them."""
    plan = sorted(rows_of(run.encoded.path), key=lambda row: (row["rank"], row["number"]))
    (corpus,) = read_encoded(run.encoded.path, run.scores.path / "tokens")
    read = [{name: array.tolist() for name, array in row.items()} for row in corpus.rows]
    return [row | sample for row, sample in zip(plan, read, strict=True)]


def plain_losses(model: torch.nn.Module, row: dict[str, Any]) -> list[float]:
    """Loss of every trained token of an encoded row, each segment read alone."""
    found, start = [], 0
    for length in row["segments"]:
        ids = torch.tensor([row["input_ids"][start : start + length]])
        labels = torch.tensor(row["labels"][start : start + length])[1:]
        with torch.no_grad():
            log_p = model(ids).logits[0, :-1].double().log_softmax(-1)
        trained = labels != -100
        found += (-log_p[trained].gather(-1, labels[trained, None]).squeeze(-1)).tolist()
        start += length
    return found


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
    rows.sort(key=lambda row: row["row_index"])
    assert [row["id"] for row in rows] == [row["id"] for row in GOOD]
    assert summary.rows == len(GOOD)
    bad = [json.loads(line) for line in run.quarantine.read_text().splitlines()]
    assert [row["line"] for row in bad] == [6, 7, 8, 9]
    assert sum(summary.quarantined.values()) == len(BAD)
    assert any("longer" in reason or "room" in reason for reason in summary.quarantined)
    assert all(row["source"].endswith("corpus.jsonl") for row in bad)
    assert (bad[3]["overlong"], bool(bad[3]["id"]), bad[0]["overlong"]) == (True, True, False)
    assert (summary.skipped, summary.truncated) == (1, 0)


def test_scores_equal_a_plain_forward_of_the_model(scored, tiny_model_dir: Path) -> None:
    _, run, summary, _ = scored
    model = load_model(str(tiny_model_dir), torch.float32).eval()
    encoded = {row["id"]: row for row in samples_of(run)}
    total = count = 0.0
    for row in encoded.values():
        assert row["segments"] == [len(row["input_ids"])]
        assert row["base_loss"] == pytest.approx(plain_losses(model, row), abs=1e-4)
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
    assert sum(summary.zones.values()) == pytest.approx(1)


def test_holdout_rows_are_not_trained_and_are_kept_for_the_evaluation(scored) -> None:
    _, run, _, summary = scored
    held = [json.loads(line) for line in run.holdout.read_text().splitlines()]
    trained = samples_of(run)
    assert len(held) == 4 == summary.holdout
    assert {row["id"] for row in held} | {row["id"] for row in trained} == {r["id"] for r in GOOD}
    assert summary.rows == len(trained) == len(GOOD) - 4
    assert summary.trained_tokens == sum(row["n_trained"] for row in trained)
    assert (summary.truncated, summary.skipped) == (0, 1)
    for row in trained:
        labels = np.array(row["labels"])
        ids = np.array(row["input_ids"])
        assert row["n_trained"] == (labels != -100).sum()
        assert (labels[labels != -100] == ids[labels != -100]).all()


def test_training_reads_the_rows_in_the_order_of_the_corpus(scored, tiny_tokenizer) -> None:
    _, run, _, _ = scored
    trained = samples_of(run)
    names = {row["id"] for row in trained}
    assert [row["id"] for row in trained] == [row["id"] for row in GOOD if row["id"] in names]
    said = {row["id"]: row["output"].strip() for row in GOOD}
    assert all(said[row["id"]] in tiny_tokenizer.decode(row["input_ids"]) for row in trained)
    assert sum(row["n_trained"] for row in trained) == run.encoded.summary()["trained_tokens"]


def test_token_ids_lie_on_disk_once(scored) -> None:
    _, run, _, _ = scored
    for folder in (run.scores.path, run.encoded.path):
        for file in folder.glob("*.parquet"):
            assert not {"input_ids", "labels", "token_loss"} & set(pq.read_schema(file).names)
    files = TokenFiles(run.scores.path / "tokens").files
    assert sum(len(file.row_index) for file in files) == len(GOOD)


@pytest.fixture(scope="module")
def mixed(ray_cluster: None, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory):
    tmp_path = tmp_path_factory.mktemp("mixed")
    long = {"id": "long", "prompt": "one", "completion": "z?" * 300}
    lines = [json.dumps(row) for row in [*MIXED, long]]
    encoding = {"max_length": 400, "overlong": "skip", "loss_on": "last"}
    recipe = recipe_for(tmp_path, tiny_model_dir, lines, encode=encoding, holdout=2)
    run = open_run(recipe)
    return run, score(recipe, run, cheap_scorer), encode(recipe, run)


def test_rows_of_every_format_keep_all_their_turns(mixed, tiny_tokenizer) -> None:
    run, summary, _ = mixed
    tokens = TokenFiles(run.scores.path / "tokens")
    rows = rows_of(run.scores.path)
    places = tokens.places(np.array([row["row_index"] for row in rows]))
    texts = {
        row["id"]: tiny_tokenizer.decode(tokens.row(place).input_ids)
        for row, place in zip(rows, places, strict=True)
    }
    assert summary.rows == len(MIXED) == len(texts)
    for name, said in {
        "sharegpt": ["You know the news.", '"get_news"', '{"news": "The Yankees won"}'],
        "alpaca": ["Be kind.", "one question", "one answer", "one more"],
        "openai": ["What is new?", '"sports"', "the Mets lost", "They lost."],
        "completion": ["one", "two"],
    }.items():
        assert all(part in texts[name] for part in said)


def test_one_sample_that_is_too_long_is_set_aside_by_its_id(mixed) -> None:
    run, summary, encoded = mixed
    (bad,) = [json.loads(line) for line in run.quarantine.read_text().splitlines()]
    assert (bad["id"], bad["line"]) == ("long", 5)
    assert "the limit is 400" in bad["reason"]
    assert summary.skipped == encoded.skipped == 1


def test_only_last_answers_are_trained_and_conversations_with_calls_are_not_held_out(
    mixed, tiny_tokenizer
) -> None:
    run, _, _ = mixed
    held = {json.loads(line)["id"] for line in run.holdout.read_text().splitlines()}
    assert held == {"alpaca", "completion"}
    for row in samples_of(run):
        trained = [label for label in row["labels"] if label != -100]
        expected = {"sharegpt": "The Yankees won.", "openai": "They lost."}[row["id"]]
        assert tiny_tokenizer.decode(trained) == expected + "<|im_end|>"


PACK = 64


# Drops an answer's thinking once a question follows, as Qwen3's does, and prints the date.
THINKING = (
    "{{ strftime_now('%Y') }}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n{{ m.reasoning_content or '' }}\n"
    "</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def thinking_row(number: int) -> dict[str, Any]:
    turns = []
    for turn in range(number % 3 + 1):
        answer = {"role": "assistant", "content": f"the answer is {turn}", "thinking": "yes or no"}
        turns += [{"role": "user", "content": f"question {number} {turn}"}, answer]
    if number % 3:
        turns[1] |= {"weight": 0, "other": 1}
    return {"id": f"t{number}", "messages": turns}


def test_answers_with_prefixes_of_their_own_are_samples_of_their_own(
    ray_cluster: None, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """Each is scored and trained after what it is generated from, once, under its row's id."""
    rows = [thinking_row(number) for number in range(9)]
    lines = [json.dumps(row) for row in rows]
    recipe = recipe_for(tmp_path, tiny_model_dir, lines, template=THINKING)
    recipe = recipe.model_copy(
        update={"encode": recipe.encode.model_copy(update={"date": datetime.date(1999, 1, 1)})}
    )
    run = open_run(recipe)
    summary, encoded = score(recipe, run), encode(recipe, run)
    answers = [(row["id"], turn) for row in rows for turn in trained_of(row["messages"])]
    assert (summary.rows, summary.samples) == (9, len(answers)) == (encoded.rows, encoded.samples)
    assert summary.notes == {"message key 'other' is not read": 6}
    chat = load_chat(str(tiny_model_dir), recipe.encode, THINKING)
    model = load_model(str(tiny_model_dir), torch.float32).eval()
    for (name, turn), sample in zip(answers, samples_of(run), strict=True):
        (row,) = [row for row in rows if row["id"] == name]
        text, prompt = chat.prompt(row["messages"][:turn])
        assert text.startswith("1999<|im_start|>user")
        assert (sample["id"], sample["input_ids"][: len(prompt)]) == (name, prompt)
        trained = [label for label in sample["labels"] if label != -100]
        said = f"<think>\nyes or no\n</think>\n\nthe answer is {turn // 2}<|im_end|>"
        assert chat.tokenizer.decode(trained) == said
        assert sample["base_loss"] == pytest.approx(plain_losses(model, sample), abs=1e-4)
    assert encoded.trained_tokens == sum(len(sample["base_loss"]) for sample in samples_of(run))


def trained_of(turns: list[dict[str, Any]]) -> list[int]:
    return [n for n, turn in enumerate(turns) if n % 2 and turn.get("weight", 1)]


@pytest.fixture(scope="module")
def packed(ray_cluster: None, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory):
    tmp_path = tmp_path_factory.mktemp("packed")
    lines = [json.dumps({"text": f"text {i} " * (1 + i % 3), "id": f"t{i}"}) for i in range(20)]
    lines += [json.dumps({"content": "the answer is long " * 20}), '{"text": ""}']
    (tmp_path / "more.txt").write_text("one document a line\n\nand another\n")
    recipe = recipe_for(
        tmp_path,
        tiny_model_dir,
        lines,
        data=[str(tmp_path / "corpus.jsonl"), str(tmp_path / "more.txt")],
        encode={"task": "cpt", "pack_length": PACK},
    )
    run = open_run(recipe)
    return recipe, run, score(recipe, run), encode(recipe, run)


def test_every_token_of_every_document_is_in_one_pack(packed, tiny_tokenizer) -> None:
    _, run, summary, encoded = packed
    documents = rows_of(run.scores.path)
    rows = samples_of(run)
    tokens = TokenFiles(run.scores.path / "tokens")
    assert summary.rows == len(documents) == 23 == encoded.documents
    assert sum(summary.quarantined.values()) == 1
    said = [json.loads(document["row"]) for document in documents]
    texts = [row.get("text") or row["content"] for row in said]
    assert {"one document a line", "and another"} < set(texts)
    pieces = []
    for row in rows:
        assert sum(row["segments"]) == len(row["input_ids"]) <= PACK
        borders = np.cumsum(row["segments"])[:-1]
        pieces += [part.tolist() for part in np.split(np.array(row["input_ids"]), borders)]
    expected = []
    places = tokens.places(np.array([document["row_index"] for document in documents]))
    for text, place in zip(texts, places, strict=True):
        ids = tokens.row(place).input_ids.tolist()
        assert tiny_tokenizer.decode(ids) == text + "<|im_end|>"
        expected += [ids[start : start + PACK] for start in range(0, len(ids), PACK)]
    assert sorted(pieces) == sorted(expected)
    tokens = sum(len(row["input_ids"]) for row in rows)
    assert (encoded.rows, encoded.tokens) == (len(rows), tokens)
    assert encoded.utilisation == pytest.approx(tokens / (len(rows) * PACK))


def test_the_base_losses_of_a_pack_are_those_of_its_documents_alone(
    packed, tiny_model_dir: Path
) -> None:
    _, run, _, encoded = packed
    model = load_model(str(tiny_model_dir), torch.float32).eval()
    for row in samples_of(run):
        labels = np.array(row["labels"])
        starts = np.cumsum([0, *row["segments"][:-1]])
        assert np.flatnonzero(labels == -100).tolist() == starts.tolist()
        assert row["n_trained"] == len(row["base_loss"])
        assert row["base_loss"] == pytest.approx(plain_losses(model, row), abs=1e-4)
    assert encoded.trained_tokens == encoded.tokens - sum(
        len(row["segments"]) for row in samples_of(run)
    )


def test_packs_are_the_same_however_the_scores_lie_in_files(packed, tmp_path: Path) -> None:
    _, run, _, _ = packed
    table = pads.dataset([str(f) for f in run.scores.path.glob("*.parquet")]).to_table()
    shuffled = table.take(np.random.default_rng(0).permutation(table.num_rows))
    for number, start in enumerate(range(0, table.num_rows, 5)):
        pq.write_table(shuffled.slice(start, 5), tmp_path / f"{number}.parquet")
    first, second = (packed_in_groups(folder) for folder in (run.scores.path, tmp_path))
    assert first == second
    ranks = [row["rank"] for row in first]
    assert ranks == sorted(set(ranks))
    of_source = np.bincount(table["data"].to_numpy())
    groups = sum(-(-count // 8) for count in of_source.tolist())
    assert {rank >> 32 for rank in ranks} == set(range(groups))
    assert {row["data"] for row in first} == set(np.flatnonzero(of_source).tolist())


def packed_in_groups(folder: Path) -> list[dict[str, Any]]:
    """Packs of at most 8 documents, as the pipeline makes them."""
    starts, documents = group_starts(folder, None, 8, 1 << 20)
    assert documents == 23
    rows = pads.dataset([str(file) for file in folder.glob("*.parquet")]).to_table()
    groups = GroupRows(None, starts, Apart(np.empty(0, np.int64), (0, 1)))(rows)
    return [
        row
        for number in range(starts.num_rows)
        for row in pack_group(PACK, groups.filter(pc.field("group") == number)).to_pylist()
    ]


def test_plain_text_cannot_be_held_out(packed) -> None:
    recipe, *_ = packed
    with pytest.raises(InputError, match="set holdout to 0"):
        Encode().check(recipe.model_copy(update={"holdout": 3}))


def test_a_second_call_reads_what_is_there(scored) -> None:
    recipe, run, summary, encoded = scored
    before = {path: path.stat().st_mtime_ns for path in run.scores.path.rglob("*")}
    assert score(recipe, run) == summary
    assert encode(recipe, run) == encoded
    assert {path: path.stat().st_mtime_ns for path in run.scores.path.rglob("*")} == before


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
        score(recipe, run, cheap_scorer)
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
