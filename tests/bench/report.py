"""The tables that are printed, and the JSON that is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.measure import Comparison, Costs


def costs_table(costs: Costs) -> Table:
    """CPU milliseconds per token of every variant."""
    table = Table("variant", "median", "least", "greatest", title=costs.title)
    table.caption = "user CPU milliseconds per token"
    for name, seconds in costs.by_variant.items():
        values = (costs.median(name), min(seconds), max(seconds))
        table.add_row(name, *(f"{value * 1e3:.2f}" for value in values))
    return table


def ratio_tables(rows: Sequence[Comparison]) -> list[Table]:
    """The ratios, one table per title."""
    tables: dict[str, Table] = {}
    for row in rows:
        columns = ("compared", "ratio", "spread", "goal", "met", "note")
        table = tables.setdefault(row.table, Table(*columns, title=row.table))
        sign = "≥" if row.at_least else "≤"
        table.add_row(
            row.name,
            f"{row.median:.2f}",
            f"{row.low:.2f}–{row.high:.2f}",
            "" if row.goal is None else f"{sign} {row.goal:.2f}",
            {None: "", True: "yes", False: "NO"}[row.met],
            row.note,
        )
    return list(tables.values())


def report(
    costs: Sequence[Costs], rows: Sequence[Comparison], about: dict[str, Any], out: Path | None
) -> None:
    """Print everything, and write it to `out` as JSON."""
    console = Console()
    console.print(about)
    for table in [*map(costs_table, costs), *ratio_tables(rows)]:
        console.print(table)
    if out is not None:
        found = {
            "about": about,
            "costs": {cost.title: cost.by_variant for cost in costs},
            "ratios": [row.as_json() for row in rows],
        }
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
