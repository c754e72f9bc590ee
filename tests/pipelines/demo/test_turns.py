from random import Random

import pytest

from pipelines.demo.prose import PROSE
from pipelines.demo.skills import MEMORISED, SKILLS
from pipelines.demo.turns import draw

MAKERS = SKILLS | PROSE


@pytest.mark.parametrize("name", MAKERS)
def test_a_maker_repeats_from_its_seed(name):
    assert MAKERS[name](Random(3)) == MAKERS[name](Random(3))
    turns = {MAKERS[name](Random(seed)) for seed in range(20)}
    assert len(turns) > 5


@pytest.mark.parametrize("name", MAKERS)
def test_the_split_keeps_sides_apart(name):
    rng = Random(0)
    seen = {draw(MAKERS[name], rng, held_out=False).key for _ in range(200)}
    kept = {draw(MAKERS[name], rng, held_out=True).key for _ in range(30)}
    assert not seen & kept


@pytest.mark.parametrize("skill", MEMORISED)
def test_every_fact_is_seen_in_some_wording(skill):
    def answers(held_out: bool) -> set[str]:
        rng = Random(1)
        return {draw(SKILLS[skill], rng, held_out=held_out).answer for _ in range(2000)}

    assert answers(held_out=True) <= answers(held_out=False)


def numbers(prompt: str) -> list[int]:
    kept = "".join(c if c.isdigit() else " " for c in prompt)
    return [int(part) for part in kept.split()]


def after_colon(prompt: str) -> list[str]:
    return prompt.rsplit(": ", 1)[1].rstrip("?").split(" ")


RULES = {
    "add": lambda prompt: str(sum(numbers(prompt))),
    "larger": lambda prompt: str(max(numbers(prompt))),
    "copy": lambda prompt: "Here: " + " ".join(after_colon(prompt)),
    "reverse": lambda prompt: "Here: " + " ".join(after_colon(prompt)[::-1]),
    "sort": lambda prompt: "Here: " + " ".join(sorted(after_colon(prompt))),
    "last": lambda prompt: f"It is {after_colon(prompt)[-1]}.",
    "count": lambda prompt: str(len(after_colon(prompt))),
}


@pytest.mark.parametrize("skill", RULES)
def test_answers_are_right(skill):
    rng = Random(2)
    for _ in range(100):
        turn = SKILLS[skill](rng)
        assert turn.answer == RULES[skill](turn.prompt), turn


def test_lookup_and_form_answers_come_from_the_card():
    rng = Random(4)
    for _ in range(100):
        asked = SKILLS["lookup"](rng)
        card = dict(line.split(": ") for line in asked.prompt.splitlines()[1:])
        assert asked.answer in {f"It is {value}." for value in card.values()}
        filled = SKILLS["form"](rng)
        card = dict(line.split(": ") for line in filled.prompt.splitlines()[1:])
        blank = filled.prompt.splitlines()[0].split(": ", 1)[1]
        for field, value in card.items():
            blank = blank.replace(f"[{field}]", value)
        assert filled.answer == blank
