"""What a training run came to, and what a model card says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cluster.environment import PACKAGES, environment
from nlirg.models.model_card import Layout, TrainingFacts
from pipelines.recipe import Recipe
from pipelines.stage import Summary

FINAL_METRICS = ("loss", "weighted_loss", "mean_weight", "low", "mid", "high", "discarded")


class TrainSummary(Summary):
    """What one training run came to.

    Attributes:
        kind: of what is in `model/`.
        optimizer_steps: taken; without those skipped for losses that were not finite.
        skipped_steps: those.
        trained_tokens: over all steps and ranks.
        seconds: in steps.
        resumed_from: step that this attempt continued from.
        best_loss: of validation, nats; None without validation.
        best_step: where it was reached.
        rise: how far the guarded metric had risen at the end, nats per token; None without a guard,
            or if it was no number.
        best_rise: the same of the best model.
        loss: mean token loss of the last log record, nats.
        weighted_loss: mean weighted loss of it.
        mean_weight: mean token weight of it.
        low: share of its tokens in the low loss zone; `mid`, `high`, `discarded` likewise.
    """

    kind: Literal["lora", "full"]
    optimizer_steps: int
    skipped_steps: int
    trained_tokens: int
    seconds: float
    resumed_from: int
    best_loss: float | None
    best_step: int
    rise: float | None
    best_rise: float | None
    loss: float | None
    weighted_loss: float | None
    mean_weight: float | None
    low: float | None
    mid: float | None
    high: float | None
    discarded: float | None


def training_facts(
    recipe: Recipe, arm: str, summary: TrainSummary, layout: Layout, scale: float = 1.0
) -> TrainingFacts:
    """Return how an arm came about.

    Args:
        recipe: of the run.
        arm: its name in it.
        summary: of its training.
        layout: of the files.
        scale: strength of what was trained in them; 1 is the arm itself.
    """
    known = environment()
    logged = summary.model_dump(include={*FINAL_METRICS, "best_loss"})
    return TrainingFacts(
        # A card may be published: a hub id, or the name of a folder without its place.
        base_model=Path(recipe.model).name if Path(recipe.model).is_dir() else recipe.model,
        layout=layout,
        train=recipe.arm(arm),
        seed=recipe.seed,
        steps=summary.optimizer_steps,
        trained_tokens=summary.trained_tokens,
        metrics={key: value for key, value in logged.items() if value},
        versions={package: known[package] for package in PACKAGES if package in known},
        scale=scale,
    )
