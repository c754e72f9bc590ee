"""The questions: read from files, made from held-out rows, varied, repeated, sampled."""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol

from pydantic import ValidationError

from eval.cases.perturbations import known_perturbation, perturb
from eval.cases.perturbations.slots import case_facts
from eval.checkers.checkers import kind_of, validate_checker
from eval.checkers.likelihood import validate_ranking
from eval.schema.case import Case, Checker, Message, Suite
from nlirg.chat.thinking import split_thinking, thinking_text
from nlirg.errors import HALF_SURROGATE, InputError, first_line

# What an answer's judgement depends on beside its case.
_EVAL = Path(__file__).parents[1]
JUDGING = (
    *sorted((_EVAL / "checkers").glob("*.py")),
    _EVAL / "schema" / "case.py",
    _EVAL / "text.py",
)
HOLDOUT_CHECKER = Checker(kind="f1", threshold=0.5)


class CorpusRow(Protocol):
    """A training conversation, such as `nlirg.corpus.records.Record`."""

    @property
    def id(self) -> str: ...  # noqa: D102

    @property
    def task_type(self) -> str: ...  # noqa: D102

    @property
    def messages(self) -> Sequence[Mapping[str, str]]: ...  # noqa: D102


def load_cases(path: str | Path, suite: Suite) -> list[Case]:
    """Read a JSONL file of cases; `suite` and `root_id` are filled in where a line omits them.

    Raises:
        InputError: naming file and line, if the file or a line cannot be used.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot read the cases: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; save the cases as UTF-8 JSONL") from None
    cases: dict[str, Case] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            case = _parse_case(line, suite, where)
        except UnicodeEncodeError:
            raise InputError(f"{where}: {HALF_SURROGATE}") from None
        except RecursionError:
            raise InputError(
                f"{where}: nested too deep, or a schema that refers to itself without end"
            ) from None
        except InputError:
            raise
        except Exception as error:  # checkers run on what the line says, and may fail in any way
            raise InputError(
                f"{where}: cannot be used as a case: {type(error).__name__}: {first_line(error)}"
            ) from None
        if case.id in cases:
            raise InputError(f"{where}: id {case.id!r} appears twice; ids must be unique")
        cases[case.id] = case
    if not cases:
        raise InputError(f"{path}: no cases; give one JSON object a line")
    return list(cases.values())


def _parse_case(line: str, suite: Suite, where: str) -> Case:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: a case is a JSON object, not {type(row).__name__}")
    if row.get("suite", suite) != suite:
        raise InputError(f"{where}: suite is {row['suite']!r}, but this file is used for {suite!r}")
    # What a tokenizer cannot read or a hash cannot be made of would fail after the training.
    json.dumps(row, ensure_ascii=False).encode()
    case = _validated({**row, "suite": suite}, where)
    case.model_dump_json()
    if not case.id or not case.messages or case.messages[-1].role != "user":
        raise InputError(f"{where}: a case needs an id, and messages that end on the user's turn")
    if not case.messages[-1].content.strip():
        raise InputError(f"{where}: case {case.id!r}: the user's message is empty")
    validate_checker(case.checker, case.reference, f"{where}: case {case.id!r}")
    if case.format is not None:
        validate_checker(case.format, case.reference, f"{where}: case {case.id!r}: format")
    validate_ranking(case, f"{where}: case {case.id!r}")
    return case.model_copy(update={"root_id": case.root_id or case.id})


def _validated(row: Mapping[str, Any], where: str) -> Case:
    try:
        return Case.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        said = first["msg"].replace("valid tuple", "valid list")  # what JSON has
        raise InputError(f"{where}: {key}: {said}") from None


def holdout_cases(rows: Iterable[CorpusRow]) -> list[Case]:
    """Turn held-out corpus rows into domain cases judged by F1 >= 0.5 against their last answer.

    Raises:
        InputError: if a row does not end on an assistant's turn after a user's, or its answer
            has no words.
    """
    cases = []
    for row in rows:
        roles = [message["role"] for message in row.messages]
        if roles[-2:] != ["user", "assistant"]:
            raise InputError(f"row {row.id!r}: to be a case it must end on user, assistant")
        reference = split_thinking(row.messages[-1]["content"])[1].strip()
        validate_checker(HOLDOUT_CHECKER, reference, f"row {row.id!r}")
        cases.append(
            Case(
                id=row.id,
                root_id=row.id,
                messages=tuple(_asked(turn) for turn in row.messages[:-1]),
                reference=reference,
                checker=HOLDOUT_CHECKER,
                task_type=row.task_type,
            )
        )
    return cases


def _asked(turn: Mapping[str, str]) -> Message:
    """A turn before the answer, its reasoning as text, without how to train on it."""
    thought = thinking_text(turn["reasoning"]) if turn.get("reasoning") else ""
    return Message.model_validate({"role": turn["role"], "content": thought + turn["content"]})


def robustness_cases(domain: Sequence[Case], names: Sequence[str], seed: int) -> list[Case]:
    """Every domain case under every perturbation that applies to it.

    A perturbed case's `root_id` is its original's; ids are `<id>~<perturbation>`.

    Raises:
        ValueError: if a name is not a perturbation.
    """
    known = [known_perturbation(name) for name in names]
    perturbed = (_perturbed(case, name, seed) for case in domain for name in known)
    return [case for case in perturbed if case is not None]


def _perturbed(case: Case, name: str, seed: int) -> Case | None:
    last = case.messages[-1]
    text = perturb(last.content, name, f"{seed}:{case.id}", case_facts(case))
    return None if text is None else perturbed_case(case, text, name, f"{case.id}~{name}")


def perturbed_case(case: Case, text: str, name: str, perturbed_id: str) -> Case:
    """Return the robustness case that asks a case's question in another text."""
    last = case.messages[-1]
    changed = {
        "id": perturbed_id,
        "root_id": case.root_id or case.id,
        "messages": (*case.messages[:-1], last.model_copy(update={"content": text})),
        "suite": "robustness",
        "perturbation": name,
    }
    return case.model_copy(update=changed)


