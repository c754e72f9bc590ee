"""Variants of a prompt that ask for the same answer: seeded, pure, and careful with facts.

Every perturbation rewrites one user message and returns None where it does not apply. A variant is
kept only if `slots_survive` finds all that the answer depends on in it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from eval.cases.perturbations.courtesy import about_courtesy
from eval.cases.perturbations.fields import field_order
from eval.cases.perturbations.marks import punctuation
from eval.cases.perturbations.omission import dropped_sentence, truncated_sentence
from eval.cases.perturbations.slots import case_facts, slots_survive
from eval.cases.perturbations.spelling import letter_case, typos
from eval.cases.perturbations.text import ABOUT_FORM, is_chinese
from eval.cases.perturbations.wording import code_switching, padding, paraphrase

__all__ = ["PERTURBATIONS", "case_facts", "is_chinese", "perturb", "slots_survive"]

Perturbation = Callable[[str, random.Random, Sequence[str]], str | None]

PERTURBATIONS: dict[str, Perturbation] = {
    "paraphrase": paraphrase,
    "field_order": field_order,
    "typos": typos,
    "punctuation": punctuation,
    "letter_case": letter_case,
    "dropped_sentence": dropped_sentence,
    "truncated_sentence": truncated_sentence,
    "code_switching": code_switching,
    "padding": padding,
}
# What puts a courtesy into a message, or takes one out.
_COURTEOUS = ("paraphrase", "padding", "dropped_sentence", "truncated_sentence")


def perturb(text: str, name: str, seed: str, facts: Sequence[str] = ()) -> str | None:
    """Apply one perturbation to a user message.

    Args:
        text: the message.
        name: a key of `PERTURBATIONS`.
        seed: any string; equal arguments give equal results, in every process.
        facts: strings that must survive where the message holds them, and must not be told where
            it does not (see `slots_survive`).

    Returns:
        The variant, or None if the perturbation does not apply, would change nothing, or would
        lose what the answer depends on.
    """
    if name != "field_order" and ABOUT_FORM.search(text):
        return None
    if name in _COURTEOUS and about_courtesy(text):
        return None
    named = [fact for fact in facts if fact.strip()]
    changed = PERTURBATIONS[name](text, random.Random(f"{name}:{seed}"), named)
    if changed is None or changed == text or not slots_survive(text, changed, named).kept:
        return None
    return changed
