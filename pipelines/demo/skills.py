"""General skills with one right answer each; every maker draws one problem and its wording.

Answers put a word or two before what they say ("It is Paris."), so that a word keeps its leading
space, and with it its token, from the prompt to the answer.
"""

from __future__ import annotations

from random import Random

from pipelines.demo.turns import Maker, Turn, shuffled
from pipelines.demo.words import (
    CAPITALS,
    CATEGORIES,
    CITIES,
    COLOURS,
    LETTERS,
    NAMES,
    OPPOSITES,
    PRODUCTS,
    REGIONS,
    THINGS,
    WORDS,
)

LARGEST_SUM = 20
ARTICLE = {"animal": "an animal", "fruit": "a fruit", "tool": "a tool", "plant": "a plant"}

FIELDS = {
    "name": NAMES,
    "city": CITIES,
    "colour": COLOURS,
    "thing": THINGS,
    "product": PRODUCTS,
    "region": REGIONS,
    "animal": CATEGORIES["animal"],
    "fruit": CATEGORIES["fruit"],
    "tool": CATEGORIES["tool"],
}

FORMS = (
    ("name", "city", "My name is {name} and I live in {city}."),
    ("name", "thing", "The {thing} belongs to {name}."),
    ("name", "product", "Here is a {product} for {name}."),
    ("colour", "product", "The {product} is {colour}."),
    ("city", "region", "We know {city} in the {region}."),
    ("name", "animal", "The {animal} likes {name}."),
    ("fruit", "city", "The {fruit} comes from {city}."),
    ("tool", "name", "The {tool} is for {name}."),
    ("name", "region", "In the {region} works {name}."),
    ("colour", "animal", "The {animal} is {colour}."),
)


CHAINS = (
    ("country", "What is the capital of this country?", CAPITALS),
    ("word", "What is the opposite of this word?", dict(OPPOSITES)),
    (
        "item",
        "What kind of thing is this item?",
        {item: ARTICLE[kind] for kind, items in CATEGORIES.items() for item in items},
    ),
)


def _fact(skill: str, rng: Random, wordings: tuple[str, ...], subject: str, answer: str) -> Turn:
    prompt = rng.choice(wordings).format(subject)
    return Turn(skill, prompt, f"It is {answer}.", key=prompt)


def capital(rng: Random) -> Turn:
    """The capital of a country: a memorised fact."""
    country, city = rng.choice(list(CAPITALS.items()))
    wordings = (
        "What is the capital of {}?",
        "Name the capital of {}.",
        "Which city is the capital of {}?",
        "capital of {}?",
        "Tell me the capital of {}.",
        "I forgot the capital of {}.",
    )
    return _fact("capital", rng, wordings, country, city)


def opposite(rng: Random) -> Turn:
    """The opposite of an adjective: a memorised fact."""
    word, other = rng.sample(rng.choice(OPPOSITES), 2)
    wordings = (
        "What is the opposite of {}?",
        "Name the opposite of {}.",
        "Which word is the opposite of {}?",
        "opposite of {}?",
        "Tell me the opposite of {}.",
        "I forgot the opposite of {}.",
    )
    return _fact("opposite", rng, wordings, word, other)


def category(rng: Random) -> Turn:
    """Animal, fruit, tool or plant: a memorised fact."""
    kind = rng.choice(list(CATEGORIES))
    wordings = (
        "What kind of thing is {}?",
        "Name the kind: {}",
        "Is it an animal, a fruit, a tool or a plant: {}?",
        "{} is a kind of what?",
        "Tell me what kind of thing is {}.",
        "I forgot what kind of thing is {}.",
    )
    return _fact("category", rng, wordings, rng.choice(CATEGORIES[kind]), ARTICLE[kind])


def add(rng: Random) -> Turn:
    """The sum of two numbers, at most 20: a memorised table."""
    total = rng.randint(0, LARGEST_SUM)
    a = rng.randint(0, total)
    wording = rng.choice(("What is {} + {}?", "Add {} and {}.", "{} + {} ="))
    prompt = wording.format(a, total - a)
    return Turn("add", prompt, str(total), key=prompt)


