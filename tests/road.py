"""The stages as tests call them: one function each, which returns the stage's summary."""

from typing import Any

from cluster.rundir import RunDirectory
from eval.schema.report import Report
from pipelines.encode.stage import Encode, EncodeSummary
from pipelines.evaluate.stage import Evaluate, EvaluateSummary
from pipelines.recipe import Recipe
from pipelines.report.stage import WriteReport
from pipelines.run import stages
from pipelines.score.rows import MakeScorer, model_scorer
from pipelines.score.stage import Score, ScoreSummary
from pipelines.select.stage import Select, SelectSummary
from pipelines.stage import Outcome, Stage, run_stage, run_stages
from pipelines.train.stage import Train
from pipelines.train.summary import TrainSummary
from pipelines.tune.stage import Tune


def run_checked(stage: Stage[Any], recipe: Recipe, run: RunDirectory) -> Any:
    """Run one stage as its command does: checked first."""
    return run_stages([stage], recipe, run).summaries[stage.title]


def score(
    recipe: Recipe, run: RunDirectory, make_scorer: MakeScorer = model_scorer
) -> ScoreSummary:
    return run_checked(Score(make_scorer), recipe, run)


def select(recipe: Recipe, run: RunDirectory) -> SelectSummary | None:
    return run_checked(Select(), recipe, run)


def encode(recipe: Recipe, run: RunDirectory) -> EncodeSummary:
    return run_checked(Encode(), recipe, run)


def train_arm(recipe: Recipe, arm: str, run: RunDirectory) -> TrainSummary:
    return run_checked(Train(arm), recipe, run)


def train(recipe: Recipe, run: RunDirectory) -> dict[str, TrainSummary]:
    return {arm: train_arm(recipe, arm, run) for arm in recipe.arms}


def evaluate(recipe: Recipe, run: RunDirectory) -> EvaluateSummary:
    """Evaluate without the checks that come before training."""
    return run_stage(Evaluate(), recipe, run)


def report(recipe: Recipe, run: RunDirectory) -> Report:
    run_stage(WriteReport(), recipe, run)
    return read_report(run)


def read_report(run: RunDirectory) -> Report:
    text = (run.report.path / "results.json").read_text(encoding="utf-8")
    return Report.model_validate_json(text)


def tune(recipe: Recipe, run: RunDirectory) -> str:
    """Sweep an encoded corpus; return the best trial's name."""
    return run_checked(Tune(), recipe, run).best


def run_command(command: str, recipe: Recipe, run: RunDirectory) -> Outcome:
    return run_stages(stages(command, recipe), recipe, run)


def trained(**changes: Any) -> dict[str, Any]:
    """Return what the marker of a training run says, for runs whose training is made up."""
    zones = {"low": 0.5, "mid": 0.5, "high": 0.0, "discarded": 0.0}
    numbers = {"loss": 1.0, "weighted_loss": 0.5, "mean_weight": 0.5, **zones}
    steps = {"optimizer_steps": 1, "skipped_steps": 0, "trained_tokens": 1, "seconds": 1.0}
    best = {"resumed_from": 0, "best_loss": None, "best_step": 0, "rise": None, "best_rise": None}
    return TrainSummary(**({"kind": "lora", **numbers, **steps, **best} | changes)).model_dump()


def scored(**changes: Any) -> dict[str, Any]:
    """Return what the marker of a scored corpus says, for scores that are made up."""
    counts = {"rows": 1, "samples": 1, "tokens": 1, "truncated": 0, "skipped": 0}
    parts = {"notes": {}, "bands": {}, "zones": {}, "quarantined": {}, "duplicates": {}}
    numbers = {"mean_loss": 1.0, "seconds": 1.0}
    return ScoreSummary(**({**counts, **parts, **numbers} | changes)).model_dump()


def encoded(**changes: Any) -> dict[str, Any]:
    """Return what the marker of an encoded corpus says, for rows that are made up."""
    counts = {"rows": 1, "alone": 1, "samples": 1, "tokens": 2, "trained_tokens": 1}
    parts = {"holdout": 0, "truncated": 0, "skipped": 0}
    return EncodeSummary(**({**counts, **parts} | changes)).model_dump()
