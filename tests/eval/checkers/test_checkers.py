from collections import Counter
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from eval.checkers import registry
from eval.checkers.checkers import check, validate_checker
from eval.checkers.instructions import INSTRUCTIONS
from eval.checkers.overlap import unit_f1
from eval.checkers.registry import KINDS
from eval.schema.case import Checker, Instruction
from nlirg.errors import InputError


def judged(kind: str, values: tuple[str, ...], answer: str, reference: str = "", threshold=1.0):
    return check(Checker(kind=kind, values=values, threshold=threshold), answer, reference)


@pytest.mark.parametrize(
    ("kind", "values", "reference", "answer", "right"),
    [
        ("exact", ("blue sky",), "", "  blue \n sky ", True),
        ("exact", (), "１２", "12", True),  # full width by NFKC
        ("exact", ("Blue",), "", "blue", False),
        ("exact", ("a", "b"), "", "b", True),
        ("numeric", ("42",), "", "6 times 7 is 42.", True),
        ("numeric", ("42",), "", "42, or rather 43", False),
        ("numeric", (), "#### -1,234.50", "it is -1234.5", True),
        ("numeric", ("3",), "", "5-3", True),
        ("numeric", ("-3",), "", "结果是-3。", True),
        ("numeric", ("0.1",), "", "1e-1", True),
        ("numeric", ("1",), "", "1.00001", False),
        ("numeric", ("1",), "", "no number", False),
        ("contains", ("Refund", "paid"), "", "refunds were PAID", True),
        ("contains", ("refund", "paid"), "", "refunds", False),
        ("slots", ("24", "Team A"), "", "within 24h by team a.", True),
        ("slots", ("24",), "", "124 or 24.5", False),
        ("slots", ("24",), "", "it takes 24.", True),
        ("slots", ("Ann",), "", "Annual report", False),
        ("slots", ("北京",), "", "在北京市", True),
        ("slots", ("1", "2", "3"), "", "1,2,3", True),
        ("slots", ("500",), "", "24,500", False),
        ("slots", ("24",), "", "24,500", False),
        ("slots", ("1,234",), "", "it is 1234.", True),
        ("slots", ("1234",), "", "it is 1,234.", True),
        ("slots", ("1234",), "", "it is 1,234,567.", False),
        ("slots", ("don't",), "", "we don’t", True),
        ("regex", (r"^\d{4}-\d{2}$",), "", "2024-05", True),
        ("regex", ("x+", "y+"), "", "zy", True),
        ("regex", ("x+",), "", "zy", False),
        ("json", (), "", "[1, 2]", True),
        ("json", ("a",), "", '```json\n{"a": null}\n```', True),
        ("json", ("a",), "", '```JSON\n{"a": 1}```\n', True),
        ("json", ("a",), "", '``` json {"a": 1} ```', True),
        ("json", ("a",), "", '["a"]', False),
        ("json", (), "", "1e999", False),
        ("json", (), "", "```", False),
        ("json", (), "", "NaN", False),
        ("json", (), "", "[" * 100_000, False),
    ],
)
def test_right_and_wrong_answers(kind, values, reference, answer, right):
    assert judged(kind, values, answer, reference)[1] is right


def test_slots_score_is_the_share_found_and_threshold_decides():
    values = ("Ann", "24 months", "lamp", "North")
    assert judged("slots", values, "Ann, lamp, north") == (0.75, False)
    assert judged("slots", values, "Ann, lamp, north", threshold=0.7) == (0.75, True)


def test_json_scores_the_share_of_required_keys():
    assert judged("json", ("a", "b"), '{"a": 1}') == (0.5, False)


def test_f1_by_hand():
    # 2 shared of 3 and 4 words: 2*2/7
    assert unit_f1("red fox jumps", "the red fox sleeps") == pytest.approx(4 / 7)
    assert unit_f1("我爱你", "我爱他") == pytest.approx(2 / 3)  # characters for Chinese
    assert unit_f1("a a a", "a b") == pytest.approx(2 / 5)  # repeats count once each
    assert unit_f1("", "something") == 0


@given(st.text(), st.text(alphabet="abc 我你", min_size=1).filter(str.strip))
def test_f1_is_a_share_and_1_for_the_reference_itself(answer, reference):
    assert 0 <= unit_f1(answer, reference) <= 1
    assert unit_f1(reference, reference) == 1


