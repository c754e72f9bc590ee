"""Constraints on an answer's form that a program can check, for Chinese and English.

The idea is IFEval's (Zhou et al. 2023, arXiv 2311.07911); kinds and definitions are our own.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import regex

from eval.checkers.matching import comparable, parse_json, whole
from eval.checkers.registry import SHARE, checker, unknown
from eval.schema.case import Checker, Instruction
from eval.text import UNSPACED, normalize, units
from nlirg.errors import InputError

LANGUAGES = {"zh": r"\p{Han}", "en": r"[A-Za-z]"}
LANGUAGE_SHARE = 0.8
SEPARATOR = "******"

_CJK = rf"[[{UNSPACED}]&&[\p{{L}}\p{{N}}]]"
_PART = rf"[[\p{{L}}\p{{N}}\p{{M}}]--[{UNSPACED}]]+"
_WORD = regex.compile(rf"(?V1){_CJK}|{_PART}(?:(?:[-'’.]|(?<=\d),(?=\d)){_PART})*")
# No stop of a sentence: after a title; after an abbreviation or hour that goes on in small letters;
# after an initial.
_ABBREVIATION = (
    r"(?<!\b(?:Mr|Mrs|Ms|Dr|Prof|Rev|Gen|St|vs|e\.g|i\.e|\p{Lu}))"
    r"(?!(?<=(?<!\p{L})(?:[ap]\.m|etc|approx|Inc|Ltd|Co|Jr|Sr|No|cf|al))\.\s+[\p{Ll}\d])"
)
# Nor where speech in quotation marks goes on: “好！”就走了, “好！”他说, "Stop!" he said.
_CLOSING = r"[\"'”’」』)\]]"
_GOES_ON = (
    rf"{_CLOSING}+\s*(?:\p{{Ll}}|[,;:—…、]|[就便又也都还并而地的]"
    r"|\p{Han}{1,3}(?:说|问|喊|叫|答|(?<![知难])道)(?!道?:))"
)
_SENTENCE_END = regex.compile(
    rf"(?:(?:[。！？!?]|{_ABBREVIATION}\.(?={_CLOSING}*(?:\s|$)))++(?!{_GOES_ON}){_CLOSING}*|\n+)"
)
_INK = regex.compile(r"\S")
_LINE = regex.compile(r"(?m)^.*\S")
_BLANK = regex.compile(r"\n[ \t]*\n\s*")
_BULLET = regex.compile(r"(?m)^[ \t]*[-*•·–][ \t]+\S")
_NUMBERED = regex.compile(r"(?m)^[ \t]*[(（]?(\d{1,3})(?:[.)）](?!\d)|、)[ \t]*(?=\S)")
_HIGHLIGHT = regex.compile(
    r"(?<![*A-Za-z0-9])\*{1,2}(?![*\s])[^*\n]+(?<!\s)\*{1,2}(?![*A-Za-z0-9])"
)
_PLACEHOLDER = regex.compile(r"\[[^\[\]\n]+\]")
_TITLE = regex.compile(r"<<[^<>\n]*\w[^<>\n]*>>")
_KANA = regex.compile(r"(?V1)[\p{Hiragana}\p{Katakana}--[ー・]]")
_QUOTES = (('"', '"'), ("“", "”"), ("「", "」"), ("『", "』"), ("«", "»"))

Values = Literal["none", "one", "one or none", "some"]


@dataclass(frozen=True)
class InstructionKind:
    """One kind: what it asks for, in the README's words, and whether an answer in NFKC keeps it.

    `counts` are bounded by `min` and `max`; `values` says how many values there must be.
    """

    meaning: str
    keeps: Callable[[str, Instruction], bool]
    values: Values = "none"
    counts: bool = False


@checker("instructions", f"it keeps every one of `instructions`; {SHARE}", key="instructions")
def _instructions(checker: Checker, answer: str, reference: str) -> float:
    if not checker.instructions:
        raise InputError("give at least one instruction")
    return sum(kept(each, answer) for each in checker.instructions) / len(checker.instructions)


def kept(instruction: Instruction, answer: str) -> bool:
    """Return whether an answer keeps one instruction; an empty answer keeps none.

    Raises:
        InputError: if the instruction lacks what it needs, or cannot be kept.
    """
    if instruction.kind not in INSTRUCTIONS:
        raise unknown("instruction", instruction.kind, INSTRUCTIONS)
    kind = INSTRUCTIONS[instruction.kind]
    try:
        _validate_bounds(kind, instruction)
        _validate_values(kind, instruction)
    except InputError as error:
        raise InputError(f"instruction {instruction.kind!r}: {error}") from None
    text = answer.strip() if instruction.kind in TO_THE_LETTER else _nfkc(answer)
    return bool(text) and kind.keeps(text, instruction)


def _validate_bounds(kind: InstructionKind, instruction: Instruction) -> None:
    low, high = instruction.min, instruction.max
    bounded = (low, high) != (None, None)
    if bounded and not kind.counts:
        raise InputError("it counts nothing; remove min and max")
    if kind.counts and not bounded:
        raise InputError("give min, max or both")
    if low is not None and high is not None and low > high:
        raise InputError(f"min {low} is above max {high}")


def _validate_values(kind: InstructionKind, instruction: Instruction) -> None:
    values = instruction.values
    if not all(value.strip() for value in values):
        raise InputError("a value is empty")
    if values and kind.values == "none":
        raise InputError("it takes no values; remove them")
    if not values and kind.values in {"one", "some"}:
        raise InputError("give values")
    if len(values) > 1 and kind.values != "some":
        raise InputError("it takes one value")
    if instruction.kind == "language" and values[0] not in LANGUAGES:
        raise unknown("language", values[0], LANGUAGES)


def _nfkc(text: str) -> str:
    """Return a text with full-width forms made half-width; its case and lines stay."""
    return unicodedata.normalize("NFKC", text).strip()


def _within(count: int, instruction: Instruction) -> bool:
    low, high = instruction.min, instruction.max
    return (low is None or count >= low) and (high is None or count <= high)


def _counted(meaning: str, count: Callable[[str], int]) -> InstructionKind:
    return InstructionKind(meaning, lambda text, i: _within(count(text), i), counts=True)


def _matches(pattern: regex.Pattern[str]) -> Callable[[str], int]:
    return lambda text: len(pattern.findall(text))


def _valued(
    meaning: str, keeps: Callable[[str, Instruction], bool], values: Values = "some"
) -> InstructionKind:
    return InstructionKind(meaning, keeps, values)


def _formed(meaning: str, keeps: Callable[[str], bool]) -> InstructionKind:
    return InstructionKind(meaning, lambda text, _: keeps(text))


def _sentences(text: str) -> int:
    parts = _SENTENCE_END.split(_NUMBERED.sub("", text))  # "1." ends no sentence
    return sum(regex.search(r"\w", part) is not None for part in parts)


def _numbered(text: str) -> int:
    numbers = [int(number) for number in _NUMBERED.findall(text)]
    return len(numbers) if numbers == list(range(1, len(numbers) + 1)) else 0


def _capital_words(text: str) -> int:
    return sum(len(word) > 1 and word.isupper() for word in _WORD.findall(text))


def _parts(text: str, instruction: Instruction) -> bool:
    separator = instruction.values[0] if instruction.values else SEPARATOR
    parts = [part.strip() for part in text.split(separator)]
    proper = all(parts) and len(set(parts)) == len(parts)
    return _within(len(parts) if proper else 0, instruction)


def _occurrences(text: str, instruction: Instruction) -> list[int]:
    """Return how often each value stands in the text, as a whole word."""
    return [len(whole(value).findall(comparable(text))) for value in instruction.values]


def _repeats(text: str, instruction: Instruction) -> bool:
    start = normalize(text, cased=True)
    wanted = normalize(instruction.values[0], cased=True)
    return start.startswith(wanted) and regex.search(r"\w", start[len(wanted) :]) is not None


def _in_language(text: str, instruction: Instruction) -> bool:
    words = [word for word in units(text) if regex.search(r"\p{L}", word)]
    script = LANGUAGES[instruction.values[0]]
    written = sum(regex.match(script, word) is not None for word in words)
    return bool(words) and written >= LANGUAGE_SHARE * len(words) and not _KANA.search(text)


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def _quoted(text: str) -> bool:
    """Return whether the first mark is closed by the last character and not before."""
    for left, right in _QUOTES:
        if text.startswith(left) and text.endswith(right) and len(text) > 2:
            if left == right:
                return text.count(left) == 2
            depths = list(accumulate((c == left) - (c == right) for c in text))
            return depths[-1] == 0 < min(depths[:-1])
    return False


INSTRUCTIONS = {
    "words": _counted("words; a character of Chinese is one", _matches(_WORD)),
    "characters": _counted("characters other than white space", _matches(_INK)),
    "sentences": _counted("sentences, ended by a stop or a line break", _sentences),
    "paragraphs": _counted("paragraphs, parted by blank lines", lambda t: 1 + _matches(_BLANK)(t)),
    "lines": _counted("lines that are not empty", _matches(_LINE)),
    "bullets": _counted("lines that begin with -, *, • or –", _matches(_BULLET)),
    "numbered": _counted("lines numbered 1, 2, 3 … in order", _numbered),
    "placeholders": _counted("`[places]` to be filled", _matches(_PLACEHOLDER)),
    "highlights": _counted("passages in `*stars*`", _matches(_HIGHLIGHT)),
    "capital_words": _counted("words IN CAPITALS of two letters or more", _capital_words),
    "parts": InstructionKind(
        f"different texts between separators, `{SEPARATOR}` unless given",
        _parts,
        "one or none",
        True,
    ),
    "occurrences": InstructionKind(
        "every value, as a whole word without case",
        lambda text, i: all(_within(count, i) for count in _occurrences(text, i)),
        "some",
        counts=True,
    ),
    "include": _valued(
        "holds all values, as whole words without case", lambda t, i: all(_occurrences(t, i))
    ),
    "include_any": _valued("holds one of the values", lambda t, i: any(_occurrences(t, i))),
    "exclude": _valued("holds none of the values", lambda t, i: not any(_occurrences(t, i))),
    "starts_with": _valued(
        "begins with one of the values, in its case",
        lambda text, i: text.startswith(tuple(map(_nfkc, i.values))),
    ),
    "ends_with": _valued(
        "ends with one of the values, in its case",
        lambda text, i: text.endswith(tuple(map(_nfkc, i.values))),
    ),
    "repeats": _valued("begins with the value and goes on", _repeats, "one"),
    "language": _valued(
        "four fifths of its words in the script of `zh` or `en`; French passes for `en`",
        _in_language,
        "one",
    ),
    "title": _formed("holds a title in `<<>>`", lambda text: bool(_TITLE.search(text))),
    "json": _formed("is JSON and nothing else", _is_json),
    "quoted": _formed("one pair of quotation marks around everything", _quoted),
    "uppercase": _formed("no small letters", str.isupper),
    "lowercase": _formed("no capitals", str.islower),
    "no_commas": _formed("no comma of any kind", lambda text: not set(text) & set(",،、")),
}
# NFKC would make JSON of what no parser reads ("：" a colon), and <<>> of ＜＜＞＞.
TO_THE_LETTER = {"title", "json"}
