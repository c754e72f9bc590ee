"""Judging one answer: a score in [0, 1] and whether it counts as correct."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from pkgutil import resolve_name
from time import monotonic
from typing import Any

import jsonschema
import regex
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from eval.checkers.choices import chosen
from eval.checkers.instructions import kept
from eval.checkers.matching import collapse, parse_json, whole
from eval.checkers.numerals import numbers, same_number
from eval.checkers.refusals import refuses
from eval.schema.case import Checker
from eval.text import normalize, units
from nlirg.errors import InputError

REGEX_TIMEOUT_S = 1.0


def check(checker: Checker, answer: str, reference: str) -> tuple[float, bool]:
    """Judge one answer.

    - `exact`: equals one of the values after NFKC and collapsing of white space.
    - `choice`: the values are the options and the reference is the right one; the option that the
      answer announces or else names first counts (`eval.checkers.choices.chosen`).
    - `numeric`: the last number in the answer (`eval.checkers.numerals.numbers`) equals one of the
      values: exactly where both are integers, else within a millionth.
    - `contains`: every value is in the answer (as a substring, without case).
    - `slots`: the share of values in the answer, as whole words and whole numbers, without case.
    - `regex`: one of the patterns is found in the answer.
    - `json`: the answer (or its code block) is JSON; the share of the values that are its keys.
    - `json_schema`: the answer (or its code block) is JSON that the schema allows.
    - `f1`: F1 of the units (words, or characters for CJK) of answer and reference, as SQuAD.
    - `rouge_l`: F1 of their longest common subsequence (ROUGE-L), of the same units.
    - `chrf`: chrF2 over 1 to 6 characters (Popović 2015), divided by 100.
    - `python`: what a callable named `package.module:function` returns for (answer, reference).
    - `instructions`: the share of the instructions kept (`eval.checkers.instructions.kept`).
    - `refusal`: without values, the answer declines (`eval.checkers.refusals.refuses`); with
      values, it does not, and holds one of them as `contains` would find it.

    Without values, `exact`, `numeric`, `contains`, `slots`, `f1`, `rouge_l` and `chrf` use the
    reference. The answer is correct when the score reaches the checker's threshold.

    Raises:
        InputError: if the checker cannot judge anything (see `validate_checker`), or not this
            answer: its patterns take too long, or a callable fails.
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
        if checker.kind == "json_schema":
            _ends(checker, reference)
    except InputError as error:
        raise InputError(f"{where}: checker {checker.kind!r}: {error}") from None


def _ends(checker: Checker, reference: str) -> None:
    for value in ("0", reference):  # most references of such cases are JSON, but need not be
        try:
            _allowed(checker, value)
        except RecursionError:
            raise InputError("json_schema: it refers to itself without end") from None
        except (ValueError, OverflowError):
            continue


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
    return float(chosen(options, answer) == collapse(reference))


def _numeric(checker: Checker, answer: str, reference: str) -> float:
    if checker.values:
        accepted = [_one_number(value) for value in checker.values]
    else:  # a reference is an answer and read like one
        accepted = [_last_number(value) for value in _accepted(checker, reference)]
    got = numbers(answer)
    last = got[-1] if got else None
    return float(last is not None and any(same_number(last, number) for number in accepted))


def _one_number(value: str) -> Fraction:
    count = len(numbers(value))
    if count > 1:
        raise InputError(f"{value!r} holds {count} numbers; give each as a value of its own")
    return _last_number(value)


def _last_number(value: str) -> Fraction:
    found = numbers(value)
    if not found:
        raise InputError(f"{value!r} holds no number")
    if found[-1] is None:
        raise InputError(f"{value!r}: the number is too large")
    return found[-1]


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
    for value in checker.values:  # all of them, so that a bad one is found when the case is read
        _compiled(value)
    patterns = _Patterns()
    return float(any(patterns.found(value, answer) for value in checker.values))


class _Patterns:
    """Searches in one answer, which together may take `REGEX_TIMEOUT_S`."""

    def __init__(self) -> None:
        self.left = REGEX_TIMEOUT_S

    def found(self, pattern: str, text: str) -> bool:
        start = monotonic()
        try:
            return _compiled(pattern).search(text, timeout=max(self.left, 0.001)) is not None
        except TimeoutError:
            raise InputError(
                f"pattern {pattern!r} took more than {REGEX_TIMEOUT_S:g} s on one answer; "
                "write it without nested repetition"
            ) from None
        finally:
            self.left -= monotonic() - start


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
    try:
        return float(_allowed(checker, answer))
    except (ValueError, RecursionError, OverflowError):  # no JSON, or nothing Python can judge
        return 0.0


def _allowed(checker: Checker, answer: str) -> bool:
    schema = checker.json_schema
    if not schema:
        raise InputError("give a schema that asks for something as json_schema")
    kind = validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
        keys = set(_keys(schema))
        if {"patternProperties", "unevaluatedProperties"} <= keys:
            raise InputError(
                "json_schema: unevaluatedProperties beside patternProperties would search without "
                "a time limit; use additionalProperties"
            )
        if keys & {"pattern", "patternProperties"}:
            kind = extend(kind, _timed(_Patterns()))
            # Where "$ref" leads back to a "$schema", its own class would judge, without a limit.
            schema = {key: value for key, value in schema.items() if key != "$schema"}
        # An empty registry: references within the schema hold, none is fetched.
        return bool(kind(schema, registry=Registry()).is_valid(parse_json(answer)))
    except jsonschema.SchemaError as error:
        raise InputError(f"json_schema: {error.message}") from None
    except Unresolvable as error:
        raise InputError(f"json_schema: {error.ref!r} is not in the schema itself") from None


def _keys(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema
    if isinstance(schema, dict | list):
        for part in schema.values() if isinstance(schema, dict) else schema:
            yield from _keys(part)


def _timed(patterns: _Patterns) -> dict[str, Any]:
    """The keywords that search, with a time limit: answers choose what is searched."""

    def pattern(validator: Any, wanted: str, value: Any, schema: Any) -> Iterator[Any]:
        if validator.is_type(value, "string") and not patterns.found(wanted, value):
            yield jsonschema.ValidationError(f"{value!r} does not match {wanted!r}")

    def named(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
        for name, part in value.items() if validator.is_type(value, "object") else ():
            for each, allowed in wanted.items():
                if patterns.found(each, name):
                    yield from validator.descend(part, allowed, path=name, schema_path=each)

    def additional(validator: Any, allowed: Any, value: Any, schema: Any) -> Iterator[Any]:
        known = schema.get("properties", {})
        for name, part in value.items() if validator.is_type(value, "object") else ():
            if name not in known and not any(
                patterns.found(each, name) for each in schema.get("patternProperties", {})
            ):
                yield from validator.descend(part, allowed, path=name)

    return {"pattern": pattern, "patternProperties": named, "additionalProperties": additional}


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
