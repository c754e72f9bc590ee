"""What the answer depends on: where it stands in a prompt, and whether a perturbed one has it."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from eval.cases.perturbations.text import CODE_SIGN, FENCE, FIELD, HAN, Span
from eval.checkers.checkers import kind_of
from eval.schema.case import Case, Checker
from eval.text import normalize, units

HAN_DIGITS = "〇零一二三四五六七八九十百千万亿两"
# What survives word for word: code and all that has a digit or sign in it, quotations, the values
# of fields, and options.
_INLINE_CODE = re.compile(r"`[^`\n]+`|[!-~]*[0-9@/\\_][!-~]*")
_QUOTATION = re.compile(
    r"\"[^\"\n]+\"|(?<!\w)'[^'\n]+'(?!\w)|“[^”\n]+”|‘[^’\n]+’(?!\w)|「[^」\n]+」|『[^』\n]+』|《[^》\n]+》"
)
_OPTION = re.compile(r"^[^\S\n]*\(?(?:[A-Za-z]|\d{1,2})[.)、）]\s*(?P<value>\S.*)$", re.MULTILINE)
_VERBATIM = {
    FENCE: "code lost",
    _INLINE_CODE: "code lost",
    _QUOTATION: "quotation lost",
    FIELD: "field lost",
    _OPTION: "option lost",
}
_EDGES = " .,;:!?。，；：！？()[]{}<>`\"'“”‘’「」『』《》"
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_NUMBER_WORD = re.compile(
    r"(?i:\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|"
    r"fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|dozen|half|twice)\b)"
    rf"|[{HAN_DIGITS}]{{2,}}|[{HAN_DIGITS}](?=[个天年月日号元件次条名位岁分秒句字项步倍])"
)
_NEGATION = re.compile(
    r"(?i:\b(?:no|not|never|without|except|only|cannot|neither|nor|none|nobody|nothing|nowhere|"
    r"hardly|barely|rarely|seldom)\b|n['’]t\b)"
    r"|[不没无非别未勿]|除了|只"
)
_SHARED_LETTERS = 4  # a shorter word in prompt and reference is seldom what is asked for
_COMMON = frozenset(
    """
about also answer because been before could does dear each following from have hello help here into
just know like made make more most much need only other over please regards should some such take
thank thanks that their them then there these they this through used very want were what when where
which while will with would your
""".split()  # noqa: SIM905 - a list of so many words is unreadable
)


def slot_fault(original: str, perturbed: str, facts: Iterable[str]) -> str:
    """Say why a perturbed prompt may be another question; "" if all that matters survives.

    - Every fact of the original is in the perturbed prompt: letter by letter where it stands so
      in the original, else up to case, width and white space.
    - A fact that the original does not name is not in it: it would be the answer.
    - Code, quotations, values of fields and options are in it word for word.
    - The numbers are the same, in any order; number words are all there.
    - A negation or restriction ("not", "only") does not vanish altogether.
    """
    for fact in filter(str.strip, facts):
        if normalize(fact) not in normalize(original):
            if _names(perturbed, fact):
                return "answer given away"
        elif (
            fact not in perturbed
            if fact in original
            else normalize(fact) not in normalize(perturbed)
        ):
            return "fact lost"
    words_lost = _count(_NUMBER_WORD, original) - _count(_NUMBER_WORD, perturbed)
    if words_lost or _count(_NUMBER, original) != _count(_NUMBER, perturbed):
        return "number changed"
    for pattern, fault in _VERBATIM.items():
        for match in pattern.finditer(original):
            if match[match.lastgroup or 0].strip(_EDGES) not in perturbed:
                return fault
    if _NEGATION.search(original) and not _NEGATION.search(perturbed):
        return "negation lost"
    return ""


def free_matches(pattern: re.Pattern[str], text: str, facts: Sequence[str]) -> list[re.Match[str]]:
    """Where a pattern stands outside all that the answer may depend on; nowhere beside code."""
    names = [rf"(?<![A-Za-z0-9]){re.escape(fact)}(?![A-Za-z0-9])" for fact in facts]
    named = [re.compile(name, re.IGNORECASE) for name in names]
    spans = [
        match.span()
        for slot in (*named, *_VERBATIM, _NUMBER_WORD, _NEGATION)
        for match in slot.finditer(text)
    ]
    return [] if _outside(spans, CODE_SIGN, text) else _outside(spans, pattern, text)


def case_facts(case: Case) -> tuple[str, ...]:
    """What a perturbed case must keep if the case's own prompt says it.

    The values of the checkers and the reference. Where the reference alone judges, also the longer
    words and pairs of Chinese characters that it shares with the prompt: it took them from there.
    """
    values = _values(case.checker)
    form = _values(case.format) if case.format else []
    known = frozenset() if values else frozenset(_terms(case.reference))
    shared = [term for term in _terms(case.messages[-1].content) if term in known]
    return tuple(dict.fromkeys([*values, *form, case.reference, *shared]))


def _outside(spans: Sequence[Span], pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    return [
        match
        for match in pattern.finditer(text)
        if not any(match.start() < stop and start < match.end() for start, stop in spans)
    ]


def _values(checker: Checker) -> list[str]:
    """The texts that a checker looks for; patterns and import paths are none."""
    named = checker.values if kind_of(checker).values_are == "texts" else ()
    wanted = (instruction.values for instruction in checker.instructions)
    return [*named, *itertools.chain.from_iterable(wanted)]


def _terms(text: str) -> list[str]:
    parts = units(text)
    words = [part for part in parts if len(part) >= _SHARED_LETTERS and part not in _COMMON]
    pairs = [a + b for a, b in itertools.pairwise(parts) if HAN.match(a) and HAN.match(b)]
    return words + pairs


def _names(text: str, fact: str) -> bool:
    """Whether a text holds a fact as whole words."""
    plain = normalize(fact)
    pattern = rf"(?<![a-z0-9]){re.escape(plain)}(?![a-z0-9])"
    return any(map(str.isalnum, plain)) and re.search(pattern, normalize(text)) is not None


def _count(pattern: re.Pattern[str], text: str) -> Counter[str]:
    return Counter(pattern.findall(normalize(text)))
