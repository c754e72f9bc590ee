"""Checkers of answers that are JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from eval.checkers.matching import TimedSearch, parse_json
from eval.checkers.registry import SHARE, checker
from eval.schema.case import Checker
from nlirg.errors import InputError


@checker("json", f"it is JSON with these keys; {SHARE}", values="keys, or none")
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


def _ends(checker: Checker, reference: str) -> None:
    """Refuse a schema that refers to itself without end."""
    for value in ("0", reference):  # most references of such cases are JSON, but need not be
        try:
            _allowed(checker, value)
        except RecursionError:
            raise InputError("json_schema: it refers to itself without end") from None
        except (ValueError, OverflowError):
            continue


@checker(
    "json_schema",
    "it is JSON that the schema in `json_schema` allows; nothing is fetched, patterns have a "
    "second",
    key="json_schema",
    validate=_ends,
)
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
            kind = extend(kind, _timed_keywords(TimedSearch()))
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


def _timed_keywords(search: TimedSearch) -> dict[str, Any]:
    """Return the keywords that search, with a time limit: answers choose what is searched."""

    def pattern(validator: Any, wanted: str, value: Any, schema: Any) -> Iterator[Any]:
        if validator.is_type(value, "string") and not search.finds(wanted, value):
            yield jsonschema.ValidationError(f"{value!r} does not match {wanted!r}")

    def named(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
        for name, part in value.items() if validator.is_type(value, "object") else ():
            for each, allowed in wanted.items():
                if search.finds(each, name):
                    yield from validator.descend(part, allowed, path=name, schema_path=each)

    def additional(validator: Any, allowed: Any, value: Any, schema: Any) -> Iterator[Any]:
        known = schema.get("properties", {})
        for name, part in value.items() if validator.is_type(value, "object") else ():
            if name not in known and not any(
                search.finds(each, name) for each in schema.get("patternProperties", {})
            ):
                yield from validator.descend(part, allowed, path=name)

    return {"pattern": pattern, "patternProperties": named, "additionalProperties": additional}
