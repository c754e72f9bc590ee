import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlirg.corpus.formats.turns import KNOWN, OPENAI, SHAREGPT, SPEAKERS, read_turns
from nlirg.corpus.records import Record, parse_row
from nlirg.errors import BadRowError

ASK, SAID = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text"]), inner)
    ),
    max_leaves=4,
)


def parse(*turns: dict, key: str = "messages") -> Record:
    return parse_row({key: list(turns)}, "/d/a.jsonl", 1)


def sharegpt(turn: dict) -> dict:
    names = {"role": "from", "content": "value"}
    speakers = {"user": "human", "assistant": "gpt"}
    renamed = {names.get(key, key): value for key, value in turn.items()}
    return renamed | {"from": speakers.get(turn["role"], turn["role"])}


def refused(*turns: dict) -> str:
    with pytest.raises(BadRowError) as caught:
        parse(*turns)
    return str(caught.value)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize("form", ["messages", "conversations"])
def test_what_an_answer_was_thought_from_is_kept(key, form) -> None:
    turns = [ASK, SAID | {key: " Look.\n"}]
    given = turns if form == "messages" else [sharegpt(turn) for turn in turns]
    record = parse(*given, key=form)
    assert record.messages == [ASK, SAID | {"reasoning": " Look.\n"}]
    assert record.notes == ()


@pytest.mark.parametrize("nothing", [None, "", " \n", []])
def test_no_reasoning_leaves_no_key(nothing) -> None:
    assert parse(ASK, SAID | {"reasoning": nothing}).messages == [ASK, SAID]


def test_reasoning_is_text_and_one_text() -> None:
    assert "message 2: thinking is an object" in refused(ASK, SAID | {"thinking": {"a": 1}})
    assert "message 2: reasoning is true" in refused(ASK, SAID | {"reasoning": True})
    twice = {"reasoning_content": "a", "reasoning": "b"}
    assert "reasoning_content and reasoning differ" in refused(ASK, SAID | twice)
    same = parse(ASK, SAID | dict.fromkeys(twice, "a"))
    assert same.messages[1]["reasoning"] == "a"


def test_reasoning_of_others_is_noted_as_not_read() -> None:
    record = parse(ASK | {"thinking": "hm"}, SAID)
    assert record.messages == [ASK, SAID]
    assert record.notes == ("message key 'thinking' of a turn of the user is not read",)


@pytest.mark.parametrize("form", ["messages", "conversations"])
@pytest.mark.parametrize("key", ["weight", "loss", "train", "training"])
@pytest.mark.parametrize("no", [0, False, 0.0])
@pytest.mark.parametrize("yes", [1, True, 1.0, None])
def test_an_answer_may_be_context(form, key, no, yes) -> None:
    wrong = {"role": "assistant", "content": "no"}
    turns = [ASK, wrong | {key: no}, ASK | {key: no}, SAID | {key: yes}]
    given = turns if form == "messages" else [sharegpt(turn) for turn in turns]
    record = parse(*given, key=form)
    assert record.messages == [ASK, wrong | {"trained": False}, ASK, SAID]
    assert record.notes == ()


def test_what_follows_the_last_trained_answer_is_cut_off() -> None:
    context = SAID | {"weight": 0}
    assert parse(ASK, SAID, ASK, context, ASK, context).messages == [ASK, SAID]
    assert "end on the user" in refused(ASK, SAID, ASK, context, ASK)


def test_a_row_whose_answers_are_all_context_is_refused() -> None:
    assert "every answer is context" in refused(ASK, SAID | {"train": False})


@pytest.mark.parametrize("value", [0.5, -1, 2, "0", "false", [], {}, float("nan")])
@pytest.mark.parametrize("place", [0, 1])
def test_half_a_weight_is_refused_by_name(value, place) -> None:
    turns = [ASK, SAID]
    turns[place] = turns[place] | {"weight": value}
    assert f"message {place + 1}: weight is {value!r}" in refused(*turns)


def test_weights_that_contradict_each_other_are_refused_by_name() -> None:
    said = refused(ASK, SAID | {"weight": 1, "train": False})
    assert "message 2: weight is 1, train is False" in said
    assert parse(ASK, SAID | {"weight": 1, "train": True, "loss": None}).messages[1] == SAID


def test_a_question_that_is_to_be_trained_is_noted() -> None:
    (note,) = parse(ASK | {"weight": 1}, SAID).notes
    assert note.startswith("message key 'weight'")
    assert note.endswith("is not trained, only the assistant's turns are")


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    assert parse(ASK | {"content": parts}, SAID).messages == [ASK, SAID]
    assert parse(sharegpt(ASK | {"content": parts}), sharegpt(SAID)).messages == [ASK, SAID]


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"type": "image_url", "image_url": {}}, "part of type 'image_url'"),
        ({"text": "x"}, "part of type None"),
        ({"type": "text"}, "text of a part is null"),
        ("x", "a list of text, not of parts"),
    ],
)
def test_other_parts_are_refused_by_their_type(part, reason) -> None:
    said = refused(ASK | {"content": [{"type": "text", "text": "x"}, part]}, SAID)
    assert said.startswith("message 1: content")
    assert reason in said


