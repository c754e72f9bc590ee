"""The base model is asked: what is there already is read, the rest is generated and kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.rundir import RunDirectory
from eval.config import EvaluateConfig
from eval.generation.adapters import weights_hash
from eval.generation.generate import Completion, Prompt, Request, make_request, refusal, render
from eval.schema.case import Case, Checker
from nlirg.models.chat import stop_ids
from pipelines.chat import chat_of
from pipelines.evaluate.cases import context_tokens
from pipelines.evaluate.generation import Generation
from pipelines.evaluate.merged import Merging
from pipelines.progress import say
from pipelines.recipe import Recipe
from pipelines.replay.filters import TOO_LONG, UNREADABLE, answer_fault
from pipelines.replay.kept_answers import KeptAnswers, kept_answers
from pipelines.replay.prompt_files import ReplayPrompt

UNJUDGED = Checker(kind="exact")  # a case has one; these answers are not judged


@dataclass(frozen=True)
class Answered:
    """A prompt, its tokens, and what the model said.

    Attributes:
        prompt: as it was read.
        rendered: as the model sees it.
        answer: None if it was not asked.
        fault: why it is left out, or "".
    """

    prompt: ReplayPrompt
    rendered: Prompt
    answer: Completion | None
    fault: str


def base_answers(
    recipe: Recipe, run: RunDirectory, base: Path, prompts: Sequence[ReplayPrompt]
) -> list[Answered]:
    """Have the base model answer every prompt that is not answered yet.

    Args:
        recipe: of the run.
        run: whose storage keeps the answers.
        base: directory of the base model.
        prompts: to be answered.

    Raises:
        InputError: if the model cannot be loaded, or the engines fail.
    """
    rendered = render(chat_of(recipe), [_case(prompt) for prompt in prompts])
    longest = recipe.encode.max_length
    lengths = [len(one.ids) for one in rendered if len(one.ids) < longest]
    wanted = min(longest, max(lengths, default=1) + recipe.replay.max_new_tokens)
    context = context_tokens(base, wanted)
    config = _config(recipe, context)
    requests = [
        None if refusal(one, config, context) else make_request(one, config, context, recipe.seed)
        for one in rendered
    ]
    asked = [(one, request) for one, request in zip(rendered, requests, strict=True) if request]
    settings = {"context": context, "stop_ids": stop_ids(chat_of(recipe)), "seed": recipe.seed}
    generation = Generation(recipe, base, settings, Merging(recipe, run))
    with kept_answers(run.corpus.parent, _decides(recipe, base)) as kept:
        _generate(generation, asked, kept)
    return [
        _answered(prompt, one, None if request is None else kept.get(one, request))
        for prompt, one, request in zip(prompts, rendered, requests, strict=True)
    ]


def _generate(
    generation: Generation, asked: Sequence[tuple[Prompt, Request]], kept: KeptAnswers
) -> None:
    """Ask for what is not kept."""
    missing = {request.key: (one, request) for one, request in asked if not kept.get(one, request)}
    if there := len(asked) - len(missing):
        say("replay", f"{there} of {len(asked)} answers are there already")
    if not missing:
        return
    requests = [request for _, request in missing.values()]
    with closing(generation.base_answers(requests, "replay", "answer")) as parts:
        for chunk, completions in parts:
            pairs = zip(chunk, completions, strict=True)
            kept.add([(*missing[request.key], completion) for request, completion in pairs])


def _case(prompt: ReplayPrompt) -> Case:
    """Return a prompt as a case of the suite that is sampled."""
    return Case(
        id=prompt.id,
        messages=prompt.messages,
        checker=UNJUDGED,
        task_type=prompt.task_type,
        suite="template",
    )


def _config(recipe: Recipe, context: int) -> EvaluateConfig:
    """Return the evaluation's settings with those of the replay's answers."""
    changed = {
        "max_prompt_tokens": context,
        "max_new_tokens": recipe.replay.max_new_tokens,
        "template_temperature": recipe.replay.temperature,
    }
    return recipe.evaluate.model_copy(update=changed)


def _decides(recipe: Recipe, base: Path) -> dict[str, Any]:
    """Return what decides the answers besides the tokens of the prompts and their lengths."""
    return {
        "model": weights_hash(base),
        "template": recipe.template,
        "template_options": recipe.encode.template_options,
        "stop_ids": stop_ids(chat_of(recipe)),
        "temperature": recipe.replay.temperature,
        "seed": recipe.seed,
        "engine": recipe.evaluate.engine,
    }


def _answered(prompt: ReplayPrompt, rendered: Prompt, answer: Completion | None) -> Answered:
    if answer is None:
        return Answered(prompt, rendered, None, UNREADABLE if rendered.error else TOO_LONG)
    return Answered(prompt, rendered, answer, answer_fault(rendered.text, answer))
