"""Which of the base model's answers are worth training on, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.generation.generate import Completion, ends_in_a_loop
from nlirg.chat.thinking import split_generated

NGRAM = 4
# Of an answer's runs of four tokens, so many may have stood in it before. Of 256 tokens of prose
# (this project's documents) it is .02 at the median and .22 at the 99th percentile, of code .04 and
# .23; tables reach .3.
MOST_REPEATED = 0.3
FEWEST_NGRAMS = 16  # in shorter answers a share says nothing

UNREADABLE = "the prompt cannot be encoded"
TOO_LONG = "the prompt is too long"
NO_END = "no end of turn"
REPEATS = "repeats itself"
EMPTY = "empty"
WORDS = {
    NO_END: "without an end",
    REPEATS: "repeat themselves",
    EMPTY: "empty",
    TOO_LONG: "without room for an answer",
    UNREADABLE: "whose prompt cannot be encoded",
}


def answer_fault(prompt: str, answer: Completion) -> str:
    """Return why an answer is left out, or "" if it is kept.

    Args:
        prompt: the text it follows, with the generation prompt.
        answer: what the model wrote.
    """
    ids = answer.token_ids
    if ends_in_a_loop(ids) or repeated_share(ids) > MOST_REPEATED:
        return REPEATS
    if answer.finish_reason != "stop":
        return NO_END
    _, said = split_generated(prompt, answer.text)
    return "" if said.strip() else EMPTY


def repeated_share(ids: Sequence[int]) -> float:
    """Share of an answer's runs of `NGRAM` tokens that stood in it before; 0 if it has few."""
    runs = [tuple(ids[i : i + NGRAM]) for i in range(len(ids) - NGRAM + 1)]
    if len(runs) < FEWEST_NGRAMS:
        return 0.0
    return 1 - len(set(runs)) / len(runs)


def in_words(left_out: Mapping[str, int]) -> str:
    """Say how many answers were left out and why, the commonest reason first."""
    counted = sorted(left_out.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {WORDS[reason]}" for reason, count in counted)
