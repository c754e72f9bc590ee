"""Write the demo's corpus and cases: `python -m pipelines.demo.data`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from eval.schema.case import Case
from pipelines.demo.world import corpus, domain_case, skill_cases, tickets_split

SEED = 2024
TRAIN_TICKETS = 400
TEST_TICKETS = 120
CASES_PER_SKILL = 16
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
    }


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
