import datetime
import decimal
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nlirg.chat.encoder import ChatEncoder, OverlongError
from nlirg.config.corpus import DataConfig, EncodeConfig
from nlirg.corpus.reader import RawRow, read_shard
from nlirg.corpus.records import Record
from nlirg.corpus.rows import encoded_row, original, parse, shards_of, stored_record
from nlirg.errors import BadRowError, InputError

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]


def parsed(value, columns=None, task="sft"):
    source = DataConfig(path="/d/a.jsonl", columns=columns or {})
    return parse(RawRow("/d/a.jsonl", 1, value, ""), source, task)


def said(record: Record) -> list[str]:
    return [message["content"] for message in record.messages]


def test_columns_say_what_a_row_means() -> None:
    row = {"ask": "hi", "reply": "yes", "kind": "qa", "id": 7}
    record = parsed(row, {"instruction": "ask", "output": "reply", "task_type": "kind"})
    assert (record.messages, record.task_type, record.id) == (TURNS, "qa", "7")
    assert parsed({"body": "x"}, {"text": "body"}, "cpt").text == "x"
    assert parsed({"chat": json.dumps(TURNS)}, {"messages": "chat"}).messages == TURNS


def test_columns_that_name_a_format_overrule_the_rows_own() -> None:
    row = {"messages": TURNS, "output": "other", "question": "q", "final": "a", "system": "s"}
    assert said(parsed(row, {"instruction": "question", "output": "final"})) == ["s", "q", "a"]
    swapped = parsed({"input": "a", "output": "q"}, {"instruction": "output", "output": "input"})
    assert said(swapped) == ["q", "a"]
    assert parsed(row, {"task_type": "final"}).messages[1:] == TURNS


def test_a_row_without_a_mapped_column_is_bad_unless_it_may_lack_it() -> None:
    columns = {"instruction": "ask", "output": "reply", "history": "before"}
    assert said(parsed({"ask": "q", "reply": "a"}, columns)) == ["q", "a"]
    with pytest.raises(BadRowError, match="row has no 'reply', which columns names for output"):
        parsed({"ask": "q", "output": "a"}, columns)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_a_column_that_no_row_has_is_told_before_anything_starts(tmp_path, name) -> None:
    row = {"ask": "q", "reply": "a"}
    texts = {"a.jsonl": json.dumps(row), "a.csv": "ask,reply\nq,a\n"}
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / name)
    else:
        (tmp_path / name).write_text(texts[name])
    source = DataConfig(path=str(tmp_path / name), columns={"instruction": "ask", "output": "repl"})
    with pytest.raises(InputError) as caught:
        shards_of([source], "sft")
    message = f"{name}: no column 'repl', which columns names for output; it has ask, reply"
    assert message in str(caught.value)
    sound = source.model_copy(update={"columns": {"instruction": "ask", "output": "reply"}})
    (shard,) = shards_of([sound], "sft")
    (raw,) = read_shard(shard, sound)
    assert said(parse(raw, sound, "sft")) == ["q", "a"]


