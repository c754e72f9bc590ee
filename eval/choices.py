"""Which of several options an answer means, for Chinese and English."""

from __future__ import annotations

from collections.abc import Collection

import regex

from eval.matching import collapse, whole

_BEFORE = 60  # characters looked at for a negation
_MARK = r"[\s*_\"'“「(\[$]*"
_HEDGES = "always|entirely|quite|necessarily|exactly|completely|fully|really|strictly"
_NEGATED = regex.compile(
    r"(?:(?<!除)[不没非无未])(?P<hedge>完全|一定|必然|全|太|很|总)?"
    rf"(?:是|有|为|能|会|应该|应|该|可能|可以|算|属于)*(?:选择?)?{_MARK}$"
    rf"|(?:(?<!\bwhy )\bnot|\bcannot|n't|\bnever|\bneither|\bnor)(?P<hedge>\s+(?:{_HEDGES}))?"
    rf"(?:\s+(?:be|the|a|an|option|choose|pick)\b)*{_MARK}$",
    regex.IGNORECASE,
)
# What an option is announced by. "答案是" must not be read as the option 是.
_CUE = regex.compile(
    r"(?:\banswer[\s*]*(?:(?:is|would be|should be|must be)\b[\s*]*:?|:)"
    r"|答案[\s*]*(?:应该|应当|应)?(?:[是为选]:?|:)|(?<![不没别])选择?:?)"
    rf"{_MARK}(?:option\b|选项)?{_MARK}",
    regex.IGNORECASE,
)
# 是不是, 是否: a question; 对不起, 对于: no judgement.
_UNDECIDED = regex.compile(r"(?![不没])(\p{Han})[不没]\1|是否|对不起|对于")
# "A good question" has an article; "A is right" a label.
_ARTICLE = regex.compile(r" (?!(?:is|because|since|as|and|or|but|fits)\b)[a-z]")
_YES = {"是", "对", "能", "会", "有", "可以", "正确", "真", "yes", "true", "correct", "right"}
_NO = {"否", "错", "无", "不", "错误", "假", "no", "false", "wrong", "incorrect"}
_NEGATIONS = ("不", "没", "没有", "非", "无", "not ", "un", "in")


def chosen(options: Collection[str], answer: str) -> str | None:
    """The option that an answer announces ("the answer is …"), else the first it names.

    An option that is negated is not named: "not true" names its opposite where that is one of the
    options ("false", "not true"), and nothing else.

    Args:
        options: collapsed (`eval.matching.collapse`), not empty.
        answer: any text.
    """
    text = collapse(answer)
    announced = {match.end() for match in _CUE.finditer(text)}
    cues, undecided = _places(_CUE, text), _places(_UNDECIDED, text)
    first = None
    for start, option in _named(options, text):
        cued = start in announced
        if start in cues or (start in undecided and not cued):
            continue
        meant = _meant(option, options, text[max(start - _BEFORE, 0) : start])
        if cued and meant is not None:
            return meant
        first = first if first is not None else meant
    return first


def _places(pattern: regex.Pattern[str], text: str) -> set[int]:
    return {place for match in pattern.finditer(text) for place in range(*match.span())}


def _named(options: Collection[str], text: str) -> list[tuple[int, str]]:
    """Where which option stands; of two that overlap the first, then the longest."""
    found = []
    for option in options:
        # A lone letter is a label: "a" is also an article, so its case matters.
        for match in whole(option, cased=len(option) == 1).finditer(text):
            if option not in {"A", "a", "I"} or not _ARTICLE.match(text, match.end()):
                found.append((match.start(), -len(option), option))
    named: list[tuple[int, str]] = []
    end = 0
    for start, length, option in sorted(found):
        if start >= end:
            named.append((start, option))
            end = start - length
    return named


def _meant(option: str, options: Collection[str], before: str) -> str | None:
    negated = _NEGATED.search(before)
    if not negated:
        return option
    if negated["hedge"]:  # "not entirely true" is neither true nor false
        return None
    folded = {each.casefold(): each for each in options}
    name = option.casefold()
    opposites = [
        other
        for other in folded
        if any(other == word + name or name == word + other for word in _NEGATIONS)
    ]
    if not opposites and name in _YES | _NO:
        opposites = [other for other in folded if other in (_NO if name in _YES else _YES)]
    return folded[opposites[0]] if len(opposites) == 1 else None
