"""Work on one variant at a time in a process of its own, and its result kept in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cluster.plan import model_pool
from cluster.session import connect
from eval.generation.generate import Device
from eval.generation.samples import fault
from eval.generation.vllm_engine import engine_environment
from eval.schema.case import Strict
from nlirg.atomic_io import write_json
from nlirg.errors import InputError
from pipelines.evaluate.answers import Variant
from pipelines.progress import Progress
from pipelines.ray_data import root_cause
from pipelines.recipe import Recipe


class Kept(Strict):
    """A result with what it is the result of."""

    fingerprint: str


Result = TypeVar("Result", bound=Kept)


def read_kept(path: Path, kind: type[Result], mark: str | None = None) -> Result | None:
    """Read what is kept; None if it is not there, or another mark than the one given is on it.

    Raises:
        InputError: if the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        kept = kind.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise InputError(
            f"{path}: damaged ({fault(error)}); delete it and evaluate again"
        ) from None
    return kept if mark in (None, kept.fingerprint) else None


def keep(path: Path, result: Kept) -> None:
    """Write a result, whole or not at all."""
    write_json(path, result.model_dump(mode="json"))


def run_each(
    recipe: Recipe,
    name: str,
    variants: Sequence[Variant],
    work: Callable[..., Any],
    *arguments: Any,
    gpus: int = 1,
    offline: bool = True,
) -> Iterator[tuple[Variant, Any]]:
    """Call `work(variant, device, *arguments)` for every variant, each in a fresh process.

    Args:
        recipe: says which cluster.
        name: of the work, for its progress.
        variants: what to work on.
        work: runs in the process.
        arguments: of every call.
        gpus: of one process, where the cluster has any.
        offline: keep the process from asking the Hugging Face hub.

    Yields:
        Every variant with its result, in the order in which they are ready.

    Raises:
        InputError: raised by a call.
    """
    remote = _remote(recipe, work, gpus, offline)
    import ray

    shared = [ray.put(argument) for argument in arguments]
    calls = {remote(variant, *shared): variant for variant in variants}
    try:
        with Progress(name, len(variants), "variant") as progress, root_cause():
            while calls:
                (ready,), _ = ray.wait(list(calls))
                variant = calls.pop(ready)
                yield variant, ray.get(ready)
                progress.to(len(variants) - len(calls), variant.name)
    finally:
        for call in calls:
            ray.cancel(call, force=True)


def _remote(
    recipe: Recipe, work: Callable[..., Any], gpus: int, offline: bool
) -> Callable[..., Any]:
    """What starts a process that does the work of one variant on its device."""
    connect(recipe.cluster)
    import ray

    pool = model_pool(None, gpus)
    device: Device = "gpu" if pool.num_gpus else "cpu"
    environment = engine_environment(device)
    if not offline:
        del environment["HF_HUB_OFFLINE"]
    as_task: Any = ray.remote(
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus,
        max_calls=1,  # what it loaded is gone when it ends
        # A Tune trial's own room is 0.01 CPU, and what it starts would have to fit in it.
        scheduling_strategy="DEFAULT",
        runtime_env={"env_vars": environment},
    )
    remote = as_task(work)
    return lambda variant, *arguments: remote.remote(variant, device, *arguments)
