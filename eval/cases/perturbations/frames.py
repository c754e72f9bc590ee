"""Sentences before the message: frames, which ask in other words, and padding, which does not."""

from __future__ import annotations

import random
from collections.abc import Sequence

from eval.cases.perturbations.text import is_chinese

# Without "please" and thanks: a message may ask whether its writer is polite.
FRAMES = (
    "Here is what I need:\n\n{text}",
    "Help me with this:\n\n{text}",
    "I would like you to deal with this:\n\n{text}",
)
FRAMES_ZH = (
    "我需要的是：\n\n{text}",
    "帮我处理下面的内容：\n\n{text}",
    "这件事需要你来做：\n\n{text}",
)
PADDING = (
    "I have a long list to go through today.",
    "I am writing this between other tasks.",
    "It is a busy day here.",
)
PADDING_ZH = (
    "今天要处理的事情很多。",
    "我正在忙着整理手头的工作。",
    "我刚回到办公桌前。",
)


def paraphrase(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Ask in a frame around the message."""
    return rng.choice(FRAMES_ZH if is_chinese(text) else FRAMES).format(text=text)


def padding(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Put a paragraph of small talk before the message; behind it, it might seem a part of it."""
    chinese = is_chinese(text)
    sentences = rng.sample(PADDING_ZH if chinese else PADDING, rng.choice([1, 2]))
    return ("" if chinese else " ").join(sentences) + f"\n\n{text}"
