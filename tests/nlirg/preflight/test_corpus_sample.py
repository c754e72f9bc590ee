import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nlirg.chat.encoder import ChatEncoder
from nlirg.config.corpus import DataConfig, EncodeConfig
from nlirg.corpus.reader import RawRow
from nlirg.corpus.sources import list_shards
from nlirg.errors import InputError
from nlirg.preflight import corpus_sample
from nlirg.preflight.corpus_checks import check_ids
from nlirg.preflight.corpus_sample import CorpusSample, draw, encode_sample


def write(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def shards(*paths: Path, shard_bytes: int = 4 << 20) -> list:
    """The shards of some files, and their sources."""
    data = [DataConfig(path=str(path)) for path in paths]
    return [list_shards(data, shard_bytes=shard_bytes), data]


def test_a_small_corpus_is_taken_whole_in_order(tmp_path) -> None:
    lines = write(tmp_path / "a.jsonl", list(range(7)))
    array = tmp_path / "b.json"
    array.write_text(json.dumps([7, 8, 9]))
    drawn = draw(*shards(lines, array), 200, seed=0)
    assert [row.value for row in drawn.rows] == list(range(10))
    assert (drawn.total, drawn.exact) == (10, True)


def test_draws_depend_on_the_seed_alone_and_favour_no_row(tmp_path) -> None:
    found = shards(write(tmp_path / "a.jsonl", list(range(40))), shard_bytes=30)
    assert len(found[0]) > 1
    assert draw(*found, 10, seed=5) == draw(*found, 10, seed=5)
    counts = Counter(row.value for seed in range(400) for row in draw(*found, 10, seed).rows)
    assert sum(counts.values()) == 4000
    # Each row's count is binomial(400, 1/4): 100 with standard deviation 8.7.
    assert all(60 < counts[n] < 140 for n in range(40))


def test_of_a_large_corpus_little_is_read_and_its_size_estimated(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(corpus_sample, "READ_SHARDS", 4)
    monkeypatch.setattr(corpus_sample, "READ_ROWS", 100)
    rows = [{"n": n, "pad": "x" * 80} for n in range(5000)]
    found = shards(write(tmp_path / "a.jsonl", rows), shard_bytes=20_000)
    assert len(found[0]) > 20
    read = []
    monkeypatch.setattr(
        corpus_sample,
        "read_shard",
        lambda *given, real=corpus_sample.read_shard: count(real(*given), read),
    )
    drawn = draw(*found, 30, seed=1)
    assert len(read) <= 100 + 4
    assert not drawn.exact
    assert drawn.total == pytest.approx(5000, rel=0.05)
    assert len({row.value["n"] // 200 for row in drawn.rows}) >= 3, "from several places"
    assert "about" in drawn.described()


def count(rows, read):
    for row in rows:
        read.append(row)
        yield row


def test_ids_of_all_rows_read_are_compared(tmp_path) -> None:
    def row(n: int, answer: str = "a") -> dict:
        return {"question": "q", "answer": answer, "id": n}

    unusable = [row(1, " "), {"id": 2}, {"question": "q", "answer": "a"}]
    a = write(tmp_path / "a.jsonl", [row(n) for n in range(50)] + unusable)
    b = write(tmp_path / "b.jsonl", [row(n) for n in (60, 49, 3)])
    drawn = draw(*shards(a, b), 2, seed=0)
    assert drawn.read == 56
    assert drawn.repeated == {"49": [f"{a}:50", f"{b}:2"], "3": [f"{a}:4", f"{b}:3"]}
    check = check_ids(drawn.read, drawn.repeated)
    assert check.status == "fail"
    assert f"2 ids stand on more than one row, e.g. '3' at {a}:4 and {b}:3" in check.measured
    assert "columns: {id: null}" in check.advice
    assert check_ids(7, {}).status == "ok"


def test_a_corpus_of_blank_lines_is_refused(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n" * 5000)
    with pytest.raises(InputError, match="no rows"):
        draw(*shards(path), 10, seed=0)


def encoded(tokenizer, values: list, **settings: object) -> corpus_sample.SampledCorpus:
    rows = [RawRow("/d/c.jsonl", n, value, "") for n, value in enumerate(values, start=1)]
    config = EncodeConfig.model_validate(settings)
    return encode_sample(
        ChatEncoder(tokenizer),
        CorpusSample(
            rows, [DataConfig(path="c.jsonl")] * len(rows), [0] * len(rows), len(rows), True
        ),
        config,
    )


def alpaca(question: str, answer: str) -> dict[str, str]:
    return {"instruction": question, "output": answer}


def test_rows_are_encoded_as_the_stages_do(tiny_tokenizer) -> None:
    row = alpaca("is the answer yes", "the answer is no")
    corpus = encoded(tiny_tokenizer, [row, {"instruction": "x", "output": ""}], max_length=64)
    (probe,), (fault,) = corpus.probes, corpus.faults
    turns = [
        {"role": "user", "content": row["instruction"]},
        {"role": "assistant", "content": row["output"]},
    ]
    expected = ChatEncoder(tiny_tokenizer).encode(turns, max_length=64).samples[0]
    assert probe.input_ids.tolist() == expected.input_ids
    assert probe.labels.tolist() == expected.labels
    assert (probe.answer, probe.lost) == (row["output"], "")
    assert (fault.place, fault.reason) == ("c.jsonl:2", "answer is empty")


def test_over_long_rows_keep_their_true_length(tiny_tokenizer) -> None:
    row = alpaca("one", "two " * 40)
    whole = encoded(tiny_tokenizer, [row], max_length=4096).probes[0]
    cut = encoded(tiny_tokenizer, [row], max_length=32).probes[0]
    skipped = encoded(tiny_tokenizer, [row], max_length=32, overlong="skip").probes[0]
    assert whole.full_length == cut.full_length == skipped.full_length == len(whole.input_ids)
    assert (len(cut.input_ids), len(skipped.input_ids)) == (32, 0)


def test_a_tokenizer_that_changes_text_is_caught(tiny_tokenizer, monkeypatch) -> None:
    real = tiny_tokenizer.decode
    monkeypatch.setattr(
        tiny_tokenizer, "decode", lambda ids, **options: real(ids, **options).replace("no", "on")
    )
    answers = encoded(tiny_tokenizer, [alpaca("is it", "yes and no")]).probes
    assert answers[0].lost.startswith("answer changed at character 9")
    prompts = encoded(tiny_tokenizer, [alpaca("yes or no", "yes")]).probes
    assert prompts[0].lost.startswith("prompt changed")


def test_a_generation_prompt_unlike_training_is_caught(tiny_tokenizer, monkeypatch) -> None:
    monkeypatch.setattr(ChatEncoder, "prompt", lambda *_, **__: ("text", [1, 2, 3]))
    probes = encoded(tiny_tokenizer, [alpaca("is it", "yes")]).probes
    assert "another prompt than training" in probes[0].lost


def test_documents_are_trained_but_for_the_first_token_of_each_piece(tiny_tokenizer) -> None:
    text = "the question is no " * 5
    corpus = encoded(tiny_tokenizer, [{"text": text}], task="cpt", pack_length=8)
    (probe,) = corpus.probes
    untrained = np.flatnonzero(probe.labels != probe.input_ids)
    assert untrained.tolist() == list(range(0, len(probe.input_ids), 8))
    assert (probe.lost, probe.answer) == ("", text)
