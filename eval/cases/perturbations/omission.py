"""A message of which a part is missing: one that the answer does not need.

Only what is plainly beside the point goes: courtesies, and small talk of the writer. What else a
question rests on cannot be told from its words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from eval.cases.perturbations.courtesy import COURTESY
from eval.cases.perturbations.tasks import asks, body, sentences
from eval.cases.perturbations.text import (
    FENCE,
    FIELD,
    TRANSFORM,
    Span,
    han_pairs,
    overlaps,
    protected_spans,
)
from eval.text import units

_SMALL_TALK = re.compile(
    r"(?i:^\W*(?:(?:yesterday|today|last \w+|this \w+),? )?(?:we|i|my \w+ and i)\b.*\b"
    r"(?:(?:sea|seaside|beach|mountains?|lake|park|picnic|barbecue|concert|cinema|theatre|football|"
    r"weekend|holidays?|vacation|party)|(?:so|very|really|quite) (?:happy|tired|excited|glad))\b)"
    r"|(?i:^\W*(?:what an? |it is an? |it's an? )(?:lovely|beautiful|nice|wonderful|gorgeous) "
    r"(?:day|morning|evening|weather)\b)"
    r"|^[^\w]*(?:我|我们|我家|咱们).*(?:高兴|开心|激动|兴奋|好累|爬山|野餐|聚会|聚餐|看电影|演唱会|海边|度假|旅游|逛街)"
    r"|^(?:今天|今日|最近|这几天)?的?天气(?:真|很|挺|非常|特别)(?:好|不错|舒服|晴朗)"
)
_FIRST_PERSON = re.compile(r"(?i:\b(?:i|me|my|mine|we|us|our|ours)\b)|我|咱")
# What narrows the task down, or sets another thing beside it.
_CONDITION = re.compile(
    r"(?i:\b(?:if|when|unless|until|because|since|must|should|always|at least|at most|each|every|"
    r"all|but|then|use|using|keep|include|limit|format|language|style|tone|words?|"
    r"begin|start|end|finish)\b)"
    r"|如果|若|当|除非|因为|由于|必须|应|需要|要求|至少|最多|每|所有|全部|但|然后|使用|保持|包含|格式|语言|"
    r"风格|语气|字数"
)
# What stays may speak of the sentence by one of these.
_ANAPHOR = re.compile(
    r"(?i:\b(?:he|him|his|she|hers?|it|its|they|them|theirs?|there|then|so|this|that|these|those|"
    r"such|who|whose|which|where|when|why|day|time|place)\b)"
    r"|[他她它其此谁哪这那]|是否|时候|为什么"
)
# "This support ticket" points at the fields below it.
_POINTS_AT_FIELDS = re.compile(
    r"(?i:\b(?:this|these)(?= (?:\w+ )?(?:ticket|request|order|case|record|issue|message)s?\b))"
    r"|这(?=(?:个|份|张|条|一)?(?:工单|订单|请求|记录|案例|问题|消息))"
)
_FUNCTION_WORDS = frozenset(
    """
about after also and any are been before but can did does for from get got had has have her here him
his how into its just made more most much not off one our out over she some such than that the their
them then there they this too very was were what when where which who why will with you your
""".split()  # noqa: SIM905 - a list of so many words is unreadable
)
_STEM = 4  # letters that tell words apart well enough: "bird" and "birds" are the same
_LEAST_FIELDS = 2  # so many say what a task is about without the sentences around them


def dropped_sentence(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Leave out one courtesy, or one sentence of small talk."""
    asides = _asides(text, facts)
    if not asides:
        return None
    return _with(text, rng.choice(asides), "")


def truncated_sentence(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Break off such a sentence in the middle."""
    asides = [span for span in _asides(text, facts) if len(units(text[slice(*span)])) > 1]
    if not asides:
        return None
    span = rng.choice(asides)
    said = body(text[slice(*span)])
    words = said.split(" ")
    half = " ".join(words[: len(words) // 2]) if len(words) > 1 else said[: len(said) // 2]
    return _with(text, span, f"{half}…")


def _with(text: str, span: Span, sentence: str) -> str:
    """Put another sentence, or none, in the place of one; the line ends where it ended."""
    old = text[slice(*span)]
    gap = old[len(old.rstrip()) :]
    if not sentence and "\n" not in gap:
        gap = ""
    return f"{text[: span[0]]}{sentence}{gap}{text[span[1] :]}".strip()


def _asides(text: str, facts: Sequence[str]) -> list[Span]:
    """The sentences that may go; none unless the task itself is recognised in what would stay."""
    if FENCE.search(text) or TRANSFORM.search(text):
        return []
    fields = [field.span() for field in FIELD.finditer(text)]
    kept = protected_spans(text, facts) + fields
    spans = sentences(text)
    said = {span: body(text[slice(*span)]) for span in spans}
    courtesies = {span for span in spans if said[span] and COURTESY.fullmatch(said[span])}
    tasks = [span for span in spans if span not in courtesies and asks(text[slice(*span)])]
    if not tasks:
        return []
    small_talk = [
        span
        for span in spans
        if span not in courtesies and span not in tasks and len(fields) >= _LEAST_FIELDS
        if _is_small_talk(said[span], f"{text[: span[0]]}\n{text[span[1] :]}")
    ]
    return [span for span in sorted([*courtesies, *small_talk]) if not overlaps(span, kept)]


def _is_small_talk(sentence: str, rest: str) -> bool:
    """Whether a sentence tells of the writer's leisure and nothing that stays takes it up."""
    if not _SMALL_TALK.search(sentence) or _CONDITION.search(sentence):
        return False
    if _ANAPHOR.search(_POINTS_AT_FIELDS.sub("", rest)) or _FIRST_PERSON.search(rest):
        return False
    return not _stems(sentence) & _stems(rest)


def _stems(text: str) -> set[str]:
    """Beginnings of the words that mean something, and pairs of Chinese characters."""
    parts = units(text)
    words = (part for part in parts if len(part) > 2 and part not in _FUNCTION_WORDS)
    return {word[:_STEM] for word in words} | set(han_pairs(parts))
