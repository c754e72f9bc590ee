"""Open text of the demo world: many right answers, so it is judged by loss, not by match.

The sentences know the words that support tickets use, and messages of other companies know the
idea of filling a reply from a card, by rules of their own; neither knows the vertical's templates
or rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from pipelines.demo.turns import Maker, Turn
from pipelines.demo.words import (
    CATEGORIES,
    CATEGORY_NAMES,
    CITIES,
    COLOURS,
    ISSUES,
    NAMES,
    OPPOSITES,
    PLACES,
    PRIORITIES,
    PRODUCTS,
    REGIONS,
    TEAM_NAMES,
    THINGS,
)

ADJECTIVES = tuple(word for pair in OPPOSITES for word in pair)

SENTENCES = (
    "The {product} in the {place} is {adjective} and {colour}.",
    "{name} bought a {colour} {product} in {city}.",
    "My {product} has {issue}, so I asked for help.",
    "Our team in the {region} is called {team}.",
    "A {priority} ticket about a {product} came from {city}.",
    "There was a {category} problem with the {product}.",
    "The warranty of a {product} can be {number} months.",
    "People in the {region} like a {adjective} {thing}.",
    "{name} lost the {thing} near the {place}.",
    "The deadline is in {number} days, said {name}.",
    "Every {animal} needs a {adjective} {place}.",
    "The customer has a service record for the {product}.",
    "{name} has seen and read the book and entered the {place} with care.",
    "This {thing} was received and checked by {name}.",
    "Team work is done until {day}.",
    "Deadline means the last {number} hours of a job.",
    "Category means the kind of a {thing}.",
    "Owner means the one who keeps the {thing}.",
    "Norvik is a company in {city}.",
    "Please close the {thing} after work, or it stays open.",
    "Thank {name} for writing on {day}, it was very pleasant.",
    "Service is slow, we are sorry, said the desk.",
    "We value trust, and your {thing} must be signed.",
    "A device with a fault will be sent back within {number} days.",
    "All parts of the {product} were made and tested in {city}.",
    "Your wish to keep the {thing} is a trouble for our system.",
    "The case is full and kept for later use.",
    "A check of every {thing} takes {number} hours.",
    "Close to {city} people regret the {thing}.",
    "They triage a support case and look at your message.",
)

STORY = (
    ("One day {name} went to the {place}.", "{name} lived near the {place}.",
     "In {city} there was a child called {name}."),
    ("There was a {adjective} {animal} with a {colour} {thing}.",
     "A {animal} sat on the {thing} and was {adjective}.",
     "The {thing} was {colour} and {adjective}."),
    ("{name} gave the {animal} a {fruit}.", "{name} was {adjective2} and looked at the {thing}.",
     "The {animal} ran after {name} to the {place}."),
    ("In the end the {animal} was {adjective2}.", "Then {name} went home with the {animal}.",
     "They never saw the {thing} again."),
)  # fmt: skip

LETTER = (
    ("How are you?", "It is {adjective} here in {city}.", "I think of you often."),
    ("I have a {adjective2} {animal} now.", "We saw the {thing} near the {place}.",
     "The {fruit} in the garden is {colour}."),
    ("Please come soon.", "Write to me from {city}.", "Bring the {thing} with you."),
)  # fmt: skip

NUMBERS = ("12", "24", "36", "60")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")


@dataclass(frozen=True)
class Company:
    """Another company's messages: what they copy from a card and what its own rules add.

    `rules` maps a slot to the field that decides it and the value for every value of that field.
    """

    copied: tuple[str, ...]
    rules: dict[str, tuple[str, dict[str, str]]]
    wordings: tuple[str, str]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields a card must have."""
        return tuple(dict.fromkeys((*self.copied, *(field for field, _ in self.rules.values()))))


def _rule(field: str, values: Sequence[str], seed: int) -> tuple[str, dict[str, str]]:
    """A fixed, arbitrary value for every value of a field."""
    rng = Random(seed)
    return field, {key: rng.choice(values) for key in CARD[field]}


CARD = {
    "customer": NAMES,
    "city": CITIES,
    "product": PRODUCTS,
    "region": REGIONS,
    "issue": ISSUES,
    "priority": PRIORITIES,
    "room": tuple(str(number) for number in range(10, 100)),
}

