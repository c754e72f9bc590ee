"""The same words written carelessly: typing errors, and case."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Sequence

from eval.cases.perturbations.tables import (
    ABBREVIATIONS,
    FIRST_PAIRS,
    KEYBOARD_ROWS,
    LAST_PAIRS,
    TYPOS_ZH,
    UNHEARD_OF,
)
from eval.cases.perturbations.text import FIELD, HAN, Span, is_chinese, overlaps, protected_spans

TYPO_SHARE = 0.05  # of the letters that may be touched
MIN_TYPO_WORD = 4  # letters: shorter words become other words

# A word with a capital may be a name.
_WORD = re.compile(r"(?<![A-Za-z'’-])[a-z]+(?![A-Za-z'’-])")
_NEIGHBOURS = {
    letter: row[max(i - 1, 0) : i] + row[i + 1 : i + 2]
    for row in KEYBOARD_ROWS
    for i, letter in enumerate(row)
}
_VOWELS = set("aeiouy")
_WORD_ZH = re.compile("|".join(sorted(TYPOS_ZH, key=len, reverse=True)))
_TITLES = (
    "先生|女士|小姐|太太|老师|师傅|医生|经理|主任|教授|同学|阿姨|叔叔|大爷|大妈|老板|爷爷|奶奶"
)
_NAME_ZH = re.compile(
    rf"(?<![大缩减最很更较])[小老阿](?!师|板|时|说|学)[\u4e00-\u9fff]|[\u4e00-\u9fff]{{1,2}}(?={_TITLES})"
    r"|[李王张刘陈杨黄赵吴孙朱胡郭郑梁谢宋唐韩曹邓冯蔡潘董袁蒋沈韦邹秦薛雷龚邵钱][\u4e00-\u9fff]{1,2}"
)
_PERSON_KEY = re.compile(
    r"(?i:customer|client|user|name|contact|owner|agent|author|sender|address|city|country)"
    r"|客户|顾客|用户|姓名|名字|名称|联系人|负责人|作者|地址|城市|国家"
)
# What its case tells apart: acronyms, iPhones, units, labels of options, letters for things.
_CASED = re.compile(
    r"\b[A-Z]{2,}\w*\b|\b\w*[a-z][A-Z]\w*\b|\d[^\S\n]*(?:[kKMGTmcdnµ]?(?:m|g|l|L|s|W|V|A|J|N|B|b|Hz|Pa|Wh)|°?[CFK]|[ap]m)\b"
    r"|^[^\S\n]*\(?[A-Za-z][.)）、]|\b[B-HJ-Zb-hj-z]\b|\bA\b(?! [a-z])|(?<![.!?] )(?<!^)\bA\b",
    re.MULTILINE,
)


def typos(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Mistype about 5 % of the letters of longer words, or of the characters in Chinese."""
    kept = protected_spans(text, facts) + _names(text)
    if is_chinese(text):
        return _misspelt(text, rng, kept)
    words = {
        match.span(): _slips(match[0])
        for match in _WORD.finditer(text)
        if len(match[0]) >= MIN_TYPO_WORD and not overlaps(match.span(), kept)
    }
    wanted = max(1, round(TYPO_SHARE * sum(stop - start for start, stop in words)))
    possible = [span for span, slips in words.items() if slips]
    if not possible:
        return None
    for start, stop in rng.sample(possible, min(wanted, len(possible))):
        text = text[:start] + rng.choice(words[start, stop]) + text[stop:]
    return text


def _names(text: str) -> list[Span]:
    """Names, where a pattern or the key of a field tells them."""
    fields = [
        field.span("value") for field in FIELD.finditer(text) if _PERSON_KEY.search(field["key"])
    ]
    return fields + [match.span() for match in _NAME_ZH.finditer(text)]


def _slips(word: str) -> list[str]:
    """The word with two letters transposed or the key beside one hit, where no word comes out."""
    slips = []
    for i in range(1, len(word) - 1):
        if word[i] != word[i + 1]:
            slips.append(word[:i] + word[i + 1] + word[i] + word[i + 2 :])
        slips += [word[:i] + key + word[i + 1 :] for key in _NEIGHBOURS[word[i]]]
    known = _oddities(word)
    return [slip for slip in slips if slip not in ABBREVIATIONS and _oddities(slip) - known]


def _oddities(word: str) -> set[str]:
    """What tells that a string of letters is no English word."""
    odd = {first + second for first, second in itertools.pairwise(word)} & UNHEARD_OF
    if not set(word[:2]) & _VOWELS and word[:2] not in FIRST_PAIRS:
        odd.add(f"{word[:2]}…")
    if not set(word[-2:]) & _VOWELS and word[-2:] not in LAST_PAIRS:
        odd.add(f"…{word[-2:]}")
    return odd


def _misspelt(text: str, rng: random.Random, kept: Sequence[Span]) -> str | None:
    """Take a character of the same sound, as one picks from the input method."""
    words = [match.span() for match in _WORD_ZH.finditer(text) if not overlaps(match.span(), kept)]
    if not words:
        return None
    wanted = max(1, round(TYPO_SHARE * len(HAN.findall(text))))
    for start, stop in rng.sample(words, min(wanted, len(words))):
        text = text[:start] + TYPOS_ZH[text[start:stop]] + text[stop:]
    return text


def letter_case(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Write all in small letters, or all in capitals; not what the case tells apart."""
    kept = protected_spans(text, facts) + [match.span() for match in _CASED.finditer(text)]
    changes = [mapped(text, kept, str.lower), mapped(text, kept, str.upper)]
    applicable = [change for change in changes if change != text]
    return rng.choice(applicable) if applicable else None


def mapped(text: str, kept: Sequence[Span], change: Callable[[str], str]) -> str:
    """Change every character outside the spans."""
    free = [True] * len(text)
    for start, stop in kept:
        free[start:stop] = [False] * (stop - start)
    return "".join(change(c) if is_free else c for c, is_free in zip(text, free, strict=True))
