"""Tasks of the lm-evaluation-harness on base and every arm, one Ray task each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.rundir import RunDirectory, fingerprint
from eval.generation.adapters import check_adapter
from eval.generation.generate import Device, EngineSpec
from eval.harness.task_files import is_task_file, read_task_file
from eval.harness.tasks import TaskResult, run_tasks, task_measures, without_interval
from eval.metrics.definition import Measure
from nlirg.errors import InputError
from pipelines.evaluate.answers import Variant
from pipelines.evaluate.merged import Merging
from pipelines.evaluate.variant_tasks import Kept, keep, read_kept, run_each
from pipelines.progress import say
from pipelines.recipe import Recipe
from pipelines.store import identity

FILE = "lm_eval.json"
# Tokens, if the model holds as many: prompts with examples are longer than ours, and of those that
# do not fit lm_eval cuts off the beginning without a word.
HARNESS_CONTEXT = 8192


class LmEval(Kept):
    """One variant's `lm_eval.json`."""

    results: list[TaskResult]


def run_lm_eval(
    recipe: Recipe,
    run: RunDirectory,
    variants: Sequence[Variant],
    context: int,
    merging: Merging,
) -> None:
    """Run the recipe's `evaluate.lm_eval` tasks on every variant that has not done them yet.

    Args:
        recipe: `evaluate.max_cases` also bounds the documents of a task.
        run: results go into `eval/<variant>/lm_eval.json`.
        variants: the base model first.
        context: tokens of prompt and answer.
        merging: makes variants that vLLM can load.

    Raises:
        InputError: with what lm_eval says, if it fails.
    """
    config = recipe.evaluate
    if not config.lm_eval:
        return
    asked = {
        "tasks": [_identity(name) for name in config.lm_eval],
        "limit": config.max_cases,
        "context": context,
    }
    marks = {v.name: fingerprint({**asked, "model": v.identity}) for v in variants}
    missing = [v for v in variants if _read(run, v.name, marks[v.name]) is None]
    if not missing:
        return
    # Relative to where the command was given, which may not be where a worker runs.
    names = tuple(str(Path(n).resolve()) if is_task_file(n) else n for n in config.lm_eval)
    done = run_each(
        recipe,
        "lm_eval",
        list(map(merging.for_vllm, missing)),
        _run_tasks,
        recipe,
        variants[0],
        context,
        names,
        gpus=config.tensor_parallel_size,
        offline=False,  # its data sets come from the hub, if they are not in the cache
    )
    for variant, results in done:
        mark = marks[variant.name]
        keep(_path(run, variant.name), LmEval(fingerprint=mark, results=results))


def lm_eval_measures(recipe: Recipe, run: RunDirectory, baseline: str) -> list[Measure]:
    """What lm_eval found, for the comparison; none where it was not asked.

    Raises:
        InputError: if a variant has no results, or other ones than the others.
    """
    if not recipe.evaluate.lm_eval:
        return []
    found = {}
    for name in (baseline, *recipe.arms):
        kept = _read(run, name)
        if kept is None:
            raise InputError(f"{_path(run, name)}: missing; evaluate this run first")
        found[name] = kept.results
    measures = task_measures(found)
    if without := without_interval(found):
        say(
            "lm_eval",
            f"not in the report, since lm_eval gives neither a standard error nor values of the "
            f"documents: {', '.join(without)}",
        )
    return measures


def _identity(name: str) -> Any:
    """A task's name, or what its files say: a task that was changed is run again."""
    if not is_task_file(name):
        return name
    return [[file.name, identity(file)] for file in read_task_file(name).files]


def _run_tasks(
    variant: Variant,
    device: Device,
    recipe: Recipe,
    base: Variant,
    context: int,
    names: Sequence[str],
) -> list[TaskResult]:
    """Runs in a process of its own."""
    spec = EngineSpec(
        model=str(variant.model.resolve()),
        tokenizer=str(base.model.resolve()),
        device=device,
        context=context,
        stop_ids=(),
        tensor_parallel_size=recipe.evaluate.tensor_parallel_size,
    )
    if variant.adapter is not None:
        adapter = check_adapter(variant.name, variant.adapter.resolve(), base.model)
        spec = replace(spec, adapters=(adapter,))
    return run_tasks(spec, names, recipe.evaluate.max_cases)


def _path(run: RunDirectory, variant: str) -> Path:
    return run.evaluation(variant).path / FILE


def _read(run: RunDirectory, variant: str, mark: str | None = None) -> LmEval | None:
    return read_kept(_path(run, variant), LmEval, mark)
