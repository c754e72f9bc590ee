import importlib
import json
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import regex

from eval.cases.suites import (
    JUDGING,
    cases_hash,
    holdout_cases,
    judging_hash,
    limit,
    load_cases,
    robustness_cases,
    template_cases,
)
from eval.checkers.registry import KINDS
from eval.schema.case import Case, Checker, Message
from nlirg.errors import InputError

GOOD = {
    "id": "a",
    "messages": [{"role": "user", "content": "What colour?"}],
    "checker": {"kind": "exact", "values": ["blue"]},
}


def case(
    name: str, task: str = "", text: str = "Describe these facts.\nname: Anna\ncity: Rome\nage: old"
) -> Case:
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
        (
            {**GOOD, "id": "b", "checker": {"kind": "magic"}},
            "cases.jsonl:2: case 'b': checker 'magic' is unknown",
        ),
        (
            {**GOOD, "id": "b", "checker": {"kind": "exat"}},
            "cases.jsonl:2: case 'b': checker 'exat' is unknown; did you mean exact",
        ),
        ({**GOOD, "id": "b", "checker": {"kind": "exact"}}, "cases.jsonl:2: case 'b': checker"),
        (
            {
                **GOOD,
                "id": "b",
                "reference": "yes",
                "checker": {"kind": "exact", "answer_by": "likelihood"},
            },
            "cases.jsonl:2: case 'b': checker: answer_by 'likelihood' ranks options",
        ),
    ],
)
def test_bad_lines_are_named(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        load_cases(written(tmp_path, GOOD, row), "ood")


def with_schema(schema) -> dict:
    return {**GOOD, "id": "b", "checker": {"kind": "json_schema", "json_schema": schema}}


def nested(depth: int) -> dict:
    return {"not": nested(depth - 1)} if depth else {"type": "object"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("[" * 20_000, "cases.jsonl:2: nested too deep"),
        ('{"id": ' * 20_000, "cases.jsonl:2: nested too deep"),
        (with_schema(nested(300)), "cases.jsonl:2: .*depth"),
        (
            {**GOOD, "id": "b", "messages": [{"role": "user", "content": "hi \ud83d"}]},
            "half a surr",
        ),
        ({**GOOD, "id": "b", "reference": "\ude00"}, "cases.jsonl:2: text holds half a surrogate"),
        ({**GOOD, "id": "b", "task_type": "\ud83d"}, "cases.jsonl:2: text holds half a surrogate"),
        ({**GOOD, "id": "b\ud83d"}, "cases.jsonl:2: text holds half a surrogate"),
    ],
)
def test_what_would_fail_after_training_is_named_when_read(tmp_path, row, message):
    with pytest.raises(InputError, match=message) as told:
        load_cases(written(tmp_path, GOOD, row), "ood")
    assert len(str(told.value).splitlines()) == 1


def test_whole_characters_beyond_the_basic_plane_are_fine(tmp_path):
    path = written(tmp_path, {**GOOD, "reference": "\U0001f600"})  # written as two escapes
    (read,) = load_cases(path, "ood")
    assert read.reference == "\U0001f600"
    assert cases_hash([read])


@pytest.mark.parametrize("error", [RecursionError("too deep"), TypeError("no\nsuch"), ValueError()])
def test_a_line_on_which_a_checker_breaks_is_named(tmp_path, monkeypatch, error):
    def breaks(*_):
        raise error

    path = written(tmp_path, GOOD)
    monkeypatch.setattr("eval.cases.suites.validate_checker", breaks)
    with pytest.raises(InputError, match=r"cases.jsonl:1: ") as told:
        load_cases(path, "ood")
    assert len(str(told.value).splitlines()) == 1


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


