"""Prompts of the replay that an evaluation asks, too: what is trained must not be what is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow.dataset as pads

from cluster.rundir import RunDirectory
from eval.cases.sources import ood_cases
from eval.cases.suites import load_cases
from eval.schema.case import Case
from nlirg.config.corpus import BUILTIN
from nlirg.corpus.duplicates import near_pairs
from nlirg.errors import InputError
from pipelines.encode.stage import Encode
from pipelines.evaluate.cases import evaluation_cases
from pipelines.ray_data import parquet_files
from pipelines.recipe import Recipe
from pipelines.replay.prompt_files import ID_PREFIX, KEY, ReplayPrompt, read_prompts


@dataclass(frozen=True)
class Question:
    """What an evaluation asks, and where that stands."""

    text: str
    where: str


def overlaps(
    prompts: Sequence[ReplayPrompt], questions: Sequence[Question]
) -> list[tuple[ReplayPrompt, Question]]:
    """Return every prompt with the question that it is nearly the same as."""
    asked = [question.text for question in questions]
    found = near_pairs([prompt.text for prompt in prompts], asked)
    return [(prompts[i], questions[j]) for i, j in found]


def file_questions(recipe: Recipe) -> list[Question]:
    """Return the questions of the recipe's files of cases and probe sets, as they are written."""
    domain, ood = recipe.evaluate.domain, recipe.evaluate.ood
    found = list(_questions(load_cases(domain, "domain"), domain)) if domain else []
    for source in ood:
        found += _questions(ood_cases([source]), source)
    return found


def held_out_questions(recipe: Recipe, run: RunDirectory) -> list[Question]:
    """Return the questions that are rows kept from training.

    Raises:
        InputError: if the corpus is not encoded yet, which keeps them.
    """
    if recipe.evaluate.domain is not None or not recipe.holdout:
        return []
    Encode().summary(run)
    cases = [case for case in evaluation_cases(recipe, run) if case.suite == "domain"]
    return list(_questions(cases, str(run.holdout)))


def refuse_overlap(prompts: Sequence[ReplayPrompt], questions: Sequence[Question]) -> None:
    """Refuse prompts that are asked in the evaluation.

    Raises:
        InputError: naming the first prompt and question, and how many there are.
    """
    if not (found := overlaps(prompts, questions)):
        return
    prompt, question = found[0]
    more = f" ({len(found)} such pairs)" if len(found) > 1 else ""
    raise InputError(
        f"{KEY}: {prompt.where}: prompt {prompt.id!r} is nearly the same as {question.where}{more}:"
        " what is evaluated must not be trained; take one of the two out"
    )


def refuse_trained(recipe: Recipe, run: RunDirectory) -> None:
    """Refuse cases that nearly are prompts whose answers are there to be trained on.

    Raises:
        InputError: naming both.
    """
    if not run.replay.marker.is_file() or all(
        recipe.arm(arm).replay is None for arm in recipe.arms
    ):
        return
    plan = pads.dataset(parquet_files(run.replay.path)).to_table(["id"])
    asked = {name.removeprefix(ID_PREFIX) for name in plan["id"].to_pylist()}
    prompts = [prompt for prompt in read_prompts(recipe.replay.prompts) if prompt.id in asked]
    refuse_overlap(prompts, file_questions(recipe) + held_out_questions(recipe, run))


def chosen_prompts(recipe: Recipe, run: RunDirectory) -> tuple[list[ReplayPrompt], int]:
    """Return the prompts to be answered, and how many of the shipped ones are left out.

    A user's file is refused before, where it overlaps with the evaluation; the shipped prompts,
    which nobody can edit, are left out where they do.

    Raises:
        InputError: if the prompts or the cases cannot be read.
    """
    prompts = read_prompts(recipe.replay.prompts)
    if recipe.replay.prompts != BUILTIN:
        return prompts, 0
    questions = file_questions(recipe) + held_out_questions(recipe, run)
    asked = {prompt.id for prompt, _ in overlaps(prompts, questions)}
    return [prompt for prompt in prompts if prompt.id not in asked], len(asked)


def _questions(cases: Sequence[Case], source: str) -> Iterator[Question]:
    for case in cases:
        text = "\n".join(turn.content for turn in case.messages if turn.role != "system")
        yield Question(text, f"evaluation case {case.id!r} of {source}")
