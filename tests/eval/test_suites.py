import json
from collections import Counter
from types import SimpleNamespace

import pytest

from eval.schema import Case, Checker, Message
from eval.suites import (
    cases_hash,
    holdout_cases,
    limit,
    load_cases,
    robustness_cases,
    template_cases,
)
from nlirg.errors import InputError

GOOD = {
    "id": "a",
    "messages": [{"role": "user", "content": "What colour?"}],
    "checker": {"kind": "exact", "values": ["blue"]},
}


def case(name: str, task: str = "", text: str = "Describe it.\nname: Anna\ncity: Rome") -> Case:
    return Case(
        id=name,
        root_id=name,
        task_type=task,
        messages=(Message(role="system", content="Be short."), Message(role="user", content=text)),
        reference="Anna of Rome",
        checker=Checker(kind="slots", values=("Anna", "Rome")),
    )


def written(tmp_path, *rows) -> str:
    path = tmp_path / "cases.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def test_cases_are_read_with_suite_and_root_filled_in(tmp_path):
    path = written(tmp_path, "\ufeff" + json.dumps(GOOD), "", {**GOOD, "id": "b", "root_id": "a"})
    first, second = load_cases(path, "ood")
    assert (first.suite, first.root_id, second.root_id) == ("ood", "a", "a")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "cases.jsonl:2: not JSON"),
        ("[1]", "cases.jsonl:2: .*not list"),
        ({**GOOD, "id": "a"}, "cases.jsonl:2: id 'a' appears twice"),
        ({**GOOD, "id": ""}, "cases.jsonl:2: .*needs an id"),
        ({**GOOD, "id": "b", "colour": 1}, "cases.jsonl:2: colour"),
        ({**GOOD, "id": "b", "suite": "domain"}, "cases.jsonl:2: suite is 'domain'"),
        ({**GOOD, "id": "b", "messages": []}, "cases.jsonl:2: .*user's turn"),
        (
            {**GOOD, "id": "b", "messages": [{"role": "assistant", "content": "x"}]},
            "cases.jsonl:2: .*user's turn",
        ),
        (
            {**GOOD, "id": "b", "messages": [{"role": "user", "content": " "}]},
            "cases.jsonl:2: case 'b': .*empty",
        ),
        ({**GOOD, "id": "b", "checker": {"kind": "magic"}}, "cases.jsonl:2: checker.kind"),
        ({**GOOD, "id": "b", "checker": {"kind": "exact"}}, "cases.jsonl:2: case 'b': checker"),
    ],
)
def test_bad_lines_are_named(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        load_cases(written(tmp_path, GOOD, row), "ood")


def test_unusable_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.jsonl: cannot read"):
        load_cases(tmp_path / "nowhere.jsonl", "ood")
    with pytest.raises(InputError, match="no cases"):
        load_cases(written(tmp_path, ""), "ood")
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        load_cases(binary, "ood")


def test_held_out_rows_become_cases_on_their_last_answer():
    turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "Who?"), ("assistant", "The cook.")]
    messages = [{"role": role, "content": content} for role, content in turns]
    row = SimpleNamespace(id="r1", task_type="chat", messages=messages)
    (made,) = holdout_cases([row])
    assert made.reference == "The cook."
    assert [message.content for message in made.messages] == ["Hi", "Hello", "Who?"]
    assert (made.checker.kind, made.checker.threshold, made.root_id) == ("f1", 0.5, "r1")


@pytest.mark.parametrize("answer", ["", "?!"])
def test_held_out_rows_without_an_answer_are_refused(answer):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]
    with pytest.raises(InputError, match="row 'r1'"):
        holdout_cases([SimpleNamespace(id="r1", task_type="", messages=messages)])
    with pytest.raises(InputError, match=r"row 'r1'.*end on"):
        holdout_cases([SimpleNamespace(id="r1", task_type="", messages=messages[:1])])


def test_robustness_cases_keep_root_system_turn_and_facts():
    originals = [case("a"), case("b", text="Say Anna, Rome now")]
    variants = robustness_cases(originals, ["field_order", "padding"], seed=0)
    assert [v.id for v in variants] == ["a~field_order", "a~padding", "b~padding"]
    for variant in variants:
        assert variant.suite == "robustness"
        assert variant.root_id == variant.id.split("~")[0]
        assert variant.perturbation == variant.id.split("~")[1]
        assert variant.messages[0].content == "Be short."
        assert "Anna" in variant.messages[1].content
        assert "Rome" in variant.messages[1].content
    assert variants == robustness_cases(originals, ["field_order", "padding"], seed=0)
    with pytest.raises(InputError, match="'shouting' is unknown"):
        robustness_cases(originals, ["shouting"], seed=0)


def test_a_variant_does_not_depend_on_the_other_cases():
    alone = robustness_cases([case("b")], ["typos"], seed=3)
    among = robustness_cases([case("a"), case("b")], ["typos"], seed=3)
    assert alone[0] in among


def test_template_cases_repeat_prompts_under_new_ids():
    domain = [case(str(i)) for i in range(3)]
    made = template_cases(domain, 8, seed=0)
    assert len(made) == len({c.id for c in made}) == 8
    assert all(c.suite == "template" for c in made)
    assert sorted(Counter(c.root_id for c in made).values()) == [2, 3, 3]
    assert len(template_cases(domain, 2, seed=0)) == 2
    with pytest.raises(InputError):
        template_cases([], 2, seed=0)


def test_limit_keeps_task_types_in_proportion_and_order():
    cases = [case(f"{i}", "often" if i % 10 else "rare") for i in range(100)]
    chosen = limit(cases, 20, seed=0)
    assert Counter(c.task_type for c in chosen) == {"often": 18, "rare": 2}
    assert [int(c.id) for c in chosen] == sorted(int(c.id) for c in chosen)
    assert chosen == limit(cases, 20, seed=0)
    assert chosen != limit(cases, 20, seed=1)
    assert limit(cases, None, 0) == limit(cases, 1000, 0) == cases
    assert all(len(limit(cases, n, seed=2)) == n for n in range(100))


def test_hash_is_of_content_and_not_of_order():
    first, second = case("a"), case("b")
    assert cases_hash([first, second]) == cases_hash([second, first])
    assert cases_hash([first]) != cases_hash([first.model_copy(update={"reference": "x"})])
