"""The same request in other words: frames, courtesies, order of fields, mixed languages."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from eval.cases.perturbations import tables
from eval.cases.perturbations.lexicon import CHINESE, ENGLISH
from eval.cases.perturbations.tasks import IMPERATIVE, IMPERATIVE_ZH, asks, ends_asking, sentences
from eval.cases.perturbations.text import Span, field_values, is_chinese, overlaps, protected_spans

SWITCHED_SHARE = 0.5  # of the words with a translation
MAX_SWITCHED = 3

# The answer is in a certain language, or a word of another would be part of it.
_LANGUAGE = re.compile(
    r"(?i:\b(?:translat\w+|languages?|chinese|english|french|german|spanish|japanese|italian|russian|"
    r"latin|korean|bilingual|pinyin)\b)|翻译|译[成为]|语言|[中英法德日俄韩外双]文|[英汉法德日俄韩双]语"
)
# The message speaks of itself.
_ITSELF = re.compile(
    r"(?i:\b(?:this|my) (?:message|text|prompt|request|question|input|sentence|passage)\b"
    r"|\bthe (?:message|prompt)\b(?! (?:above|below))|\b(?:mentioned|made|said|written) here\b)"
    r"|[这本](?:一?[句段条则个些])?(?:话|消息|信息|文本|文字|留言|请求|提示)|我的(?:话|消息|请求)|这里[说提写有]"
)
_OPEN_END = re.compile(r"[:：,，、=(（_]\s*$")


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
    """Put a greeting before a message that begins with what it asks, and thanks after what it asks.

    Beside a text to work on they would become a part of it.
    """
    if not text.strip() or _ITSELF.search(text):
        return None
    chinese = is_chinese(text)
    before = rng.choice(tables.BEFORE_ZH if chinese else tables.BEFORE)
    after = rng.choice(tables.AFTER_ZH if chinese else tables.AFTER)
    first = next(text[slice(*span)] for span in sentences(text) if text[slice(*span)].strip())
    greets = asks(first)
    thanks = ends_asking(text) and not _OPEN_END.search(text)
    if not greets and not thanks:
        return None
    return "\n".join([before] * greets + [text] + [after] * thanks)


def code_switching(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Say up to three words, of the instruction or field names, in the other language."""
    if _LANGUAGE.search(text):
        return None
    kept = protected_spans(text, facts) + field_values(text)
    found: dict[Span, str] = {}
    for pattern, translation in CHINESE if is_chinese(text) else ENGLISH:
        for match in pattern.finditer(text):
            if not overlaps(match.span(), [*kept, *found]):
                found[match.span()] = translation
    if not found:
        return None
    words = sorted(set(found.values()))
    wanted = min(MAX_SWITCHED, max(1, round(SWITCHED_SHARE * len(words))))
    chosen = rng.sample(words, wanted)
    for span in sorted(found, reverse=True):  # a word that stands there twice names one thing
        if found[span] in chosen:
            text = _replaced(text, span, found[span])
    return text


def _replaced(text: str, span: Span, word: str) -> str:
    """Put a word in the place of another, with spaces where it would stick to its neighbours."""
    before, after = text[: span[0]], text[span[1] :]
    left = " " if word.isascii() and before[-1:].isalnum() else ""
    right = " " if word.isascii() and after[:1].isalnum() else ""
    return f"{before}{left}{word}{right}{after}"
