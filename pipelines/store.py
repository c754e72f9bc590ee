"""Opening a run directory: same name and same recipe resume, anything else is refused."""

from __future__ import annotations

import datetime
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cluster.environment import environment
from cluster.rundir import RunDirectory
from nlirg.atomic_io import write_json, write_text
from nlirg.errors import InputError
from pipelines.recipe import Recipe, validate

# Where a run computes, and what sweeps start from it, does not change what it means.
ELSEWHERE = {"storage", "cluster", "tune"}

HASHED_BYTES = 64 << 20


def meaning(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe that decides its results."""
    found = recipe.model_dump(mode="json", exclude=ELSEWHERE)
    return found | {
        name: getattr(recipe, name).meaning() for name in ("score", "train", "evaluate")
    }


def _difference(old: Any, new: Any, key: str = "") -> str | None:
    """Describe the first dotted key in which two recipes differ; None if they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*new, *(name for name in old if name not in new)]:
            below = f"{key}.{name}" if key else name
            if found := _difference(old.get(name), new.get(name), below):
                return found
        return None
    return None if old == new else f"{key} is {old!r} there and {new!r} now"


def settled(recipe: Recipe) -> Recipe:
    """Return a recipe as its run has it: on no other day, and without other files, another one.

    The date that chat templates may print is that of the day on which the run was begun, for every
    stage and whenever it is resumed; a chat template is its text.

    Raises:
        InputError: if the run's own recipe is damaged, or the template is neither file nor text.
    """
    kept = RunDirectory(recipe.storage, recipe.name).path / "recipe.yaml"
    begun = _kept_recipe(kept).encode.date if kept.is_file() else None
    date = recipe.encode.date or begun or datetime.date.today()
    encode = recipe.encode.model_copy(update={"date": date})
    template = recipe.template and _template_text(recipe.template)
    return recipe.model_copy(update={"encode": encode, "template": template})


def _template_text(template: str) -> str:
    if "{{" in template or "{%" in template:
        return template
    try:
        return Path(template).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"template {template!r}: {error.strerror}; give a file, or the text of a chat template "
            "(with {{ or {%)"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"template {template!r}: is not UTF-8 text") from None


def open_run(recipe: Recipe) -> RunDirectory:
    """Create the run directory, or reopen it for the same recipe.

    Until a stage has begun, everything may change; until rows are selected or encoded, `select` and
    `order`; until something is answered, how to evaluate.

    Raises:
        InputError: if the name is taken by a run with other settings, or the storage cannot be
            written.
    """
    run = RunDirectory(recipe.storage, recipe.name)
    kept = run.path / "recipe.yaml"
    try:
        old = _kept_recipe(kept) if kept.is_file() else recipe
        # A recipe that was refused before a stage began does not take the name.
        if kept.is_file() and any(path.is_dir() for path in run.path.iterdir()):
            if not (run.selected.marker.is_file() or run.encoded.marker.is_file()):
                # What to select is decided when the scores have been seen.
                old = old.model_copy(update={"select": recipe.select, "order": recipe.order})
            evaluated = run.path / "eval"
            if not evaluated.exists():
                old = old.model_copy(update={"evaluate": recipe.evaluate})
            if found := _difference(meaning(old), meaning(recipe)):
                only = found.startswith("evaluate.")
                remedy = f"{evaluated} to evaluate what is trained anew" if only else str(run.path)
                raise InputError(
                    f"run name {recipe.name!r} is taken in {run.path.parent} by other settings: "
                    f"{found}; choose another name (name=...) or delete {remedy}"
                )
        else:
            write_json(run.path / "env.json", environment())
        write_text(kept, as_yaml(recipe))
    except OSError as error:
        raise InputError(f"storage {recipe.storage!r}: {error.strerror}: {run.path}") from error
    return run


def _kept_recipe(path: Path) -> Recipe:
    """Return the recipe that a run was made with.

    Raises:
        InputError: if the file is damaged, or of a version with other keys.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        raise InputError(
            f"{path}: damaged; delete this file if the run is of this recipe, or {path.parent}"
        )
    try:
        return validate(raw, str(path))
    except InputError as error:
        raise InputError(
            f"{path.parent} was made by another version of nlirg ({error}): choose another run "
            "name (name=...), or delete it"
        ) from None


def as_yaml(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every default written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def identity(path: str | Path) -> Any:
    """What tells a file or folder from another with the same name, wherever it lies.

    Contents are hashed, but of files too large to read for that the size and time of change
    stand for them. What is neither file nor folder (a hub id) stands for itself.
    """
    root = Path(path).expanduser()
    if root.is_file():
        return _file_identity(root)
    if not root.is_dir():
        return str(path)
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return [[str(file.relative_to(root)), _file_identity(file)] for file in files]


def _file_identity(file: Path) -> list[Any]:
    stat = file.stat()
    if stat.st_size > HASHED_BYTES:
        return [stat.st_size, stat.st_mtime_ns]
    return [stat.st_size, _digest(file, stat.st_size, stat.st_mtime_ns)]


@cache
def _digest(file: Path, size: int, changed_ns: int) -> str:
    """Hash of a file; every stage asks for it, and it is read again only if it has changed."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
