"""The same request in other words: frames, courtesies, order of fields, mixed languages."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from eval.perturb import tables
from eval.perturb.text import FIELD, Span, field_values, is_chinese, overlaps, protected_spans

SWITCHED_SHARE = 0.5  # of the words with a translation
MAX_SWITCHED = 3

IMPERATIVE = re.compile(
    r"(?:please\s+)?(?P<verb>write|list|explain|summari[sz]e|describe|give|tell|translate|classify|"
    r"generate|create|find|extract|compute|calculate|answer|fill|reply|draft|name|identify|sort|"
    r"rewrite|convert|analy[sz]e|compare|suggest|provide|make|produce|determine|handle|triage|"
    r"choose|complete|check|decide|correct|count|state|show|read)(?=\s)",
    re.IGNORECASE,
)
IMPERATIVE_ZH = re.compile(
    r"请(?:你|您)?(?=写|列|总结|概括|解释|说明|描述|给|翻译|分类|生成|创建|找|提取|计算|回答|填|回复|"
    r"起草|命名|识别|排序|改写|转换|分析|比较|建议|提供|判断|处理|完成|阅读|根据|将|把|用|以|对|按|帮)"
)
_ENGLISH = {chinese: english for english, chinese in tables.LEXICON.items()}


def _any_of(words: Sequence[str], edge: str) -> re.Pattern[str]:
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(f"{edge}(?:{'|'.join(longest_first)}){edge}", re.IGNORECASE)


_ENGLISH_WORD = _any_of(list(tables.LEXICON), r"\b")
_CHINESE_WORD = _any_of(list(_ENGLISH), "")


def paraphrase(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Ask indirectly: "Write …" becomes "Could you write …", anything else gets a frame."""
    if not text.strip():
        return None
    chinese = is_chinese(text)
    request = _as_request(text, chinese, protected_spans(text, facts))
    if request is not None:
        return rng.choice(tables.REQUESTS_ZH if chinese else tables.REQUESTS).format(text=request)
    return rng.choice(tables.FRAMES_ZH if chinese else tables.FRAMES).format(text=text)


def _as_request(text: str, chinese: bool, protected: Sequence[Span]) -> str | None:
    """What is asked for, if the text begins with an order, so that "Could you" fits before it."""
    order = (IMPERATIVE_ZH if chinese else IMPERATIVE).match(text)
    if order is None or overlaps(order.span(), protected):
        return None
    rest = text[order.end() :]
    return rest if chinese else order["verb"].lower() + rest


def padding(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Put a greeting before the message and thanks after it."""
    if not text.strip():
        return None
    chinese = is_chinese(text)
    before = rng.choice(tables.BEFORE_ZH if chinese else tables.BEFORE)
    after = rng.choice(tables.AFTER_ZH if chinese else tables.AFTER)
    return f"{before}\n{text}\n{after}"


def field_order(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Shuffle the longest run of `key: value` lines."""
    lines = text.split("\n")
    start, stop = _longest_run([FIELD.fullmatch(line) is not None for line in lines])
    fields = lines[start:stop]
    if len(set(fields)) < 2:
        return None
    shuffled = fields
    while shuffled == fields:
        shuffled = rng.sample(fields, len(fields))
    return "\n".join([*lines[:start], *shuffled, *lines[stop:]])


def _longest_run(flags: Sequence[bool]) -> Span:
    """The longest run of true flags, as a half-open range."""
    best = (0, 0)
    start = 0
    for i, flag in enumerate(flags):
        if not flag:
            start = i + 1
        elif i + 1 - start > best[1] - best[0]:
            best = (start, i + 1)
    return best


def code_switching(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Say up to three words of the instruction or of field names in the other language."""
    chinese = is_chinese(text)
    pattern, translation = (_CHINESE_WORD, _ENGLISH) if chinese else (_ENGLISH_WORD, tables.LEXICON)
    kept = protected_spans(text, facts) + field_values(text)
    words = [match for match in pattern.finditer(text) if not overlaps(match.span(), kept)]
    if not words:
        return None
    wanted = min(MAX_SWITCHED, max(1, round(SWITCHED_SHARE * len(words))))
    for word in sorted(rng.sample(words, wanted), key=re.Match.start, reverse=True):
        text = _replaced(text, word.span(), translation[word[0].lower()])
    return text


def _replaced(text: str, span: Span, word: str) -> str:
    """Put a word in the place of another, with spaces where it would stick to its neighbours."""
    before, after = text[: span[0]], text[span[1] :]
    left = " " if word.isascii() and before[-1:].isalnum() else ""
    right = " " if word.isascii() and after[:1].isalnum() else ""
    return f"{before}{left}{word}{right}{after}"