@pytest.mark.parametrize(("name", "role"), [("developer", "system"), ("human", "user")])
def test_other_names_of_the_roles(name, role) -> None:
    turns = [{"role": name, "content": "x"}, ASK, SAID]
    assert parse(*turns).messages == [{"role": role, "content": "x"}, ASK, SAID]


@pytest.mark.parametrize("name", ["function", "ipython", "observation", "tool"])
def test_openais_old_function_call_is_one_tool_call(name) -> None:
    call = {"name": "weather", "arguments": '{"city": "Wien"}'}
    turns = [
        ASK,
        {"role": "assistant", "content": None, "function_call": call},
        {"role": name, "name": "weather", "content": "rain"},
        SAID,
    ]
    record = parse(*turns)
    (made,) = record.messages[1]["tool_calls"]
    assert made["function"] == {"name": "weather", "arguments": {"city": "Wien"}}
    answered = {"role": "tool", "content": "rain", "name": "weather", "tool_call_id": made["id"]}
    assert record.messages[2] == answered
    assert record.notes == ()


def test_two_ways_to_call_in_one_turn_are_refused() -> None:
    call = {"name": "f", "arguments": {}}
    both = {"function_call": call, "tool_calls": [{"function": call}]}
    assert "two kinds" in refused(ASK, SAID | both)
    assert "function_call in a turn of the user" in refused(ASK | {"function_call": call}, SAID)


def test_ids_of_calls_may_be_numbers() -> None:
    call = {"id": 7, "function": {"name": "f", "arguments": {}}}
    again = {"id": 8, "function": {"name": "f", "arguments": {}}}
    tools = [{"role": "tool", "tool_call_id": n, "content": str(n)} for n in (8, 7)]
    record = parse(ASK, {"role": "assistant", "tool_calls": [call, again]}, *tools, SAID)
    assert [m["id"] for m in record.messages[1]["tool_calls"]] == ["7", "8"]
    assert [m["tool_call_id"] for m in record.messages[2:4]] == ["8", "7"]


@pytest.mark.parametrize("key", ["messages", "conversations"])
def test_a_turn_is_read_by_the_keys_it_has(key) -> None:
    assert parse(ASK, SAID, key=key).messages == [ASK, SAID]
    assert parse(sharegpt(ASK), sharegpt(SAID), key=key).messages == [ASK, SAID]


def test_unknown_keys_are_named_once_in_order_whatever_they_hold() -> None:
    record = parse(ASK | {"foo": 1, "bar": "x", "gone": None}, SAID | {"foo": {"a": 2}, "no": []})
    assert record.notes == ("message key 'bar' is not read", "message key 'foo' is not read")
    assert record.notes == parse(ASK | {"bar": 0}, SAID | {"foo": [3]}).notes
    (note,) = parse(ASK | {"value": "other"}, SAID).notes
    assert note.startswith("message key 'value' is not read beside")


@given(st.lists(st.dictionaries(st.sampled_from(sorted(KNOWN)), values), min_size=1, max_size=3))
def test_any_turns_are_turns_or_a_bad_row(turns) -> None:
    notes: set[str] = set()
    for keys in (OPENAI, SHAREGPT):
        try:
            read = read_turns(turns, keys, notes)
        except BadRowError:
            continue
        for turn in read:
            assert turn["role"] in SPEAKERS.values()
            assert isinstance(turn["content"], str)
            assert turn.get("trained", False) is False
            assert turn.get("reasoning", "x").strip()
            assert turn["role"] == "assistant" or not {"reasoning", "trained"} & turn.keys()
        json.dumps(read)


@given(st.lists(st.sampled_from([0, 1, None]), min_size=1, max_size=6))
def test_a_conversation_ends_on_its_last_trained_answer(weights) -> None:
    turns = []
    for number, weight in enumerate(weights):
        turns += [ASK, {"role": "assistant", "content": str(number), "weight": weight}]
    if not any(weight != 0 for weight in weights):
        assert "every answer is context" in refused(*turns)
        return
    messages = parse(*turns).messages
    last = max(number for number, weight in enumerate(weights) if weight != 0)
    assert messages[-1] == {"role": "assistant", "content": str(last)}
    trained = [m["content"] for m in messages if m["role"] == "assistant" and "trained" not in m]
    assert trained == [str(n) for n, weight in enumerate(weights) if weight != 0]
