"""Flips: where a variant's single answer and the base's differ, both answer again several times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cluster.rundir import RunDirectory
from eval.generation.generate import Key, Prompt
from eval.generation.samples import read_lines, read_samples, samples_path
from eval.metrics.flips import FLIP_SUITES, find_flips, judge_flips, resample_prompts
from eval.schema.sample import FlipResample, Sample
from nlirg.atomic_io import write_text
from nlirg.errors import InputError
from pipelines.evaluate.answers import Variant
from pipelines.evaluate.generation import Generation, Work
from pipelines.progress import say


def resample_flips(
    generation: Generation,
    run: RunDirectory,
    variants: Sequence[Variant],
    prompts: Sequence[Prompt],
) -> Work:
    """Sample the flipped cases again, and write what that says into `eval/<variant>/flips.jsonl`.

    The base answers the flips of all variants once. Answers are kept as they come, also where
    another number of them is asked for than before, or other cases flip since they are judged
    otherwise.

    Args:
        generation: how answers are generated; the recipe says how many.
        run: holds the complete answers of the variants.
        variants: the base first.
        prompts: all prompts of the evaluation.
    """
    base, *tuned = (variant.name for variant in variants)
    answers = {variant.name: _samples(run.evaluation(variant.name).path) for variant in variants}
    flips = {name: find_flips(answers[base], answers[name]) for name in tuned}
    keys: dict[str, set[Key]] = {name: set(found) for name, found in flips.items()}
    keys[base] = set().union(*keys.values())
    n = generation.recipe.evaluate.flip_samples
    asked = []
    for variant in variants:
        flipped = [prompt for prompt in prompts if prompt.key in keys[variant.name]]
        if flipped:
            stage = run.resamples(variant.name)
            asked.append((variant, stage, resample_prompts(flipped, n)))
    work = generation.answer(asked, "flips", may_change=True)
    before = _samples(run.resamples(base).path)
    for name in tuned:
        rows = judge_flips(name, flips[name], before, _samples(run.resamples(name).path))
        write_text(run.flips(name), "".join(row.model_dump_json() + "\n" for row in rows))
        stable = sum(row.stable for row in rows)
        say("flips", f"{name}: {stable} of {len(rows)} flips are stable over {n} answers")
    return work


def read_flips(run: RunDirectory, variants: Sequence[str]) -> list[FlipResample]:
    """What `resample_flips` wrote of these tuned variants.

    Raises:
        InputError: if the flips of a variant were not sampled again, or their file is damaged.
    """
    rows: list[FlipResample] = []
    for variant in variants:
        path = run.flips(variant)
        if not path.is_file():
            raise InputError(
                f"{path} is missing: run evaluate again, or set evaluate.flip_samples to 0"
            )
        rows += read_lines(
            path, FlipResample.model_validate_json, "a flip", f"delete {path} and evaluate again"
        )
    return rows


def _samples(folder: Path) -> list[Sample]:
    """The answers in the suites whose flips matter."""
    paths = [samples_path(folder, suite) for suite in FLIP_SUITES]
    return [sample for path in paths if path.is_file() for sample in read_samples(path)]
