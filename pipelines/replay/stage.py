"""Self-made replay: the base model answers general prompts, and its answers become samples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cluster.rundir import RunDirectory, StageFolder
from eval.generation.serving import require_engine
from nlirg.atomic_io import write_text
from nlirg.config.corpus import BUILTIN
from nlirg.errors import InputError
from nlirg.models.loading import model_directory
from nlirg.scoring.scores import TokenScores
from pipelines.evaluate.answers import Variant
from pipelines.evaluate.generation import BASE
from pipelines.evaluate.variant_tasks import run_each
from pipelines.progress import say
from pipelines.recipe import Recipe
from pipelines.replay.asking import Answered, base_answers
from pipelines.replay.filters import NO_END, in_words
from pipelines.replay.overlap import (
    chosen_prompts,
    file_questions,
    held_out_questions,
    refuse_overlap,
)
from pipelines.replay.prompt_files import LEAST, prompts_hash, read_prompts
from pipelines.replay.samples import (
    Sample,
    sample_id,
    sample_of,
    score_samples,
    write_samples,
)
from pipelines.score.rows import MakeScorer, model_scorer
from pipelines.stage import Stage, Summary
from pipelines.store import identity

LEAST_SHARE = 0.05  # of the answers; where fewer can be used, something is wrong with all of them
SHOWN = 200  # characters of an answer that is left out


class ReplaySummary(Summary):
    """What the base model's answers came to.

    Attributes:
        asked: prompts.
        overlapping: shipped prompts that were not asked, because the evaluation asks them.
        kept: answers to train on.
        left_out: reason -> answers.
        trained_tokens: of the kept answers.
        tokens: of them and their prompts.
    """

    asked: int
    overlapping: int
    kept: int
    left_out: dict[str, int]
    trained_tokens: int
    tokens: int


class Replay(Stage[ReplaySummary]):
    """Have the base model answer general prompts; plan and tokens of the answers, in `replay/`.

    Args:
        make_scorer: loads the base model to score the answers, in a process of its own.
    """

    name = "replay"
    summary_type = ReplaySummary
    needs_corpus = True

    def __init__(self, make_scorer: MakeScorer = model_scorer) -> None:
        self.make_scorer = make_scorer

    def folder(self, run: RunDirectory) -> StageFolder:
        """Return `replay/`."""
        return run.replay

    def idle(self, recipe: Recipe) -> str:
        """Return why nothing is asked: no arm has a replay or a guard, or text has no answers."""
        if not (_wants(recipe, "replay") or _wants(recipe, "guard")):
            return "no arm has train.replay or train.guard"
        return "plain text has no answers" if recipe.encode.task == "cpt" else ""

    def settings(self, recipe: Recipe, run: RunDirectory) -> dict[str, Any]:
        """Return what decides the answers and their losses."""
        encode = {"max_length", "template_options", "date"}
        return {
            "model": identity(recipe.model),
            "template": recipe.template,
            "encode": recipe.encode.model_dump(mode="json", include=encode),
            "replay": recipe.replay.model_dump(mode="json", exclude={"prompts"}),
            "prompts": prompts_hash(chosen_prompts(recipe, run)[0]),
            "seed": recipe.seed,
            "precision": recipe.score.precision,
            "entropy": recipe.score.token_entropy,
        }

    def check(self, recipe: Recipe) -> None:
        """Refuse prompts that cannot be read or that the evaluation asks."""
        if self.idle(recipe):
            return
        prompts = read_prompts(recipe.replay.prompts)
        if recipe.replay.prompts != BUILTIN:
            refuse_overlap(prompts, file_questions(recipe))

    def check_corpus(self, recipe: Recipe, run: RunDirectory) -> None:
        """Refuse prompts that rows held out ask, and a model that the engine cannot run."""
        if self.idle(recipe):
            return
        if recipe.replay.prompts != BUILTIN:
            prompts = read_prompts(recipe.replay.prompts)
            refuse_overlap(prompts, held_out_questions(recipe, run))
        if recipe.evaluate.engine == "vllm":
            require_engine(model_directory(recipe.model), recipe.model)

    def work(self, recipe: Recipe, run: RunDirectory, resumed: bool) -> ReplaySummary:
        """Ask for what is missing, leave out what is no answer, score and write the rest.

        Raises:
            InputError: if the engines fail, or too few answers can be used.
        """
        folder = run.replay.path
        prompts, overlapping = chosen_prompts(recipe, run)
        if overlapping:
            say("replay", f"{overlapping} shipped prompts are not asked: the evaluation asks them")
        base = model_directory(recipe.model)
        answers = base_answers(recipe, run, base, prompts)
        kept = [one for one in answers if not one.fault]
        left_out = Counter(one.fault for one in answers if one.fault)
        _write_left_out(folder / "left_out.jsonl", answers)
        _require_enough(len(kept), left_out, folder / "left_out.jsonl")
        samples = [sample_of(one) for one in kept]
        names = [sample_id(one) for one in kept]
        scores = _scores(recipe, base, self.make_scorer, samples, names)
        write_samples(folder, kept, samples, scores, recipe.score.token_entropy)
        return ReplaySummary(
            asked=len(answers),
            overlapping=overlapping,
            kept=len(kept),
            left_out=dict(left_out),
            trained_tokens=sum(len(score.loss) for score in scores),
            tokens=sum(len(ids) for ids, _ in samples),
        )

    def describe(self, recipe: Recipe, run: RunDirectory, summary: ReplaySummary) -> Iterator[str]:
        """Yield how many answers there are to train on, and why not more."""
        why = f" ({in_words(summary.left_out)})" if summary.left_out else ""
        yield (
            f"{summary.asked} prompts answered, {summary.kept} kept{why}; "
            f"{summary.trained_tokens:,} tokens to train"
        )


def _wants(recipe: Recipe, key: str) -> bool:
    """Say whether an arm has a section of `train`, or a sweep gives it one."""
    arms = (recipe.arm(name) for name in recipe.arms)
    swept = any(name.split(".")[0] == key for name in recipe.tune.grid)
    return swept or any(getattr(arm, key) is not None for arm in arms)


def _scores(
    recipe: Recipe,
    base: Path,
    make_scorer: MakeScorer,
    samples: Sequence[Sample],
    names: Sequence[str],
) -> list[TokenScores]:
    """Score the samples under the base model, in a process that is gone afterwards."""
    variant = Variant(BASE, base, None, "")
    arguments = (make_scorer, recipe.score, samples, names)
    found = run_each(recipe, "score the replay", [variant], score_samples, *arguments)
    ((_, scores),) = found
    return list(scores)


def _write_left_out(path: Path, answers: Sequence[Answered]) -> None:
    """Write id, reason and the beginning of the answer of what is left out, one a line."""
    rows = [
        {
            "id": one.prompt.id,
            "reason": one.fault,
            "answer": "" if one.answer is None else one.answer.text[:SHOWN],
        }
        for one in answers
        if one.fault
    ]
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _require_enough(kept: int, left_out: Counter[str], path: Path) -> None:
    """Refuse to train on a handful of answers."""
    asked = kept + left_out.total()
    if kept >= max(LEAST, LEAST_SHARE * asked):
        return
    cut = left_out and left_out.most_common(1)[0][0] == NO_END
    remedy = "raise replay.max_new_tokens" if cut else "give other prompts, or another model"
    raise InputError(
        f"{kept} of {asked} answers of the base model can be used ({in_words(left_out)}), too few "
        f"for a replay: see {path}; {remedy}, or take train.replay and train.guard out"
    )
