"""Every arm at other strengths: which variants that makes, and what they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cluster.rundir import RunDirectory, fingerprint
from eval.generation.generate import Prompt
from eval.verdict.scales import SCALE_SUITES
from nlirg.models.scaling import require_between, scale_name
from pipelines.evaluate.answers import Scaled, Variant
from pipelines.evaluate.generation import Generation, Work
from pipelines.evaluate.merged import Merging
from pipelines.recipe import Recipe


def scale_names(recipe: Recipe) -> dict[str, dict[float, str]]:
    """Return the names of every arm's variants by scale, the arm itself aside."""
    scales = recipe.evaluate.other_scales
    return {arm: {scale: scale_name(arm, scale) for scale in scales} for arm in recipe.arms}


def beyond_the_tuned(scales: Sequence[float], key: str) -> str:
    """Return a warning if a scale goes beyond what was trained; empty if none does."""
    beyond = [f"{scale:g}" for scale in scales if scale > 1]
    if not beyond:
        return ""
    return (
        f"{key}: {', '.join(beyond)} is beyond what was trained (1): such weights are "
        "extrapolated, and often worse at everything"
    )


def at_scale(base: Variant, arm: Variant, scale: float, folder: Path, name: str = "") -> Variant:
    """Return an arm at a scale, whose files will be in `folder` when they are needed.

    Args:
        base: the base model.
        arm: at full strength.
        scale: above 0.
        folder: of the variant.
        name: of it, if not `<arm>@<scale>`.
    """
    name = name or scale_name(arm.name, scale)
    whole = arm.adapter is None
    identity = f"{arm.identity}@{scale:.12g}"
    if whole:  # an adapter's already holds the base's
        identity = f"{base.identity}+{identity}"
    files = folder / f"scaled-{fingerprint(identity)}"
    scaled = Scaled(base.model, arm.adapter or arm.model, scale)
    if whole:
        return Variant(name, files, None, identity, scaled)
    return Variant(name, arm.model, files, identity, scaled)


def scaled_variants(
    recipe: Recipe, run: RunDirectory, variants: Sequence[Variant]
) -> list[Variant]:
    """Return every arm at every other scale of the recipe.

    Args:
        recipe: `evaluate.scales` are the scales.
        run: its evaluation folders hold the files.
        variants: the base, and the arms at full strength.
    """
    base, *arms = variants
    return [
        at_scale(base, arm, scale, run.evaluation(name).path)
        for arm in arms
        for scale, name in scale_names(recipe)[arm.name].items()
    ]


def asked_at_scales(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return what gates and plane need, of all prompts."""
    return [prompt for prompt in prompts if prompt.case.suite in SCALE_SUITES]


def answer_all(
    generation: Generation,
    run: RunDirectory,
    variants: Sequence[Variant],
    scaled: Sequence[Variant],
    prompts: list[Prompt],
) -> Work:
    """Have every variant answer, and those at a scale what is asked of them.

    Adapters at a scale are answered with base and arms, by the same engines. Those that take a
    whole model come one after another, so that the disk holds one of them at a time.

    Raises:
        InputError: before anything is asked, if a full arm has other weights than its base.
    """
    some = asked_at_scales(prompts)
    merging = generation.merging
    whole = _whole_models(merging, scaled)
    asked = [(variant, run.evaluation(variant.name), prompts) for variant in variants]
    asked += [(v, run.evaluation(v.name), some) for v in scaled if v not in whole]
    work = generation.answer(asked, "evaluate")
    for variant in whole:
        work += generation.answer([(variant, run.evaluation(variant.name), some)], "evaluate")
        merging.remove([variant])
    return work


def _whole_models(merging: Merging, scaled: Sequence[Variant]) -> list[Variant]:
    """Return those that take a whole model; all scales of an arm are alike in that."""
    kinds: dict[Path, bool] = {}
    for variant in scaled:
        assert variant.scaled is not None
        tuned = variant.scaled.tuned
        if tuned not in kinds:
            kinds[tuned] = merging.takes_a_model(variant)
            if variant.adapter is None:
                require_between(variant.scaled.base, tuned)
    return [v for v in scaled if v.scaled is not None and kinds[v.scaled.tuned]]
