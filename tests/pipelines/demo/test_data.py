import json

import pytest

from eval.schema.case import Case
from nlirg.corpus.duplicates import near_pairs
from pipelines.demo.data import CASES_PER_SKILL, DIRECTORY, TRAIN_TICKETS, files
from pipelines.demo.prose import PROSE
from pipelines.demo.skills import SKILLS
from pipelines.demo.world import skill_cases

FILES = files()


@pytest.mark.parametrize("name", FILES)
def test_committed_files_regenerate_identically(name):
    assert (DIRECTORY / name).read_text(encoding="utf-8") == FILES[name]


def test_another_seed_gives_other_tickets():
    assert files(seed=1)["train.jsonl"] != FILES["train.jsonl"]


def test_asking_for_more_cases_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="capital has only"):
        skill_cases(seed=0, per_skill=100)


def test_the_data_stays_small():
    assert sum(len(text.encode()) for text in FILES.values()) < 1_000_000


def test_cases_follow_the_schema_and_their_references_pass():
    domain = [Case.model_validate_json(line) for line in FILES["domain_cases.jsonl"].splitlines()]
    ood = [Case.model_validate_json(line) for line in FILES["ood_cases.jsonl"].splitlines()]
    assert len(ood) == CASES_PER_SKILL * len(SKILLS)
    assert len({case.id for case in domain + ood}) == len(domain + ood)
    for case in domain:
        assert all(value in case.reference for value in case.checker.values)
    for case in ood:
        assert case.checker.values == (case.reference,)


def test_rows_have_alpaca_keys_and_the_mark():
    rows = [json.loads(line) for line in FILES["train.jsonl"].splitlines()]
    assert len(rows) == TRAIN_TICKETS
    assert all(row["instruction"] and row["input"] and row["output"] for row in rows)
    assert len({row["id"] for row in rows}) == len(rows)


def test_prompts_of_the_replay_are_of_every_kind_and_no_case_asks_them():
    prompts = [json.loads(line) for line in FILES["replay_prompts.jsonl"].splitlines()]
    assert {prompt["task_type"] for prompt in prompts} == {*SKILLS, *PROSE}
    texts = [prompt["prompt"] for prompt in prompts]
    assert len(set(texts)) == len(texts) > 300
    lines = [*FILES["domain_cases.jsonl"].splitlines(), *FILES["ood_cases.jsonl"].splitlines()]
    asked = [Case.model_validate_json(line).messages[-1].content for line in lines]
    assert near_pairs(texts, asked) == []
