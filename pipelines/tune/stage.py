"""Sweep training settings with Ray Tune; every trial is a training run and a short evaluation.

A trial is an arm of a run directory of its own, `<run>/tune/`, that shares the parent's corpus.
Its stages leave the same markers as any other, so a sweep that was interrupted goes on where it
stopped: finished trials are read, the unfinished one continues from its last checkpoint.
"""

from __future__ import annotations

import csv
import itertools
import logging
import math
import os
from typing import Any

import yaml
from rich.table import Table

from cluster.plan import cluster_gpus, compute_cores
from cluster.rundir import RunDirectory, StageFolder, fingerprint
from cluster.session import connect
from eval.config import Gates
from nlirg.atomic_io import atomic_path, write_text
from nlirg.config.training import TrainConfig
from nlirg.errors import InputError
from pipelines.evaluate.stage import Evaluate
from pipelines.progress import say
from pipelines.ray_data import INPUT_ERROR
from pipelines.recipe import Recipe, merged, nested, validate
from pipelines.stage import Stage, Summary, run_stage, run_stages
from pipelines.store import meaning
from pipelines.train.stage import Train

COLUMNS = ("objective", "domain_score", "retention")


def points(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The grid's points by trial name, as dotted keys below `train`.

    A trial is named after what it tries, so that a changed grid finds the trials it still has.
    """
    keys = list(recipe.tune.grid)
    product = itertools.product(*recipe.tune.grid.values())
    named = (dict(zip(keys, values, strict=True)) for values in product)
    return {f"trial-{fingerprint([point, recipe.tune.max_tokens])[:6]}": point for point in named}


def trials(recipe: Recipe) -> Recipe:
    """The recipe whose arms are the sweep's trials, at the sweep's budget.

    Raises:
        InputError: if a point is no valid training setting.
    """
    raw = recipe.model_dump(mode="json")
    raw["arms"] = {name: nested(point) for name, point in points(recipe).items()}
    raw["evaluate"]["max_cases"] = recipe.tune.max_cases
    raw["evaluate"]["perturbations"] = []
    raw["evaluate"] |= {"model_paraphrases": 0, "flip_samples": 0}
    raw["evaluate"] |= {"perplexity": False, "lm_eval": [], "judge": None, "scales": []}
    raw["evaluate"]["gates"] = dict.fromkeys(Gates.model_fields)  # a trial is ranked, not judged
    plan = validate(raw, "tune.grid")
    if recipe.tune.max_tokens is not None:
        for name in plan.arms:
            budget = min(
                recipe.tune.max_tokens, plan.arm(name).max_tokens or recipe.tune.max_tokens
            )
            raw["arms"][name]["max_tokens"] = budget
    return validate(raw, "tune.grid")


class TuneSummary(Summary):
    """Name of the best trial."""

    best: str


class Tune(Stage[TuneSummary]):
    """Sweep training settings with Ray Tune, into `tune/`.

    Every trial is an arm of the sweep's own run directory. The stage is entered every time:
    trials that are trained and evaluated are read, the others done.
    """

    name = "tune"
    summary_type = TuneSummary
    attempt = "always"
    needs_corpus = True

    def folder(self, run: RunDirectory) -> StageFolder:
        """Return `tune/`."""
        return run.tune

    def settings(self, recipe: Recipe, run: RunDirectory) -> dict[str, Any]:
        """Return what decides the sweep."""
        return meaning(recipe) | {"tune": recipe.tune.model_dump(mode="json")}

    def check(self, recipe: Recipe) -> None:
        """Refuse points that are no valid settings, and cases that cannot be asked."""
        Evaluate().check(trials(recipe))

    def check_corpus(self, recipe: Recipe, run: RunDirectory) -> None:
        """Hold the cases against the model; a trial that fails is a row of the table."""
        Evaluate().check_corpus(trials(recipe), run.sweep())

    def work(self, recipe: Recipe, run: RunDirectory, resumed: bool) -> TuneSummary:
        """Run the trials; write `results.csv` and `best.yaml`, print the table.

        Raises:
            InputError: if every trial failed.
        """
        plan, sweep = trials(recipe), run.sweep()
        connect(recipe.cluster)
        _evaluate_only(plan, sweep, [])  # base, once, before trials that run beside each other
        rows = _run_trials(plan, sweep)
        usable = [row for row in rows if not row["error"]]
        _write_rows(rows, sweep)
        _print_table(rows, recipe)
        if not usable:
            raise InputError(f"every trial failed; the first said: {rows[0]['error']}")
        best = max(usable, key=lambda row: row["objective"])
        _write_best(run, points(recipe)[best["trial"]], sweep)
        print(f"best: {best['trial']}; recipe: {sweep.path / 'best.yaml'}")
        return TuneSummary(best=best["trial"])


def _evaluate_only(plan: Recipe, sweep: RunDirectory, arms: list[str]) -> None:
    """Evaluate base and some of the trials."""
    some = plan.model_copy(update={"arms": {name: plan.arms[name] for name in arms}})
    run_stage(Evaluate(), some, sweep)


def _run_trials(plan: Recipe, sweep: RunDirectory) -> list[dict[str, Any]]:
    """Hand the grid to Ray Tune; a trial that fails becomes a row that says why."""
    from ray import tune as ray_tune

    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C ends the sweep, not one trial
    # A trial's trace is in its error.txt; the table says in one line what went wrong.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    grid = points(plan)

    def trial(config: dict[str, Any]) -> None:
        ray_tune.report(run_trial(plan, sweep, config["trial"]))

    tuner = ray_tune.Tuner(
        # The trial itself only waits; a whole CPU would starve the workers it waits for.
        ray_tune.with_resources(trial, {"CPU": 0.01}),
        param_space={"trial": ray_tune.grid_search(list(grid))},
        tune_config=ray_tune.TuneConfig(max_concurrent_trials=_concurrent(plan)),
        run_config=ray_tune.RunConfig(
            name="ray", storage_path=str(sweep.path), verbose=0, callbacks=[_lines(grid)]
        ),
    )
    results = tuner.fit()
    rows = []
    for result in (results[i] for i in range(len(results))):
        name = (result.config or {})["trial"]
        row = {"trial": name, **grid[name], "error": ""}
        if result.error is not None:
            told = INPUT_ERROR.findall(str(result.error))
            row["error"] = told[-1] if told else str(result.error).strip().splitlines()[-1]
        row |= {key: (result.metrics or {}).get(key, math.nan) for key in COLUMNS}
        rows.append(row)
    return sorted(rows, key=lambda row: list(grid).index(row["trial"]))


def run_trial(plan: Recipe, sweep: RunDirectory, name: str) -> dict[str, float]:
    """Train one trial, evaluate it shortly, and score it.

    Returns:
        objective = domain_score - retention_weight * (1 - retention), and its two parts;
        retention counts as 1 where the recipe has no out-of-domain cases.
    """
    from eval.verdict.compare import compare
    from pipelines.report.stage import evaluated_samples

    run_stages([Train(name)], plan, sweep)
    _evaluate_only(plan, sweep, [name])
    samples = {key: evaluated_samples(sweep, key) for key in ("base", name)}
    judged = compare(samples, "base", plan.evaluate, plan.seed)
    found = {metric.key: metric.values[name].value for metric in judged.metrics}
    domain, retention = found["domain_slots"], found.get("retention", 1.0)
    return {
        "objective": domain - plan.tune.retention_weight * (1 - retention),
        "domain_score": domain,
        "retention": retention,
    }


def _concurrent(plan: Recipe) -> int:
    """Trials at once: as many as have room for their workers, so that none waits for another."""
    room = cluster_gpus() or compute_cores()
    workers = max(plan.arm(name).num_workers for name in plan.arms)
    return plan.tune.max_concurrent or max(1, room // workers)


def _lines(grid: dict[str, dict[str, Any]]) -> Any:
    """A Tune callback that prints a line as each trial ends."""
    from ray import tune as ray_tune

    class Lines(ray_tune.Callback):
        done = 0

        def _say(self, trial: Any, words: str) -> None:
            self.done += 1
            point = grid[trial.config["trial"]]
            say("tune", f"{self.done}/{len(grid)} trials; {point}: {words}")

        def on_trial_complete(
            self, iteration: int, trials: list[Any], trial: Any, **info: Any
        ) -> None:
            self._say(trial, f"objective {trial.last_result.get('objective', math.nan):.3f}")

        def on_trial_error(
            self, iteration: int, trials: list[Any], trial: Any, **info: Any
        ) -> None:
            self._say(trial, "failed")

    return Lines()


def _write_rows(rows: list[dict[str, Any]], sweep: RunDirectory) -> None:
    """Write the table as CSV."""
    with (
        atomic_path(sweep.path / "results.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as out,
    ):
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _print_table(rows: list[dict[str, Any]], recipe: Recipe) -> None:
    """Print the table, best trial first, and what failed below it."""
    from rich.console import Console

    keys = ["trial", *recipe.tune.grid, *COLUMNS]
    table = Table(*(key.rpartition(".")[2] for key in keys), title="sweep")
    ranked = sorted((row for row in rows if not row["error"]), key=lambda row: -row["objective"])
    for row in ranked:
        table.add_row(*(f"{row[key]:.3f}" if key in COLUMNS else str(row[key]) for key in keys))
    console = Console()
    console.print(table)
    for row in (row for row in rows if row["error"]):
        console.print(f"{row['trial']} failed: {row['error']}", highlight=False, markup=False)


def _write_best(run: RunDirectory, point: dict[str, Any], sweep: RunDirectory) -> None:
    """Write the recipe of the best point as its user would: the run's own, at the full budget."""
    raw = yaml.safe_load((run.path / "recipe.yaml").read_text(encoding="utf-8"))
    train = merged(raw["train"], nested(point))
    raw["train"] = TrainConfig.model_validate(train).model_dump(mode="json")
    raw |= {"name": f"{raw['name']}-best", "arms": {"best": {}}}
    write_text(sweep.path / "best.yaml", yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))
