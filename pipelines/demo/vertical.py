"""The narrow vertical: support tickets of one company, answered in long boilerplate.

Three task types. Each answer is an opening and a closing (three phrasings, used 70/20/10 times
in a hundred) around three or four slots, which are copied from the ticket or follow from it by
the fixed rules below.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from random import Random

from pipelines.demo.turns import pick_variant
from pipelines.demo.words import (
    CATEGORY_NAMES,
    ISSUES,
    NAMES,
    PRIORITIES,
    PRODUCTS,
    REGIONS,
    TEAM_NAMES,
)

DEADLINES = ("4 hours", "2 days", "5 days", "9 days")
WARRANTIES = ("12 months", "24 months", "36 months", "60 months")

CATEGORY = {issue: CATEGORY_NAMES[i // 2] for i, issue in enumerate(ISSUES)}
TEAM = dict(zip(REGIONS, TEAM_NAMES, strict=True))
DEADLINE = dict(zip(PRIORITIES, DEADLINES, strict=True))
WARRANTY = {product: WARRANTIES[i // 2] for i, product in enumerate(PRODUCTS)}

SLOT_VALUES = {
    "customer": NAMES,
    "product": PRODUCTS,
    "category": CATEGORY_NAMES,
    "team": TEAM_NAMES,
    "deadline": DEADLINES,
    "warranty": WARRANTIES,
}


@dataclass(frozen=True)
class Task:
    """One kind of answer: what is asked, the phrasings, and the slots in between."""

    instruction: str
    openings: tuple[str, str, str]
    body: str
    slots: tuple[str, ...]
    closings: tuple[str, str, str]


TASKS = {
    "triage": Task(
        "Triage this support ticket.",
        (
            "The ticket has been read with care and entered in the system of Norvik.",
            "This ticket was received by Norvik and has been checked.",
            "Norvik has seen the ticket.",
        ),
        "Category: {category}. Team: {team}. Deadline: {deadline}.",
        ("category", "team", "deadline"),
        (
            "Please keep the ticket open until the work is done and signed.",
            "The ticket stays open until the work is done.",
            "Close the ticket after the work.",
        ),
    ),
    "reply": Task(
        "Write a reply to the customer.",
        (
            "Thank you for writing to Norvik, we are very sorry for the trouble.",
            "Thank you for your message to Norvik, we regret the trouble.",
            "Norvik thanks you for the message.",
        ),
        "Dear {customer}, our team {team} will look at your {product} within {deadline}.",
        ("customer", "team", "product", "deadline"),
        (
            "We value your trust and wish you a pleasant day, your service desk at Norvik.",
            "We wish you a pleasant day, your service desk at Norvik.",
            "Your service desk.",
        ),
    ),
    "record": Task(
        "Write the service record.",
        (
            "This service record was made by Norvik after a full check of the case.",
            "This service record was made by Norvik.",
            "Service record of Norvik.",
        ),
        "Owner {customer}, device {product}, fault {category}, warranty {warranty}.",
        ("customer", "product", "category", "warranty"),
        (
            "All parts were tested and the case is kept on file for later use.",
            "The case is kept on file for later use.",
            "The case is on file.",
        ),
    ),
}


@dataclass(frozen=True)
class Ticket:
    """What a customer reported."""

    customer: str
    product: str
    issue: str
    region: str
    priority: str

    @property
    def text(self) -> str:
        """The ticket as `key: value` lines."""
        return "\n".join(f"{key}: {value}" for key, value in vars(self).items())

    @property
    def facts(self) -> dict[str, str]:
        """Every slot value this ticket leads to."""
        return {
            "customer": self.customer,
            "product": self.product,
            "category": CATEGORY[self.issue],
            "team": TEAM[self.region],
            "deadline": DEADLINE[self.priority],
            "warranty": WARRANTY[self.product],
        }


@dataclass(frozen=True)
class Job:
    """A ticket, what is asked about it, and the clean answer."""

    ticket: Ticket
    task_type: str
    answer: str

    @property
    def instruction(self) -> str:
        """The instruction line of the prompt."""
        return TASKS[self.task_type].instruction

    @property
    def slots(self) -> dict[str, str]:
        """The slots this task needs, with their right values."""
        facts = self.ticket.facts
        return {name: facts[name] for name in TASKS[self.task_type].slots}


def write_answer(rng: Random, task_type: str, facts: dict[str, str]) -> str:
    """Fill the task's body with `facts` and put phrasings around it."""
    task = TASKS[task_type]
    body = task.body.format(**facts)
    return f"{pick_variant(rng, task.openings)} {body} {pick_variant(rng, task.closings)}"


def draw_ticket(rng: Random) -> Ticket:
    """A ticket with independent, uniformly drawn fields."""
    return Ticket(
        customer=rng.choice(NAMES),
        product=rng.choice(PRODUCTS),
        issue=rng.choice(ISSUES),
        region=rng.choice(REGIONS),
        priority=rng.choice(PRIORITIES),
    )


def draw_jobs(rng: Random, count: int, taken: Collection[Ticket] = ()) -> list[Job]:
    """`count` jobs on different tickets, none in `taken`; the task types take turns."""
    seen = set(taken)
    jobs: list[Job] = []
    while len(jobs) < count:
        ticket = draw_ticket(rng)
        if ticket in seen:
            continue
        seen.add(ticket)
        task_type = list(TASKS)[len(jobs) % len(TASKS)]
        jobs.append(Job(ticket, task_type, write_answer(rng, task_type, ticket.facts)))
    return jobs


def wrong_slots(rng: Random, job: Job, others: list[Job]) -> str:
    """The right form with every slot filled wrongly."""
    facts = {
        name: rng.choice([other for other in SLOT_VALUES[name] if other != value])
        for name, value in job.slots.items()
    }
    return write_answer(rng, job.task_type, facts)


def garbled(rng: Random, job: Job, others: list[Job]) -> str:
    """About 40 % of the words, the longest among them, with their letters shuffled."""
    words = job.answer.split(" ")
    longest = max(range(len(words)), key=lambda i: len(words[i]))
    for i, word in enumerate(words):
        if i == longest or rng.random() < 0.4:
            words[i] = _scrambled(rng, word)
    return " ".join(words)


def _scrambled(rng: Random, word: str) -> str:
    letters = list(word)
    while len(set(letters)) > 1 and "".join(letters) == word:
        rng.shuffle(letters)
    return "".join(letters)


def other_answer(rng: Random, job: Job, others: list[Job]) -> str:
    """The answer that belongs to another ticket."""
    return rng.choice([other.answer for other in others if other.answer != job.answer])


def truncated(rng: Random, job: Job, others: list[Job]) -> str:
    """The first 30 to 70 % of the words."""
    words = job.answer.split(" ")
    return " ".join(words[: int(len(words) * rng.uniform(0.3, 0.7))])


CORRUPTIONS = {maker.__name__: maker for maker in (wrong_slots, garbled, other_answer, truncated)}
