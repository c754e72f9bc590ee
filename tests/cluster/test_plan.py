"""What the machine offers."""

import os
from pathlib import Path

import pytest

from cluster import plan


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", 6), ("400000 100000", 4), ("50000 100000", 1), ("900000 100000", 6), (None, 6)],
)
def test_a_containers_limit_bounds_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, cores: int
) -> None:
    file = tmp_path / "cpu.max"
    if limit is not None:
        file.write_text(f"{limit}\n")
    monkeypatch.setattr(plan, "CPU_LIMIT", file)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert plan.machine_cores() == cores
