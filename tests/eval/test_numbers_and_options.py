"""Which number, and which of several options, an answer means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.checkers import check
from eval.numerals import numbers
from eval.schema import Checker


def judged(kind: str, values: tuple[str, ...], answer: str, reference: str = "") -> bool:
    return check(Checker(kind=kind, values=values), answer, reference)[1]


@pytest.mark.parametrize(
    ("options", "answer", "meant"),
    [
        ("是 否", "不是。", "否"),
        ("是 否", "是的", "是"),
        ("是 否", "这要看是不是周末。", None),
        ("是 否", "答案是否", "否"),
        ("是 否", "答案是：是", "是"),
        ("是 否", "取决于是否下雨", None),
        ("是 会", "不是。", None),  # no option means no
        ("对 错", "不对。", "错"),
        ("对 错", "没错！", "对"),
        ("对 错", "对不起，这是错的", "错"),
        ("能 否", "不能", "否"),
        ("正确 错误", "不正确", "错误"),
        ("正确 错误", "不完全正确", None),  # neither the one nor the other
        ("正确 错误", "非常正确", "正确"),
        ("有 无", "没有", "无"),
        ("可以 不可以", "不可以", "不可以"),
        ("可以 不可以", "不是不可以", "可以"),
        ("true false", "Not true.", "false"),
        ("true false", "That isn’t true.", "false"),
        ("true false", "It is not false", "true"),
        ("Yes No", "No, it is not.", "No"),
        ("left right", "Not right.", None),  # "right" here is no word of approval
        ("fire ice", "Not fire but ice.", "ice"),
        ("A B", "not A but B", "B"),
        ("A B", "不选A，选B", "B"),
        ("A B", "不能选 A，应选 **B**", "B"),
        ("A B C D", "A good question. The answer is C.", "C"),
        ("A B C D", "A child would hope so, but B is right.", "B"),
        ("A B C D", "A is right.", "A"),
        ("A B C D", "B looks good. But no: the answer is **C**", "C"),
        ("A B C D", "A 看起来对，但答案是 D。", "D"),
        ("A B C D", "正确答案：选项C", "C"),
        ("A B C D", "The answer is not A.", None),
    ],
)
def test_the_option_that_an_answer_means(options, answer, meant):
    values = tuple(options.split())
    right = [value for value in values if judged("choice", values, answer, value)]
    assert right == ([] if meant is None else [meant])


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("54 cm²", "54"),
        ("36 m2", "36"),
        ("36 m^2", "36"),
        ("12 kg of CO₂", "12"),
        ("9.8 m·s⁻²", "9.8"),
        ("① 12", "12"),
        ("①12", "12"),
        ("10⁶", "1000000"),
        ("3 × 10⁶", "3000000"),
        ("2.5 x 10^-3 m", "0.0025"),
        ("2^10", "1024"),
        ("–5", "-5"),
        ("3–5", "5"),
        ("12万", "120000"),
        ("1.5 亿元", "150000000"),
        ("3亿5000万", "350000000"),
        ("1万2000元", "12000"),
        ("3百万", "3000000"),
        ("3万5", "35000"),
        ("1万2千元", "12000"),
        ("No.5", "5"),
        ("about .5", "0.5"),
        ("12 千克", "12"),
        ("1.2 million people", "1200000"),
        ("3/4", "0.75"),
        ("-1 1/2", "-1.5"),
        ("1½ hours", "1.5"),
        (r"\frac{3}{4}", "0.75"),
        ("3/4 + 5/8 = 1.375", "1.375"),
        ("USD12", "12"),
        ("有12个", "12"),
        ("分别是3，100", "100"),
        ("共１２件", "12"),
        ("_12_", "12"),
        ("42 (GPT4)", "42"),
        ("1/3", "0.333333"),
    ],
)
def test_what_number_an_answer_ends_on(answer, number):
    assert judged("numeric", (number,), answer)
    assert not judged("numeric", (f"{float(number) + 1:.9f}",), answer)


@pytest.mark.parametrize(
    ("value", "answer", "right"),
    [
        ("1234567", "1234568", False),
        ("1234567", "1234567.0", True),
        ("1234567", "1234567.4", False),
        ("12345678901234567890", "12345678901234567891", False),
        ("1e30", "1" + "0" * 30, True),
        ("0.1", "0.10000001", True),
        ("0.1", "0.1001", False),
        ("5", "1e999999999999", False),  # at once
        ("5", "9" * 50_000, False),
        ("5", "5/0", False),
        ("5", "9^999999", False),
        ("2", "2024/05/02", False),
    ],
)
def test_integers_are_compared_exactly_and_no_number_stalls(value, answer, right):
    assert judged("numeric", (value,), answer) is right


@given(st.text(alphabet="0123456789.,-+/^eE×10m²½万亿 {}()"))
def test_any_text_has_numbers_or_none(text):
    for number in numbers(text):
        assert number is None or isinstance(number.numerator, int)


@given(st.integers(-(10**20), 10**20), st.sampled_from(["{}", "{:,}", "得{}元。", "= {}."]))
def test_an_integer_is_read_back_however_it_is_written(integer, form):
    assert numbers(form.format(integer)) == [integer]
