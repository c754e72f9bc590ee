"""Typing errors: a key beside the one meant, and the wrong character of the same sound."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from eval.cases.perturbations.slots import HAN_DIGITS, free_matches
from eval.cases.perturbations.text import HAN, Span, is_chinese, replaced

TYPO_SHARE = 0.05  # of the letters in words that may be touched
KEYBOARD_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
COMMON = 1000  # characters that a typo may put in the place of another

_NEIGHBOURS = {
    letter: row[max(i - 1, 0) : i] + row[i + 1 : i + 2]
    for row in KEYBOARD_ROWS
    for i, letter in enumerate(row)
}
# A word with a capital may be a name; a shorter one easily becomes another.
_WORD = re.compile(r"(?<![\w'’-])[a-z]{5,}(?![\w'’-])")
_LONGEST = 4  # characters of a Chinese word
# Of the same sound, and another number, another person, or a "not".
_TELLING = set(f"{HAN_DIGITS}半他她它您你不没无非别未勿只除")


def typos(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Mistype words that the message has once, about one letter in twenty of what they have."""
    find = _homophones if is_chinese(text) else _slips
    slips = {
        span: wrong
        for span, wrong in find(text, facts).items()
        if wrong and text.count(text[slice(*span)]) == 1
    }
    letters = sum(stop - start for start, stop in slips)
    wanted = min(len(slips), max(1, round(TYPO_SHARE * letters)))
    return replaced(text, {s: rng.choice(slips[s]) for s in rng.sample(sorted(slips), wanted)})


def _slips(text: str, facts: Sequence[str]) -> Mapping[Span, list[str]]:
    """Words with a neighbouring key hit as well: about one in a thousand becomes another word."""
    return {
        match.span(): [
            match[0][: i + 1] + key + match[0][i + 1 :]
            for i in range(1, len(match[0]) - 1)
            for key in _NEIGHBOURS[match[0][i]]
        ]
        for match in free_matches(_WORD, text, facts)
    }


def _homophones(text: str, facts: Sequence[str]) -> Mapping[Span, list[str]]:
    """Chinese words with a character of the same sound in them that makes no other word."""
    words, alike = _chinese()
    free = {match.start() for match in free_matches(HAN, text, facts)}
    return {
        (start, start + len(word)): [
            wrong
            for i, character in enumerate(word)
            if character not in _TELLING
            for other in alike[words[word][i]]
            if (wrong := word[:i] + other + word[i + 1 :]) not in words
        ]
        for start, word in _split(text, words)
        if free.issuperset(range(start, start + len(word)))
    }


def _split(text: str, words: Mapping[str, Sequence[str]]) -> Iterator[tuple[int, str]]:
    """Words and where they begin: the longest known ones from the left."""
    start = 0
    while start < len(text):
        parts = (text[start : start + length] for length in range(_LONGEST, 1, -1))
        word = next((part for part in parts if part in words), "")
        if word:
            yield start, word
        start += len(word) or 1


@cache
def _chinese() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Words with the sound of each character, and sounds with the common characters that have it.

    Both are pypinyin's; its words also say how common a character is. Loading takes half a second.
    """
    from pypinyin.phrases_dict import phrases_dict
    from pypinyin.pinyin_dict import pinyin_dict

    words = {word: [sounds[0] for sounds in heard] for word, heard in phrases_dict.items()}
    uses = Counter("".join(word for word in words if len(word) == 2))
    alike = defaultdict(list)
    for character, _ in uses.most_common(COMMON):
        if character not in _TELLING:
            alike[pinyin_dict[ord(character)].split(",")[0]].append(character)
    return words, alike
