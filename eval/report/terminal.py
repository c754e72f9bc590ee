"""The table printed when a run ends."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from eval import wording
from eval.schema.report import Metric, Report

COLOURS: dict[wording.Effect, str] = {
    "better": "green",
    "worse": "red",
    "changed": "yellow",
    "unclear": "",
}


def _cell(metric: Metric, variant: str) -> Text:
    """The value, below it dim its interval or, for a tuned variant, the coloured difference."""
    found = metric.values.get(variant)
    if found is None:
        return Text("–", style="dim")
    text = Text(wording.value(found.value, metric.unit))
    paired = metric.against.get(variant)
    if paired is None:
        ends = wording.interval(found.low, found.high, metric.unit)
        return text.append(f"\n{ends}", style="dim")
    kind = wording.effect(metric, paired)
    change = wording.difference(paired.delta, metric.unit).removesuffix(" pts")
    text.append(f" {wording.EFFECT_SIGNS[kind]}{change}", style=COLOURS[kind])
    ends = wording.difference_interval(paired.low, paired.high, metric.unit)
    text.append(f"\n{ends}", style="dim")
    if found.before is not None:
        text.append(f"\nfrom {wording.value(found.before, metric.unit)}", style="dim")
    return text


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
    """Every metric of every variant, two lines each; fits 80 columns with three variants."""
    table = Table(
        title=Text(wording.visible(report.title), style="bold"),
        caption=(
            f"Second line: interval, of the difference to {report.baseline} where there is "
            "one.\n▲ better  ▼ worse  ◆ changed  ○ within noise (after Holm)"
            "\nfrom: what the base had at equal length"
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
            arrow = {"higher": " ↑", "lower": " ↓", "neither": ""}[metric.better]
            name = Text(wording.visible(metric.label) + arrow)
            table.add_row(name, *(_cell(metric, variant) for variant in report.variants))
    table.add_row(Text("Gates kept", style="bold"), *(_gates(report, v) for v in report.variants))
    return table


def gate_lines(report: Report) -> list[str]:
    """A line for every gate that is not kept, does not apply, or that the baseline misses."""
    lines = []
    for variant in wording.tuned(report):
        for gate in wording.gates_of(report, variant):
            if gate.state == "passed" and not gate.reason:
                continue
            reason = f"; {gate.reason}" if gate.reason else ""
            lines.append(
                f"gate {wording.GATE_STATES[gate.state]}: {variant}: {gate.label} {gate.value}, "
                f"needs {gate.bound}{reason}"
            )
    return lines