def larger(rng: Random) -> Turn:
    """The larger of two numbers below 100."""
    a, b = rng.sample(range(100), 2)
    wording = rng.choice(("Which is larger, {} or {}?", "Name the larger number: {}, {}"))
    return Turn("larger", wording.format(a, b), str(max(a, b)), key=f"{min(a, b)} {max(a, b)}")


def copy(rng: Random) -> Turn:
    """Two to eight words repeated as they are."""
    words = " ".join(shuffled(rng, WORDS, rng.randint(2, 8)))
    wording = rng.choice(("Repeat: {}", "Copy these words: {}", "Say exactly: {}"))
    return Turn("copy", wording.format(words), f"Here: {words}", key=words)


def reverse(rng: Random) -> Turn:
    """Three to five letters in reverse order."""
    letters = shuffled(rng, LETTERS, rng.randint(3, 5))
    wording = rng.choice(("Reverse: {}", "Write backwards: {}"))
    text = " ".join(letters)
    answer = f"Here: {' '.join(reversed(letters))}"
    return Turn("reverse", wording.format(text), answer, key=text)


def sort(rng: Random) -> Turn:
    """Three to five letters in alphabetical order."""
    letters = shuffled(rng, LETTERS, rng.randint(3, 5))
    wording = rng.choice(("Sort: {}", "Put in alphabetical order: {}"))
    text = " ".join(letters)
    answer = f"Here: {' '.join(sorted(letters))}"
    return Turn("sort", wording.format(text), answer, key=text)


def last(rng: Random) -> Turn:
    """The last of three to six words."""
    words = shuffled(rng, WORDS, rng.randint(3, 6))
    text = " ".join(words)
    wording = rng.choice(("What is the last word: {}", "Name the last word of this list: {}"))
    return Turn("last", wording.format(text), f"It is {words[-1]}.", key=text)


def count(rng: Random) -> Turn:
    """How many words a list of two to seven has."""
    words = shuffled(rng, WORDS, rng.randint(2, 7))
    text = " ".join(words)
    wording = rng.choice(("How many words: {}", "Count the words: {}"))
    return Turn("count", wording.format(text), str(len(words)), key=text)


def _card(rng: Random, count: int, needed: tuple[str, ...] = ()) -> dict[str, str]:
    """`count` fields, the needed ones among them, in random order with random values."""
    others = [field for field in FIELDS if field not in needed]
    names = [*needed, *rng.sample(others, count - len(needed))]
    rng.shuffle(names)
    return {name: rng.choice(FIELDS[name]) for name in names}


def _lines(card: dict[str, str]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in card.items())


def lookup(rng: Random) -> Turn:
    """The value of one field of a card of two to six `key: value` lines."""
    card = _card(rng, rng.randint(2, 6))
    asked = rng.choice(list(card))
    wording = rng.choice(("What is the {}?", "Give the {}.", "Name the {} on this card."))
    prompt = f"{wording.format(asked)}\n{_lines(card)}"
    return Turn("lookup", prompt, f"It is {card[asked]}.", key=f"{asked} {card}")


def form(rng: Random) -> Turn:
    """A sentence completed from a card of `key: value` lines."""
    first, second, sentence = rng.choice(FORMS)
    card = _card(rng, rng.randint(3, 6), (first, second))
    blank = sentence.format(**{first: f"[{first}]", second: f"[{second}]"})
    wording = rng.choice(("Fill in the form: {}", "Complete this sentence: {}"))
    prompt = f"{wording.format(blank)}\n{_lines(card)}"
    return Turn("form", prompt, sentence.format(**card), key=f"{sentence} {card}")


def chain(rng: Random) -> Turn:
    """A memorised fact about the value of one field of a card."""
    field, question, facts = rng.choice(CHAINS)
    value = rng.choice(list(facts))
    card = _card(rng, rng.randint(1, 4)) | {field: value}
    card = {name: card[name] for name in rng.sample(list(card), len(card))}
    return Turn("chain", f"{question}\n{_lines(card)}", f"It is {facts[value]}.", key=f"{card}")


MEMORISED = ("capital", "opposite", "category", "add")

SKILLS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        capital, opposite, category, add, larger, copy, reverse, sort, last, count, lookup,
        form, chain,
    )
}  # fmt: skip