@pytest.mark.parametrize("kind", ["exact", "numeric", "contains", "slots", "f1", "rouge_l", "chrf"])
def test_nothing_to_compare_with_is_an_error_and_not_a_right_answer(kind):
    with pytest.raises(InputError):
        judged(kind, (), "")


@pytest.mark.parametrize(
    ("checker", "reference", "message"),
    [
        (Checker(kind="exact", values=("x",), threshold=0), "", "threshold 0"),
        (Checker(kind="exact"), " ", "no accepted answer"),
        (Checker(kind="slots", values=("x", "")), "", "no accepted answer"),
        (Checker(kind="choice", values=("x",)), "x", "at least two"),
        (Checker(kind="choice", values=("x", "y")), "z", "not one of the options"),
        (Checker(kind="numeric", values=("ten",)), "", "no number"),
        (Checker(kind="numeric", values=("7", "3 or 4")), "", "'3 or 4' holds 2 numbers"),
        (Checker(kind="numeric", values=("3 / 4",)), "", "holds 2 numbers"),
        (Checker(kind="numeric", values=("1e9999",)), "", "too large"),
        (Checker(kind="regex"), "abc", "at least one pattern"),
        (Checker(kind="regex", values=("(",)), "", "missing"),
        (Checker(kind="regex", values=("0", "(")), "", "missing"),
        (Checker(kind="f1"), "?!", "no words"),
    ],
)
def test_bad_settings_name_the_case(checker, reference, message):
    with pytest.raises(InputError, match=f"cases.jsonl:3: .*{message}"):
        validate_checker(checker, reference, "cases.jsonl:3: case 'c'")


def test_a_pathological_pattern_is_an_error_and_not_a_hang(monkeypatch):
    monkeypatch.setattr("eval.checkers.matching.REGEX_TIMEOUT_S", 0.05)
    with pytest.raises(InputError, match="took more than"):
        judged("regex", ("(?:a|aa|b)+$",), "a" * 60 + "c")


SCHEMA = {
    "type": "object",
    "properties": {"team": {"enum": ["North", "South"]}, "days": {"type": "integer", "minimum": 1}},
    "required": ["team", "days"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ('{"team": "North", "days": 2}', True),
        ('```json\n{"team": "South", "days": 1}\n```', True),
        ('{"team": "North"}', False),
        ('{"team": "East", "days": 2}', False),
        ('{"team": "North", "days": 2, "x": 1}', False),
        ('The team is {"team": "North", "days": 2}', False),
        ("", False),
    ],
)
def test_json_schema(answer, right):
    assert check(Checker(kind="json_schema", json_schema=SCHEMA), answer, "")[1] is right


def test_a_schema_fetches_nothing():
    elsewhere = Checker(kind="json_schema", json_schema={"$ref": "https://example.com/s.json"})
    with pytest.raises(InputError, match=r"'https://example\.com/s\.json' is not in the"):
        check(elsewhere, "1", "")
    within = {"$defs": {"n": {"type": "number"}}, "items": {"$ref": "#/$defs/n"}}
    assert check(Checker(kind="json_schema", json_schema=within), "[1, 2]", "")[1]
    assert not check(Checker(kind="json_schema", json_schema=within), '["a"]', "")[1]


def in_schema(schema: dict, answer: str) -> bool:
    return check(Checker(kind="json_schema", json_schema=schema), answer, "")[1]


NESTED = {"type": "array", "items": {"$ref": "#"}}
CENTS = {"multipleOf": 0.01}


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        (NESTED, "[" * 250 + "]" * 250),
        (CENTS, "1e999"),
        (CENTS, "1" + "0" * 400),
        (CENTS, "1" + "0" * 9000),
    ],
)
def test_no_answer_crashes_a_schema(schema, answer):
    assert in_schema(NESTED, "[[]]")
    assert in_schema(CENTS, "1.25")
    assert not in_schema(schema, answer)


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ({"pattern": "^(?:a|aa|b)+$"}, '"{}"'),
        ({"patternProperties": {"^(?:a|aa|b)+$": False}}, '{{"{}": 1}}'),
        (
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "items": {"$ref": "#"},
                "pattern": "^(?:a|aa|b)+$",
            },
            '["{}"]',
        ),
        (
            {"additionalProperties": False, "patternProperties": {"^(?:a|aa|b)+$": True}},
            '{{"{}": 1}}',
        ),
    ],
)
def test_a_pathological_pattern_in_a_schema_is_an_error_and_not_a_hang(monkeypatch, schema, answer):
    monkeypatch.setattr("eval.checkers.matching.REGEX_TIMEOUT_S", 0.05)
    with pytest.raises(InputError, match="took more than"):
        in_schema(schema, answer.format("a" * 60 + "c"))


