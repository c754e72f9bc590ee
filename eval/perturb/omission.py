"""A message of which a part is missing: one that the answer does not need."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from eval.metrics import units
from eval.perturb.text import FIELD, Span, han_pairs, overlaps, protected_spans
from eval.perturb.wording import IMPERATIVE

_END = re.compile(
    r"(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bDr)(?<!\b[A-Z])[.!?…]+(?:\s+|$)|[。！？…]+\s*|\n+"
)
# What is asked, and what narrows it down. To leave any of it out asks another question.
_QUESTION = re.compile(
    r"[?？吗呢]|什么|怎么|如何|哪|谁|多少|为何|是否"
    r"|(?i:\b(?:what|why|how|who|whom|which|where|can you|could you|would you|want you|like you|"
    r"you to|your task)\b)"
)
_TASK_ZH = re.compile(
    r"请|帮我|写|列出|总结|概括|解释|说明|描述|翻译|分类|生成|提取|计算|回答|填|回复|起草|识别|排序|改写|"
    r"转换|分析|比较|建议|提供|判断|处理|完成|阅读"
)
_CONDITION = re.compile(
    r"(?i:\b(?:if|when|unless|until|because|since|must|should|always|at least|at most|each|every|"
    r"all|but|then|use|using|keep|include|limit|format|language|style|tone|words?|"
    r"begin|start|end|finish)\b)"
    r"|如果|若|当|除非|因为|由于|必须|应|需要|要求|至少|最多|每|所有|全部|但|然后|使用|保持|包含|格式|语言|"
    r"风格|语气|字数"
)
# What follows may speak of the sentence by one of these.
_ANAPHOR = re.compile(
    r"(?i:\b(?:he|him|his|she|hers?|it|its|they|them|theirs?|there|so|this is|these|those)\b)"
    r"|[他她它其此]|这(?:是|样|种|些)|那(?:里|样|种|些)"
)
_FUNCTION_WORDS = frozenset(
    """
about after also and any are been before but can did does for from get got had has have her here him
his how into its just made more most much not off one our out over she some such than that the their
them then there they this too very was were what when where which who why will with you your
""".split()  # noqa: SIM905 - a list of so many words is unreadable
)
_STEM = 4  # letters that tell words apart well enough: "bird" and "birds" are the same
_LEAST_UNITS = 3


def dropped_sentence(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Leave out one sentence, or line, that nothing else in the message takes up."""
    sentences = _asides(text, facts)
    if not sentences:
        return None
    return _with(text, rng.choice(sentences), "")


def truncated_sentence(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Break off such a sentence in the middle."""
    sentences = _asides(text, facts)
    if not sentences:
        return None
    span = rng.choice(sentences)
    body = _END.sub("", text[slice(*span)])
    words = body.split(" ")
    half = " ".join(words[: len(words) // 2]) if len(words) > 1 else body[: len(body) // 2]
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
    if "```" in text:
        return []
    kept = protected_spans(text, facts)
    kept += [field.span() for field in FIELD.finditer(text)]
    sentences = _sentences(text)
    tasks = [span for span in sentences if _asks(text[slice(*span)])]
    if not tasks:
        return []
    return [
        span
        for span in sentences
        if span not in tasks and not overlaps(span, kept) and _is_aside(text, span)
    ]


def _sentences(text: str) -> list[Span]:
    """Cut a text after every mark and line break; the parts cover it."""
    ends = [match.end() for match in _END.finditer(text)]
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    return list(zip([0, *ends], ends, strict=False))


def _asks(sentence: str) -> bool:
    bare = sentence.lstrip()
    return bool(IMPERATIVE.match(bare) or _QUESTION.search(bare) or _TASK_ZH.search(bare))


def _is_aside(text: str, span: Span) -> bool:
    """Whether a sentence sets no condition and the rest does not take up a word of it."""
    sentence, before, after = text[slice(*span)], text[: span[0]], text[span[1] :]
    if len(units(sentence)) < _LEAST_UNITS or _CONDITION.search(sentence):
        return False
    if _ANAPHOR.search(after):
        return False
    return not _stems(sentence) & _stems(f"{before}\n{after}")


def _stems(text: str) -> set[str]:
    """Beginnings of the words that mean something, and pairs of Chinese characters."""
    parts = units(text)
    words = (part for part in parts if len(part) > 2 and part not in _FUNCTION_WORDS)
    return {word[:_STEM] for word in words} | set(han_pairs(parts))
