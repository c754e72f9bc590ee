"""Write what several seeds of the comparison of ways of keeping came to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write_page(results: Sequence[Path], folder: Path) -> None:
    """Write."""
