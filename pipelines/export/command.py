"""The command `export`: one arm at one scale, written and evaluated once more as written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cluster.rundir import RunDirectory, StageFolder
from eval.config import known_scales
from eval.generation.adapters import check_adapter, weights_hash
from eval.generation.generate import render
from eval.generation.serving import adapter_obstacle
from eval.report import gate_lines, terminal_table, write_report
from eval.schema.report import Report
from eval.schema.sample import Sample
from eval.verdict.compare import compare, read_samples
from eval.verdict.scales import SCALE_SUITES
from nlirg.errors import InputError
from nlirg.models.loading import model_directory
from nlirg.models.model_card import Layout
from pipelines.chat import chat_of
from pipelines.evaluate.answers import Variant
from pipelines.evaluate.cases import answer_settings, evaluation_cases
from pipelines.evaluate.generation import BASE, Generation
from pipelines.evaluate.merged import Merging
from pipelines.evaluate.scaled import asked_at_scales, beyond_the_tuned
from pipelines.evaluate.stage import find_variants
from pipelines.export.agreement import agreement
from pipelines.export.write import Export
from pipelines.progress import say
from pipelines.recipe import Recipe, load_recipe
from pipelines.report.stage import evaluated_samples


def open_export(path: Path, arm: str, scale: float) -> tuple[Recipe, RunDirectory, float]:
    """Read the recipe of a run, and refuse what cannot be exported of it.

    Args:
        path: directory of the run.
        arm: of its recipe.
        scale: 0 would be the base, 1 is the arm itself.

    Returns:
        The recipe with absolute paths, the run, and the scale.

    Raises:
        InputError: if the directory is no run, its recipe has no such arm, base or arm are not
            evaluated, or the scale is out of range.
    """
    folder = path.expanduser().resolve()
    if not (folder / "recipe.yaml").is_file():
        raise InputError(f"{path}: holds no recipe.yaml; give the directory of a run")
    try:
        (known,) = known_scales((scale,))
    except ValueError as error:
        raise InputError(f"--scale: {error}") from None
    recipe = load_recipe(folder / "recipe.yaml")
    if arm not in recipe.arms:
        raise InputError(f"--arm {arm}: {path} has no such arm; it has {', '.join(recipe.arms)}")
    run = RunDirectory(str(folder.parent), folder.name)
    for name in (BASE, arm):
        if not run.evaluation(name).marker.is_file():
            raise InputError(
                f"{run.evaluation(name).path} is not complete: run evaluate first, so that what is "
                "exported can stand beside it"
            )
    here = recipe.model_copy(update={"storage": str(folder.parent), "name": folder.name})
    return here.located(), run, known


def export(recipe: Recipe, run: RunDirectory, arm: str, scale: float, merge: bool) -> Report:
    """Write an arm at a scale, have it answer as written, and compare it with base and arm.

    What is done already is read: the files, and the answers as they came.

    Args:
        recipe: of the run, with absolute paths.
        run: its directory.
        arm: of the recipe.
        scale: above 0.
        merge: whether an adapter is merged into the base.

    Returns:
        The comparison, as `export/answers/<arm>@<scale>/report/` has it.

    Raises:
        InputError: if the files or answers cannot be made, or the run's cases have changed since it
            was evaluated.
    """
    if warning := beyond_the_tuned([scale], "--scale"):
        say("export", warning)
    base_folder = model_directory(recipe.model)
    base, *arms = find_variants(recipe, run, base_folder)
    merging = Merging(recipe, run)
    written = Export(recipe, run, base, next(v for v in arms if v.name == arm), scale)
    layout = written.write(merging, merge)
    variants = _as_written(written, layout, base, served=recipe.evaluate.engine == "vllm")
    generation = Generation(recipe, base_folder, answer_settings(recipe, base_folder), merging)
    prompts = asked_at_scales(render(chat_of(recipe), evaluation_cases(recipe, run)))
    stages = {v.name: StageFolder(written.beside / kind) for kind, v in variants.items()}
    generation.answer([(v, stages[v.name], prompts) for v in variants.values()], "export")
    _tidy(run, merging, variants)
    samples = {name: _complete(stage) for name, stage in stages.items()}
    report = _report(recipe, run, arm, samples)
    write_report(report, written.beside / "report")
    if {"adapter", "merged"} <= variants.keys():
        adapter, merged = (samples[variants[kind].name] for kind in ("adapter", "merged"))
        say("export", str(agreement(adapter, merged)))
    return report


def show(report: Report, folder: Path) -> None:
    """Print the table, the gates that are not kept, and where the files are."""
    from rich.console import Console

    Console().print(terminal_table(report))
    for line in gate_lines(report):
        print(line)
    print(f"exported: {folder}")


def _as_written(written: Export, layout: Layout, base: Variant, served: bool) -> dict[str, Variant]:
    """Return the variants that answer, by kind, with the weights that lie on the disk now.

    Args:
        written: the export.
        layout: of it.
        base: the base model.
        served: whether vLLM answers, which cannot serve every adapter as one.
    """

    def adapted(folder: Path) -> Variant:
        return Variant(written.name, base.model, folder, f"{base.identity}+{weights_hash(folder)}")

    if layout == "adapter":
        return {"adapter": adapted(written.folder)}
    whole = weights_hash(written.folder)
    if layout == "full":
        return {"full": Variant(written.name, written.folder, None, whole)}
    merged = Variant(f"{written.name}-merged", written.folder, None, whole)
    checked = check_adapter(written.name, written.adapter.resolve(), base.model)
    if served and (obstacle := adapter_obstacle(checked, base.model)):
        say("export", f"the merged model answers alone, since {obstacle}")
        return {"merged": merged}
    return {"adapter": adapted(written.adapter), "merged": merged}


def _tidy(run: RunDirectory, merging: Merging, variants: dict[str, Variant]) -> None:
    """Delete what was merged only to answer, and its folder if it was made for that."""
    merging.remove(list(variants.values()))
    for variant in variants.values():
        with suppress(OSError):  # not there, or the folder of an evaluation
            run.evaluation(variant.name).path.rmdir()


def _complete(stage: StageFolder) -> list[Sample]:
    counts = {suite: entry["n"] for suite, entry in stage.summary()["suites"].items()}
    return read_samples(stage.path, counts)


def _report(
    recipe: Recipe, run: RunDirectory, arm: str, exported: dict[str, list[Sample]]
) -> Report:
    """Compare with base and arm on the cases that were asked again."""

    def asked(rows: Sequence[Sample]) -> list[Sample]:
        return [sample for sample in rows if sample.suite in SCALE_SUITES]

    samples = {name: asked(evaluated_samples(run, name)) for name in (BASE, arm)} | exported
    comparison = compare(samples, BASE, recipe.evaluate, recipe.seed)
    return Report(
        **dict(comparison),
        title=f"{recipe.name}: {next(iter(exported))} as exported",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        training={},
        corpus=None,
        recipe=(run.path / "recipe.yaml").read_text(encoding="utf-8"),
        environment={},
    )