def test_a_column_may_stand_in_another_file_of_the_source(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text('{"q": "1", "a": "2"}\n')
    (tmp_path / "b.jsonl").write_text('{"q": "1", "a": "2", "kind": "x"}\n')
    columns = {"question": "q", "answer": "a", "task_type": "kind"}
    assert len(shards_of([DataConfig(path=str(tmp_path), columns=columns)], "sft")) == 2


def test_a_key_that_no_format_has_is_refused(tmp_path) -> None:
    source = DataConfig(path=str(tmp_path), columns={"ouput": "x"})
    with pytest.raises(InputError, match="columns: no key is 'ouput', only messages, "):
        shards_of([source], "sft")


def test_the_original_row_is_json_whatever_its_types(tmp_path) -> None:
    row = {
        "question": "三",
        "answer": 3,
        "day": datetime.date(2026, 1, 2),
        "price": decimal.Decimal("1.50"),
        "image": b"\x00\xff",
        "at": datetime.datetime(2026, 1, 2, 3, 4, 5),
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    source = DataConfig(path=str(tmp_path / "a.parquet"))
    (shard,) = shards_of([source], "sft")
    (raw,) = read_shard(shard, source)
    assert json.loads(original(raw)) == {
        "question": "三",
        "answer": 3,
        "day": "2026-01-02",
        "price": "1.50",
        "image": "AP8=",
        "at": "2026-01-02T03:04:05",
    }
    assert "三" in original(raw)
    record = parse(raw, source, "sft")
    assert said(record) == ["三", "3"]
    assert len(record.id) == 16


def test_rows_that_could_not_be_read_keep_their_reason() -> None:
    raw = RawRow("a.jsonl", 1, None, "not JSON: x")
    with pytest.raises(BadRowError, match="not JSON: x"):
        parse(raw, DataConfig(path="a.jsonl", columns={"output": "x"}), "sft")


def test_an_encoded_row_says_what_is_trained(tiny_tokenizer) -> None:
    row = encoded_row(
        ChatEncoder(tiny_tokenizer), parsed({"messages": TURNS}), EncodeConfig(max_length=64)
    )
    assert len(row["input_ids"]) == len(row["labels"]) == sum(row["segments"])
    assert row["truncated"] is False
    trained = tiny_tokenizer.decode([t for t in row["labels"] if t >= 0])
    assert trained.startswith("yes<|im_end|>")


def test_an_encoded_document_is_cut_into_pieces(tiny_tokenizer) -> None:
    record = parsed({"text": "the question is no " * 5, "task_type": "t"}, task="cpt")
    row = encoded_row(ChatEncoder(tiny_tokenizer), record, EncodeConfig(task="cpt", pack_length=8))
    assert row["segments"][:-1].tolist() == [8] * (len(row["segments"]) - 1)
    assert row["task_type"] == "t"


CALL = {"name": "f", "arguments": {"x": 1.5, "when": None}}
STORED_ROWS = [
    ({"messages": TURNS, "system": "Be kind.", "id": 7, "extra": [None]}, {}),
    ({"instruction": "a", "input": "b\u2028", "output": "c", "history": '[["q", "a"]]'}, {}),
    ({"instruction": "a", "output": "c", "made": datetime.date(2024, 5, 1), "raw": b"x"}, {}),
    ({"ask": "hi", "reply": 3, "task_type": ["a", 1.5]}, {"question": "ask", "answer": "reply"}),
    ({"question": 1e22, "answer": 0.1, "id": 4, "context": "c"}, {"id": None}),
    (
        {
            "messages": [
                TURNS[0] | {"mood": "good"},
                {"role": "assistant", "content": 2.50, "weight": 0.0},
                *TURNS[:1],
                TURNS[1] | {"thinking": "hm", "train": True},
                *TURNS[:1],
                TURNS[1] | {"loss": False},
            ]
        },
        {},
    ),
    (
        {
            "conversations": [
                {"from": "human", "value": "hi"},
                {"from": "function_call", "value": json.dumps(CALL)},
                {"from": "observation", "value": "{}"},
                {"from": "gpt", "value": "yes"},
            ],
            "tools": json.dumps([{"name": "f", "parameters": {"type": "object"}}]),
        },
        {},
    ),
]


@pytest.mark.parametrize(("value", "columns"), STORED_ROWS)
def test_a_scored_row_is_parsed_to_the_record_it_was_scored_as(value, columns) -> None:
    other = DataConfig(path="/d/other.jsonl", columns={"prompt": "x"})
    source = DataConfig(path="/d/a.jsonl", columns=columns)
    raw = RawRow("/d/a.jsonl", 4, value, "")
    record = parse(raw, source, "sft")
    row = {"id": record.id, "source": raw.source, "line": 4, "data": 1, "row": original(raw)}
    assert stored_record(row, (other, source), "sft") == record


def test_a_scored_document_is_parsed_to_its_text() -> None:
    raw = RawRow("/d/a.txt", 2, {"text": "中文 \t"}, "")
    source = DataConfig(path="/d/a.txt")
    record = parse(raw, source, "cpt")
    row = {"id": record.id, "source": raw.source, "line": 2, "data": 0, "row": original(raw)}
    assert stored_record(row, (source,), "cpt") == record


def test_a_row_that_is_only_too_long_says_so(tiny_tokenizer) -> None:
    record = parsed({"question": "two " * 50, "answer": "yes"})
    with pytest.raises(OverlongError):
        encoded_row(
            ChatEncoder(tiny_tokenizer), record, EncodeConfig(max_length=8, overlong="skip")
        )
