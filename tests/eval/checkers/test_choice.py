"""Which of several options an answer means."""

from time import monotonic

from eval.checkers.checkers import check
from eval.schema.case import Checker

ANNOUNCED = [
    ("A B C D", "A good question. The answer is C.", "C"),
    ("A B C D", "B looks good. But no: the answer is **C**", "C"),
    ("A B C D", "A 看起来对，但答案是 D。", "D"),
    ("A B C D", "正确答案：选项C", "C"),
    ("A B C D", "The answer A is wrong; the answer is D", "D"),
    ("A B C D", "A、C错误，选B", "B"),
    ("A B C D", "A是错误的，应选C", "C"),
    ("yes no", "The rule says no refunds; the answer: yes", "yes"),
    ("是 否", "答案是否", "否"),
    ("是 否", "答案是：是", "是"),
    ("是 否", "答案：否", "否"),
    ("是 否", "答案是否定的", "否"),
    ("有 无", "只有一条，无关，所以答案：无", "无"),
]
LONE = [
    ("A B C D", "(b)", "B"),
    ("A B C D", "**D**", "D"),
    ("yes no", "'Yes'", "yes"),
    ("C C++", "C++.", "C++"),
    ("C C++", "`c`", "C"),
    ("是 否", "【否】", "否"),
    ("是 不是", "不是。", "不是"),
    ("棉花 铁 一样重", "一样重", "一样重"),
]
NAMED_FIRST = [
    ("spam|not spam", "This is not spam.", "not spam"),  # the longest of those that begin there
    ("low high", "Lower the priority? high", "high"),
    ("正面 负面", "这条评论是负面的，不是正面的", "负面"),
    ("A B", "a guess: B, not A", "B"),
    ("A B C D", "A child would hope so, but B is right.", "B"),
    ("A B C D", "A is right.", "A"),
    ("A B C D", "B, because A is wrong", "B"),
    ("A B C D", "A: Paris", "A"),
    ("yes no", "Yes\nThere is no doubt.", "yes"),
    ("yes no", "No, it is not.", "no"),
    ("yes no", "perhaps", None),
    ("left right", "To the right. Left would be a mirror", "right"),
    ("对 错", "这句话是错的", "错"),
    ("东 南 西 北", "太阳从东边升起", "东"),
]
# What an earlier grammar of negations read otherwise: extraction looks at no words around.
NEGATED_AND_REASONED = [
    ("是 否", "不是。", "是"),
    ("正确 错误", "不正确", "正确"),
    ("true false", "Not true.", "true"),
    ("A B", "不能选 A，应选 **B**", "A"),
    ("A B C D", "The answer is not A.", "A"),
    ("A B C D", "Option A is wrong, so B", "A"),
    ("yes no", "There is no doubt: yes", "no"),
    ("对 错", "绝对错", "对"),
]


def test_the_option_that_an_answer_means():
    for options, answer, meant in [*ANNOUNCED, *LONE, *NAMED_FIRST, *NEGATED_AND_REASONED]:
        values = tuple(options.split("|" if "|" in options else None))
        checker = Checker(kind="choice", values=values)
        right = [value for value in values if check(checker, answer, value)[1]]
        assert right == ([] if meant is None else [meant]), answer


def test_an_answer_that_repeats_itself_is_judged_at_once():
    start = monotonic()
    for repeated in ("A、", "是", "the answer is ", "选", "* "):
        for options in ("A B", "是 否", "yes no"):
            values = tuple(options.split())
            check(Checker(kind="choice", values=values), repeated * 3000, values[0])
    assert monotonic() - start < 10
