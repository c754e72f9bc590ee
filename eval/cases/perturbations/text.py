"""What every perturbation needs to know of a text: its language, its fields, its code."""

from __future__ import annotations

import re
from collections.abc import Mapping

Span = tuple[int, int]  # half-open range of characters

HAN = re.compile(r"[\u3400-\u9fff]")
_LATIN = re.compile(r"[A-Za-z]")
# A `key: value` line, also as an item of a list; "http://…" is none.
FIELD = re.compile(
    r"^(?:[-*•] )?(?P<key>[^\W\d_][^\d:：,，.。!！?？\n]{0,30})[:：](?!//)[^\S\n]*(?P<value>\S.*)$",
    re.MULTILINE,
)
FENCE = re.compile(r"(?:```|~~~).*?(?:```|~~~|\Z)", re.DOTALL)
# What prose does not have: brackets, operators, calls, indented lines, tables, formulas, queries.
CODE_SIGN = re.compile(
    r"[{}\[\]<>=|\\]|\$(?!\d)|\w\(|^(?: {4}|\t)|\b(?:SELECT|INSERT|UPDATE|DELETE)\b", re.MULTILINE
)
# A message with one of these speaks of the wording of a text, perhaps its own.
ABOUT_WORDING = re.compile(
    r"(?i:\b(?:verbatim|word for word|unchanged|repeat|copy|echo|spell|misspel|typo|proofread|"
    r"gramma|punctuat|capital letter|capitali[sz]|upper ?case|lower ?case|backwards|revers|"
    r"palindrom|anagram|rhym|syllabl|vowel|consonant|acronym|initials|abbreviat|encod|decod|"
    r"encrypt|decrypt|base ?64|tokeni[sz]|letters|characters|same language|"
    r"how many (?:words|sentences|lines|times|[a-z]\b)|the (?:message|prompt)\b|"
    r"(?:first|last|longest) (?:word|sentence|line)|"
    r"(?:this|my) (?:message|text|prompt|request|question|input|sentence)))"
    r"|逐字|一字不差|原样|原封不动|照抄|抄写|复述|重复|拼写|错别字|错字|写错|写法|病句|语法|标点|字数"
    r"|[几多少]个?(?:汉?字|词|句|字母)|偏旁|部首|笔画|押韵|拼音|读音|谐音|大写|小写|倒着|倒序|颠倒|繁体"
    r"|简体|首字|藏头|缩写|加密|解密|第.个?[字词句]|这[句段条个](?:话|消息|信息|字|词)|这里"
)


def is_chinese(text: str) -> bool:
    """Whether a message is mostly Chinese: a character says about as much as four letters."""
    return 4 * len(HAN.findall(text)) > len(_LATIN.findall(text))


def replaced(text: str, changes: Mapping[Span, str]) -> str:
    """Replace spans that do not overlap."""
    for start, stop in sorted(changes, reverse=True):
        text = text[:start] + changes[start, stop] + text[stop:]
    return text
