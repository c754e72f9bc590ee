"""What every perturbation needs to know of a text: its language, its fields, what must stay."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

Span = tuple[int, int]  # half-open range of characters

HAN = re.compile(r"[\u3400-\u9fff]")
_LATIN = re.compile(r"[A-Za-z]")
# A `key: value` line; "http://…" is none.
FIELD = re.compile(
    r"^(?P<indent>[^\S\n]*(?:[-*•][^\S\n]*)?)(?P<key>[^\W\d_][^:：\n]{0,40})[:：](?!//)"
    r"[^\S\n]*(?P<value>\S.*)$",
    re.MULTILINE,
)
# Codes, addresses, identifiers: a changed letter makes them another thing, not a typo.
CODE = re.compile(r"[!-~]*[0-9@/\\_][!-~]*")
_QUOTED = re.compile(
    r"`[^`]+`|\"[^\"\n]+\"|(?<!\w)'[^'\n]+'(?!\w)|“[^”]+”|‘[^’\n]+’(?!\w)|「[^」]+」|『[^』]+』|《[^》]+》"
)
FENCE = re.compile(r"(?:```|~~~).*?(?:```|~~~|\Z)", re.DOTALL)
# Code, data and formulas that stand in a text without a fence: a mark or letter more breaks them.
_BARE_CODE = re.compile(
    r"(?s:\{.*\})|\[[^\]\n]*\]|\$[^$\n\d\s][^$\n]*\$|<[^<>\n]{1,80}>"
    r"|[A-Za-z_][\w.]*\((?:[^()\n]|\([^()\n]*\))*\)"
    r"|^(?: {4}|\t).*$|^[^\S\n]*\|.*\|[^\S\n]*$"
    r"|^[^\S\n]*[A-Za-z_][\w.\[\]\"', ]*\s*[-+*/%&|]?=(?!=)[^\S\n]*\S.*$"
    r"|^[^\S\n]*(?:return|import|from|raise|yield|del|assert)[^\S\n]\S.*$"
    r"|^[^\S\n]*for[^\S\n][\w, ]+[^\S\n]in[^\S\n].*$"
    r"|^[^\S\n]*(?:def|class|for|while|if|elif|else|with|try|except|finally)\b.*:(?:[^\S\n].*)?$"
    r"|\b(?:SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE TABLE|ALTER TABLE)\b.*$",
    re.MULTILINE,
)
_HAN_DIGITS = "〇零一二三四五六七八九十百千万亿两"
NUMBER_WORD = re.compile(
    r"(?i:\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|"
    r"fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|dozen|half|twice)\b)"
    rf"|[{_HAN_DIGITS}]{{2,}}|[{_HAN_DIGITS}](?=[个天年月日号元件次条名位岁分秒句字项步倍])"
)
NEGATION = re.compile(
    r"(?i:\b(?:no|not|never|without|except|only|cannot|neither|nor|none|nobody|nothing|nowhere|"
    r"hardly|barely|rarely|seldom)\b|n['’]t\b)"
    r"|[不没无非别未勿]|除了|只"
)
# Questions about the letters, words or marks of the text itself: every rewording changes them.
ABOUT_FORM = re.compile(
    r"(?i:\b(?:verbatim|word for word|letter for letter|repeat(?= (?!purchase|order))|copy|echo|"
    r"spell\w*|misspel\w+|typos?|proofread|gramma\w+|punctuat\w+|anagrams?|palindromes?|rhym\w+|"
    r"syllables?|vowels?|consonants?|capitali[sz]\w+|capital letters?|(?:upper|lower)[ -]?case|"
    r"backwards|how many (?:words|letters|characters|sentences|lines|commas|marks|times)|"
    r"(?:count|number of)(?: the| all)* (?:words|letters|characters|sentences|lines|commas)|"
    r"(?:first|second|third|last|longest|shortest) (?:word|letter|character|sentence|line)|"
    r"the letters? [\"'“‘]?[A-Za-z][\"'”’]?(?![\w'’])|letters (?:in|of)|same language|"
    r"acronyms?|initials|abbreviat\w+|base ?64|rot-?13|md5|morse|(?:en|de)crypt\w*|tokeni[sz]\w+|"
    r"unchanged)(?!\w)"
    r"|\breverse[sd]? (?:the )?(?:word|string|text|sentence|letter)"
    r"|\bis (?:this|it|the|he|she)\b.{0,40}\b(?:polite|rude|formal|informal)\b"
    r"|\b(?:what|which|classify|identify|rate|describe|determine)\b.{0,30}"
    r"\b(?:tone|politeness|formality|register)\b)"
    r"|逐字|一字不差|原样|照抄|抄写|复述|重复(?!购|提交|扣|收|下单)|拼写|错别字|错字|病句|语法|标点|逗号"
    r"|[多几][少个]?个?(?:字|词|汉字|字母|句子|单词|行)(?!典)|字数|偏旁|部首|笔画|押韵|拼音|读音|谐音|同音|声调"
    r"|(?:第.|首|末|最后一)个?(?:字|词|字母|句)|大写|小写|倒着|倒序|颠倒|反着|繁体|简体|这个字|藏头"
    r"|首字母|缩写|原封不动|加密|解密|写错|写法"
    r"|是否(?:礼貌|正式)|(?:礼貌|正式)吗|(?:什么|何种)(?:语气|口吻)|语气(?:是|如何|怎)"
)
# Questions about greetings, thanks or politeness: a courtesy more or less changes the answer.
ABOUT_COURTESY = re.compile(
    r"(?i:\b(?:thank\w*|grat(?:eful\w*|itude)|greet\w*|hello(?! world)|(?:im)?polite\w*|courte\w+|"
    r"rude\w*|manners)\b|[\"'“‘]please[\"'”’])"
    r"|感谢|谢|问候|你好|您好|打招呼|礼貌|敬[语称]|客气|寒暄|[\"“‘「]请[\"”’」]"
)
# Tasks that work on a text given in the message: whatever stands beside it is taken for a part.
TRANSFORM = re.compile(
    r"(?i:\b(?:translat\w+|rewrit\w+|rephras\w+|paraphras\w+|correct|continu\w+|complete|convert|"
    r"classif\w+|categori[sz]\w+|label|sentiment|emotions?|mood|tone|intent|language|extract|edit|"
    r"improve|polish|summar\w+|shorten)\b)"
    r"|翻译|译[成为]|改写|改成|润色|纠正|续写|补全|补充完整|分类|归类|情感|情绪|态度|语气|意图|总结|概括|"
    r"摘要|提取|修改|缩写|扩写"
)


def is_chinese(text: str) -> bool:
    """Whether a message is mostly Chinese: a character says about as much as four letters."""
    return 4 * len(HAN.findall(text)) > len(_LATIN.findall(text))


def protected_spans(text: str, facts: Sequence[str]) -> list[Span]:
    """Where the facts stand (without case), and code, numbers, quotations and negations."""
    named = [
        match.span()
        for fact in facts
        for match in re.finditer(_fact_pattern(fact), text, re.IGNORECASE)
    ]
    patterns = (FENCE, _BARE_CODE, CODE, _QUOTED, NUMBER_WORD, NEGATION)
    return named + [match.span() for pattern in patterns for match in pattern.finditer(text)]


def _fact_pattern(fact: str) -> str:
    """What to look for; the letter of an option is neither an article nor a part of words."""
    if len(fact) == 1 and fact.isascii() and fact.isalnum():
        return rf"(?-i:(?<![A-Za-z0-9]){fact}(?![A-Za-z0-9]))"
    return re.escape(fact)


def overlaps(span: Span, others: Sequence[Span]) -> bool:
    """Whether a span has a character in common with one of the others."""
    return any(span[0] < stop and start < span[1] for start, stop in others)


def field_values(text: str) -> list[Span]:
    """Where the values of `key: value` lines stand."""
    return [match.span("value") for match in FIELD.finditer(text)]


def han_pairs(parts: Sequence[str]) -> list[str]:
    """Pairs of neighbouring Chinese characters among the units of a text: nearly its words."""
    pairs = itertools.pairwise(parts)
    return [first + second for first, second in pairs if HAN.match(first) and HAN.match(second)]
