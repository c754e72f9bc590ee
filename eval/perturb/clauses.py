"""A message of which a part is missing: one that the answer does not need."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from eval.metrics import units
from eval.perturb.text import FIELD, Span, han_pairs, overlaps, protected_spans
from eval.perturb.wording import IMPERATIVE

_END = re.compile(r"[,.!?;…]+(?:\s+|$)|[，。！？；…]+\s*|\n+")
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
    r"all|but|then|use|using|keep|include|limit|format|language|style|tone|words?)\b)"
    r"|如果|若|当|除非|因为|由于|必须|应|需要|要求|至少|最多|每|所有|全部|但|然后|使用|保持|包含|格式|语言|"
    r"风格|语气|字数"
)
_STEM = 4  # letters that tell words apart well enough: "bird" and "birds" are the same
_LEAST_UNITS = 3


def dropped_clause(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Leave out one clause that nothing else in the message takes up."""
    clauses = _spare_clauses(text, facts)
    if not clauses:
        return None
    return _with_clause(text, rng.choice(clauses), "")


def truncated_clause(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Break off such a clause in the middle."""
    clauses = _spare_clauses(text, facts)
    if not clauses:
        return None
    span = rng.choice(clauses)
    body = _END.sub("", text[slice(*span)])
    words = body.split(" ")
    half = " ".join(words[: len(words) // 2]) if len(words) > 1 else body[: len(body) // 2]
    return _with_clause(text, span, f"{half}…")


def _with_clause(text: str, span: Span, clause: str) -> str:
    """Put another clause, or none, in the place of one; the line ends where it ended."""
    old = text[slice(*span)]
    gap = old[len(old.rstrip()) :]
    if not clause and "\n" not in gap:
        gap = ""
    return f"{text[: span[0]]}{clause}{gap}{text[span[1] :]}".strip()


def _spare_clauses(text: str, facts: Sequence[str]) -> list[Span]:
    """The clauses that may go; none unless the task itself is recognised in what would stay."""
    if "```" in text:
        return []
    kept = protected_spans(text, facts)
    kept += [field.span() for field in FIELD.finditer(text)]
    clauses = _clauses(text)
    tasks = [span for span in clauses if _asks(text[slice(*span)])]
    if not tasks:
        return []
    return [
        span
        for span in clauses
        if span not in tasks and not overlaps(span, kept) and _is_aside(text, span)
    ]


def _clauses(text: str) -> list[Span]:
    """Cut a text after every mark and line break; the parts cover it."""
    ends = [match.end() for match in _END.finditer(text)]
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    return list(zip([0, *ends], ends, strict=False))


def _asks(clause: str) -> bool:
    bare = clause.lstrip()
    return bool(IMPERATIVE.match(bare) or _QUESTION.search(bare) or _TASK_ZH.search(bare))


def _is_aside(text: str, span: Span) -> bool:
    """Whether a clause sets no condition and shares no word with the rest of the message."""
    clause, rest = text[slice(*span)], text[: span[0]] + "\n" + text[span[1] :]
    if len(units(clause)) < _LEAST_UNITS or _CONDITION.search(clause):
        return False
    return not _stems(clause) & _stems(rest)


def _stems(text: str) -> set[str]:
    """Beginnings of longer words, and pairs of Chinese characters."""
    parts = units(text)
    return {part[:_STEM] for part in parts if len(part) >= _STEM} | set(han_pairs(parts))
