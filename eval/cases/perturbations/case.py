"""Capitals: all lost, or everywhere."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from eval.cases.perturbations.slots import free_matches
from eval.cases.perturbations.text import replaced

# Not what stands behind a number: a unit.
_WORD = re.compile(r"(?<!\d )\b[^\W\d_]{2,}\b")


def letter_case(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Write every word small, or in capitals; not single letters, acronyms and such as iPhone."""
    words = {
        match.span(): match[0]
        for match in free_matches(_WORD, text, facts)
        if match[0][1:].islower()
    }
    change = rng.choice([str.lower, str.upper])
    return replaced(text, {span: change(word) for span, word in words.items()})
