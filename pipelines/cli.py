"""The command line: one command per stage, one line per error.

Exit codes: 0 fine, 1 a gate failed, 2 bad input or a gate that cannot be judged, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cluster.plan import describe
from cluster.rundir import RunDirectory
from cluster.session import disconnect
from nlirg.errors import InputError
from pipelines.recipe import Recipe, load_recipe
from pipelines.run import COMMANDS, stages
from pipelines.stage import run_stages, state
from pipelines.store import as_yaml, open_run, settled

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune language models on a vertical, and see what they learned and forgot.",
)
RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The run's YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="E.g. train.epochs=2")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run, start nothing.")]
PREFLIGHT, DEMO = "doctor", "demo"


def _carry_out(command: str, recipe: Recipe, dry_run: bool) -> None:
    """Open the run directory and run the command's stages, or show what would be done.

    Raises:
        typer.Exit: with the exit code of the last stage, if it is not 0.
    """
    if dry_run:
        _show(command, recipe)
        return
    try:
        recipe = settled(recipe)
        run = open_run(recipe)
        with run.locked():
            located = recipe.located()
            code = run_stages(stages(command, located), located, run).exit_code
    except KeyboardInterrupt:
        print("interrupted: run the same command again to continue", file=sys.stderr)
        raise typer.Exit(130) from None
    if code:
        raise typer.Exit(code)


def _show(command: str, recipe: Recipe) -> None:
    """Print the resolved recipe, the stages and how far they are, and the resources."""
    run = RunDirectory(recipe.storage, recipe.name)
    print(as_yaml(recipe), end="")
    print(f"# run directory: {run.path}")
    for stage in stages(command, recipe):
        print(f"# stage {stage.title}: {state(stage, recipe, run)}")
    if command in ("run", "train", "tune"):
        from pipelines.preflight.mixing import mixing_lines

        for line in mixing_lines(settled(recipe), run):
            print(f"# mixing {line}")
    print(f"# resources: {describe(recipe.cluster.address, recipe.train.num_workers)}")
    if (judge := recipe.evaluate.judge) is not None:
        print(f"# judge: domain questions and answers are sent to {judge.base_url}")


@app.command()
def doctor(
    recipe: RecipeFile,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Look at a sample of the corpus and the plan before training; exit 2 if a check failed."""
    from rich.console import Console

    from pipelines.preflight.examine import examine
    from pipelines.preflight.table import table

    checks = examine(settled(load_recipe(recipe, overrides or ())).located())
    if as_json:
        print(json.dumps([asdict(check) for check in checks], ensure_ascii=False, indent=1))
    else:
        Console().print(table(checks))
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(2)


def _add_command(name: str, text: str) -> None:
    """Add a command of the list in `pipelines.run`."""

    def command(recipe: RecipeFile, overrides: Overrides = None, dry_run: DryRun = False) -> None:
        _carry_out(name, load_recipe(recipe, overrides or ()), dry_run)

    app.command(name, help=text)(command)


for _name, _text in COMMANDS.items():
    _add_command(_name, _text)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of an evaluated run.")],
    arm: Annotated[str, typer.Option(help="Arm of its recipe.")],
    scale: Annotated[float, typer.Option(help="Strength: 0 is the base model, 1 the arm.")] = 1.0,
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge the adapter into the base.")
    ] = False,
) -> None:
    """Write an arm at a scale for use elsewhere, and evaluate it once more as written."""
    from nlirg.models.scaling import scale_name
    from pipelines.export import command

    recipe, opened, known = command.open_export(run, arm, scale)
    try:
        with opened.locked():
            report = command.export(recipe, opened, arm, known, merge)
    except KeyboardInterrupt:
        print("interrupted: run the same command again to continue", file=sys.stderr)
        raise typer.Exit(130) from None
    command.show(report, opened.path / "export" / scale_name(arm, known))


@app.command()
def demo(overrides: Overrides = None, dry_run: DryRun = False) -> None:
    """The whole road on the embedded demo world."""
    here = (Path(__file__).parent / "demo").resolve()
    # From the checkout's root the recipe's own paths hold, and `nlirg tune` and the other stages
    # can go on with the run.
    at_root = Path("pipelines/demo").resolve() == here
    places = (
        []
        if at_root
        else [
            f"model={here / 'base_model'}",
            f"data=[{here / 'data' / 'train.jsonl'}]",
            f"evaluate.domain={here / 'data' / 'domain_cases.jsonl'}",
            f"evaluate.ood={here / 'data' / 'ood_cases.jsonl'}",
        ]
    )
    recipe = load_recipe(here / "recipe.yaml", [*places, *(overrides or ())])
    _carry_out("run", recipe, dry_run)


@app.command(context_settings={"ignore_unknown_options": True})
def submit(
    words: Annotated[list[str], typer.Argument(metavar="STAGE RECIPE [KEY=VALUE]...")],
    address: Annotated[str, typer.Option(help="Dashboard address, e.g. http://head:8265")],
    working_dir: Annotated[Path, typer.Option(help="Folder to bring along.")] = Path(),
    wait: Annotated[bool, typer.Option(help="Stream the log and exit as the job does.")] = True,
) -> None:
    """Run a stage as a Ray job on a cluster."""
    from cluster.submit import submit as send

    _check_submission(words, working_dir.resolve())
    raise typer.Exit(send(words, address, working_dir.resolve(), wait))


def _check_submission(words: list[str], working_dir: Path) -> None:
    """Refuse what would only fail on the cluster, or lose its results there."""
    stage, *rest = words
    known = (PREFLIGHT, *COMMANDS, DEMO)
    if stage not in known:
        raise InputError(f"stage {stage!r}: one of {', '.join(known)}")
    if not (working_dir / "pipelines" / "cli.py").is_file():
        raise InputError(f"--working-dir {working_dir}: not a checkout of this project")
    if stage == DEMO:
        recipe = load_recipe(Path(__file__).parent / "demo" / "recipe.yaml", rest)
    elif not rest or not (working_dir / rest[0]).is_file() or Path(rest[0]).is_absolute():
        raise InputError("give the recipe by its path inside the working directory")
    else:
        recipe = load_recipe(working_dir / rest[0], rest[1:])
    if not Path(recipe.storage).is_absolute():
        raise InputError(
            f"storage {recipe.storage!r} would vanish with the job's copy of the working "
            "directory: add storage=/a/path/every/node/sees"
        )


def main() -> None:
    """Entry point: run a command; an error is one line and its exit code."""
    try:
        app()  # leaves by SystemExit; only what a command did not foresee comes back here
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if os.environ.get("NLIRG_TRACE"):
            traceback.print_exc()
        last = (str(error).strip().splitlines() or [""])[-1]
        print(
            f"error: {type(error).__name__}: {last} (NLIRG_TRACE=1 shows the trace)",
            file=sys.stderr,
        )
        sys.exit(2)
    finally:
        disconnect()
