"""The shipped probe set: general questions in Chinese and English with programmatic checks.

A version never changes once it is released: `manifest.json` holds the SHA-256 of its files, and
results are comparable between runs that name the same version.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from eval.cases.suites import load_cases
from eval.schema.case import Case
from nlirg.errors import InputError

FOLDER = Path(__file__).parent
VERSIONS = ("v1",)
LATEST = VERSIONS[-1]


def load_probe(version: str = LATEST, folder: Path = FOLDER) -> list[Case]:
    """Read a version of the probe set, in the order of its manifest.

    Raises:
        InputError: if there is no such version, or a file is not the one that was released.
    """
    if version not in VERSIONS:
        raise InputError(f"probe {version!r} is unknown; there are {', '.join(VERSIONS)}")
    root = folder / version
    cases = []
    for name, sha256 in read_manifest(root).items():
        path = root / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise InputError(
                f"{path}: missing or changed since its release; install the package again, or "
                "copy the file and name your copy in evaluate.ood"
            )
        cases += load_cases(path, "ood")
    return cases


def read_manifest(root: Path) -> dict[str, str]:
    """The files of one version with their SHA-256."""
    return dict(json.loads((root / "manifest.json").read_text(encoding="utf-8"))["files"])
