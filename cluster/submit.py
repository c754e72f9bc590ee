"""Run a stage as a Ray job on a cluster: package the working directory, stream logs, exit alike."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from nlirg.errors import InputError, first_line

# Ray's dashboard refuses packages over 100 MiB, after uploading them.
PACKAGE_LIMIT = 100 << 20
EXCLUDED = (
    ".git",
    ".venv",
    "venv",
    "__pycache__",
    "runs",
    "*.egg-info",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
)
FINAL_POLL_S = 60.0


def package_size(folder: Path) -> int:
    """Bytes that would be uploaded from a working directory."""
    total = 0
    for root, folders, files in os.walk(folder):
        folders[:] = [
            name for name in folders if not any(Path(name).match(rule) for rule in EXCLUDED)
        ]
        total += sum((Path(root) / name).stat().st_size for name in files)
    return total


def entrypoint(words: list[str]) -> str:
    """The command a job runs in its copy of the working directory."""
    return shlex.join(["python", "-m", "pipelines", *words])


def submit(words: list[str], address: str, working_dir: Path, wait: bool = True) -> int:
    """Submit `python -m pipelines <words>` to a cluster.

    Args:
        words: stage, recipe and overrides, as on the command line.
        address: dashboard address of the head, e.g. http://head:8265.
        working_dir: folder whose content the job runs in; it holds this project and the recipe.
        wait: stream the job's log and return its exit code; else return 0 once it is accepted.

    Returns:
        The exit code of the job's own process.

    Raises:
        InputError: if the folder is too large, the cluster cannot be reached or refuses the
            token, or the job ended without running.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    size = package_size(working_dir)
    if size > PACKAGE_LIMIT:
        raise InputError(
            f"{working_dir} holds {size >> 20} MiB and a job may bring {PACKAGE_LIMIT >> 20} MiB: "
            "move data and models to storage that every node sees and give their paths"
        )
    client = _client(address)
    job = client.submit_job(
        entrypoint=entrypoint(words),
        runtime_env={"working_dir": str(working_dir), "excludes": list(EXCLUDED)},
    )
    print(f"job {job} on {address}: {entrypoint(words)}", file=sys.stderr, flush=True)
    if not wait:
        return 0
    asyncio.run(_stream(client, job))
    return _exit_code(client, job)


def _client(address: str) -> Any:
    """A job client, or one line that says why there is none."""
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except Exception as error:  # requests, Ray and token errors share no base class
        raise InputError(f"cannot submit to {address}: {first_line(error)}") from error


async def _stream(client: Any, job: str) -> None:
    """Copy the job's log to standard output as it comes."""
    async for text in client.tail_job_logs(job):
        sys.stdout.write(text)
        sys.stdout.flush()


def _exit_code(client: Any, job: str) -> int:
    """Exit code of a job whose log has ended.

    Ray's own command answers 1 for every failure; the process's code is in the job's details,
    a moment after the log ends.
    """
    deadline = time.monotonic() + FINAL_POLL_S
    while time.monotonic() < deadline:
        details = client.get_job_info(job)
        if details.status.is_terminal():
            if details.driver_exit_code is not None:
                return int(details.driver_exit_code)
            raise InputError(f"job {job} {details.status.value.lower()}: {details.message}")
        time.sleep(0.5)
    raise InputError(f"job {job} still runs, but its log ended; see `ray job status {job}`")
