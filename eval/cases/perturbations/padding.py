"""Sentences that have nothing to do with the request."""

from __future__ import annotations

import random
from collections.abc import Sequence

from eval.cases.perturbations.text import is_chinese

SENTENCES = (
    "I have a long list to go through today.",
    "I am writing this between other tasks.",
    "It is a busy day here.",
    "I am back at my desk now.",
)
SENTENCES_ZH = (
    "今天要处理的事情很多。",
    "我正在忙着整理手头的工作。",
    "我刚回到办公桌前。",
    "这会儿稍微有点空。",
)


def padding(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Put a paragraph of small talk before the message; behind it, it might seem a part of it."""
    chinese = is_chinese(text)
    sentences = rng.sample(SENTENCES_ZH if chinese else SENTENCES, rng.choice([1, 2]))
    return ("" if chinese else " ").join(sentences) + f"\n\n{text}"
