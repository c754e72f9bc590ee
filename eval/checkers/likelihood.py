"""Choice questions answered by likelihood: the options are ranked, and no text is parsed.

An option scores the mean log-probability of its tokens under the prompt,

    s(o) = 1/|o| · Σ_t ln p(o_t | prompt, o_<t),

the per-token likelihood of Brown et al. 2020 (arXiv 2005.14165, section 2.4). The sum alone would
favour short options. The lm-evaluation-harness's `acc_norm` divides by the option's length, too,
but counts it in characters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from eval.checkers.matching import comparable
from eval.schema.case import Case
from nlirg.errors import InputError


@dataclass(frozen=True)
class Ranking:
    """The likeliest option, the probability of the right one, and whether they are the same."""

    answer: str
    score: float
    correct: bool


def ranks_options(case: Case) -> bool:
    """Return whether a case's options are ranked instead of an answer being generated."""
    return case.checker.answer_by == "likelihood"


def rank(logprobs: Mapping[str, float], reference: str) -> Ranking:
    """Choose the likeliest option; of equally likely ones the first.

    The score is the softmax of the log-probabilities at the right option: its probability where an
    option's weight is the geometric mean of its tokens' probabilities.

    Args:
        logprobs: option -> mean log-probability per token, finite.
        reference: one of the options, white space and Unicode forms aside.
    """
    answer = max(logprobs, key=logprobs.__getitem__)
    weights = {name: math.exp(value - logprobs[answer]) for name, value in logprobs.items()}
    right = next(name for name in logprobs if comparable(name) == comparable(reference))
    return Ranking(answer, weights[right] / math.fsum(weights.values()), answer == right)


def validate_ranking(case: Case, where: str) -> None:
    """Refuse a case whose `answer_by: likelihood` cannot be followed.

    Raises:
        InputError: naming `where` (file, line, case) and what to change.
    """
    if case.format is not None and case.format.answer_by != "text":
        raise InputError(f"{where}: format: answer_by belongs to the checker; remove it")
    if not ranks_options(case):
        return
    checker, where = case.checker, f"{where}: checker: answer_by 'likelihood'"
    if checker.kind != "choice":
        raise InputError(
            f"{where} ranks options, which kind {checker.kind!r} has not; use kind 'choice', or "
            "remove answer_by"
        )
    options = [comparable(value) for value in checker.values]
    if len(set(options)) < max(2, len(options)) or "" in options:
        raise InputError(f"{where} needs two or more different options as values")
    if comparable(case.reference) not in options:
        raise InputError(f"{where}: the reference {case.reference!r} is not one of the options")
    if checker.threshold != 1:
        raise InputError(f"{where}: the likeliest option is the answer; remove threshold")
    if case.format is not None:
        raise InputError(f"{where} writes no answer that could have a form; remove format")
