"""Which of several options an answer means, for Chinese and English."""

from __future__ import annotations

from collections.abc import Collection

import regex

from eval.checkers.matching import collapse, whole

_BEFORE = 60  # characters looked at for a negation, on either side
_MARK = r"[\s*_\"'“「(\[$]*"
_HEDGES = "always|entirely|quite|necessarily|exactly|completely|fully|really|strictly"
_LIST = r"(?:[A-Za-z0-9]{1,2}(?:,? (?:and|or) |, ))*"
_LISTED = r"(?:[A-Za-z0-9]{1,2}\s*[、和与及]\s*)*"
_NEGATED = regex.compile(
    r"(?:(?<!除)[不没非无未])(?P<hedge>完全|一定|必然|全|太|很|总)?"
    rf"(?:是|有|为|能|会|应该|应|该|可能|可以|算|属于)*(?:选择?)?{_MARK}$"
    rf"|(?:(?<!\bwhy )\bnot|\bcannot|n't|\bnever|\bneither|\bnor)(?P<hedge>\s+(?:{_HEDGES}))?"
    rf"(?:\s+(?:be|the|a|an|option|choose|pick)\b)*{_MARK}$"
    r"|\b(?:rul(?:e[sd]?|ing) out|eliminat(?:es?|ed|ing)|exclud(?:es?|ed|ing)"
    rf"|reject(?:s|ed|ing)?)\s+(?:options? )?{_LIST}{_MARK}$"
    rf"|(?:排除|剔除)了?(?:选项)?{_LISTED}{_MARK}$",
    regex.IGNORECASE,
)
# What says of the option before it that it is not the one: "A is wrong", "A、C都错".
_OTHERS = r"(?:(?:\s*(?:[、和与及]|,(?=[^.;。]{0,12}[都均]))\s*[A-Za-z0-9]{1,2}(?![A-Za-z0-9]))*)"
_AND_OTHERS = r"(?:(?:,|,? (?:and|or)) [A-Za-z0-9]{1,2}\b)+ are"
_REJECTED = regex.compile(
    rf"[\s*_\"'”」)\]]*(?:(?:\s?(?:is|are|was|looks|seems|must be|would be)|{_AND_OTHERS})"
    r"(?: (?:both|all|clearly|obviously|definitely|simply|also|just))?"
    r" (?:(?P<word>wrong|incorrect|false)|ruled out"
    r"|not (?:right|correct|true|the (?:right )?answer))"
    r"|\s?can be (?:ruled out|eliminated|excluded)"
    rf"|{_OTHERS}\s?(?:选项)?(?:[是都均也则]|全都?|明显|显然)*"
    r"(?:(?P<word>错误|错)|不正确|不对|不符合?|不合适|有误|(?:可以|应该?|被)?排除)"
    r"|\s?: ?(?P<word>no|wrong|false|incorrect|错误|错)\b)",
    regex.IGNORECASE,
)
# What an option is announced by. "答案是" must not be read as the option 是.
_CUE = regex.compile(
    r"(?:\banswer[\s*]*(?:(?:is|would be|should be|must be)\b[\s*]*:?|:)"
    r"|\b(?:conclusion|verdict|judge?ment|result)[\s*]*(?:is\b[\s*]*:?|:)"
    r"|答案[\s*]*(?:应该|应当|应)?(?:[是为选]:?|:)|(?<![不没别])选择?:?"
    r"|(?:结果|结论|判断|判定)[\s*]*(?:应该|应当|应)?(?:(?:为|是(?!否(?!定)\p{Han})):?|:))"
    rf"{_MARK}(?:option\b|选项)?{_MARK}",
    regex.IGNORECASE,
)
# 是不是, 是否下雨: a question; 对不起, 对于: no judgement.
_UNDECIDED = regex.compile(r"(?![不没])(\p{Han})[不没]\1|是否(?=\s*[\p{L}\p{N}?])|对不起|对于")
# "A good question" has an article; "A is right" a label.
_ARTICLE = regex.compile(r" (?!(?:is|because|since|as|and|or|but|fits)\b)[a-z]")
_YES = {"是", "对", "能", "会", "有", "可以", "正确", "真", "yes", "true", "correct", "right"}
_NO = {"否", "错", "无", "不", "错误", "假", "no", "false", "wrong", "incorrect"}
_NEGATIONS = ("不", "没", "没有", "非", "无", "not ", "un", "in")
# A short option is a clause of its own with nothing but this beside it in the clause.
_BREAK = r"\n.,;:!?。、…—\-()\"“”「」\[\]{}|\\$*_~"
_BESIDE = regex.compile(
    rf"(?:^|[{_BREAK}])\s*(?:(?:但是|可是|就是|还是|即是|所以|因此|因而|那么|应该|应当|绝对|完全|显然"
    r"|当然|其实|非常|肯定|一定|我认为|我觉得|我想|可见|综上|最终|最后|总之|这句话|这个?|那就?|它"
    r"|[故则应是为选答都也很太不没非未])\s*)*$"
    rf"|(?:^|[{_BREAK}])\s*(?:(?:but|so|and|then|thus|hence|therefore|well|oh|ok|it is|it's|that's"
    r"|that is|this is|it isn't|that isn't|isn't|is|are|not|definitely|clearly|certainly|absolutely"
    r"|actually|completely|i say|i would say|i'd say|i think|my answer|in short)\s+)*['\s]*$",
    regex.IGNORECASE,
)
_ENDS = regex.compile(
    rf"['\s]*(?:[的了吧啊呀哦呢]*\s*(?:$|[{_BREAK}]|(?<!是)(?:因为|由于))|(?<=\p{{Han}}的?)\s"
    r"|(?:because|since|as|indeed|of course)\b)",
    regex.IGNORECASE,
)
_SAID = regex.compile(r" (?:it|you|they|he|she|we|i|this) ", regex.IGNORECASE)  # "Yes it is"
_PREDICATE = regex.compile(r"(?:[是为选朝]|面向|\b(?:is|are|be)\s|[:,]\s?so\s)$", regex.IGNORECASE)


