"""The whole road: score, select, encode, train every arm, evaluate, report."""

from __future__ import annotations

from cluster.rundir import RunDirectory
from eval.schema.report import Report
from pipelines.encode.stage import encode
from pipelines.evaluate.stage import check_cases, check_prompts, evaluate, evaluation_cases
from pipelines.recipe import Recipe
from pipelines.report.stage import report
from pipelines.score.stage import score
from pipelines.select.stage import select
from pipelines.train.stage import train


def run_all(recipe: Recipe, run: RunDirectory) -> Report:
    """Run every stage that is not complete yet and return the report."""
    check_cases(recipe)
    score(recipe, run)
    select(recipe, run)
    encode(recipe, run)
    # Only now are the model and the rows that are kept from training there in any case.
    check_prompts(recipe, evaluation_cases(recipe, run))
    train(recipe, run)
    evaluate(recipe, run)
    return report(recipe, run)
