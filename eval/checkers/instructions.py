"""Constraints on an answer's form that a program can check, for Chinese and English.

The idea is IFEval's (Zhou et al. 2023, arXiv 2311.07911); kinds and definitions are our own.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from itertools import accumulate

import regex

from eval.checkers.matching import collapse, parse_json, whole
from eval.schema.case import Instruction
from eval.text import UNSPACED, units
from nlirg.errors import InputError

LANGUAGES = ("zh", "en")
LANGUAGE_SHARE = 0.8
_CJK = rf"[[{UNSPACED}]&&[\p{{L}}\p{{N}}]]"
_PART = rf"[[\p{{L}}\p{{N}}\p{{M}}]--[{UNSPACED}]]+"
_WORD = regex.compile(rf"(?V1){_CJK}|{_PART}(?:(?:[-'’.]|(?<=\d),(?=\d)){_PART})*")
_STARTERS = (
    r"(?:I|You|He|She|It|We|They|My|Your|His|Her|Its|Our|Their|The|An?|This|That|These|Those|There"
    r"|In|On|At|For|To|If|As|But|And|So|Then|When|However|What|Why|How|Who|No|Not|Yes|Is|Are|Do)"
)
# No stop of a sentence: after a title; after an abbreviation or hour that goes on in small letters
# (or with a day); after an initial, unless a word follows that begins sentences ("plan B. It").
_ABBREVIATION = (
    r"(?<!\b(?:Mr|Mrs|Ms|Dr|Prof|Rev|Gen|St|vs|e\.g|i\.e))"
    r"(?!(?<=(?<!\p{L})(?:[ap]\.m|etc|approx|Inc|Ltd|Co|Jr|Sr|No|cf|al))\.\s+"
    r"(?:\p{Ll}|\d|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day))"
    rf"(?!(?<=\b\p{{Lu}})\.(?!\s+{_STARTERS}\b))"
)
# Nor where speech in quotation marks goes on: “好！”就走了, “好！”他说, "Stop!" he said.
_CLOSING = r"[\"'”’」』)\]]"
_GOES_ON = (
    rf"(?:{_CLOSING}+\s*(?:\p{{Ll}}|[,;:—…、])"
    rf"|{_CLOSING}+(?:[就便又也都还并而地的]|\p{{Han}}{{1,3}}(?:说|问|喊|叫|答|(?<![知难])道)(?!道?:)))"
)
_END = regex.compile(
    rf"(?:(?:[。！？!?]|{_ABBREVIATION}\.(?={_CLOSING}*(?:\s|$)))++(?!{_GOES_ON}){_CLOSING}*|\n+)"
)
_BULLET = regex.compile(r"(?m)^[ \t]*[-*•·–][ \t]+\S")
_NUMBERED = regex.compile(r"(?m)^[ \t]*[(（]?(\d{1,3})(?:[.)）](?!\d)|、)[ \t]*(?=\S)")
_HIGHLIGHT = regex.compile(
    r"(?<![*A-Za-z0-9])\*{1,2}(?![*\s])[^*\n]+(?<!\s)\*{1,2}(?![*A-Za-z0-9])"
)
_PLACEHOLDER = regex.compile(r"\[[^\[\]\n]+\]")
_TITLE = regex.compile(r"<<[^<>\n]*\w[^<>\n]*>>")
_QUOTES = (('"', '"'), ("“", "”"), ("「", "」"), ("『", "』"), ("«", "»"))


def kept(instruction: Instruction, answer: str) -> bool:
    """Whether an answer keeps one instruction; an empty answer keeps none.

    Counts, within `min` and `max`:
    - `words`: words, a character of Chinese as one; `characters`: all but white space.
    - `sentences`: ended by a stop or a line break; `paragraphs`: parted by blank lines;
      `lines`: those not empty.
    - `bullets`: lines that begin with -, *, •; `numbered`: lines numbered 1, 2, 3 … in order.
    - `placeholders`: `[like this]`; `highlights`: `*like this*`; `capital_words`: IN CAPITALS.
    - `occurrences`: of every value, as a whole word without case.
    - `parts`: different texts between separators, `values[0]` (`******` if none).

    Content, as whole words without case: `include` (all values), `include_any`, `exclude` (no
    value); `starts_with` and `ends_with` one of the values, to the letter; `repeats`: begins with
    `values[0]` and goes on.

    Form: `title` (holds one in `<<>>`), `quoted` (one pair of quotation marks around everything),
    `uppercase`, `lowercase` (no letter of the other case), `no_commas`, `json` (nothing else),
    `language` (`zh` or `en`, by script: four fifths of the words, so French passes for `en`).

    Raises:
        InputError: if the instruction lacks what it needs, or cannot be kept.
    """
    _validate(instruction)
    text = unicodedata.normalize("NFKC", answer).strip()
    if not text:
        return False
    if instruction.kind in _TO_THE_LETTER:
        return _TO_THE_LETTER[instruction.kind](answer.strip())
    if instruction.kind in _COUNTS:
        return all(_within(n, instruction) for n in _COUNTS[instruction.kind](text, instruction))
    return _TESTS[instruction.kind](text, instruction)


def _validate(instruction: Instruction) -> None:
    kind, values = instruction.kind, instruction.values
    low, high = instruction.min, instruction.max
    if kind in _COUNTS:
        if low is None and high is None:
            raise InputError(f"instruction {kind!r}: give min, max or both")
        if low is not None and high is not None and low > high:
            raise InputError(f"instruction {kind!r}: min {low} is above max {high}")
    elif low is not None or high is not None:
        raise InputError(f"instruction {kind!r} counts nothing; remove min and max")
    if not all(value.strip() for value in values):
        raise InputError(f"instruction {kind!r}: a value is empty")
    if kind in _NEED_VALUES and not values:
        raise InputError(f"instruction {kind!r}: give values")
    if values and kind not in _NEED_VALUES and kind != "parts":
        raise InputError(f"instruction {kind!r} takes no values; remove them")
    if kind in {"repeats", "language", "parts"} and len(values) > 1:
        raise InputError(f"instruction {kind!r} takes one value")
    if kind == "language" and values[0] not in LANGUAGES:
        raise InputError(f"language {values[0]!r} is unknown; there are {', '.join(LANGUAGES)}")


def _within(count: int, instruction: Instruction) -> bool:
    low, high = instruction.min, instruction.max
    return (low is None or count >= low) and (high is None or count <= high)


def _sentences(text: str) -> int:
    parts = _END.split(_NUMBERED.sub("", text))  # "1." ends no sentence
    return sum(regex.search(r"\w", part) is not None for part in parts)


def _numbered(text: str) -> int:
    numbers = [int(number) for number in _NUMBERED.findall(text)]
    return len(numbers) if numbers == list(range(1, len(numbers) + 1)) else 0


def _capital_words(text: str) -> int:
    return sum(len(word) > 1 and word.isupper() for word in _WORD.findall(text))


def _parts(text: str, separator: str) -> int:
    parts = [part.strip() for part in text.split(separator)]
    return len(parts) if all(parts) and len(set(parts)) == len(parts) else 0


def _found(text: str, values: tuple[str, ...]) -> list[int]:
    """How often each value stands in the text, as a whole word."""
    return [len(whole(collapse(value)).findall(collapse(text))) for value in values]


def _plain(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(unicodedata.normalize("NFKC", value).strip() for value in values)


def _repeats(text: str, value: str) -> bool:
    start, wanted = collapse(text), collapse(value)
    return start.startswith(wanted) and regex.search(r"\w", start[len(wanted) :]) is not None


def _in_language(text: str, language: str) -> bool:
    words = [word for word in units(text) if regex.search(r"\p{L}", word)]
    script = {"zh": r"\p{Han}", "en": r"[A-Za-z]"}[language]
    written = sum(regex.match(script, word) is not None for word in words)
    kana = regex.search(r"[\p{Hiragana}\p{Katakana}--[ー・]]", text, flags=regex.V1)
    return bool(words) and written >= LANGUAGE_SHARE * len(words) and not kana


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def _quoted(text: str) -> bool:
    """Whether the first mark is closed by the last character and not before."""
    for left, right in _QUOTES:
        if text.startswith(left) and text.endswith(right) and len(text) > 2:
            if left == right:
                return text.count(left) == 2
            depths = list(accumulate((c == left) - (c == right) for c in text))
            return depths[-1] == 0 < min(depths[:-1])
    return False


_COUNTS: dict[str, Callable[[str, Instruction], list[int]]] = {
    "words": lambda text, _: [len(_WORD.findall(text))],
    "characters": lambda text, _: [len("".join(text.split()))],
    "sentences": lambda text, _: [_sentences(text)],
    "paragraphs": lambda text, _: [len(regex.split(r"\n[ \t]*\n\s*", text))],
    "lines": lambda text, _: [sum(bool(line.strip()) for line in text.split("\n"))],
    "bullets": lambda text, _: [len(_BULLET.findall(text))],
    "numbered": lambda text, _: [_numbered(text)],
    "placeholders": lambda text, _: [len(_PLACEHOLDER.findall(text))],
    "highlights": lambda text, _: [len(_HIGHLIGHT.findall(text))],
    "capital_words": lambda text, _: [_capital_words(text)],
    "occurrences": lambda text, i: _found(text, i.values),
    "parts": lambda text, i: [_parts(text, i.values[0] if i.values else "******")],
}
_TESTS: dict[str, Callable[[str, Instruction], bool]] = {
    "include": lambda text, i: all(_found(text, i.values)),
    "include_any": lambda text, i: any(_found(text, i.values)),
    "exclude": lambda text, i: not any(_found(text, i.values)),
    "starts_with": lambda text, i: text.startswith(_plain(i.values)),
    "ends_with": lambda text, i: text.endswith(_plain(i.values)),
    "repeats": lambda text, i: _repeats(text, i.values[0]),
    "quoted": lambda text, _: _quoted(text),
    "uppercase": lambda text, _: text.isupper(),
    "lowercase": lambda text, _: text.islower(),
    "no_commas": lambda text, _: regex.search("[,،、]", text) is None,
    "language": lambda text, i: _in_language(text, i.values[0]),
}
# NFKC would make JSON of what no parser reads ("：" a colon), and <<>> of ＜＜＞＞.
_TO_THE_LETTER: dict[str, Callable[[str], bool]] = {
    "title": lambda answer: _TITLE.search(answer) is not None,
    "json": _is_json,
}
_NEED_VALUES = {
    "occurrences",
    "include",
    "include_any",
    "exclude",
    "starts_with",
    "ends_with",
    "repeats",
    "language",
}