def chosen(options: Collection[str], answer: str) -> str | None:
    """The option that an answer announces ("the answer is …"), else the first it names.

    An option that is negated or called wrong is not named: "not true" names its opposite where
    that is one of the options ("false", "not true"), and nothing else. Options that are also words
    of any sentence (yes and no, 是 and 否) are named first by a clause of their own ("No doubt:
    yes"), then as what something is ("…是错的"), and elsewhere only for want of those.

    Args:
        options: collapsed (`eval.checkers.matching.collapse`), not empty.
        answer: any text.
    """
    text = "\n".join(filter(None, map(collapse, answer.splitlines())))
    announced = {match.end() for match in _CUE.finditer(text)}
    cues, undecided = _places(_CUE, text), _places(_UNDECIDED, text)
    common = _common(options)
    best: tuple[int, str] | None = None
    for start, end, option in _named(options, text):
        cued = start in announced
        if start in cues or (start in undecided and not cued):
            continue
        before = text[max(start - _BEFORE, 0) : start]
        meant = _meant(option, options, before, _rejected(options, text, end))
        if cued and meant is not None:
            return meant
        rank = _rank(before, text, end) if common else 0
        rank += 3 * text.startswith("?", end)  # "Why not A?" asks
        if meant is not None and (best is None or rank < best[0]):
            best = rank, meant
    return best[1] if best else None


def _common(options: Collection[str]) -> bool:
    """Whether the options are such as stand in any sentence: yes and no, one Han character."""
    folded = {option.casefold() for option in options}
    if folded & _YES and folded & _NO:
        return True
    return any(regex.fullmatch(r"\p{Han}", option) for option in options)


def _rank(before: str, text: str, end: int) -> int:
    ends = _ENDS.match(text, end) is not None
    if _BESIDE.search(before) and (ends or _SAID.match(text, end)):
        return 0
    return 1 if ends and _PREDICATE.search(before) else 2


def _rejected(options: Collection[str], text: str, end: int) -> bool:
    match = _REJECTED.match(text, end, end + _BEFORE)
    if match is None:
        return False
    word = match["word"]
    return word is None or word.casefold() not in {option.casefold() for option in options}


def _places(pattern: regex.Pattern[str], text: str) -> set[int]:
    return {place for match in pattern.finditer(text) for place in range(*match.span())}


def _named(options: Collection[str], text: str) -> list[tuple[int, int, str]]:
    """Where which option begins and ends; of two that overlap the first, then the longest."""
    found = []
    for option in options:
        # A lone letter is a label: "a" is also an article, so its case matters.
        for match in whole(option, cased=len(option) == 1).finditer(text):
            if option not in {"A", "a", "I"} or not _ARTICLE.match(text, match.end()):
                found.append((match.start(), -len(option), match.end(), option))
    named: list[tuple[int, int, str]] = []
    last = 0
    for start, _, end, option in sorted(found):
        if start >= last:
            named.append((start, end, option))
            last = end
    return named


def _meant(option: str, options: Collection[str], before: str, rejected: bool) -> str | None:
    negated = _NEGATED.search(before)
    if not negated and not rejected:
        return option
    if negated and negated["hedge"]:  # "not entirely true" is neither true nor false
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
