import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.checkers import check, unit_f1, validate_checker
from eval.schema import Checker
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
        ("choice", ("spam", "not spam"), "not spam", "This is not spam.", True),
        ("choice", ("spam", "not spam"), "spam", "This is not spam.", False),
        ("choice", ("A", "B"), "B", "a guess: B, not A", True),
        ("choice", ("low", "high"), "low", "Lower the priority? high", False),
        ("choice", ("正面", "负面"), "负面", "这条评论是负面的，不是正面的", True),
        ("choice", ("yes", "no"), "yes", "perhaps", False),
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
        ("regex", (r"^\d{4}-\d{2}$",), "", "2024-05", True),
        ("regex", ("x+", "y+"), "", "zy", True),
        ("regex", ("x+",), "", "zy", False),
        ("json", (), "", "[1, 2]", True),
        ("json", ("a",), "", '```json\n{"a": null}\n```', True),
        ("json", ("a",), "", '["a"]', False),
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


@pytest.mark.parametrize("kind", ["exact", "numeric", "contains", "slots", "f1"])
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
    monkeypatch.setattr("eval.checkers.REGEX_TIMEOUT_S", 0.05)
    with pytest.raises(InputError, match="took more than"):
        judged("regex", ("(?:a|aa|b)+$",), "a" * 60 + "c")