OFFICE = {
    "Solvo": Company(
        ("customer", "product"),
        {"day": _rule("priority", DAYS, 1), "colour": _rule("region", COLOURS, 2)},
        (
            "Hello {customer}, bring the {product} on {day} to the {colour} door of Solvo.",
            "For {customer}: {colour} door, {day}, with the {product}. Yours, Solvo.",
        ),
    ),
    "Brixa": Company(
        ("customer", "city"),
        {
            "name": _rule("region", NAMES, 3),
            "number": _rule("priority", ("12", "24", "36", "60"), 4),
        },
        (
            "Good news, {customer}: {name} of Brixa comes to {city} in {number} weeks.",
            "Brixa tells {customer} that {name} waits in {city} for {number} weeks.",
        ),
    ),
    "Tamaro": Company(
        ("customer",),
        {"thing": _rule("product", THINGS, 5), "place": _rule("issue", PLACES, 6)},
        (
            "Order of {customer}: one {thing}, to the {place}. Thank you for choosing Tamaro.",
            "Tamaro sends a {thing} from the {place} to {customer} today.",
        ),
    ),
    "Lumen": Company(
        ("region",),
        {"day": _rule("region", DAYS, 7), "place": _rule("priority", PLACES, 8)},
        (
            "Lumen closes the line in the {region} near the {place} on {day}. We regret this.",
            "On {day} there is no light in the {region} at the {place}, writes Lumen.",
        ),
    ),
    "Pavo": Company(
        ("customer", "product"),
        {"name": _rule("issue", NAMES, 9), "colour": _rule("product", COLOURS, 10)},
        (
            "Note for the file of Pavo: {customer}, {product}, {colour} list, ask {name}.",
            "Pavo put {customer} on the {colour} list and {name} looks at the {product}.",
        ),
    ),
    "Quint": Company(
        ("customer", "room"),
        {
            "tool": _rule("issue", CATEGORIES["tool"], 11),
            "fruit": _rule("region", CATEGORIES["fruit"], 12),
        },
        (
            "Quint brings the {tool} and a {fruit} to {customer} in room {room}.",
            "In room {room} you find a {fruit} and the {tool}, dear {customer}. Quint.",
        ),
    ),
}


def _values(rng: Random) -> dict[str, str]:
    """One random value for every blank a sentence may have."""
    adjective, adjective2 = rng.sample(ADJECTIVES, 2)
    return {
        "name": rng.choice(NAMES),
        "city": rng.choice(CITIES),
        "place": rng.choice(PLACES),
        "thing": rng.choice(THINGS),
        "colour": rng.choice(COLOURS),
        "product": rng.choice(PRODUCTS),
        "issue": rng.choice(ISSUES),
        "region": rng.choice(REGIONS),
        "priority": rng.choice(PRIORITIES),
        "category": rng.choice(CATEGORY_NAMES),
        "team": rng.choice(TEAM_NAMES),
        "animal": rng.choice(CATEGORIES["animal"]),
        "fruit": rng.choice(CATEGORIES["fruit"]),
        "day": rng.choice(DAYS),
        "number": str(rng.randint(2, 60)),
        "adjective": adjective,
        "adjective2": adjective2,
    }


def web(rng: Random) -> Turn:
    """Unrelated sentences about everyday things."""
    text = " ".join(rng.choice(SENTENCES).format(**_values(rng)) for _ in range(rng.randint(1, 3)))
    prompt = rng.choice(("Write something.", "Say something.", "Continue.", "Tell me some news."))
    return Turn("web", prompt, text, key=text)


def story(rng: Random) -> Turn:
    """A story of four sentences about one person and one animal."""
    values = _values(rng)
    prompt = rng.choice(("Tell a story about {name}.", "Write a short story about {name}."))
    text = " ".join(rng.choice(options) for options in STORY).format(**values)
    return Turn("story", prompt.format(**values), text, key=text)


def letter(rng: Random) -> Turn:
    """A private letter from one person to another."""
    values = _values(rng)
    writer = rng.choice([name for name in NAMES if name != values["name"]])
    body = " ".join(rng.choice(options) for options in LETTER).format(**values)
    text = f"My dear {values['name']}, {body} Love, {writer}"
    return Turn("letter", f"Write a letter from {writer} to {values['name']}.", text, key=text)


def office(rng: Random) -> Turn:
    """A message of another company, filled from a card of `key: value` lines and its rules."""
    name = rng.choice(list(OFFICE))
    company = OFFICE[name]
    others = [field for field in CARD if field not in company.fields]
    fields = [*company.fields, *rng.sample(others, rng.randint(1, len(others)))]
    rng.shuffle(fields)
    card = {field: rng.choice(CARD[field]) for field in fields}
    decided = {slot: values[card[field]] for slot, (field, values) in company.rules.items()}
    prompt = rng.choice(("Write the message of {}.", "Answer for {}.")).format(name)
    text = rng.choice(company.wordings).format(**card, **decided)
    lines = "\n".join(f"{field}: {value}" for field, value in card.items())
    return Turn("office", f"{prompt}\n{lines}", text, key=f"{card} {text}")


PROSE: dict[str, Maker] = {maker.__name__: maker for maker in (web, story, letter, office)}
