"""The order of `key: value` lines, where it says nothing."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence

from eval.cases.perturbations.text import CODE_SIGN, FENCE, FIELD

LEAST_FIELDS = 3  # two labelled lines are as often two turns, or two things to compare
_SENTENCE_ENDS = tuple(".!?。！？")
# A message with one of these may speak of the order of its lines.
_ORDER = re.compile(
    r"(?i:\b(?:first|second|third|last|next|then|final|former|latter|before|after|previous|"
    r"following|above|below|earlier|later|latest|top|bottom|sort|rank|steps?\b|sequence|lines?\b|"
    r"rows?\b|respectively|chronolog|order (?:of|by|in)\b|in (?:\w+ )?order\b))"
    r"|先(?!生)|之[前后]|以[前后]|前[一面者]|后[一面者]|[上下][一面述]|头一|最[后初]|末|序|排|第|分别|依次|步|接着"
    r"|然后"
)


def field_order(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Shuffle the longest run of `key: value` lines, if it ends a paragraph."""
    if _ORDER.search(text) or CODE_SIGN.search(text) or FENCE.search(text):
        return None
    lines = text.split("\n")
    start, stop = _longest_run(lines)
    fields = lines[start:stop]
    if "".join(lines[stop : stop + 1]).strip() or not _is_record(fields):  # the last may go on
        return None
    shuffled = fields
    while shuffled == fields:
        shuffled = rng.sample(fields, len(fields))
    return "\n".join([*lines[:start], *shuffled, *lines[stop:]])


def _is_record(fields: Sequence[str]) -> bool:
    """Whether lines are the facts of one thing: neither lettered options nor a conversation."""
    matches = filter(None, map(FIELD.fullmatch, fields))
    keys = {match["key"].strip().lower() for match in matches}
    spoken = sum(field.rstrip().endswith(_SENTENCE_ENDS) for field in fields)
    distinct = len(keys) == len(fields) >= LEAST_FIELDS
    return distinct and min(map(len, keys)) > 1 and spoken < 2


def _longest_run(lines: Sequence[str]) -> tuple[int, int]:
    """The longest run of field lines, as a half-open range."""
    runs = itertools.groupby(range(len(lines)), lambda i: FIELD.fullmatch(lines[i]) is not None)
    ranges = [list(run) for is_field, run in runs if is_field]
    longest = max(ranges, key=len, default=[])
    return (longest[0], longest[-1] + 1) if longest else (0, 0)
