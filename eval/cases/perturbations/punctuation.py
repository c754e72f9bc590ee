"""Marks typed carelessly: at the ends of lines, and of the other width in Chinese."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from eval.cases.perturbations.slots import free_matches
from eval.cases.perturbations.text import is_chinese, replaced

# Missing, doubled, set apart or half as wide: none changes the tone, and a question stays one.
_CARELESS = {
    ".": ("", "..", " ."),
    "!": (" !",),
    "?": ("??", " ?"),
    "。": ("", "。。", "."),
    "！": ("!",),
    "？": ("？？", "?"),
}
_LINE_END = re.compile(r"(?<![.!?。！？…\s])[.!?。！？](?=[^\S\n]*$)", re.MULTILINE)
_WIDE = dict(zip("，。！？；：（）", ",.!?;:()", strict=True))
_WIDE_MARK = re.compile(f"[{''.join(_WIDE)}]")


def punctuation(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Change the marks that end lines; in Chinese, sometimes the width of all marks instead."""
    if is_chinese(text) and rng.random() < 0.5:
        marks = free_matches(_WIDE_MARK, text, facts)
        return replaced(text, {match.span(): _WIDE[match[0]] for match in marks})
    careless = {mark: rng.choice(others) for mark, others in _CARELESS.items()}
    ends = free_matches(_LINE_END, text, facts)
    return replaced(text, {match.span(): careless[match[0]] for match in ends})
