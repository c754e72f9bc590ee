"""The checker of multiple choice: strict extraction, as the lm-evaluation-harness filters do."""

from __future__ import annotations

from collections.abc import Collection

import regex

from eval.checkers.matching import comparable, whole
from eval.checkers.registry import checker
from eval.schema.case import Checker
from nlirg.errors import InputError

# What announces an option. It names none itself: "答案是" must not be read as the option 是.
_ANNOUNCED = regex.compile(
    r"(?:\banswer[\s*]*(?:is\b[\s*]*:?|:)|答案[\s*]*(?:应该|应)?(?:[是为选]:?|:)|(?<![不没别])选择?:?)"
    r"[\s*_\"'“「(\[$]*(?:option\b|选项)?[\s*_\"'“「(\[$]*",
    regex.IGNORECASE,
)
_MARKS = " .,;:!?。、…*_`\"'“”「」()[]【】"
# "A good question" begins with an article, "A is right" with a label.
_ARTICLE = regex.compile(r"(?<=[AaI]) (?!(?:is|because)\b)[a-z]")


@checker(
    "choice",
    'the option it announces ("the answer is", "答案是"), else consists of, else names first, is '
    "the reference; a negated option is named too",
    values="all options",
)
def _choice(checker: Checker, answer: str, reference: str) -> float:
    options, right = set(map(comparable, checker.values)), comparable(reference)
    if len(options) < 2 or "" in options:
        raise InputError("give all the options as values, at least two different ones")
    if right not in options:
        raise InputError(f"the reference {reference!r} is not one of the options")
    return float(chosen(options, answer) == right)


def chosen(options: Collection[str], answer: str) -> str | None:
    """Return the first option that is announced, or the lone one, or the first one named.

    Args:
        options: comparable (`eval.checkers.matching`), none empty.
        answer: any text.
    """
    text = comparable(answer)
    named = _named(options, text)
    by_start = {start: option for start, _, option in named}
    cues = list(_ANNOUNCED.finditer(text))
    announced = [by_start[cue.end()] for cue in cues if cue.end() in by_start]
    bare = text.strip(_MARKS).casefold()
    lone = [option for option in sorted(options) if option.casefold() == bare]
    within_cues = {place for cue in cues for place in range(*cue.span())}
    first = [option for start, _, option in named if start not in within_cues]
    return next(iter((*announced, *lone, *first)), None)


def _named(options: Collection[str], text: str) -> list[tuple[int, int, str]]:
    """Return start, end and option of each mention; of those that overlap the first, the longest.

    The case of a lone letter matters, as it is a label: "a" is also an article.
    """
    mentions = sorted(
        (match.start(), -match.end(), option)
        for option in options
        for match in whole(option, cased=len(option) == 1).finditer(text)
        if len(option) > 1 or not _ARTICLE.match(text, match.end())
    )
    named: list[tuple[int, int, str]] = []
    for start, end, option in mentions:
        if not named or start >= named[-1][1]:
            named.append((start, -end, option))
    return named
