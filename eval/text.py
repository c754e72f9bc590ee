"""Units of text: words, or characters for scripts written without spaces."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import regex

# Han, kana and Hangul, and the scripts of South-East Asia that put no space between words.
UNSPACED = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}"
    r"\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}"
)


_CHARACTER = rf"[[{UNSPACED}]&&[\p{{L}}\p{{N}}]]\p{{M}}*"


_START = rf"[[\p{{L}}\p{{N}}]--[{UNSPACED}]]"


_INSIDE = rf"[[\p{{L}}\p{{N}}\p{{M}}]--[{UNSPACED}]]"


_LINK = r"(?<=\p{N})\.(?=\p{N})|(?<=\p{L})['’](?=\p{L})"  # 3.5, don't


_UNIT = regex.compile(rf"(?V1){_CHARACTER}|{_START}(?:{_INSIDE}|{_LINK})*")


_APOSTROPHES = str.maketrans("‘’ʼ", "'''")


_UNSPACED_UNIT = regex.compile(rf"(?V1)[{UNSPACED}]\p{{M}}*")


OPENING_UNITS = 5


Units = list[str]


def normalize(text: str, *, cased: bool = False) -> str:
    """Return a text in the one form in which texts are compared.

    NFKC (full-width forms become half-width), straight apostrophes, every run of white space one
    blank, none at the ends; without case unless `cased`.
    """
    text = unicodedata.normalize("NFKC", text)
    if not cased:
        text = unicodedata.normalize("NFKC", text.casefold())
    return " ".join(text.translate(_APOSTROPHES).split())


def units(text: str) -> Units:
    """Split text into words, or characters where the script has no spaces; no punctuation.

    Example:
        units("Use GPT-4o 训练模型!") == ["use", "gpt", "4o", "训", "练", "模", "型"]
    """
    return _UNIT.findall(normalize(text))


def join_units(parts: Sequence[str]) -> str:
    """Make units readable again: spaces between words, none beside unspaced characters."""
    text = ""
    spaced = False
    for part in parts:
        word = _UNSPACED_UNIT.fullmatch(part) is None
        text += f" {part}" if spaced and word else part
        spaced = word
    return text


def ngrams(text: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """The n-grams of one answer's units, in order."""
    return list(zip(*(text[i:] for i in range(n)), strict=False))


def truncate_to_equal_length(texts: Mapping[str, Sequence[Units]]) -> dict[str, list[Units]]:
    """Cut the answers to each prompt to the shortest variant's number of units.

    The middle goes: cut at the end, a long answer would lose the closing that a short one keeps.

    Args:
        texts: variant -> its answers as units; the same prompts in the same order everywhere.

    Returns:
        The same mapping; every variant now has equally many units for every prompt.
    """
    lengths = [min(map(len, answers)) for answers in zip(*texts.values(), strict=True)]
    return {
        variant: [_without_middle(*pair) for pair in zip(answers, lengths, strict=True)]
        for variant, answers in texts.items()
    }


def _without_middle(answer: Units, length: int) -> Units:
    if len(answer) <= length:
        return answer
    tail = min(OPENING_UNITS, length // 2)
    return answer[: length - tail] + answer[len(answer) - tail :]
