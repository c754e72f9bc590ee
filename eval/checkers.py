"""Judging one answer: a score in [0, 1] and whether it counts as correct."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import cache
from pkgutil import resolve_name
from typing import Any

import jsonschema
import regex
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from eval.instructions import kept
from eval.matching import collapse, last_number, parse_json, whole
from eval.metrics import normalize, units
from eval.refusals import refuses
from eval.schema import Checker
from nlirg.errors import InputError

REGEX_TIMEOUT_S = 1.0
NUMERIC_TOLERANCE = 1e-6


def check(checker: Checker, answer: str, reference: str) -> tuple[float, bool]:
    """Judge one answer.

    - `exact`: equals one of the values after NFKC and collapsing of white space.
    - `choice`: the values are the options and the reference is the right one; the option named
      first in the answer counts.
    - `numeric`: the last number in the answer equals one of the values within 1e-6.
    - `contains`: every value is in the answer (as a substring, without case).
    - `slots`: the share of values in the answer, as whole words and whole numbers, without case.
    - `regex`: one of the patterns is found in the answer.
    - `json`: the answer (or its code block) is JSON; the share of the values that are its keys.
    - `json_schema`: the answer (or its code block) is JSON that the schema allows.
    - `f1`: F1 of the units (words, or characters for CJK) of answer and reference, as SQuAD.
    - `rouge_l`: F1 of their longest common subsequence (ROUGE-L), of the same units.
    - `chrf`: chrF2 over 1 to 6 characters (Popović 2015), divided by 100.
    - `python`: what a callable named `package.module:function` returns for (answer, reference).
    - `instructions`: the share of the instructions kept (`eval.instructions.kept`).
    - `refusal`: without values, the answer declines (`eval.refusals.refuses`); with values, it
      does not, and holds one of them as `contains` would find it.

    Without values, `exact`, `numeric`, `contains`, `slots`, `f1`, `rouge_l` and `chrf` use the
    reference. The answer is correct when the score reaches the checker's threshold.

    Raises:
        InputError: if the checker cannot judge anything (see `validate_checker`), or not this
            answer: a pattern takes too long, or a callable fails.
    """
    score = _CHECKS[checker.kind](checker, answer, reference)
    return score, score >= checker.threshold


def validate_checker(checker: Checker, reference: str, where: str) -> None:
    """Refuse a checker that would accept anything, nothing, or fail on every answer.

    Raises:
        InputError: naming `where` (file, line, case) and what to change.
    """
    try:
        if checker.threshold == 0:
            raise InputError("threshold 0 accepts every answer; use a number above 0")
        _unused_settings(checker)
        # Judging a plausible answer runs every check of the settings that judging makes.
        check(checker, reference or "0", reference)
    except InputError as error:
        raise InputError(f"{where}: checker {checker.kind!r}: {error}") from None


def _unused_settings(checker: Checker) -> None:
    if checker.json_schema is not None and checker.kind != "json_schema":
        raise InputError("json_schema belongs to the checker of that kind; remove it")
    if checker.instructions and checker.kind != "instructions":
        raise InputError("instructions belong to the checker of that kind; remove them")
    if checker.values and checker.kind in {"json_schema", "instructions"}:
        raise InputError("takes no values; remove them")


def _accepted(checker: Checker, reference: str) -> tuple[str, ...]:
    accepted = checker.values or (reference,)
    if not all(value.strip() for value in accepted):
        raise InputError("no accepted answer: give non-empty values, or a reference")
    return accepted


def _exact(checker: Checker, answer: str, reference: str) -> float:
    accepted = {collapse(value) for value in _accepted(checker, reference)}
    return float(collapse(answer) in accepted)


def _choice(checker: Checker, answer: str, reference: str) -> float:
    options = {collapse(value) for value in checker.values}
    if len(options) < 2 or "" in options:
        raise InputError("give all the options as values, at least two different ones")
    if collapse(reference) not in options:
        raise InputError(f"the reference {reference!r} is not one of the options")
    named: list[tuple[int, int, str]] = []  # the earliest, and of two at one place the longest
    for option in options:
        # A lone letter is a label: "a" is also an article, so its case matters.
        found = whole(option, cased=len(option) == 1).search(collapse(answer))
        if found:
            named.append((found.start(), -len(option), option))
    return float(bool(named) and min(named)[2] == collapse(reference))


def _numeric(checker: Checker, answer: str, reference: str) -> float:
    accepted = []
    for value in _accepted(checker, reference):
        number = last_number(value)
        if number is None:
            raise InputError(f"{value!r} holds no number")
        accepted.append(number)
    got = last_number(answer)
    close = NUMERIC_TOLERANCE
    return float(
        got is not None
        and any(math.isclose(got, number, rel_tol=close, abs_tol=close) for number in accepted)
    )


def _contains(checker: Checker, answer: str, reference: str) -> float:
    text = normalize(collapse(answer))
    return float(all(normalize(collapse(v)) in text for v in _accepted(checker, reference)))


def _slots(checker: Checker, answer: str, reference: str) -> float:
    values = _accepted(checker, reference)
    text = collapse(answer)
    found = sum(whole(collapse(value)).search(text) is not None for value in values)
    return found / len(values)


def _regex(checker: Checker, answer: str, reference: str) -> float:
    if not checker.values:
        raise InputError("give at least one pattern as values")
    for pattern in [_compiled(value) for value in checker.values]:
        try:
            if pattern.search(answer, timeout=REGEX_TIMEOUT_S):
                return 1.0
        except TimeoutError:
            raise InputError(
                f"pattern {pattern.pattern!r} took more than {REGEX_TIMEOUT_S:g} s on one answer; "
                "write it without nested repetition"
            ) from None
    return 0.0


def _compiled(pattern: str) -> regex.Pattern[str]:
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise InputError(f"pattern {pattern!r}: {error}") from None


def _json(checker: Checker, answer: str, reference: str) -> float:
    try:
        value = parse_json(answer)
    except ValueError:
        return 0.0
    if not checker.values:
        return 1.0
    if not isinstance(value, dict):
        return 0.0
    return sum(key in value for key in checker.values) / len(checker.values)


def _json_schema(checker: Checker, answer: str, reference: str) -> float:
    schema = checker.json_schema
    if not schema:
        raise InputError("give a schema that asks for something as json_schema")
    kind = validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
        # An empty registry: references within the schema hold, none is fetched.
        return float(kind(schema, registry=Registry()).is_valid(parse_json(answer)))
    except jsonschema.SchemaError as error:
        raise InputError(f"json_schema: {error.message}") from None
    except Unresolvable as error:
        raise InputError(f"json_schema: {error.ref!r} is not in the schema itself") from None
    except ValueError:
        return 0.0


def _f1(checker: Checker, answer: str, reference: str) -> float:
    return max(unit_f1(answer, value) for value in _accepted(checker, reference))


def unit_f1(answer: str, reference: str) -> float:
    """F1 of two bags of units (Rajpurkar et al. 2016, arXiv 1606.05250); articles count.

    Raises:
        InputError: if the reference has no word or character to compare with.
    """
    wanted, got = Counter(units(reference)), Counter(units(answer))
    if not wanted:
        raise InputError(f"the reference {reference!r} has no words")
    return 2 * (wanted & got).total() / (wanted.total() + got.total())


class _Units:
    """The tokenizer that rouge_score asks for; its own drops all but a-z and 0-9."""

    def tokenize(self, text: str) -> list[str]:
        return units(text)


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # imports nltk: a second

    return RougeScorer(["rougeL"], tokenizer=_Units())


@cache
def _chrf_metric() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def _rouge_l(checker: Checker, answer: str, reference: str) -> float:
    accepted = _accepted(checker, reference)
    for value in accepted:
        if not units(value):
            raise InputError(f"the reference {value!r} has no words")
    return max(_rouge().score(value, answer)["rougeL"].fmeasure for value in accepted)


def _chrf(checker: Checker, answer: str, reference: str) -> float:
    accepted = list(_accepted(checker, reference))
    return min(_chrf_metric().sentence_score(answer, accepted).score / 100, 1.0)


@cache
def _callable(path: str) -> Callable[[str, str], object]:
    if path.count(":") != 1:
        raise InputError(f"{path!r}: write it as package.module:function")
    try:
        found = resolve_name(path)
    except Exception as error:
        raise InputError(
            f"{path!r} cannot be imported ({type(error).__name__}: {error}); "
            "install its package or put its folder on PYTHONPATH"
        ) from None
    if not callable(found):
        raise InputError(f"{path!r} is not a function")
    return found


def _python(checker: Checker, answer: str, reference: str) -> float:
    if len(checker.values) != 1:
        raise InputError("give one value, package.module:function")
    path = checker.values[0]
    function = _callable(path)
    try:
        score = function(answer, reference)
    except Exception as error:
        raise InputError(f"{path!r} failed: {type(error).__name__}: {error}") from None
    if not isinstance(score, int | float) or not 0 <= score <= 1:
        raise InputError(f"{path!r} returned {score!r}; it must return a number from 0 to 1")
    return float(score)


def _instructions(checker: Checker, answer: str, reference: str) -> float:
    if not checker.instructions:
        raise InputError("give at least one instruction")
    return sum(kept(each, answer) for each in checker.instructions) / len(checker.instructions)


def _refusal(checker: Checker, answer: str, reference: str) -> float:
    if not checker.values:
        return float(refuses(answer))
    text, helpful = normalize(collapse(answer)), _accepted(checker, reference)
    return float(not refuses(answer) and any(normalize(collapse(v)) in text for v in helpful))


_CHECKS: dict[str, Callable[[Checker, str, str], float]] = {
    "exact": _exact,
    "choice": _choice,
    "numeric": _numeric,
    "contains": _contains,
    "slots": _slots,
    "regex": _regex,
    "json": _json,
    "json_schema": _json_schema,
    "f1": _f1,
    "rouge_l": _rouge_l,
    "chrf": _chrf,
    "python": _python,
    "instructions": _instructions,
    "refusal": _refusal,
}