def template_cases(domain: Sequence[Case], n: int, seed: int) -> list[Case]:
    """Choose n domain prompts to be answered by sampling.

    With fewer than n cases prompts repeat; the ids `<id>#<repeat>` differ, and so must the
    sampling seeds derived from them. What is asked for is text, also where a case has its options
    ranked: this suite is about what a model says.

    Raises:
        InputError: if there are no domain cases.
    """
    if not domain:
        raise InputError("template cases are made from domain cases, and there are none")
    chosen: list[Case] = []
    for repeat in range(math.ceil(n / len(domain))):
        for case in limit(domain, n - len(chosen), seed):
            changed = {
                "id": f"{case.id}#{repeat}",
                "root_id": case.root_id or case.id,
                "suite": "template",
                "checker": case.checker.model_copy(update={"answer_by": "text"}),
            }
            chosen.append(case.model_copy(update=changed))
    return chosen


def limit(cases: Sequence[Case], n: int | None, seed: int) -> list[Case]:
    """A seeded sample of n cases with the task types in proportion; all of them for None.

    The order of the cases is kept.
    """
    if n is None or n >= len(cases):
        return list(cases)
    strata: dict[str, list[int]] = defaultdict(list)
    for i, case in enumerate(cases):
        strata[case.task_type].append(i)
    rng = random.Random(f"limit:{seed}")
    sizes = _shares({name: len(members) for name, members in strata.items()}, n)
    chosen = [i for name, members in strata.items() for i in rng.sample(members, sizes[name])]
    return [cases[i] for i in sorted(chosen)]


def _shares(sizes: Mapping[str, int], n: int) -> dict[str, int]:
    """Divide n in proportion to sizes (largest remainders)."""
    total = sum(sizes.values())
    shares = {name: n * size // total for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: (-(n * sizes[name] % total), name))
    for name in by_remainder[: n - sum(shares.values())]:
        shares[name] += 1
    return shares


def cases_hash(cases: Iterable[Case]) -> str:
    """SHA-256 of the cases, whatever their order: two evaluations with one hash asked the same."""
    lines = sorted(case.model_dump_json() for case in cases)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def judging_hash(cases: Iterable[Case]) -> str:
    """SHA-256 of what decides how answers are judged.

    That is the cases, our own modules that judge, and the files of the functions that the cases'
    checkers name: what such a file imports from others is not looked at.
    """
    asked = list(cases)
    checkers = (checker for case in asked for checker in (case.checker, case.format) if checker)
    named = {value for c in checkers if kind_of(c).values_are == "code" for value in c.values}
    sources = [(name, _sources(name)) for name in sorted(named)]
    return hashlib.sha256(
        repr((cases_hash(asked), _code_hash(JUDGING), sources)).encode()
    ).hexdigest()


@cache
def _code_hash(files: tuple[Path, ...]) -> str:
    """SHA-256 of source files as they are when first asked for, which is what was imported."""
    contents = [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
    return hashlib.sha256(repr(contents).encode()).hexdigest()


def _sources(name: str) -> list[str]:
    """Hashes of the module that `package.module:function` names and of the function's own."""
    function = resolve_name(name)
    modules = {name.partition(":")[0], getattr(function, "__module__", "")}
    files = {getattr(sys.modules.get(module), "__file__", None) for module in modules}
    contents = [Path(file).read_bytes() for file in files if file and Path(file).is_file()]
    return sorted(hashlib.sha256(content).hexdigest() for content in contents)
