"""The prompts of the replay: the shipped ones, or a file of the user's.

The shipped prompts are in Chinese and English, written for this project. `prompts/manifest.json`
holds the SHA-256 of their files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from eval.cases.probe import read_manifest
from eval.generation.samples import fault
from eval.schema.case import Message, Strict
from nlirg.config.corpus import BUILTIN
from nlirg.errors import HALF_SURROGATE, InputError

FOLDER = Path(__file__).parent / "prompts"
LEAST = 10  # answers that are worth training on, and so prompts that are worth asking
ID_PREFIX = "replay:"  # of a sample's id, before its prompt's
KEY = "replay.prompts"


@dataclass(frozen=True)
class ReplayPrompt:
    """A conversation for the base model to answer, and where it stands (`file:line`)."""

    id: str
    messages: tuple[Message, ...]
    task_type: str
    where: str

    @property
    def text(self) -> str:
        """What is said before the answer, without the system's words."""
        return "\n".join(turn.content for turn in self.messages if turn.role != "system")


class PromptLine(Strict):
    """One line of a file: `prompt`, or `messages` that end on the user's turn."""

    id: str | int | None = None
    task_type: str = ""
    prompt: str | None = None
    messages: tuple[Message, ...] | None = None


def read_prompts(source: str) -> list[ReplayPrompt]:
    """Read the prompts that `replay.prompts` names.

    Args:
        source: `builtin`, or a file: JSON lines with `prompt` or `messages` and, as they like,
            `id` and `task_type`; where it ends in `.txt`, plain text, a prompt a line.

    Raises:
        InputError: naming file and line, if a file or line cannot be used, there are too few, or
            a shipped file is not the one that was released.
    """
    if source != BUILTIN:
        return _required(_read_file(Path(source)), source)
    found = []
    for name, sha256 in read_manifest(FOLDER).items():
        path = FOLDER / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise InputError(
                f"{path}: missing or changed since its release; install the package again, or "
                f"name a file of your own in {KEY}"
            )
        found += _read_file(path)
    return _required(found, source)


def prompts_hash(prompts: list[ReplayPrompt]) -> str:
    """SHA-256 of what is asked, in its order."""
    said = [
        [prompt.id, prompt.task_type, [turn.model_dump() for turn in prompt.messages]]
        for prompt in prompts
    ]
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()


def _required(prompts: list[ReplayPrompt], source: str) -> list[ReplayPrompt]:
    """Refuse too few prompts, and ids that stand on two of them."""
    places: dict[str, str] = {}
    for prompt in prompts:
        if prompt.id in places:
            raise InputError(
                f"{KEY}: {prompt.where}: id {prompt.id!r} is that of {places[prompt.id]}, too; "
                "ids must be unique"
            )
        places[prompt.id] = prompt.where
    if len(prompts) < LEAST:
        raise InputError(
            f"{KEY}: {source} holds {len(prompts)} prompts, and at least {LEAST} are needed; give "
            f"more, or {BUILTIN!r}"
        )
    return prompts


def _read_file(path: Path) -> list[ReplayPrompt]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        close = get_close_matches(path.name, [BUILTIN])
        hint = f"; did you mean {BUILTIN!r}?" if close and not path.exists() else ""
        raise InputError(f"{KEY}: {path}: cannot read: {error.strerror}{hint}") from None
    except UnicodeDecodeError:
        raise InputError(f"{KEY}: {path}: not UTF-8 text; save it as UTF-8") from None
    plain = path.suffix == ".txt"
    return list(_prompts(text, path, plain))


def _prompts(text: str, path: Path, plain: bool) -> Iterator[ReplayPrompt]:
    """Yield the prompt of every line that is not empty."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        if plain:
            said = (Message(role="user", content=line.strip()),)
            yield ReplayPrompt(str(number), said, "", where)
        else:
            yield _parsed(line, number, where)


def _parsed(line: str, number: int, where: str) -> ReplayPrompt:
    try:
        row: Any = json.loads(line)
        if not isinstance(row, dict):
            raise InputError(f"{KEY}: {where}: a prompt is a JSON object, not {_kind(row)}")
        found = PromptLine.model_validate(row)
        json.dumps(row, ensure_ascii=False).encode()
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InputError(f"{KEY}: {where}: {key}: {fault(error)}") from None
    except UnicodeEncodeError:
        raise InputError(f"{KEY}: {where}: {HALF_SURROGATE}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{KEY}: {where}: not JSON: {fault(error)}") from None
    messages = _messages(found, where)
    name = str(number) if found.id is None else str(found.id)
    return ReplayPrompt(name, messages, found.task_type, where)


def _messages(line: PromptLine, where: str) -> tuple[Message, ...]:
    """Return what a line asks.

    Raises:
        InputError: if it does not ask one thing.
    """
    if (line.prompt is None) == (line.messages is None):
        raise InputError(f"{KEY}: {where}: give one of `prompt` and `messages`")
    messages = line.messages or ()
    if line.prompt is not None:
        messages = (Message(role="user", content=line.prompt),)
    if not messages or messages[-1].role != "user":
        raise InputError(f"{KEY}: {where}: messages must end on a user's turn")
    if not messages[-1].content.strip():
        raise InputError(f"{KEY}: {where}: the prompt is empty")
    return messages


def _kind(value: Any) -> str:
    return type(value).__name__
