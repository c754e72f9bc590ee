"""Write the demo's corpus and cases: `python -m pipelines.demo.data`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from eval.schema.case import Case
from nlirg.corpus.duplicates import near_pairs
from pipelines.demo.world import corpus, domain_case, known_turns, skill_cases, tickets_split

SEED = 2024
TRAIN_TICKETS = 400
TEST_TICKETS = 120
CASES_PER_SKILL = 16
PROMPTS_PER_KIND = 24
DIRECTORY = Path(__file__).parent / "data"


def files(seed: int = SEED) -> dict[str, str]:
    """The text of every data file, by name."""
    train, test = tickets_split(seed, TRAIN_TICKETS, TEST_TICKETS)
    domain = [domain_case(job, f"domain-{i:03d}") for i, job in enumerate(test)]
    ood = skill_cases(seed, CASES_PER_SKILL)
    return {
        "train.jsonl": _lines(corpus(train, seed)),
        "domain_cases.jsonl": _cases(domain),
        "ood_cases.jsonl": _cases(ood),
        "replay_prompts.jsonl": _lines(_replay_prompts(seed, domain + ood)),
    }


def _replay_prompts(seed: int, cases: Sequence[Case]) -> list[dict[str, object]]:
    """Prompts for the base model to answer; none is nearly the same as a case's."""
    turns = known_turns(seed, PROMPTS_PER_KIND)
    asked = [case.messages[-1].content for case in cases]
    near = {index for index, _ in near_pairs([turn.prompt for turn in turns], asked)}
    return [
        {"id": f"prompt-{index:03d}", "task_type": turn.skill, "prompt": turn.prompt}
        for index, turn in enumerate(turns)
        if index not in near
    ]


def _cases(cases: Iterable[Case]) -> str:
    return _lines(case.model_dump(mode="json", exclude_defaults=True) for case in cases)


def _lines(rows: Iterable[Mapping[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    """Write the files next to this module."""
    DIRECTORY.mkdir(exist_ok=True)
    for name, text in files().items():
        (DIRECTORY / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
