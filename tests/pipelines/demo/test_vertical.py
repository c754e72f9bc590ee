import re
from random import Random

import pytest

from pipelines.demo.vertical import CORRUPTIONS, SLOT_VALUES, TASKS, draw_jobs
from pipelines.demo.world import CORRUPTED_SHARE, conversations, corpus, domain_case, tickets_split

TRAIN, TEST = tickets_split(seed=5, train=300, test=100)
ROWS = corpus(TRAIN, seed=5)


def test_the_split_shares_no_ticket():
    assert not {job.ticket for job in TRAIN} & {job.ticket for job in TEST}
    prompts = {f"{row['instruction']}\n{row['input']}" for row in ROWS}
    cases = [domain_case(job, str(i)) for i, job in enumerate(TEST)]
    assert not prompts & {case.messages[0].content for case in cases}


def test_a_tenth_is_corrupted_and_marked_and_differs():
    marked = [row for row in ROWS if row["corrupted"]]
    assert len(marked) == round(CORRUPTED_SHARE * len(ROWS))
    for row, job in zip(ROWS, TRAIN, strict=True):
        assert (row["output"] != job.answer) == row["corrupted"]
        assert (row["corruption"] in CORRUPTIONS) == row["corrupted"]


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_every_kind_of_corruption_always_differs(kind):
    rng = Random(6)
    for job in TRAIN:
        bad = CORRUPTIONS[kind](rng, job, TRAIN)
        assert bad
        assert bad != job.answer


def test_wrong_slots_has_no_right_slot():
    rng = Random(7)
    for job in TRAIN[:50]:
        bad = CORRUPTIONS["wrong_slots"](rng, job, TRAIN)
        assert not [value for value in job.slots.values() if value in bad]


def test_a_clean_answer_holds_exactly_its_own_slot_values():
    for job in TRAIN + TEST:
        for name, value in job.slots.items():
            assert [other for other in SLOT_VALUES[name] if other in job.answer] == [value]


def test_boilerplate_gives_no_slot_away():
    values = [value for values in SLOT_VALUES.values() for value in values]
    for task in TASKS.values():
        blank = task.body.format(**dict.fromkeys(task.slots, ""))
        for text in (*task.openings, blank, *task.closings):
            assert not [value for value in values if value in text]


def test_phrasings_come_seventy_twenty_ten():
    jobs = draw_jobs(Random(8), 3000)
    for name, task in TASKS.items():
        answers = [job.answer for job in jobs if job.task_type == name]
        shares = [sum(a.startswith(o) for a in answers) / len(answers) for o in task.openings]
        assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.05)


def test_pretraining_never_sees_a_template_of_the_vertical():
    stream = conversations(seed=9)
    text = "\n".join(m["content"] for _ in range(2000) for m in next(stream))
    for task in TASKS.values():
        frame = [part for part in re.split(r"{\w+}", task.body) if len(part.split()) > 1]
        for phrase in (task.instruction, *task.openings, *task.closings, *frame):
            assert phrase not in text
