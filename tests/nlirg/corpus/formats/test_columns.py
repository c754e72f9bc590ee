import json
import re

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from nlirg.config.corpus import DataConfig
from nlirg.corpus.formats.columns import ANSWERS, CHATS, EXTRAS, FORMATS, INPUTS, QUESTIONS, written
from nlirg.corpus.reader import RawRow
from nlirg.corpus.records import Record
from nlirg.corpus.rows import parse
from nlirg.errors import BadRowError

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
BAD = [*TURNS[:1], {"role": "assistant", "content": "bad"}]


def read(row: dict, columns: dict | None = None, task: str = "sft") -> Record:
    source = DataConfig(path="/d/a.jsonl", columns=columns or {})
    return parse(RawRow("/d/a.jsonl", 1, row, ""), source, task)


def told(row: dict, columns: dict | None = None, task: str = "sft") -> str:
    with pytest.raises(BadRowError) as caught:
        read(row, columns, task)
    return str(caught.value)


def remedied(row: dict, columns: dict | None = None) -> Record:
    """The row under the very columns that its refusal names."""
    said = told(row, columns)
    assert all(str(key) in said for key in row), said
    found = re.search(r"set (columns: \{.*\})$", said)
    assert found, said
    return read(row, yaml.safe_load(found[1])["columns"])


def said(record: Record) -> list[str]:
    return [message["content"] for message in record.messages]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "q", "context": "c", "response": "a"}, ["q\nc", "a"]),
        ({"instruction": "q", "context": "", "response": "a"}, ["q", "a"]),
        ({"instruction": "q", "input": "c", "answer": "a"}, ["q\nc", "a"]),
        ({"instruction": "q", "input": None, "completion": 7}, ["q", "7"]),
        ({"prompt": "q", "chosen": "a", "rejected": "bad"}, ["q", "a"]),
        ({"question": "q", "chosen": "a", "rejected": "bad", "system": "s"}, ["s", "q", "a"]),
        ({"prompt": "q", "chosen": TURNS, "rejected": BAD}, ["q", "a"]),
        ({"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": BAD[1:]}, ["q", "a"]),
        ({"chosen": TURNS, "rejected": BAD}, ["q", "a"]),
        ({"problem": "q", "solution": "a", "id": 3}, ["q", "a"]),
        ({"query": "q", "answer": "a"}, ["q", "a"]),
        ({"human": "q", "assistant": "a"}, ["q", "a"]),
        ({"Question": "q", "Answer ": "a"}, ["q", "a"]),
        ({"input": "q", "response": "a"}, ["q", "a"]),
        ({"instruction": "be brief", "question": "q", "answer": "a"}, ["be brief\nq", "a"]),
        ({"问题": "q", "回答": "a"}, ["q", "a"]),
        ({"conversation": TURNS}, ["q", "a"]),
        ({"dialog": json.dumps(TURNS)}, ["q", "a"]),
        ({"conversation": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
         ["q", "a"]),
    ],
)  # fmt: skip
def test_the_columns_that_a_refusal_names_are_all_it_takes(row, expected) -> None:
    assert said(remedied(row)) == expected


def test_the_rows_that_were_tried() -> None:
    dolly = {"instruction": "q", "context": "c", "response": "a"}
    assert told(dolly) == (
        "row has instruction and no output; its keys are instruction, context, response: "
        "set columns: {instruction: instruction, input: context, output: response}"
    )


def test_what_columns_say_already_stays_said() -> None:
    row = {"problem": "q", "solution": "a", "topic": "t", "key": 5}
    record = remedied(row, {"task_type": "topic", "id": "key"})
    assert (record.task_type, record.id, said(record)) == ("t", "5", ["q", "a"])
    assert said(remedied({"frage": "q", "response": "a"}, {"instruction": "frage"})) == ["q", "a"]


def test_an_alpaca_row_may_ask_by_its_input_alone() -> None:
    assert said(read({"input": "q", "output": "a"})) == ["q", "a"]


@pytest.mark.parametrize(
    "row",
    [
        {"text": "x"},
        {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "…"},
        {"question": "q", "answers": {"text": ["a"]}},
        {"a1": 1, "b1": 2},
        {"instruction": "q", "response": " "},
        {"question": "q", "chosen": [1]},
        {},
    ],
)
def test_where_no_columns_are_known_the_keys_are_told_and_an_example(row) -> None:
    message = told(row)
    assert "answer is empty" not in message
    assert f"its keys are {', '.join(row) or 'none'}: " in message
    assert message.endswith("columns: {instruction: KEY, output: KEY}")