def test_a_held_out_row_is_asked_without_what_is_said_of_its_training() -> None:
    asked = [
        {"role": "user", "content": "q1"},
        {"role": "assistant", "content": "wrong", "trained": False, "reasoning": "hm"},
        {"role": "user", "content": "q2"},
    ]
    answer = {"role": "assistant", "content": "right", "reasoning": "look"}
    row = SimpleNamespace(id="r1", task_type="", messages=[*asked, answer])
    (made,) = holdout_cases([row])
    thought = "<think>\nhm\n</think>\n\nwrong"
    assert [turn.content for turn in made.messages] == ["q1", thought, "q2"]
    assert made.reference == "right"


@pytest.mark.parametrize("answer", ["", "?!"])
def test_held_out_rows_without_an_answer_are_refused(answer):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]
    with pytest.raises(InputError, match="row 'r1'"):
        holdout_cases([SimpleNamespace(id="r1", task_type="", messages=messages)])
    with pytest.raises(InputError, match=r"row 'r1'.*end on"):
        holdout_cases([SimpleNamespace(id="r1", task_type="", messages=messages[:1])])


def test_robustness_cases_keep_root_system_turn_and_facts():
    originals = [case("a"), case("b", text="Say Anna, Rome now")]
    perturbed = robustness_cases(originals, ["field_order", "padding"], seed=0)
    assert [one.id for one in perturbed] == ["a~field_order", "a~padding", "b~padding"]
    for one in perturbed:
        assert one.suite == "robustness"
        assert one.root_id == one.id.split("~")[0]
        assert one.perturbation == one.id.split("~")[1]
        assert one.messages[0].content == "Be short."
        assert "Anna" in one.messages[1].content
        assert "Rome" in one.messages[1].content
    assert perturbed == robustness_cases(originals, ["field_order", "padding"], seed=0)
    with pytest.raises(ValueError, match="'shouting' is no perturbation"):
        robustness_cases(originals, ["shouting"], seed=0)


def test_a_perturbed_case_does_not_depend_on_the_other_cases():
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


def by_function(name: str) -> Case:
    return case("a").model_copy(update={"checker": Checker(kind="python", values=(name,))})


def test_who_judges_is_a_matter_of_cases_and_of_the_source_of_named_functions(
    tmp_path, monkeypatch
):
    source = tmp_path / "judging_sources.py"
    source.write_text("def right(answer, reference):\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "judging_sources", importlib.import_module("judging_sources"))
    plain, named = case("a"), by_function("judging_sources:right")
    form = plain.model_copy(update={"format": named.checker})
    before = [judging_hash([each]) for each in (plain, named, form)]
    assert len(set(before)) == 3
    assert before == [judging_hash([each]) for each in (plain, named, form)]
    source.write_text("def right(answer, reference):\n    return 0\n")
    os.utime(source, ns=(1, 1))
    after = [judging_hash([each]) for each in (plain, named, form)]
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert after[2] != before[2]


def test_functions_without_a_source_are_known_by_their_names():
    first, second = judging_hash([by_function("operator:eq")]), judging_hash([case("a")])
    assert first != second != judging_hash([by_function("math:gcd")])


def test_who_judges_is_a_matter_of_our_own_source_too(tmp_path, monkeypatch):
    before = judging_hash([case("a")])
    hashes = set()
    for version in ("1", "2"):
        source = tmp_path / version / "checkers.py"
        source.parent.mkdir()
        source.write_text(f"VERSION = {version}\n")
        monkeypatch.setattr("eval.cases.suites.JUDGING", (source,))
        hashes.add(judging_hash([case("a")]))
    assert len(hashes | {before}) == 3


def test_every_module_that_judging_imports_from_is_looked_at():
    looked_at = {str(path) for path in JUDGING}
    for kind in KINDS.values():
        assert sys.modules[kind.judge.__module__].__file__ in looked_at
    for path in looked_at:
        names = regex.findall(r"(?m)^from (eval[.][a-z_.]+) import", Path(path).read_text())
        assert {importlib.import_module(name).__file__ for name in names} <= looked_at
