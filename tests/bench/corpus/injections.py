"""Errors that are put into clean rows, and the rows they are put into.

An injection takes a row and returns another answer for it; where that is the answer it had, the
row cannot carry such an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import NamedTuple

from pipelines.demo.prose import ADJECTIVES, DAYS, PROSE
from pipelines.demo.skills import ARTICLE, SKILLS
from pipelines.demo.turns import draw
from pipelines.demo.vertical import SLOT_VALUES, draw_jobs
from pipelines.demo.words import (
    CATEGORIES,
    CITIES,
    COLOURS,
    ISSUES,
    LETTERS,
    NAMES,
    PRIORITIES,
    PRODUCTS,
    REGIONS,
    THINGS,
)
from pipelines.demo.world import PROSE_SHARE

GARBLED_SHARE = 0.4  # of the words, the longest among them
CHARACTERS = 250  # of a row of a corpus of the user's: so many Chinese ones are 750 tokens here

# What one word or number of a general skill's answer may be taken for.
SKILL_VALUES = (
    NAMES, CITIES, COLOURS, THINGS, PRODUCTS, REGIONS, PRIORITIES, ISSUES, DAYS,
    *CATEGORIES.values(), tuple(ARTICLE.values()), ADJECTIVES,
    tuple(str(number) for number in range(100)), LETTERS[1:],
)  # fmt: skip

# Answers in another language than the corpus: German for the English worlds, English for others.
GERMAN = (
    "Ja.", "Nein.", "Vielen Dank.", "Das ist richtig.", "Es ist ein Haus.",
    "Das geht leider nicht.", "Bitte warten Sie einen Augenblick.",
    "Wir haben Ihre Nachricht erhalten.",
    "Der Fehler wurde noch nicht gefunden.", "Morgen kommt jemand aus der Werkstatt zu Ihnen.",
    "Die Lieferung verzögert sich um einige Tage, wir bitten um Verständnis.",
    "Das Gerät wurde geprüft und funktioniert wieder einwandfrei.",
    "Für weitere Fragen stehen wir Ihnen jederzeit gerne zur Verfügung.",
    "Die Antwort hängt davon ab, was vorher vereinbart worden ist.",
)  # fmt: skip
ENGLISH = (
    "Yes.", "No.", "Thank you.", "That is right.", "It depends on the case.",
    "Please wait a moment before you go on.", "There are several reasons for this.",
    "First of all, the question has to be read with care.",
    "Many people think that this is only a matter of habit.",
    "In practice both ways are used, and neither of them is always better.",
    "The most important point is to begin early and to keep notes of what was done.",
    "A good example is the way in which children learn the names of animals.",
    "Scientists have studied this for more than a hundred years.",
    "It is therefore wise to ask somebody who knows the subject well.",
)  # fmt: skip


class Row(NamedTuple):
    """A question with its answer."""

    task_type: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class World:
    """Clean rows, and what errors in them are made of.

    Attributes:
        name: of the setting.
        rows: the clean rows.
        values: groups of words of which one may wrongly stand for another; none where they are
            not known.
        foreign: sentences of another language.
    """

    name: str
    rows: Sequence[Row]
    values: Sequence[Sequence[str]]
    foreign: Sequence[str]

    @cached_property
    def groups(self) -> dict[str, Sequence[str]]:
        """Value -> the group it is in."""
        return {value: group for group in self.values for value in group}

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds a value, the longest that stands there."""
        longest_first = sorted(self.groups, key=len, reverse=True)
        return re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b")


def tickets(seed: int, count: int) -> World:
    """Support tickets, which the demo's base model has never seen."""
    jobs = draw_jobs(Random(seed), count)
    rows = [Row(job.task_type, f"{job.instruction}\n{job.ticket.text}", job.answer) for job in jobs]
    return World("tickets", rows, tuple(SLOT_VALUES.values()), GERMAN)


def skills(seed: int, count: int) -> World:
    """Held-out turns of what the demo's base model was trained on: general skills, open text.

    But for open text about anything at all, to which no answer is wrong.
    """
    rng = Random(seed)
    prose = {name: maker for name, maker in PROSE.items() if name != "web"}
    turns = []
    for _ in range(count):
        makers = prose if rng.random() < PROSE_SHARE else SKILLS
        turns.append(draw(makers[rng.choice(list(makers))], rng, held_out=True))
    rows = [Row(turn.skill, turn.prompt, turn.answer) for turn in turns]
    return World("skills", rows, SKILL_VALUES, GERMAN)


def alpaca(path: Path, seed: int, count: int) -> World:
    """Rows of a JSON array of Alpaca rows, of those short enough."""
    rows = [
        Row("", "\n".join(filter(None, (row["instruction"], row["input"]))), row["output"].strip())
        for row in json.loads(path.read_text(encoding="utf-8"))
    ]
    short = [row for row in rows if row.answer and len(row.prompt + row.answer) <= CHARACTERS]
    return World("alpaca", Random(seed).sample(short, min(count, len(short))), (), ENGLISH)


def swapped(rng: Random, row: Row, world: World) -> str:
    """Every value replaced by another of its group; without groups, one sentence by a foreign one.

    The foreign sentence is of another row, and the answer has at least one more.
    """
    if world.values:
        return world.pattern.sub(
            lambda found: rng.choice([v for v in world.groups[found[0]] if v != found[0]]),
            row.answer,
        )
    own = _sentences(row.answer)
    if len(own) < 2:
        return row.answer
    own[rng.randrange(len(own))] = rng.choice(_sentences(rng.choice(world.rows).answer))
    return "".join(own)


def _sentences(text: str) -> list[str]:
    return re.findall(r"[^。！？.!?\n]*[。！？.!?\n]+|[^。！？.!?\n]+$", text)


def wrong(rng: Random, row: Row, world: World) -> str:
    """The answer of another row of the task type."""
    others = [o.answer for o in world.rows if o.task_type == row.task_type]
    return rng.choice([answer for answer in others if answer != row.answer] or [row.answer])


def garbled(rng: Random, row: Row, world: World) -> str:
    """Letters shuffled within words; every other text that is not ASCII read as GBK instead."""
    if not row.answer.isascii() and rng.random() < 0.5:
        return row.answer.encode().decode("gbk", errors="replace")
    longest = max(re.findall(r"\w+", row.answer), key=len, default="")

    def shuffle(found: re.Match[str]) -> str:
        word = found[0]
        chosen = word == longest or rng.random() < GARBLED_SHARE
        return "".join(rng.sample(word, len(word))) if chosen else word

    return re.sub(r"\w+", shuffle, row.answer)


def truncated(rng: Random, row: Row, world: World) -> str:
    """The first 30 to 70 %, to the end of a word where there are spaces."""
    start = row.answer[: max(1, int(len(row.answer) * rng.uniform(0.3, 0.7)))]
    return start.rsplit(" ", 1)[0].strip() or row.answer


def foreign(rng: Random, row: Row, world: World) -> str:
    """Sentences of another language, about as long as the answer."""
    said: list[str] = []
    left = len(row.answer)
    while not said or left > len(min(world.foreign, key=len)):
        fresh = [sentence for sentence in world.foreign if sentence not in said]
        choice = rng.sample(fresh, min(4, len(fresh)))
        said.append(min(choice, key=lambda text: abs(len(text) - left)))
        left -= len(said[-1]) + 1
    return " ".join(said)


Injection = Callable[[Random, Row, World], str]
INJECTIONS: dict[str, Injection] = {
    maker.__name__: maker for maker in (swapped, wrong, garbled, truncated, foreign)
}
