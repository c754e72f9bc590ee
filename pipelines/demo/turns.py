"""One question and its answer: the unit everything in the demo world is made of."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

HELD_OUT_ONE_IN = 6


@dataclass(frozen=True)
class Turn:
    """A user message and the assistant's answer.

    `key` decides whether the turn is held out. For a skill that generalises it names the
    problem without its wording, so that no held-out problem is seen in other words; for a
    memorised fact it is the whole prompt, since a fact that was never seen cannot be known.
    """

    skill: str
    prompt: str
    answer: str
    key: str

    @property
    def held_out(self) -> bool:
        """Whether pre-training must never see this turn: a fixed sixth of all keys."""
        return zlib.crc32(f"{self.skill}|{self.key}".encode()) % HELD_OUT_ONE_IN == 0


Maker = Callable[[Random], Turn]


def draw(make: Maker, rng: Random, *, held_out: bool) -> Turn:
    """Draw turns until one is on the wanted side of the split."""
    while True:
        turn = make(rng)
        if turn.held_out == held_out:
            return turn


def pick_variant(rng: Random, variants: Sequence[str]) -> str:
    """One of three phrasings, with probabilities .7, .2 and .1."""
    return rng.choices(variants, weights=(70, 20, 10))[0]


def shuffled(rng: Random, items: Sequence[str], count: int) -> list[str]:
    """`count` different items in random order."""
    return rng.sample(list(items), count)
