"""The table printed when a run ends."""

from __future__ import annotations

import textwrap

from rich.table import Table
from rich.text import Text

from eval.report import wording
from eval.schema.report import Effect, Metric, Report

WIDEST = 16  # characters of a line that is no interval
COLOURS: dict[Effect, str] = {
    "better": "green",
    "worse": "red",
    "changed": "yellow",
    "unclear": "",
}


def _cell(metric: Metric, variant: str, baseline: str) -> Text:
    """Write the value; below it dim its interval or, if tuned, the coloured difference."""
    cell = wording.cell(metric, variant, baseline)
    if cell is None:
        return Text("–", style="dim")
    text = Text(cell.value)
    if cell.effect is None:
        return text.append(f"\n{cell.interval}", style="dim")
    text.append(f" {cell.sign}{cell.change.removesuffix(' pts')}", style=COLOURS[cell.effect])
    beside = textwrap.wrap(cell.beside, WIDEST)
    return text.append("\n".join(["", cell.change_interval, *beside]), style="dim")


def _gates(report: Report, variant: str) -> Text:
    gates = wording.gates_of(report, variant)
    if not gates:
        return Text("–", style="dim")
    applied = [gate for gate in gates if gate.state != "not_applicable"]
    kept = sum(gate.state == "passed" for gate in applied)
    whole = kept == len(applied)
    text = f"{wording.GATE_SIGNS[gates[0].state]} {kept} of {len(applied)}"
    return Text(text, style="green" if whole else "red")


def terminal_table(report: Report) -> Table:
    """Make the table of every metric and variant; fits 80 columns with three variants."""
    table = Table(
        title=Text(wording.visible(report.title), style="bold"),
        caption=(
            f"Second line: interval, of the difference to {report.baseline} where there is "
            "one.\n▲ better  ▼ worse  ◆ changed  ○ within noise (after Holm)"
        ),
        caption_justify="left",
        header_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column("Metric", max_width=24)
    for variant in report.variants:
        table.add_column(Text(variant), justify="right", no_wrap=True)
    for family, metrics in wording.by_family(report):
        table.add_row(Text(family.name, style="bold cyan"))
        for metric in metrics:
            name = Text(wording.visible(metric.label) + wording.DIRECTION_SIGNS[metric.better])
            cells = (_cell(metric, variant, report.baseline) for variant in report.variants)
            table.add_row(name, *cells)
    table.add_row(Text("Gates kept", style="bold"), *(_gates(report, v) for v in report.variants))
    return table


def gate_lines(report: Report) -> list[str]:
    """Write a line for every gate that is not kept, does not apply, or that the baseline misses."""
    lines = []
    for variant in report.tuned:
        for gate in wording.gates_of(report, variant):
            if gate.state == "passed" and not gate.reason:
                continue
            reason = f"; {gate.reason}" if gate.reason else ""
            lines.append(
                f"gate {wording.GATE_STATES[gate.state]}: {variant}: {gate.label} {gate.value}, "
                f"needs {gate.bound}{reason}"
            )
    return lines
