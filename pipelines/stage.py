"""What a stage is, and the one runner that every stage goes through.

A stage reads what earlier stages left in the run directory and writes one folder of it. It says
what decides its result, what can be refused before anything starts, and how to do the work. The
runner owns the rest: whether the stage is done already, whether unfinished work may be continued,
the marker that is written last, and what is printed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.rundir import MARKER_REMEDY, RunDirectory, StageFolder, fingerprint
from nlirg.errors import InputError
from pipelines.progress import say
from pipelines.recipe import Recipe

# What a stage does with the unfinished work of an earlier attempt: go on with it, or start anew.
# `always`: the stage is entered every time, because it keeps its own account of what is missing.
Attempt = Literal["resume", "restart", "always"]


class Summary(BaseModel):
    """Base of what a complete stage says about its result; kept in the stage's marker."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Summary)


class Stage(ABC, Generic[S]):
    """One stage of the road from a corpus to a report.

    Attributes:
        name: the stage's command, and its key in the ordered list of stages.
        summary_type: class of its summary.
        attempt: what is done with unfinished work.
        needs_corpus: whether it works on the encoded corpus; from the first such stage on, all
            later stages are held against the corpus before any of them starts.
    """

    name: ClassVar[str]
    summary_type: ClassVar[type[Any]]
    attempt: ClassVar[Attempt] = "resume"
    needs_corpus: ClassVar[bool] = False

    @classmethod
    def of(cls, recipe: Recipe) -> Sequence[Self]:
        """Return the stage objects of a recipe: one, or one for each thing to be made."""
        return (cls(),)

    @property
    def title(self) -> str:
        """Name of the stage in the log."""
        return self.name

    @abstractmethod
    def folder(self, run: RunDirectory) -> StageFolder:
        """Return the folder of the run directory that the stage writes."""

    @abstractmethod
    def settings(self, recipe: Recipe, run: RunDirectory) -> Any:
        """Return everything that decides the result, as JSON; its hash is the fingerprint.

        Raises:
            InputError: if an earlier stage is not complete.
        """

    def check(self, recipe: Recipe) -> None:
        """Refuse what can be refused before anything starts.

        Raises:
            InputError: naming the key or file, and a remedy.
        """

    def check_corpus(self, recipe: Recipe, run: RunDirectory) -> None:
        """Refuse what can be refused once the corpus is encoded, before anything is trained.

        Raises:
            InputError: naming the key or file, and a remedy.
        """

    def idle(self, recipe: Recipe) -> str:
        """Return why the recipe leaves this stage nothing to do; empty if there is work."""
        return ""

    @abstractmethod
    def work(self, recipe: Recipe, run: RunDirectory, resumed: bool) -> S:
        """Do the work.

        Args:
            recipe: of the run, with absolute paths.
            run: where to read and write.
            resumed: whether the folder holds unfinished work of the same settings.
        """

    def describe(self, recipe: Recipe, run: RunDirectory, summary: S) -> Iterator[str]:
        """Yield what a user must know of the result, a line each, the shortest account first."""
        yield from ()

    def tidy(self, run: RunDirectory) -> None:
        """Delete what only an unfinished stage needs; called once the marker is written."""

    def conclude(self, recipe: Recipe, run: RunDirectory, summary: S) -> int:
        """Print what a command ends with, and return its exit code."""
        return 0

    def fingerprint(self, recipe: Recipe, run: RunDirectory) -> str:
        """Return the hash of everything that decides the result."""
        return fingerprint(self.settings(recipe, run))

    def finished(self, recipe: Recipe, run: RunDirectory) -> S | None:
        """Return the summary if the stage is complete for these settings.

        Raises:
            InputError: if it is complete for other settings, or its marker is damaged.
        """
        record = self.folder(run).finished(self.fingerprint(recipe, run))
        return None if record is None else self.read(record, run)

    def summary(self, run: RunDirectory) -> S:
        """Return the summary of the complete stage, whatever its settings were.

        Raises:
            InputError: if it is not complete, or its marker is damaged.
        """
        folder = self.folder(run)
        if not folder.marker.is_file():
            raise InputError(f"{folder.path} is not complete: run {self.name} first")
        return self.read(folder.summary(), run)

    def require(self, recipe: Recipe, run: RunDirectory) -> S:
        """Return the summary of the stage, which a later one stands on.

        Raises:
            InputError: if it is not complete for these settings.
        """
        summary = self.finished(recipe, run)
        if summary is None:
            raise InputError(f"{self.folder(run).path} is not complete: run {self.name} first")
        return summary

    def read(self, record: dict[str, Any], run: RunDirectory) -> S:
        """Return the summary that a marker holds.

        Raises:
            InputError: if it is not one of this stage.
        """
        try:
            summary: S = self.summary_type.model_validate(record)
        except ValidationError:
            raise InputError(f"{self.folder(run).marker}: damaged; {MARKER_REMEDY}") from None
        return summary


