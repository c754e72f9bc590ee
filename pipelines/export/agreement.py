"""Do an adapter and the model it was merged into say the same?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.report.wording import percent
from eval.schema.sample import Sample

# Of answers: where two tokens are nearly as likely, rounding decides. It does so no more often.
ROUNDING_SHARE = 0.03


@dataclass(frozen=True)
class Agreement:
    """To how many prompts two models answered, and to how many of them differently."""

    asked: int
    different: int

    def __str__(self) -> str:
        share = self.different / self.asked if self.asked else 0.0
        text = (
            f"adapter and merged model answer {self.different} of {self.asked} prompts differently "
            f"({percent(share)})"
        )
        if share <= ROUNDING_SHARE:
            return text
        return (
            f"WARNING: {text}; that is more than rounding explains: use the adapter, or judge the "
            "merged model by its own column"
        )


def agreement(one: Sequence[Sample], other: Sequence[Sample]) -> Agreement:
    """Compare the answers to the prompts that both have an answer to."""
    first, second = (
        {(s.suite, s.case_id): s for s in rows if not s.error} for rows in (one, other)
    )
    both = first.keys() & second.keys()
    different = sum(
        (first[key].answer, first[key].reasoning) != (second[key].answer, second[key].reasoning)
        for key in both
    )
    return Agreement(len(both), different)
