"""Connecting to Ray: an existing cluster, or a local one for this process."""

from __future__ import annotations

import logging
import os
import sys

from cluster.config import ClusterConfig
from cluster.plan import machine_cores
from nlirg.errors import InputError, first_line

# Two cores cannot hold a reader, its downstream actors and a train worker at one logical CPU
# each: they would wait for one another for ever. Spare logical CPUs cost nothing.
LOCAL_MIN_CPUS = 8

# Read by Ray when it is imported or when its processes start, so they are set before that.
ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
# A cluster of our own on a small machine: Ray would warn of the many processes that eight logical
# CPUs on two cores make, and of arguments that its own Data library keeps in the object store.
LOCAL_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_worker_maximum_startup_concurrency": str(LOCAL_MIN_CPUS),
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


def connect(config: ClusterConfig) -> None:
    """Make Ray ready for this process; does nothing where it already is.

    Args:
        config: `address` names a cluster; without it, inside a submitted job, the job's cluster;
            else a local cluster with token authentication is started.

    Raises:
        InputError: if the cluster named cannot be reached.
    """
    address = config.address or os.environ.get("RAY_ADDRESS")
    for name, value in (ENVIRONMENT if address else ENVIRONMENT | LOCAL_ENVIRONMENT).items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return
    logging.getLogger("ray").setLevel(logging.WARNING)
    if address is None:
        ray.init(
            address="local",
            num_cpus=max(LOCAL_MIN_CPUS, machine_cores()),
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise InputError(
            f"cluster.address {address!r}: cannot connect: {first_line(error)}"
        ) from error


def disconnect() -> None:
    """Leave the cluster, ending it if this process started it; does nothing without Ray."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