def run_stage(stage: Stage[S], recipe: Recipe, run: RunDirectory) -> S | None:
    """Bring one stage to its end: read what is done, or do it.

    Returns:
        The summary; None if the recipe leaves the stage nothing to do.

    Raises:
        InputError: if the input is wrong, or the folder holds the work of other settings.
    """
    if reason := stage.idle(recipe):
        say(stage.title, f"nothing to do: {reason}")
        return None
    folder = stage.folder(run)
    if stage.attempt == "always":
        folder.marker.unlink(missing_ok=True)  # an older result must not stand for this one
    settings = stage.fingerprint(recipe, run)
    if stage.attempt == "always":
        resumed = folder.path.is_dir()
    else:
        if (record := folder.finished(settings)) is not None:
            summary = stage.read(record, run)
            account = next(iter(stage.describe(recipe, run, summary)), "")
            say(stage.title, f"already done: {account}".removesuffix(": "))
            return summary
        if stage.attempt == "restart":
            folder.clear()
        resumed = folder.claim(settings)
    summary = stage.work(recipe, run, resumed)
    folder.succeed(settings, summary.model_dump(mode="json"))
    stage.tidy(run)
    for line in stage.describe(recipe, run, summary):
        say(stage.title, line)
    return summary


@dataclass(frozen=True)
class Outcome:
    """What stages came to: summaries by title (None: nothing to do), exit code of the last one."""

    summaries: dict[str, Any]
    exit_code: int


def run_stages(stages: Sequence[Stage[Any]], recipe: Recipe, run: RunDirectory) -> Outcome:
    """Run stages in their order.

    All that are not complete are checked before the first starts; those that work on the encoded
    corpus once more before the first of those starts.

    Raises:
        InputError: see `run_stage`.
    """
    for stage in stages:
        if stage.attempt == "always" or not stage.folder(run).marker.is_file():
            stage.check(recipe)
    checked = False
    summaries: dict[str, Any] = {}
    code = 0
    for index, stage in enumerate(stages):
        if stage.needs_corpus and not checked:
            _check_corpus(stages[index:], recipe, run)
            checked = True
        summary = run_stage(stage, recipe, run)
        summaries[stage.title] = summary
        code = 0 if summary is None else stage.conclude(recipe, run, summary)
    return Outcome(summaries, code)


def _check_corpus(stages: Sequence[Stage[Any]], recipe: Recipe, run: RunDirectory) -> None:
    """Hold the stages that are not done yet against the encoded corpus."""
    for stage in stages:
        if stage.attempt == "always" or not stage.folder(run).marker.is_file():
            stage.check_corpus(recipe, run)


def state(stage: Stage[Any], recipe: Recipe, run: RunDirectory) -> str:
    """Return in a word how far a stage is, from its folder alone; nothing is hashed or loaded."""
    if stage.idle(recipe):
        return "nothing to do"
    folder = stage.folder(run)
    if folder.marker.is_file():
        return "done" if stage.attempt != "always" else "again"
    return "unfinished" if folder.path.is_dir() else "to do"
