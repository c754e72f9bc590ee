"""Checkers that measure how much an answer shares with a reference."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

from eval.checkers.registry import accepted, checker
from eval.schema.case import Checker
from eval.text import units
from nlirg.errors import InputError


@checker(
    "f1",
    "its words (characters in Chinese) overlap the reference's, F1 ≥ `threshold`",
    values="references, or none",
)
def _f1(checker: Checker, answer: str, reference: str) -> float:
    return max(unit_f1(answer, value) for value in accepted(checker, reference))


def unit_f1(answer: str, reference: str) -> float:
    """Return the F1 of two bags of units (Rajpurkar et al. 2016, arXiv 1606.05250).

    Articles count.

    Raises:
        InputError: if the reference has no word or character to compare with.
    """
    wanted, got = Counter(_words(reference)), Counter(units(answer))
    return 2 * (wanted & got).total() / (wanted.total() + got.total())


def _words(reference: str) -> list[str]:
    words = units(reference)
    if not words:
        raise InputError(f"the reference {reference!r} has no words")
    return words


@checker(
    "rouge_l",
    "the same for the longest common subsequence, ROUGE-L ≥ `threshold`",
    values="references, or none",
)
def _rouge_l(checker: Checker, answer: str, reference: str) -> float:
    wanted = accepted(checker, reference)
    for value in wanted:
        _words(value)
    return max(_rouge().score(value, answer)["rougeL"].fmeasure for value in wanted)


@checker(
    "chrf",
    "the same for character n-grams, chrF / 100 ≥ `threshold`",
    values="references, or none",
)
def _chrf(checker: Checker, answer: str, reference: str) -> float:
    wanted = list(accepted(checker, reference))
    return min(_chrf_metric().sentence_score(answer, wanted).score / 100, 1.0)


class _Units:
    """The tokenizer that rouge_score asks for; its own drops all but a-z and 0-9."""

    def tokenize(self, text: str) -> list[str]:
        return units(text)


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # imports nltk: a second

    return RougeScorer(["rougeL"], tokenizer=_Units())


@cache
def _chrf_metric() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
