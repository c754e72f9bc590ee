"""Open text of the demo world: many right answers, so it is judged by loss, not by match.

The sentences know the words that support tickets use, and messages of other companies know the
idea of filling a reply from a card; neither knows the vertical's templates or rules.
"""

from __future__ import annotations

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
    "{name} has seen the {thing} and entered the {place} with care.",
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
    "A device with a fault is sent back within {number} days.",
    "All parts of the {product} were made and tested in {city}.",
    "Your wish to keep the {thing} is a trouble for our system.",
    "The case is full and kept for later use.",
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

# company -> the fields its messages take from the card, and their wordings
OFFICE = {
    "Solvo": (
        ("customer", "room"),
        ("Hello {customer}, room {room} is ready. Solvo wishes you a good day.",
         "Dear {customer}, your room is {room}. Yours, Solvo."),
    ),
    "Brixa": (
        ("customer", "city", "day"),
        ("Good news, {customer}: Brixa will see you in {city} on {day}.",
         "Brixa tells {customer}: the bus to {city} leaves on {day}. Be early."),
    ),
    "Tamaro": (
        ("product", "colour", "customer"),
        ("Order of {customer}: one {product}, {colour}. Thank you for choosing Tamaro.",
         "Tamaro sends a {colour} {product} to {customer} today."),
    ),
    "Lumen": (
        ("region", "day"),
        ("Lumen closes the line in the {region} on {day}. We regret this.",
         "On {day} there is no light in the {region}, writes Lumen."),
    ),
    "Pavo": (
        ("customer", "issue", "product"),
        ("Note for the file of Pavo: {customer}, {product}, {issue}.",
         "Pavo knows of {issue} with the {product} of {customer}."),
    ),
}  # fmt: skip

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")


def _values(rng: Random) -> dict[str, str]:
    """One random value for every blank a sentence may have."""
    adjective, adjective2 = rng.sample(ADJECTIVES, 2)
    return {
        "name": rng.choice(NAMES),
        "customer": rng.choice(NAMES),
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
        "room": str(rng.randint(10, 99)),
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
    """A message of another company, filled from a card of `key: value` lines."""
    company = rng.choice(list(OFFICE))
    needed, wordings = OFFICE[company]
    values = _values(rng)
    others = [
        field
        for field in ("customer", "city", "product", "region", "day", "room", "issue", "priority")
        if field not in needed
    ]
    fields = [*needed, *rng.sample(others, rng.randint(1, 3))]
    rng.shuffle(fields)
    card = "\n".join(f"{field}: {values[field]}" for field in fields)
    prompt = rng.choice(("Write the message of {}.", "Answer for {}.")).format(company)
    text = rng.choice(wordings).format(**values)
    return Turn("office", f"{prompt}\n{card}", text, key=f"{card} {text}")


PROSE: dict[str, Maker] = {maker.__name__: maker for maker in (web, story, letter, office)}