def test_patterns_in_a_schema_mean_what_they_meant():
    named = {"patternProperties": {"^n_": {"type": "integer"}}, "additionalProperties": False}
    assert in_schema(named, '{"n_a": 1}')
    assert not in_schema(named, '{"n_a": "x"}')
    assert not in_schema(named, '{"n_a": 1, "m": 2}')
    typed = {"properties": {"a": {}}, "additionalProperties": {"type": "string"}}
    assert in_schema(typed, '{"a": 1, "b": "x"}')
    assert not in_schema(typed, '{"a": 1, "b": 2}')
    assert in_schema({"pattern": "b"}, '"abc"')
    assert not in_schema({"pattern": "b"}, '"ac"')
    assert in_schema({"pattern": "b"}, "1")


def test_rouge_l_by_hand():
    # the longest common subsequence of 5 and 4 words is "the fox jumps": 2*3/9
    answer, reference = "the red fox quickly jumps", "the fox never jumps"
    assert judged("rouge_l", (), answer, reference)[0] == pytest.approx(6 / 9)
    assert judged("rouge_l", (), "我爱他们", "我也爱他")[0] == pytest.approx(6 / 8)  # 我爱他
    assert judged("rouge_l", ("x y", "a b"), "a b", "unused") == (1.0, True)
    assert judged("rouge_l", (), "", "我") == (0.0, False)


def test_chrf_orders_answers_in_both_languages():
    for reference, near, far in [
        ("the parcel arrives on Friday", "the parcels arrive on Friday", "we are closed today"),
        ("包裹星期五到", "包裹周五到", "今天休息"),
    ]:
        scores = [judged("chrf", (), answer, reference)[0] for answer in (reference, near, far)]
        assert scores[0] == 1.0
        assert scores[0] > scores[1] > 2 * scores[2]
        assert judged("chrf", (), near, reference, threshold=scores[1])[1]
    assert judged("chrf", (), "", "abc") == (0.0, False)


@given(st.text(), st.text(alphabet="abc 我你", min_size=1).filter(str.strip))
def test_overlap_scores_are_shares(answer, reference):
    for kind in ("rouge_l", "chrf"):
        assert 0 <= judged(kind, (), answer, reference)[0] <= 1


@pytest.fixture
def functions(tmp_path, monkeypatch):
    (tmp_path / "my_checks.py").write_text(
        "LIMIT = 3\n"
        "def share(answer, reference): return len(set(answer) & set(reference)) / 4\n"
        "def flag(answer, reference): return answer == reference\n"
        "def high(answer, reference): return 2\n"
        "def nothing(answer, reference): return float('nan')\n"
        "def broken(answer, reference): raise KeyError('x')\n"
        "def fussy(answer, reference): return 1 / len(answer)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("functions")
def test_a_python_function_gives_the_score():
    assert judged("python", ("my_checks:share",), "abx", "abcd") == (0.5, False)
    assert judged("python", ("my_checks:share",), "abx", "abcd", threshold=0.5) == (0.5, True)
    assert judged("python", ("my_checks:flag",), "a", "a") == (1.0, True)


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("my_checks.share", "write it as package.module:function"),
        ("no_such_module:f", "cannot be imported .ModuleNotFoundError"),
        ("my_checks:absent", "cannot be imported .AttributeError"),
        ("my_checks:LIMIT", "is not a function"),
        ("my_checks:high", "returned 2; it must return a number from 0 to 1"),
        ("my_checks:nothing", "returned nan"),
        ("my_checks:broken", "failed: KeyError: 'x'"),
    ],
)
def test_a_python_function_that_cannot_judge_is_refused_when_read(path, message):
    with pytest.raises(InputError, match=f"case 'c': checker 'python': .*{message}"):
        validate_checker(Checker(kind="python", values=(path,)), "ref", "case 'c'")


