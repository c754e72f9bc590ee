"""The same words written carelessly: typing errors, punctuation and width, case."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from eval.perturb.tables import HOMOPHONES, KEYBOARD_ROWS
from eval.perturb.text import FIELD, HAN, Span, is_chinese, overlaps, protected_spans

TYPO_SHARE = 0.05  # of the letters that may be touched
MIN_TYPO_WORD = 4  # letters: shorter words become other words

_WORD = re.compile(r"[A-Za-z]+")
_NEIGHBOURS = {
    letter: row[max(i - 1, 0) : i] + row[i + 1 : i + 2]
    for row in KEYBOARD_ROWS
    for i, letter in enumerate(row)
}
_SOUNDS_LIKE = {
    character: group.replace(character, "") for group in HOMOPHONES for character in group
}
_WIDE = dict(zip(",.!?:;()", "，。！？：；（）", strict=True))
_NARROW = {wide: narrow for narrow, wide in _WIDE.items()}
_LINE = re.compile(r"^.*\S", re.MULTILINE)
_FINAL = ".!?。！？…"
_MARKS = (".", "!", "...")
_MARKS_ZH = ("。", "！", "……")


def typos(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Mistype about 5 % of the letters of longer words, or of the characters in Chinese."""
    kept = protected_spans(text, facts)
    if is_chinese(text):
        return _homophones(text, rng, kept)
    words = [
        match.span()
        for match in _WORD.finditer(text)
        if len(match[0]) >= MIN_TYPO_WORD and not overlaps(match.span(), kept)
    ]
    if not words:
        return None
    letters = list(text)
    wanted = max(1, round(TYPO_SHARE * sum(stop - start for start, stop in words)))
    for start, stop in rng.sample(words, min(wanted, len(words))):
        _mistype(letters, rng.randrange(start + 1, stop - 1), rng)
    return "".join(letters)


def _mistype(letters: list[str], i: int, rng: random.Random) -> None:
    """Transpose the letter at `i` with the next one, or hit the key beside it."""
    if letters[i] != letters[i + 1] and rng.random() < 0.5:
        letters[i], letters[i + 1] = letters[i + 1], letters[i]
        return
    key = rng.choice(_NEIGHBOURS[letters[i].lower()])
    letters[i] = key.upper() if letters[i].isupper() else key


def _homophones(text: str, rng: random.Random, kept: Sequence[Span]) -> str | None:
    """Take a character of the same or a similar sound, as one picks from the input method."""
    places = [
        i
        for i, character in enumerate(text)
        if character in _SOUNDS_LIKE and not overlaps((i, i + 1), kept)
    ]
    if not places:
        return None
    characters = list(text)
    wanted = max(1, round(TYPO_SHARE * len(HAN.findall(text))))
    for i in rng.sample(places, min(wanted, len(places))):
        characters[i] = rng.choice(_SOUNDS_LIKE[characters[i]])
    return "".join(characters)


def punctuation(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Change the final mark, leave out commas, or (Chinese) change the width of all marks."""
    kept = protected_spans(text, facts)
    changes = [_final_mark(text, rng)]
    if is_chinese(text):
        changes.append(_mapped(text, kept, _other_width))
    else:
        changes.append(re.sub(r"(?<=[A-Za-z]),(?= )", "", text))
    applicable = [change for change in changes if change != text]
    return rng.choice(applicable) if applicable else None


def letter_case(text: str, rng: random.Random, facts: Sequence[str]) -> str | None:
    """Write all in small letters, or all in capitals."""
    kept = protected_spans(text, facts)
    changes = [_mapped(text, kept, str.lower), _mapped(text, kept, str.upper)]
    applicable = [change for change in changes if change != text]
    return rng.choice(applicable) if applicable else None


def _mapped(text: str, kept: Sequence[Span], change: Callable[[str], str]) -> str:
    """Change every character outside the spans."""
    free = [True] * len(text)
    for start, stop in kept:
        free[start:stop] = [False] * (stop - start)
    return "".join(change(c) if is_free else c for c, is_free in zip(text, free, strict=True))


def _other_width(character: str) -> str:
    return _WIDE.get(character) or _NARROW.get(character) or character


def _final_mark(text: str, rng: random.Random) -> str:
    """Drop the final mark of the last line that is no field, or put one."""
    end = max(
        (line.end() for line in _LINE.finditer(text) if not FIELD.fullmatch(line[0])), default=0
    )
    bare, rest = text[:end], text[end:]
    if not bare:
        return text
    if bare[-1] in _FINAL:
        return bare.rstrip(_FINAL) + rest
    return bare + rng.choice(_MARKS_ZH if is_chinese(text) else _MARKS) + rest
