import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlirg.errors import BadRowError
from nlirg.records import Record, parse_row

ALPACA = {"instruction": "Add.", "input": "1 2", "output": "3"}
TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
KEYS = ["messages", "instruction", "input", "output", "system", "history", "prompt", "completion",
        "task_type", "id"]  # fmt: skip


def parse(value, source="/data/a.jsonl", line=1) -> Record:
    return parse_row(value, source, line)


def conversation(record: Record) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in record.messages]


def test_alpaca() -> None:
    assert conversation(parse(ALPACA)) == [("user", "Add.\n1 2"), ("assistant", "3")]


@pytest.mark.parametrize("missing", [{"input": ""}, {"input": None}, {"system": "  "}])
def test_empty_optional_keys_leave_no_trace(missing) -> None:
    row = {"instruction": "Add.", "output": "3", **missing}
    assert conversation(parse(row)) == [("user", "Add."), ("assistant", "3")]


def test_alpaca_keeps_the_rows_own_system_and_its_history() -> None:
    row = ALPACA | {"system": "Be brief.", "history": [["q1", "a1"], ["q2", "a2"]]}
    assert conversation(parse(row)) == [
        ("system", "Be brief."),
        ("user", "q1"),
        ("assistant", "a1"),
        ("user", "q2"),
        ("assistant", "a2"),
        ("user", "Add.\n1 2"),
        ("assistant", "3"),
    ]


def test_prompt_and_completion() -> None:
    record = parse({"prompt": " p ", "completion": "c\n"})
    assert conversation(record) == [(TURNS[0]["role"], " p "), ("assistant", "c\n")]


def test_messages_keep_role_and_content_alone() -> None:
    record = parse({"messages": [turn | {"name": "x"} for turn in TURNS], "instruction": 3})
    assert record.messages == TURNS


def test_the_rows_own_id_is_kept_as_text() -> None:
    assert [parse(ALPACA | {"id": given}).id for given in ("x", 0, 1.5)] == ["x", "0", "1.5"]


def test_a_row_without_id_gets_one_from_file_name_line_and_content() -> None:
    first = parse(ALPACA).id
    assert first == parse(dict(reversed(ALPACA.items())), source="/moved/a.jsonl").id
    others = {
        parse(ALPACA, line=2).id,
        parse(ALPACA, source="b.jsonl").id,
        parse(ALPACA | {"output": "4"}).id,
        parse(ALPACA | {"id": ""}).id,
    }
    assert len(others | {first}) == 5


@pytest.mark.parametrize(
    ("given", "expected"),
    [("nli", "nli"), (["qa", "zh"], "qa/zh"), (None, ""), (3, "3"), ([], "")],
)
def test_task_type(given, expected) -> None:
    assert parse(ALPACA | {"task_type": given}).task_type == expected


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([1], "row is a list, not an object"),
        (None, "row is null, not an object"),
        ({"text": "x"}, "row has none of the keys"),
        (ALPACA | {"output": " \n"}, "answer is empty"),
        ({"instruction": "Add."}, "answer is empty"),
        ({"output": "3"}, "no instruction"),
        (ALPACA | {"instruction": 3}, "instruction is a number, not text"),
        (ALPACA | {"output": ["3"]}, "output is a list, not text"),
        (ALPACA | {"history": [["q"]]}, "history is not a list"),
        (ALPACA | {"history": [["q", " "]]}, "answer is empty"),
        (ALPACA | {"id": {}}, "id is an object, not text or a number"),
        (ALPACA | {"task_type": [["a"]]}, "task_type is neither"),
        (ALPACA | {"output": "\ud800"}, "surrogate"),
        ({"prompt": "p"}, "answer is empty"),
        ({"messages": "hi"}, "messages is text, not a list"),
        ({"messages": []}, "messages is empty"),
        ({"messages": ["hi"]}, "message 1 is text, not an object"),
        ({"messages": TURNS[:1]}, "messages end on the user"),
        ({"messages": TURNS[1:]}, "no instruction"),
        ({"messages": [{"role": "critic", "content": "x"}]}, "message 1: role 'critic' is not"),
        ({"messages": [{"role": [], "content": "x"}]}, "message 1: role"),
        ({"messages": [{"role": "user"}]}, "message 1: content is null, not text"),
        (
            {"messages": [TURNS[0], {"role": "system", "content": "x"}, TURNS[1]]},
            "system message stands after",
        ),
    ],
)
def test_rows_that_cannot_be_used_say_why(row, reason) -> None:
    with pytest.raises(BadRowError) as caught:
        parse(row)
    assert reason in str(caught.value)


@given(row=st.dictionaries(st.sampled_from(KEYS), anything, max_size=5) | anything)
def test_any_json_is_a_conversation_or_a_bad_row(row) -> None:
    try:
        record = parse(row)
    except BadRowError:
        return
    assert record.messages[-1]["role"] == "assistant"
    assert all(isinstance(message["content"], str) for message in record.messages)
    json.dumps(record.messages).encode()
