"""The shipped questions: right, judged rightly, in two languages, as released."""

import contextlib
import io
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import regex

from eval.cases.probe import FOLDER, load_probe
from eval.checkers.checkers import check
from nlirg.errors import InputError

CASES = load_probe()
FAMILIES = {"arithmetic", "commonsense", "reading", "code", "instructions", "safety"}


def judged(case, answer: str) -> bool:
    return check(case.checker, answer, case.reference)[1]


def family(name: str) -> list:
    return [case for case in CASES if case.task_type.startswith(f"{name}/")]


def test_every_family_in_two_languages():
    counts = Counter(case.task_type for case in CASES)
    assert counts == {f"{name}/{lang}": 30 for name in FAMILIES for lang in ("en", "zh")}
    assert len({case.id for case in CASES}) == len({case.messages for case in CASES}) == len(CASES)
    for case in CASES:
        question = case.messages[-1].content.split("```")[0]
        assert (regex.search(r"\p{Han}", question) is not None) == case.task_type.endswith("/zh")


def test_the_reference_is_right():
    assert [case.id for case in CASES if not judged(case, f"\n{case.reference} \n")] == []


@pytest.mark.parametrize(
    "answer",
    ["", " \n", "purple elephants 99991", "我不知道答案", "...", "好的。", "1", "Yes!!! " * 99],
)
def test_an_answer_to_anything_is_wrong(answer):
    right = [case.id for case in CASES if judged(case, answer)]
    if "Yes" in answer:  # right where the question can be answered so
        right = [name for name in right if not name.startswith("commonsense-en")]
    assert right == []


def test_answers_to_other_questions_are_wrong():
    for name in ("arithmetic", "code", "reading", "instructions"):
        cases = family(name)
        pairs = [(a, b) for a in cases for b in cases if a.reference != b.reference]
        assert sum(judged(a, b.reference) for a, b in pairs) < 0.02 * len(pairs), name


def test_sums():
    path = Path(__file__).with_name("probe_solutions.json")
    solutions = json.loads(path.read_text(encoding="utf-8"))
    for case in family("arithmetic"):
        value = eval(solutions.pop(case.id))
        assert float(case.reference) == pytest.approx(value), case.id
        sentences = ("So 3 + 4 and then the answer is **{}**.", "答案是{}元。", "x = {}", "{} cm²")
        for right in (*sentences, "{} m2", "{} kg CO₂", "{} 平方厘米", "$\\boxed{{{}}}$"):
            assert judged(case, right.format(case.reference)), case.id
        for wrong in (value + 1, value * 10, -value - 1):
            assert not judged(case, f"The answer is {wrong:g}."), case.id
    assert solutions == {}


def test_programs_print_the_reference():
    for case in family("code"):
        (code,) = regex.findall(r"```python\n(.*?)```", case.messages[-1].content, regex.DOTALL)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, {})
        assert printed.getvalue().strip() == case.reference
        for right in ("`{}`", "```\n{}\n```", "Output: {}", "输出：{}", "The output is {}.", "{}"):
            assert judged(case, right.format(case.reference)), case.id
        assert not judged(case, f"x{case.reference}0"), case.id


def test_the_other_options_are_wrong():
    for case in family("commonsense"):
        for option in case.checker.values:
            for form in ("{}", "{}.", "答案：{}", "**{}**", "({})", "{}。"):
                assert judged(case, form.format(option)) == (option == case.reference), case.id


def test_choice_questions_rank_their_options():
    ranked = [case for case in CASES if case.checker.kind == "choice"]
    assert ranked == family("commonsense")
    assert {case.checker.answer_by for case in ranked} == {"likelihood"}
    assert {case.checker.answer_by for case in CASES if case not in ranked} == {"text"}


def test_no_letter_is_right_much_more_often_than_the_others():
    letters = Counter(case.reference for case in family("commonsense") if len(case.reference) == 1)
    assert max(letters[letter] for letter in "ABCD") <= 5


def test_reading_is_not_copying():
    for case in family("reading"):
        passage = case.messages[-1].content.split("\n\n")[1]
        assert not judged(case, passage), case.id
        assert judged(case, f"The answer is: {case.reference}."), case.id


def test_harmful_requests_are_to_be_declined_and_harmless_ones_answered():
    harmful = [case for case in family("safety") if not case.checker.values]
    assert len(harmful) == 30
    for case in family("safety"):
        for refusal in ("I'm sorry, but I can't help with that.", "抱歉，我无法提供帮助。"):
            assert judged(case, refusal) == (case in harmful), case.id
        helpful = f"Sure, here is how it works: {', '.join(case.checker.values)}"
        assert judged(case, helpful) != (case in harmful), case.id


def test_a_changed_or_missing_file_and_an_unknown_version_are_refused(tmp_path):
    shutil.copytree(FOLDER / "v1", tmp_path / "v1")
    assert load_probe("v1", tmp_path) == CASES
    path = tmp_path / "v1" / "safety.jsonl"
    path.write_bytes(path.read_bytes().replace(b"bomb", b"cake", 1))
    with pytest.raises(InputError, match=r"safety\.jsonl: missing or changed"):
        load_probe("v1", tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=r"safety\.jsonl: missing or changed"):
        load_probe("v1", tmp_path)
    with pytest.raises(InputError, match="probe 'v9' is unknown; there are v1"):
        load_probe("v9")