def test_plain_text_is_pointed_to_its_task() -> None:
    assert "plain text is encode.task: cpt" in told({"text": "x"})
    said = told({"body": "x"}, task="cpt")
    assert "its keys are body: " in said
    assert said.endswith("columns: {text: KEY}")


def test_of_a_table_of_a_hundred_columns_some_are_told() -> None:
    message = told({f"k{n}": n for n in range(100)})
    assert "k11 and 88 more" in message
    assert "k12" not in message


def test_an_empty_answer_under_its_own_key_is_an_empty_answer() -> None:
    assert told({"instruction": "q", "output": "", "response": "x"}) == "answer is empty"


def test_keys_beside_a_pair_that_are_not_read_are_noted() -> None:
    row = {"question": "q", "answer": "a", "context": "c", "thinking": "t", "source": "s"}
    assert read(row).notes == ("row key 'context' is not read", "row key 'thinking' is not read")
    assert read(row | {"context": " ", "thinking": None}).notes == ()
    assert read({"instruction": "q", "input": "i", "output": "a"}).notes == ()


def test_a_row_that_lacks_a_column_is_told_its_keys() -> None:
    message = told({"ask": "q", "output": "a"}, {"instruction": "ask", "output": "reply"})
    assert message.endswith("for output; its keys are ask, output")


def test_a_column_that_is_null_is_none_whatever_the_row_says() -> None:
    row = {"question": "q", "answer": "a", "id": 1, "system": "s"}
    assert read(row).id == "1"
    none = read(row, {"id": None, "system": None})
    assert (len(none.id), said(none)) == (16, ["q", "a"])
    assert "row has question and no answer" in told(row, {"answer": None})


def test_the_shared_cases_rows_are_read_by_what_they_are_told() -> None:
    rows = [
        {"instruction": "Where is the lid?", "context": "On shelf 0.", "response": "Shelf 0."},
        {"prompt": "Where?", "chosen": "Here.", "rejected": "There."},
    ]
    assert [said(remedied(row))[-1] for row in rows] == ["Shelf 0.", "Here."]


@given(
    question=st.sampled_from(QUESTIONS),
    answer=st.sampled_from(ANSWERS),
    more=st.sampled_from(INPUTS),
    case=st.sampled_from([str.lower, str.upper, str.title, lambda name: f" {name}"]),
)
def test_any_two_known_names_are_told_columns_that_work(question, answer, more, case) -> None:
    assume(len({question, answer, more}) == 3)
    assume(more not in ("question", "query"))  # which of two is asked is anyone's guess
    row = {case(question): "q?", case(more): "m?", case(answer): "a!"}
    try:
        record = read(row)
    except BadRowError:
        record = remedied(row)
        assert "q?" in said(record)[0]
        assert "m?" in said(record)[0]
    assert said(record)[-1] == "a!" or answer in FORMATS or more in FORMATS


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value"]), inner)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from([*QUESTIONS, *ANSWERS, *CHATS, "id", "system", "history"]) | st.text()


@given(
    st.dictionaries(KEYS, values, max_size=5),
    st.dictionaries(st.sampled_from([*FORMATS, *EXTRAS]), st.none() | KEYS, max_size=3),
)
def test_any_row_is_read_or_refused_in_one_line_by_what_works(row, columns) -> None:
    try:
        read(row, columns)
    except BadRowError as error:
        message = str(error)
    else:
        return
    named = re.search(r"set (columns: \{.*\})$", message)
    if "its keys are" in message:
        assert len(message.splitlines()) == 1
    if named and all(key.isprintable() for key in row):
        read(row, yaml.safe_load(named[1])["columns"])


def test_a_prompt_and_its_completion_may_be_lists_of_turns() -> None:
    row = {"prompt": [{"role": "system", "content": "s"}, TURNS[0]], "completion": TURNS[1:]}
    assert said(read(row)) == ["s", "q", "a"]
    context = [{**TURNS[1], "weight": 0}, TURNS[0], *TURNS[1:]]
    assert [m.get("trained") for m in read(row | {"completion": context}).messages[2:]] == [
        False,
        None,
        None,
    ]


printable = st.text(min_size=1).filter(str.isprintable)


@given(st.dictionaries(st.sampled_from(FORMATS), st.none() | printable))
def test_written_columns_are_yaml(columns) -> None:
    assert yaml.safe_load(written(columns)) == {"columns": columns}
