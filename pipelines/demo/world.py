"""What is drawn from the demo world: pre-training conversations, corpus rows and cases.

Everything is a pure function of its seed. Nothing here knows how the model will be trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from eval.schema.case import Case, Checker, Message
from pipelines.demo.prose import PROSE
from pipelines.demo.skills import SKILLS
from pipelines.demo.turns import Maker, Turn, draw
from pipelines.demo.vertical import CORRUPTIONS, Job, draw_jobs

CORRUPTED_SHARE = 0.10
PROSE_SHARE = 0.30
SYSTEM_PROMPTS = ("You are a helpful assistant.", "Answer briefly.", "Be exact and friendly.")

# Skills that need the prompt's content are harder to learn than facts: they are seen more often.
SKILL_WEIGHTS = {
    "copy": 3, "lookup": 5, "form": 6, "chain": 3, "add": 3, "sort": 2, "reverse": 2, "larger": 2,
}  # fmt: skip
PROSE_WEIGHTS = {"office": 6, "web": 2}

Conversation = list[dict[str, str]]


def conversation(rng: Random) -> Conversation:
    """One to four turns of general skills and open text, one in five with a system prompt."""
    messages: Conversation = []
    if rng.random() < 0.2:
        messages.append({"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
    for _ in range(rng.randint(1, 4)):
        makers, weights = (
            (PROSE, PROSE_WEIGHTS) if rng.random() < PROSE_SHARE else (SKILLS, SKILL_WEIGHTS)
        )
        name = rng.choices(list(makers), weights=[weights.get(name, 1) for name in makers])[0]
        turn = draw(makers[name], rng, held_out=False)
        messages.append({"role": "user", "content": turn.prompt})
        messages.append({"role": "assistant", "content": turn.answer})
    return messages


def conversations(seed: int) -> Iterator[Conversation]:
    """The endless pre-training stream; it holds no held-out turn and no support ticket."""
    rng = Random(seed)
    while True:
        yield conversation(rng)


def corpus(jobs: list[Job], seed: int) -> list[dict[str, object]]:
    """Corpus rows with alpaca keys; a tenth of the answers, evenly over the kinds, is corrupted.

    Returns:
        Rows with `id`, `task_type`, `instruction`, `input`, `output`, and the two columns that
        only the evaluation of a detector may read: `corrupted` and its kind `corruption`.
    """
    rng = Random(seed)
    kinds = list(CORRUPTIONS)
    bad = rng.sample(range(len(jobs)), round(CORRUPTED_SHARE * len(jobs)))
    corruption = {index: kinds[i % len(kinds)] for i, index in enumerate(bad)}
    rows: list[dict[str, object]] = []
    for index, job in enumerate(jobs):
        kind = corruption.get(index, "")
        rows.append(
            {
                "id": f"ticket-{index:04d}",
                "task_type": job.task_type,
                "instruction": job.instruction,
                "input": job.ticket.text,
                "output": CORRUPTIONS[kind](rng, job, jobs) if kind else job.answer,
                "corrupted": bool(kind),
                "corruption": kind,
            }
        )
    return rows


def domain_case(job: Job, case_id: str) -> Case:
    """A held-out ticket: right when every slot value appears in the answer."""
    return Case(
        id=case_id,
        messages=(Message(role="user", content=f"{job.instruction}\n{job.ticket.text}"),),
        reference=job.answer,
        checker=Checker(kind="slots", values=tuple(job.slots.values())),
        task_type=job.task_type,
        suite="domain",
        root_id=case_id,
    )


def _held_out_turns(maker: Maker, rng: Random, count: int) -> list[Turn]:
    """`count` held-out turns with different prompts."""
    turns: dict[str, Turn] = {}
    for _ in range(1000 * count):
        turn = draw(maker, rng, held_out=True)
        turns.setdefault(turn.prompt, turn)
        if len(turns) == count:
            return list(turns.values())
    raise ValueError(f"{maker.__name__} has only {len(turns)} held-out prompts, not {count}")


def skill_cases(seed: int, per_skill: int) -> list[Case]:
    """Held-out problems of every general skill, all different, to be answered exactly.

    Raises:
        ValueError: if a skill has fewer held-out problems.
    """
    rng = Random(seed)
    return [
        skill_case(turn, f"{skill}-{i:03d}")
        for skill, maker in SKILLS.items()
        for i, turn in enumerate(_held_out_turns(maker, rng, per_skill))
    ]


def known_turns(seed: int, per_kind: int) -> list[Turn]:
    """Turns of every skill and kind of text as pre-training has them, with different prompts.

    Args:
        seed: of the draw.
        per_kind: of each; fewer where a kind has fewer.
    """
    rng = Random(f"known:{seed}")
    found: list[Turn] = []
    for maker in (*SKILLS.values(), *PROSE.values()):
        turns: dict[str, Turn] = {}
        for _ in range(100 * per_kind):
            if len(turns) < per_kind:
                turn = draw(maker, rng, held_out=False)
                turns.setdefault(turn.prompt, turn)
        found += turns.values()
    return found


def skill_case(turn: Turn, case_id: str) -> Case:
    """A general question with one right answer."""
    return Case(
        id=case_id,
        messages=(Message(role="user", content=turn.prompt),),
        reference=turn.answer,
        checker=Checker(kind="exact", values=(turn.answer,)),
        task_type=turn.skill,
        suite="ood",
        root_id=case_id,
    )


def tickets_split(seed: int, train: int, test: int) -> tuple[list[Job], list[Job]]:
    """Training and test jobs that share no ticket."""
    rng = Random(seed)
    jobs = draw_jobs(rng, train)
    return jobs, draw_jobs(rng, test, taken=[job.ticket for job in jobs])
