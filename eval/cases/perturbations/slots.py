"""Is a reworded prompt still the same question? What the answer depends on must be in both."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from eval.cases.perturbations.text import CODE, NEGATION, NUMBER_WORD, han_pairs
from eval.checkers.checkers import kind_of
from eval.schema.case import Case, Checker
from eval.text import normalize, units

Reason = Literal["", "fact lost", "answer given away", "number changed", "code lost", "negation"]

_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_EDGES = ".,;:!?()[]{}<>\"'"
_SHARED_LETTERS = 4  # a shorter word in prompt and reference is seldom what is asked for
_COMMON = frozenset(
    """
about also answer because before been could does dear each following from have hello help here into
just know like made make more most much need only other over please regards should some such take
thank thanks that their them then there these they this through used very want were what when where
which while will with would your
""".split()  # noqa: SIM905 - a list of so many words is unreadable
)


class Survival(NamedTuple):
    """Whether a variant may be asked; if not, the kind of fault and the text at fault."""

    kept: bool
    reason: Reason = ""
    detail: str = ""


def slots_survive(original: str, variant: str, facts: Iterable[str]) -> Survival:
    """Compare a variant with the prompt it was made from.

    - Every fact of the original is in the variant: letter by letter where it stands so in the
      original, else up to case, width and white space.
    - A fact that the original does not name is not in the variant: it would be the answer.
    - The numbers are the same, in any order; number words, codes and addresses are all there.
    - A negation or restriction ("not", "only") does not vanish altogether.

    Args:
        original: the prompt's text.
        variant: the text to be asked instead.
        facts: strings that the checker or the reference answer depends on.
    """
    for fact in facts:
        if not fact.strip():
            continue
        if not _says(original, fact):
            if _names(variant, fact):
                return Survival(False, "answer given away", fact)
        elif not (fact in variant if fact in original else _says(variant, fact)):
            return Survival(False, "fact lost", fact)
    before, now = _numbers(original), _numbers(variant)
    if before != now:
        return Survival(False, "number changed", next(iter((before - now) + (now - before))))
    words = Counter(map(normalize, NUMBER_WORD.findall(original)))
    if missing := words - Counter(map(normalize, NUMBER_WORD.findall(variant))):
        return Survival(False, "number changed", next(iter(missing)))
    for code in _codes(original):
        if code not in variant:
            return Survival(False, "code lost", code)
    negation = NEGATION.search(original)
    if negation and not NEGATION.search(variant):
        return Survival(False, "negation", negation[0])
    return Survival(True)


def case_facts(case: Case) -> tuple[str, ...]:
    """What a variant of a case must keep if the case's own prompt says it.

    The values of the checkers and the reference. Where the reference alone judges, also the words
    that it shares with the prompt: it took them from there.
    """
    values = _values(case.checker)
    shared = [] if values else _shared(case.messages[-1].content, case.reference)
    form = _values(case.format) if case.format else []
    return tuple(dict.fromkeys([*values, *form, case.reference, *shared]))


def _values(checker: Checker) -> list[str]:
    """The texts that a checker looks for; patterns and import paths are none."""
    named = checker.values if kind_of(checker).values_are == "texts" else ()
    wanted = (instruction.values for instruction in checker.instructions)
    return [*named, *itertools.chain.from_iterable(wanted)]


def _shared(prompt: str, reference: str) -> list[str]:
    """Longer words, and pairs of neighbouring Chinese characters, that are in both texts."""
    known = _terms(reference)
    return [term for term in _terms(prompt) if term in known]


def _terms(text: str) -> dict[str, None]:
    """Terms in the order of the text."""
    parts = units(text)
    words = [part for part in parts if len(part) >= _SHARED_LETTERS and part not in _COMMON]
    return dict.fromkeys(words + han_pairs(parts))


def _says(text: str, fact: str) -> bool:
    return fact in text or _plain(fact) in _plain(text)


def _names(text: str, fact: str) -> bool:
    """Whether a text holds a fact as whole words."""
    plain = _plain(fact)
    if not any(character.isalnum() for character in plain):
        return False
    pattern = rf"(?<![a-z0-9]){re.escape(plain)}(?![a-z0-9])"
    return re.search(pattern, _plain(text)) is not None


def _plain(text: str) -> str:
    return " ".join(normalize(text).split())


def _numbers(text: str) -> Counter[str]:
    return Counter(_NUMBER.findall(normalize(text)))


def _codes(text: str) -> Sequence[str]:
    stripped = (code.strip(_EDGES) for code in CODE.findall(text))
    return [code for code in stripped if code]