@pytest.mark.usefixtures("functions")
def test_a_function_that_fails_on_one_answer_does_not_score_it():
    checker = Checker(kind="python", values=("my_checks:fussy",))
    validate_checker(checker, "ref", "case")
    with pytest.raises(InputError, match="failed: ZeroDivisionError"):
        check(checker, "", "ref")


def test_instructions_score_the_share_kept():
    asked = (Instruction(kind="words", max=3), Instruction(kind="lowercase"))
    checker = Checker(kind="instructions", instructions=asked)
    assert check(checker, "one two", "") == (1.0, True)
    assert check(checker, "One two", "") == (0.5, False)
    assert check(checker, "", "") == (0.0, False)


def test_refusals_wanted_and_unwanted():
    declined, answered = "I'm sorry, but I can't help with that.", "Use kill -9 1234."
    assert judged("refusal", (), declined)[1]
    assert not judged("refusal", (), answered)[1]
    assert judged("refusal", ("kill -9", "htop"), answered)[1]
    assert not judged("refusal", ("kill -9", "help"), declined)[1]
    assert not judged("refusal", ("kill -9",), "Have a nice day.")[1]


@pytest.mark.parametrize(
    ("checker", "message"),
    [
        (Checker(kind="json_schema"), "give a schema"),
        (Checker(kind="json_schema", json_schema={"type": "strin"}), "json_schema: 'strin' is not"),
        (Checker(kind="json_schema", json_schema={"$ref": "#"}), "refers to itself without end"),
        (Checker(kind="json_schema", json_schema={"pattern": "("}), "json_schema: '.' is not a"),
        (
            Checker(
                kind="json_schema",
                json_schema={"patternProperties": {"a": True}, "unevaluatedProperties": False},
            ),
            "use additionalProperties",
        ),
        (Checker(kind="json", json_schema=SCHEMA), "does not read json_schema"),
        (Checker(kind="json_schema", values=("a",), json_schema=SCHEMA), "does not read values"),
        (Checker(kind="python"), "give one value"),
        (Checker(kind="instructions"), "at least one instruction"),
        (Checker(kind="instructions", instructions=(Instruction(kind="include"),)), "give values"),
        (
            Checker(kind="instructions", instructions=(Instruction(kind="sentence", min=1),)),
            "instruction 'sentence' is unknown; did you mean sentences",
        ),
        (Checker(kind="exat"), "'exat' is unknown; did you mean exact?"),
        (Checker(kind="magic"), "'magic' is unknown; there are .*choice"),
        (
            Checker(kind="exact", instructions=(Instruction(kind="json"),)),
            "does not read instructions",
        ),
        (Checker(kind="rouge_l", values=("?!",)), "no words"),
        (Checker(kind="refusal", values=(" ",)), "no accepted answer"),
    ],
)
def test_bad_settings_of_the_later_kinds_name_the_case(checker, message):
    with pytest.raises(InputError, match=f"case 'c': checker .*{message}"):
        validate_checker(checker, "ref", "case 'c'")


def test_the_readme_says_of_every_kind_what_it_says_of_itself():
    readme = (Path(registry.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    for name, kind in KINDS.items():
        assert f"\n| `{name}` | {kind.right_if} | {kind.values or '–'} |\n" in readme
    values = {"none": "", "one": "one value", "one or none": "one value or none", "some": "values"}
    for name, kind in INSTRUCTIONS.items():
        settings = filter(None, ["`min`, `max` or both" * kind.counts, values[kind.values]])
        assert f"\n| `{name}` | {kind.meaning} | {'; '.join(settings) or '–'} |\n" in readme
    rows = regex.findall(r"(?m)^\| `(\w+)` \|", readme[: readme.index("**Format.**")])
    assert Counter(rows) == Counter([*KINDS, *INSTRUCTIONS])


def test_a_kind_is_added_by_registering_a_function(monkeypatch):
    monkeypatch.setattr(registry, "KINDS", KINDS)
    monkeypatch.setitem(KINDS, "shout", KINDS["exact"])
    registry.checker("shout", "it is loud")(lambda checker, answer, reference: answer.isupper())
    checker = Checker(kind="shout")
    validate_checker(checker, "HEY", "case")
    assert check(checker, "HEY", "") == (True, True)
    assert not check(checker, "hey", "")[1]
