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
    r"^[^\S\n]*(?:[-*•][^\S\n]*)?[^\W\d_][^:：\n]{0,40}[:：](?!//)[^\S\n]*(?P<value>\S.*)$",
    re.MULTILINE,
)
# Codes, addresses, identifiers: a changed letter makes them another thing, not a typo.
CODE = re.compile(r"[!-~]*[0-9@/\\_][!-~]*")
_QUOTED = re.compile(r"`[^`]+`|\"[^\"\n]+\"|(?<!\w)'[^'\n]+'(?!\w)|“[^”]+”|「[^」]+」|《[^》]+》")
_HAN_DIGITS = "〇零一二三四五六七八九十百千万亿两"
NUMBER_WORD = re.compile(
    r"(?i:\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|"
    r"fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|dozen|half|twice)\b)"
    rf"|[{_HAN_DIGITS}]{{2,}}|[{_HAN_DIGITS}](?=[个天年月日号元件次条名位岁分秒句字项步倍])"
)
NEGATION = re.compile(
    r"(?i:\b(?:no|not|never|without|except|only|cannot|neither|nor)\b|n['’]t\b)"
    r"|[不没无非别未勿]|除了|只"
)


def is_chinese(text: str) -> bool:
    """Whether a message is mostly Chinese: a character says about as much as four letters."""
    return 4 * len(HAN.findall(text)) > len(_LATIN.findall(text))


def protected_spans(text: str, facts: Sequence[str]) -> list[Span]:
    """Where the facts stand (without case), and codes, numbers, quotations and negations."""
    named = [
        match.span()
        for fact in facts
        for match in re.finditer(re.escape(fact), text, re.IGNORECASE)
    ]
    patterns = (CODE, _QUOTED, NUMBER_WORD, NEGATION)
    return named + [match.span() for pattern in patterns for match in pattern.finditer(text)]


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
