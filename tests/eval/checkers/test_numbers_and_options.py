"""Which number, and which of several options, an answer means."""

from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.checkers.checkers import check
from eval.checkers.numerals import numbers
from eval.schema.case import Checker


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
    ("options", "answer", "meant"),
    [
        ("是 否", "判断结果是：否", "否"),
        ("是 否", "但是，否", "否"),
        ("是 否", "结论：这是不可以的，否", "否"),
        ("是 否", "该商品是二手的，因此否。", "否"),
        ("是 否", "这是因为超过了期限，所以是否。", "否"),
        ("是 否", "问题的关键是保修期已过。否。", "否"),
        ("是 否", "否，这是错的", "否"),
        ("是 否", "不是", "否"),
        ("是 否", "根据规定，这笔订单是在7天后申请的，否", "否"),
        ("是 否", "答案：否", "否"),
        ("是 否", "最终判断：否", "否"),
        ("是 否", "经核对是超期，否", "否"),
        ("对 错", "绝对错", "错"),
        ("对 错", "对此，我认为错", "错"),
        ("对 错", "对比可知，错", "错"),
        ("对 错", "面对这种情况，错", "错"),
        ("对 错", "相对来说是错", "错"),
        ("对 错", "针对此题：错", "错"),
        ("对 错", "核对后：错", "错"),
        ("对 错", "这句话是错的", "错"),
        ("对 错", "错", "错"),
        ("对 错", "答案：错", "错"),
        ("有 无", "所有记录都没写，无", "无"),
        ("有 无", "只有一条，无关，所以无", "无"),
        ("有 无", "有关信息显示：无", "无"),
        ("有 无", "无", "无"),
        ("有 无", "答案：无", "无"),
        ("有 无", "没有", "无"),
        ("yes no", "There is no doubt: yes", "yes"),
        ("yes no", "No doubt about it, yes.", "yes"),
        ("yes no", "There is no reason to refuse, so yes.", "yes"),
        ("yes no", "Yes, no problem", "yes"),
        ("yes no", "No problem, yes", "yes"),
        ("yes no", "With no receipt needed, yes", "yes"),
        ("A B C D", "Option A is wrong, so B", "B"),
        ("A B C D", "A is incorrect; B is correct.", "B"),
        ("A B C D", "A选项错误，B选项正确", "B"),
        ("A B C D", "A、C、D都错，B对", "B"),
        ("A B C D", "Let's rule out A. It is B.", "B"),
        ("A B C D", "First, A fails. B works.", "B"),
        ("A B C D", "A: no. B: yes.", "B"),
        ("A B C D", "Why not A? It is too late. B.", "B"),
        ("yes no", "Yes\nThere is no doubt.", "yes"),
        ("yes no", "**No**", "no"),
        ("yes no", "Yes, there is no rule against it.", "yes"),
        ("yes no", "The rule says no refunds; the answer: yes", "yes"),
        ("yes no", "No. Yes would be wrong.", "no"),
        ("yes no", "It's a no.", "no"),
        ("yes no", "I would say no", "no"),
        ("yes no", "Is it? Yes it is, no doubt", "yes"),
        ("yes no", "Absolutely not, no.", "no"),
        ("yes no", "Yes or no? No.", "no"),
        ("yes no", "The correct response is yes, not no.", "yes"),
        ("yes no", "Not no but yes", "yes"),
        ("yes no", "My verdict is no", "no"),
        ("yes no", "'yes'", "yes"),
        ("yes no", "No one can say, but yes", "yes"),
        ("true false", "The statement is true because false claims fail.", "true"),
        ("true false", "That claim is false. It would be true if x.", "false"),
        ("true false", "true is wrong", "false"),
        ("true false", "It is true that birds fly, so false", "false"),
        ("是 否", "是的，可以。", "是"),
        ("是 否", "不是的", "否"),
        ("是 否", "是，不是问题", "是"),
        ("是 否", "否定", "否"),
        ("是 否", "答案是否定的", "否"),
        ("是 否", "判断是否合理：是", "是"),
        ("是 否", "结论是：不是", "否"),
        ("是 否", "不，是的", "是"),
        ("是 否", "是 因为没有否", "是"),
        ("是 否", "问题是能否退货。可以，是", "是"),
        ("是 否", "是否可以退货？否", "否"),
        ("是 否", "输出：「否」", "否"),
        ("是 否", "【否】", "否"),
        ("是 否", "该订单是否逾期：是", "是"),
        ("对 错", "这个说法是对的，没有错", "对"),
        ("对 错", "这是对的", "对"),
        ("对 错", "说法对", "对"),
        ("对 错", "不对，错在日期", "错"),
        ("对 错", "错。对的说法是", "错"),
        ("对 错", "对错难辨，错", "错"),
        ("对 错", "判断：对", "对"),
        ("对 错", "错的是日期，所以错", "错"),
        ("正确 错误", "这个说法是错误的，正确的是", "错误"),
        ("正确 错误", "说法正确", "正确"),
        ("正确 错误", "结果错误", "错误"),
        ("有 无", "有风险", "有"),
        ("有 无", "结果为：无", "无"),
        ("有 无", "没有风险", "无"),
        ("有 无", "没有任何问题，无", "无"),
        ("有 无", "所有的都有", "有"),
        ("A B C D", "A、C错误，选B", "B"),
        ("A B C D", "A is not wrong", "A"),
        ("A B C D", "The answer A is wrong; the answer is D", "D"),
        ("A B C D", "I ruled out A and C, so B", "B"),
        ("A B C D", "B, because A is wrong", "B"),
        ("A B C D", "排除A、C、D，B", "B"),
        ("A B C D", "A and C are incorrect. D", "D"),
        ("A B C D", "A: no way. B", "B"),
        ("A B C D", "A: Paris", "A"),
        ("A B C D", "A错，B对", "B"),
        ("A B C D", "选项A不正确，选项C正确", "C"),
        ("A B C D", "A, C and D are wrong, B is right", "B"),
        ("A B C D", "A是错误的，应选C", "C"),
        ("A B C D", "A can be ruled out. C", "C"),
        ("A B C D", "A, B is wrong", "A"),
        ("left right", "To the right. Left would be a mirror", "right"),
        ("东 南 西 北", "太阳从东边升起", "东"),
        ("东 南 西 北", "先向北，最后面向南。", "南"),
        ("东 南 西 北", "从东边", "东"),
        ("棉花 铁 一样重", "一样重", "一样重"),
        ("positive negative", "negative\n\npositive words are few", "negative"),
        ("是 不是", "不是", "不是"),
        ("是 不是", "是的", "是"),
    ],
)
def test_the_option_that_an_answer_with_a_reason_means(options, answer, meant):
    values = tuple(options.split())
    assert [value for value in values if judged("choice", values, answer, value)] == [meant]


@pytest.mark.parametrize("repeated", ["A、", "A, ", "是", "对错", "so ", "not "])
@pytest.mark.parametrize("options", ["A B", "是 否", "yes no"])
def test_an_answer_that_repeats_itself_is_judged_at_once(repeated, options):
    start = monotonic()
    judged("choice", tuple(options.split()), repeated * 3000, options.split()[0])
    assert monotonic() - start < 5


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
        ("2**3", "8"),
        ("2 ** 3", "8"),
        ("**2** 3", "3"),
        ("1 000 000", "1000000"),
        ("10 000 元", "10000"),
        ("1 234 567.5", "1234567.5"),
        ("100 200 300", "300"),
        ("12 500", "500"),
        ("2百", "200"),
        ("2百50", "250"),
        ("1013百帕", "1013"),
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
