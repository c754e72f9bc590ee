import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlirg.corpus.records import Record, parse_document, parse_row
from nlirg.errors import BadRowError

ALPACA = {"instruction": "Add.", "input": "1 2", "output": "3"}
TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
KEYS = ["messages", "conversations", "tools", "instruction", "input", "output", "system",
        "history", "prompt", "completion", "question", "response", "task_type", "id"]  # fmt: skip

ASKED, EMPTY = {"role": "user", "content": "x"}, {"role": "assistant", "content": ""}


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


@pytest.mark.parametrize("pair", [("prompt", "completion"), ("query", "response")])
@pytest.mark.parametrize("form", [list, json.dumps])
def test_history_comes_before_any_question(pair, form) -> None:
    row = {pair[0]: "q2", pair[1]: "a2", "history": form([["q1", "a1"]])}
    said = [content for _, content in conversation(parse(row))]
    assert said == ["q1", "a1", "q2", "a2"]


@pytest.mark.parametrize(
    ("number", "digits"), [(-7, "-7"), (2.5, "2.5"), (0, "0"), (1e22, "1e+22")]
)
def test_a_number_stands_for_its_digits_in_every_format(number, digits) -> None:
    openai = [{"role": role, "content": number} for role in ("user", "assistant")]
    openai[1]["reasoning"] = number
    sharegpt = [{"from": who, "value": number} for who in ("human", "gpt")]
    for row in (
        {"question": number, "answer": number},
        {"messages": openai},
        {"conversations": sharegpt},
        {"messages": openai, "system": number},
        {"prompt": number, "completion": number, "history": [[number, number]]},
    ):
        record = parse(row)
        assert {content for _, content in conversation(record)} == {digits}
        assert record.messages[-1].get("reasoning", digits) == digits


def test_prompt_and_completion() -> None:
    record = parse({"prompt": " p ", "completion": "c\n"})
    assert conversation(record) == [(TURNS[0]["role"], " p "), ("assistant", "c\n")]


def test_messages_keep_role_and_content_alone() -> None:
    record = parse({"messages": [turn | {"name": "x"} for turn in TURNS], "instruction": 3})
    assert record.messages == TURNS


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TURNS},
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]},
        {"instruction": "hi", "output": "yes"},
        {"prompt": "hi", "completion": "yes"},
        {"question": "hi", "answer": "yes"},
        {"query": "hi", "response": "yes"},
        # As a table of several formats gives them, and JSON in a cell of text.
        {"messages": None, "instruction": "", "prompt": "hi", "completion": "yes"},
        {"messages": json.dumps(TURNS), "instruction": ""},
        {"instruction": "hi", "output": "yes", "messages": "", "history": "", "tools": ""},
    ],
)
def test_every_format_says_the_same_and_keeps_the_rows_system(row) -> None:
    assert parse(row).messages == TURNS
    system = {"role": "system", "content": "Be brief."}
    assert parse(row | {"system": "Be brief."}).messages == [system, *TURNS]


@pytest.mark.parametrize(
    ("given", "kept"), [("Be brief.", "Be brief.\n\nBe kind."), ("Be kind. ", "Be kind.")]
)
def test_neither_of_two_system_texts_is_lost(given, kept) -> None:
    turns = [{"role": "system", "content": "Be kind."}, *TURNS]
    record = parse({"messages": turns, "system": given})
    assert conversation(record)[0] == ("system", kept)
    assert record.messages[1:] == TURNS


WEATHER = {"name": "weather", "parameters": {"type": "object"}}
CALLED = [
    {"role": "user", "content": "Rain?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "call00000",
                "type": "function",
                "function": {"name": "weather", "arguments": {"city": "Wien"}},
            }
        ],
    },
    {"role": "tool", "content": '{"rain": true}', "tool_call_id": "call00000"},
    {"role": "assistant", "content": "Yes."},
]


@pytest.mark.parametrize("tools", [[WEATHER], json.dumps([WEATHER]), WEATHER])
def test_sharegpt_calls_are_the_assistants_and_observations_the_tools(tools) -> None:
    call = json.dumps({"name": "weather", "arguments": {"city": "Wien"}})
    said = [("human", "Rain?"), ("function_call", call), ("observation", '{"rain": true}')]
    turns = [{"from": name, "value": text} for name, text in [*said, ("gpt", "Yes.")]]
    record = parse({"conversations": turns, "tools": tools})
    assert record.messages == CALLED
    assert record.tools == [{"type": "function", "function": WEATHER}]


def test_openai_calls_keep_their_ids_and_get_their_arguments_parsed() -> None:
    function = {"name": "weather", "arguments": '{"city": "Wien"}'}
    calls = [{"id": "x1", "type": "function", "function": function}]
    turns = [
        CALLED[0],
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "", "tool_call_id": "x1", "name": "weather"},
        CALLED[3],
    ]
    tools = [{"type": "function", "function": WEATHER}]
    record = parse({"messages": turns, "tools": tools})
    (call,) = record.messages[1]["tool_calls"]
    assert (call["id"], call["function"]["arguments"]) == ("x1", {"city": "Wien"})
    assert record.messages[2] == turns[2]
    assert record.tools == tools


