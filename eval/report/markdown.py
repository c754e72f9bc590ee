"""The report as Markdown short enough for a pull-request comment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, zip_longest

from eval.report import wording
from eval.schema import GateState, Metric, Report, SideBySide

FLIPS = 3
LONGEST_TEXT = 500  # characters of a prompt or answer

_ACTIVE = re.compile(r"[\\`*_{}\[\]<>#|~!&@]")


def inline(text: str) -> str:
    """Escape text so that Markdown shows it as it is, on one line."""
    shown = _ACTIVE.sub(lambda found: f"&#{ord(found[0])};", wording.visible(text))
    return " ".join(shown.replace("&#64;", "&#64;\u2060").split())  # U+2060: no @-mention


def block(text: str) -> str:
    """A fenced code block that no backticks inside can end; long text is cut."""
    shown = wording.visible(text)
    if len(shown) > LONGEST_TEXT:
        shown = shown[:LONGEST_TEXT] + " […]"
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{shown}\n{fence}"


_GATE_SIGNS: dict[GateState, str] = {
    "failed": "❌",
    "unjudged": "❓",
    "passed": "✅",
    "not_applicable": "➖",
}


def _gate(gate: wording.GateText) -> str:
    reason = f"; {gate.reason}" if gate.reason else ""
    needs = inline(f"needs {gate.bound}{reason}")
    return f"{_GATE_SIGNS[gate.state]} {inline(gate.label)} {gate.value} ({needs})"


def _verdict(report: Report, variant: str) -> Iterator[str]:
    gates = wording.gates_of(report, variant)
    mark = _GATE_SIGNS[gates[0].state if gates else "not_applicable"]
    yield f"### {mark} {inline(variant)}: {inline(report.headlines.get(variant, ''))}"
    yield ""
    yield from (f"- {inline(sentence)}" for sentence in report.verdicts.get(variant, []))
    if gates:
        yield f"- Gates: {' · '.join(map(_gate, gates))}"
    yield ""


def _cell(metric: Metric, column: str) -> str:
    found = metric.values.get(column)
    if found is None:
        return "–"
    text = wording.value(found.value, metric.unit)
    paired = metric.against.get(column)
    if paired is None:
        return f"{text} ({wording.interval(found.low, found.high, metric.unit)})"
    kind = wording.effect(metric, paired)
    change = wording.difference(paired.delta, metric.unit)
    strong = change if kind == "unclear" else f"**{change}**"
    ends = wording.difference_interval(paired.low, paired.high, metric.unit)
    return f"{text}<br>{wording.EFFECT_SIGNS[kind]} {strong} ({ends})"


def _table(report: Report) -> Iterator[str]:
    columns = wording.columns(report)
    yield f"| Metric | {' | '.join(map(inline, columns))} |"
    yield f"|:--|{'--:|' * len(columns)}"
    for family, metrics in wording.by_family(report):
        yield f"| **{family.name}** |{' |' * len(columns)}"
        for metric in metrics:
            arrow = {"higher": " ↑", "lower": " ↓", "neither": ""}[metric.better]
            cells = " | ".join(_cell(metric, column) for column in columns)
            yield f"| {inline(metric.label)}{arrow} | {cells} |"
    yield ""
    yield (
        "↑ higher is better, ↓ lower is better. ▲ better, ▼ worse, ◆ changed, ○ within noise, "
        f"against {inline(report.baseline)} (Holm-adjusted p < {1 - report.confidence:g})."
    )
    yield ""


def chosen_flips(report: Report) -> list[tuple[SideBySide, str, bool]]:
    """A few cases that changed sides, broken and fixed in turn, no case twice."""
    found = list(wording.flips(report))
    broken, fixed = ([flip for flip in found if flip[2] is side] for side in (False, True))
    turns = [flip for flip in chain(*zip_longest(broken, fixed)) if flip]
    first = {flip[0].case_id: flip for flip in reversed(turns)}
    return [flip for flip in turns if first[flip[0].case_id] is flip][:FLIPS]


def _flip(report: Report, sample: SideBySide, variant: str, fixed: bool) -> Iterator[str]:
    what = " · ".join(filter(None, [sample.suite, sample.task_type, sample.perturbation]))
    verb = "fixed" if fixed else "broken"
    title = f"{sample.case_id} {verb} by {variant} ({what})"
    yield f"<details>\n<summary>{inline(title)}</summary>"
    texts = {
        "Prompt": sample.prompt,
        "Reference": sample.reference,
        report.baseline: sample.answers[report.baseline].text,
        variant: sample.answers[variant].text,
    }
    for title, text in texts.items():
        yield f"\n{inline(title)}\n\n{block(text)}"
    yield "\n</details>\n"


def render_markdown(report: Report) -> str:
    """Render the verdicts, gates, metrics and three flipped samples as Markdown."""
    lines = [f"## {inline(report.title)}", ""]
    for variant in wording.tuned(report):
        lines += _verdict(report, variant)
    lines += _table(report)
    flips = chosen_flips(report)
    if flips:
        lines += [f"### {len(flips)} answers that changed sides", ""]
    for sample, variant, fixed in flips:
        lines += _flip(report, sample, variant, fixed)
    lines.append(f"<sub>{inline(report.created)}; all samples and charts: index.html</sub>")
    return "\n".join(lines) + "\n"
