"""The checks of a preflight as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from nlirg.preflight.corpus_checks import Check

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def table(checks: Sequence[Check]) -> Group:
    """Lay out one row a check: its status, what was measured, and below that what to do."""
    rows = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    rows.add_column("", no_wrap=True)
    rows.add_column("check", no_wrap=True)
    rows.add_column("measured", overflow="fold")  # a path must not lose its end
    for check in checks:
        measured = Text(check.measured)
        if check.advice:
            measured.append(f"\n→ {check.advice}", style=COLOURS[check.status])
        rows.add_row(Text(check.status, style=COLOURS[check.status]), Text(check.name), measured)
    return Group(rows, Text(), verdict(checks))


def verdict(checks: Sequence[Check]) -> Text:
    """Count in one line how many checks failed or warn."""
    failed, warned = (sum(check.status == kind for check in checks) for kind in ("fail", "warn"))
    if failed:
        return Text(f"{failed} failed, {warned} to look at: correct what failed first", style="red")
    if warned:
        return Text(f"nothing failed, {warned} to look at", style="yellow")
    return Text("nothing failed: the run can start", style="green")