def test_parallel_calls_are_answered_in_their_order() -> None:
    call = {"name": "weather", "arguments": {}}
    observations = [{"from": "observation", "value": text} for text in "ab"]
    turns = [
        {"from": "human", "value": "Rain?"},
        {"from": "function_call", "value": json.dumps([call, call])},
        *observations,
        {"from": "gpt", "value": "Yes."},
    ]
    messages = parse({"conversations": turns}).messages
    ids = [call["id"] for call in messages[1]["tool_calls"]]
    assert len(set(ids)) == 2
    assert [message["tool_call_id"] for message in messages[2:4]] == ids


@pytest.mark.parametrize("tools", [None, "", " ", "[]", []])
def test_no_tools(tools) -> None:
    assert parse(ALPACA | {"tools": tools}).tools == []


def test_a_document_is_text_or_content_as_it_stands() -> None:
    document = parse_document({"text": " a\n", "content": "b", "id": 3}, "a.jsonl", 1)
    assert (document.id, document.text, document.task_type) == ("3", " a\n", "")
    assert parse_document({"content": "b", "task_type": "wiki"}, "a.jsonl", 1).text == "b"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("text", "row is text, not an object"),
        (ALPACA, "neither text nor content"),
        ({"text": True}, "text is true or false, not text"),
        ({"text": float("nan")}, "text is nan, not text"),
        ({"content": " \n"}, "content is empty"),
        ({"text": "\ud800"}, "surrogate"),
    ],
)
def test_rows_that_are_no_documents_say_why(row, reason) -> None:
    with pytest.raises(BadRowError, match=reason):
        parse_document(row, "a.jsonl", 1)


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
        ({"text": "x"}, "plain text is encode.task: cpt"),
        ({"conversations": [{"from": "narrator", "value": "x"}]}, "from 'narrator' is not one of"),
        ({"conversations": [{"from": "human", "value": {}}]}, "value is an object, not text"),
        (
            {"conversations": [{"from": "function_call", "value": "rain?"}]},
            "message 1: function_call: not JSON",
        ),
        ({"conversations": [{"from": "function_call", "value": "[1]"}]}, "an object with name"),
        (
            {
                "conversations": [
                    {"from": "function_call", "value": '{"name": "f", "arguments": 1}'}
                ]
            },
            "arguments of 'f' are a number",
        ),
        (
            {"messages": [{"role": "user", "content": "", "tool_calls": [1]}]},
            "in a turn of the user",
        ),
        (ALPACA | {"tools": "{"}, "tools: not JSON"),
        (ALPACA | {"tools": "[" * 100_000}, "tools: not JSON"),
        (ALPACA | {"tools": [{"function": {}}]}, "tools is not a list of functions"),
        (ALPACA | {"output": " \n"}, "answer is empty"),
        ({"instruction": "Add."}, "row has instruction and no output"),
        ({"output": "3"}, "row has output and no instruction"),
        (ALPACA | {"instruction": False}, "instruction is true or false, not text"),
        (ALPACA | {"output": ["3"]}, "output is a list, not text"),
        (ALPACA | {"history": [["q"]]}, "history is not a list"),
        (ALPACA | {"history": [["q", " "]]}, "answer is empty"),
        (ALPACA | {"id": {}}, "id is an object, not text or a number"),
        (ALPACA | {"task_type": [["a"]]}, "task_type is neither"),
        (ALPACA | {"output": "\ud800"}, "surrogate"),
        ({"prompt": "p", "completion": None}, "answer is empty"),
        ({"messages": "hi"}, "messages: not JSON"),
        ({"messages": '"hi"'}, "messages is text, not a list"),
        ({"messages": True}, "messages is true or false, not a list"),
        ({"question": "q"}, "row has question and no answer"),
        ({"response": "r"}, "row has response and no query"),
        ({"response": "r", "query": " "}, "no query"),
        ({"messages": None, "prompt": ""}, "messages is empty"),
        (ALPACA | {"output": True}, "output is true or false, not text"),
        (ALPACA | {"output": date(2026, 1, 2)}, "output is a date, not text"),
        ({"messages": []}, "messages is empty"),
        ({"messages": ["hi"]}, "message 1 is text, not an object"),
        ({"messages": TURNS[:1]}, "messages end on the user"),
        ({"messages": TURNS[1:]}, "no instruction"),
        ({"messages": [{"role": "critic", "content": "x"}]}, "message 1: role 'critic' is not"),
        ({"messages": [{"role": [], "content": "x"}]}, "message 1: role"),
        (
            {"messages": [{"role": "user", "text": "x"}]},
            "message 1 has no content; its keys are role",
        ),
        ({"messages": [{"role": "user", "content": None}]}, "message 1: content is null, not text"),
        ({"prompt": "x", "completion": "y", "weight": 0}, "the row's own weight is 0"),
        ({"prompt": "x", "completion": "y", "train": False}, "the row's own train is False"),
        ({"messages": [ASKED, {**EMPTY, "thinking": "hm"}]}, "answer is empty: it has reasoning"),
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
