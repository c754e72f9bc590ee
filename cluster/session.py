"""Connecting to Ray: an existing cluster, or a local one for this process."""

from __future__ import annotations

import logging
import os
import sys

from cluster.config import ClusterConfig
from nlirg.errors import InputError

# Two cores cannot hold a reader, its downstream actors and a train worker at one logical CPU
# each: they would wait for one another for ever. Spare logical CPUs cost nothing.
LOCAL_MIN_CPUS = 8

# Read by Ray when it is imported or when its processes start, so they are set before that.
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DEDUP_LOGS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


def connect(config: ClusterConfig) -> None:
    """Make Ray ready for this process; does nothing where it already is.

    Args:
        config: `address` names a cluster; without it, inside a submitted job, the job's cluster;
            else a local cluster with token authentication is started.

    Raises:
        InputError: if the cluster named cannot be reached.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return
    address = config.address or os.environ.get("RAY_ADDRESS")
    logging.getLogger("ray").setLevel(logging.WARNING)
    if address is None:
        ray.init(
            address="local",
            num_cpus=max(LOCAL_MIN_CPUS, os.cpu_count() or 1),
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"cluster.address {address!r}: cannot connect: {first}") from error


def disconnect() -> None:
    """Leave the cluster, ending it if this process started it; does nothing without Ray."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
