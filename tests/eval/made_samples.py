"""Samples made by hand, for tests that plant a difference and look for it."""

from collections.abc import Sequence
from typing import Any

from eval.schema.report import Paired
from eval.schema.sample import Sample


def sample(case: str, correct: bool = True, **changes: Any) -> Sample:
    """A judged answer; `changes` replace any field."""
    fields = {
        "case_id": case,
        "root_id": case,
        "suite": "domain",
        "task_type": "",
        "perturbation": "",
        "prompt": f"prompt {case}",
        "prompt_sha256": f"hash {case}",
        "reference": "",
        "answer": "yes" if correct else "no",
        "finish_reason": "stop",
        "tokens": 2,
        "score": float(correct),
        "correct": correct,
    }
    return Sample.model_validate(fields | changes)


def suite_of(suite: str, right: Sequence[bool], **changes: Any) -> list[Sample]:
    """One sample a flag, cases 0, 1, ... of one suite."""
    return [
        sample(f"{suite}{i}", flag, suite=suite, **changes)
        for i, flag in enumerate(map(bool, right))
    ]


def template_of(answers: Sequence[str], **changes: Any) -> list[Sample]:
    """One sample an answer of the template suite."""
    return [
        sample(f"t{i}", suite="template", answer=answer, **changes)
        for i, answer in enumerate(answers)
    ]


def paired(delta: float, p: float, half: float = 0.1, detectable: float = 0.042) -> Paired:
    """A difference with an interval of `half` to both sides; `p` before and after adjustment."""
    return Paired(
        delta=delta,
        low=delta - half,
        high=delta + half,
        n=100,
        p_value=p,
        p_holm=p,
        minimum_detectable=detectable,
    )
