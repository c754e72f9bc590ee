"""Perturbations of a prompt that ask for the same answer: seeded, pure, and careful with facts.

Each changes one user message, or returns None where it does not apply. Its result is used only if
`slot_fault` misses nothing that the answer depends on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from difflib import get_close_matches

from eval.cases.perturbations.case import letter_case
from eval.cases.perturbations.fields import field_order
from eval.cases.perturbations.frames import padding, paraphrase
from eval.cases.perturbations.punctuation import punctuation
from eval.cases.perturbations.slots import slot_fault
from eval.cases.perturbations.text import ABOUT_WORDING
from eval.cases.perturbations.typos import typos

PERTURBATIONS: dict[str, Callable[[str, random.Random, Sequence[str]], str | None]] = {
    "paraphrase": paraphrase,
    "field_order": field_order,
    "typos": typos,
    "punctuation": punctuation,
    "letter_case": letter_case,
    "padding": padding,
}


def perturb(text: str, name: str, seed: str, facts: Sequence[str] = ()) -> str | None:
    """Apply one perturbation to a user message.

    Args:
        text: the message.
        name: a key of `PERTURBATIONS`.
        seed: any string; equal arguments give equal results, in every process.
        facts: strings that must survive where the message holds them, and must not be given away
            where it does not (see `slot_fault`).

    Returns:
        The perturbed message, or None if the perturbation does not apply, would change nothing,
        or would lose what the answer depends on.
    """
    if not text.strip() or (name != "field_order" and ABOUT_WORDING.search(text)):
        return None
    named = [fact for fact in facts if fact.strip()]
    changed = PERTURBATIONS[name](text, random.Random(f"{name}:{seed}"), named)
    if changed is None or changed == text or slot_fault(text, changed, named):
        return None
    return changed


def known_perturbation(name: str) -> str:
    """Return a name that is a perturbation's.

    Raises:
        ValueError: if it is none; the message names the nearest, and all.
    """
    if name in PERTURBATIONS:
        return name
    near = get_close_matches(name, PERTURBATIONS, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"{name!r} is no perturbation{hint} (there are {', '.join(PERTURBATIONS)})")
