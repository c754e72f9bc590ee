"""Paraphrase by a frame: another sentence that asks, and then the message as it was."""

from __future__ import annotations

import random
from collections.abc import Sequence

from eval.cases.perturbations.text import is_chinese

# Without "please" and thanks: a message may ask whether its writer is polite.
FRAMES = (
    "Here is what I need:\n\n{text}",
    "Help me with this:\n\n{text}",
    "My request is as follows:\n\n{text}",
    "I would like you to deal with this:\n\n{text}",
)
FRAMES_ZH = (
    "我需要的是：\n\n{text}",
    "帮我处理下面的内容：\n\n{text}",
    "我的要求如下：\n\n{text}",
    "这件事需要你来做：\n\n{text}",
)


def paraphrase(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Ask in a frame around the message."""
    return rng.choice(FRAMES_ZH if is_chinese(text) else FRAMES).format(text=text)
