"""What each stage takes of the cluster: the one place that tells GPUs from CPUs for Ray."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from nlirg.errors import InputError

# A container's limit under cgroup v2: "quota period" in microseconds, or "max period".
CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class Pool:
    """A pool of equal actors."""

    actors: int
    num_cpus: float
    num_gpus: float


def machine_cores() -> int:
    """Cores that this process may use: its affinity and its container's limit bound them.

    `os.cpu_count` counts the machine's.
    """
    cores = len(os.sched_getaffinity(0))
    quota, period = CPU_LIMIT.read_text().split() if CPU_LIMIT.is_file() else ("max", "")
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def cluster_gpus() -> int:
    """GPUs of the connected cluster."""
    import ray

    return int(ray.cluster_resources().get("GPU", 0))


def compute_cores() -> int:
    """Cores that can compute at once.

    A local cluster declares more logical CPUs than the machine has (see `cluster.session`), so
    one node's count is bounded by the machine's.
    """
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    declared = int(ray.cluster_resources().get("CPU", 1))
    return min(declared, machine_cores()) if len(nodes) == 1 else declared


def model_pool(actors: int | None, gpus_per_actor: int = 1) -> Pool:
    """Actors that hold a model: one per GPU (or group of GPUs), else one per core.

    Args:
        actors: how many to start; None = as many as the cluster can run at once.
        gpus_per_actor: GPUs of one actor where the cluster has any.

    Raises:
        InputError: if the cluster has GPUs, but fewer than one actor needs.
    """
    gpus = cluster_gpus()
    if not gpus:
        return Pool(actors or max(1, compute_cores()), num_cpus=1, num_gpus=0)
    if gpus < gpus_per_actor:
        raise InputError(f"an actor needs {gpus_per_actor} GPUs and the cluster has {gpus}")
    return Pool(actors or gpus // gpus_per_actor, num_cpus=1, num_gpus=gpus_per_actor)


def worker_resources(num_workers: int, gpus_each: int = 1) -> tuple[bool, dict[str, float]]:
    """Return (use_gpu, resources per worker) of a training run.

    Args:
        num_workers: workers of the run.
        gpus_each: GPUs of one worker where the cluster has any.

    Raises:
        InputError: if the cluster can never hold that many workers.
    """
    import ray

    gpus = cluster_gpus()
    if gpus:
        if num_workers * gpus_each > gpus:
            raise InputError(
                f"train.num_workers is {num_workers}, a worker takes {gpus_each} GPU(s), and the "
                f"cluster has {gpus}"
            )
        return True, {"GPU": gpus_each, "CPU": 1}
    cpus = int(ray.cluster_resources().get("CPU", 1))
    if num_workers > cpus:
        raise InputError(f"train.num_workers is {num_workers} and the cluster has {cpus} CPUs")
    return False, {"CPU": 1}


def describe(address: str | None, num_workers: int) -> str:
    """One line for `--dry-run`, made without connecting to anything."""
    if address is not None:
        return f"Ray cluster at {address}; {num_workers} training worker(s)"
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = f"{gpus} GPU(s)" if gpus else "no GPU"
    return f"local Ray cluster, {machine_cores()} cores, {device}; {num_workers} training worker(s)"
