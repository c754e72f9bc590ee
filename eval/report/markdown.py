"""The report as Markdown short enough for a pull-request comment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest

from eval.report import wording
from eval.report.between import pair_texts
from eval.report.scale_text import costs, scale_texts
from eval.report.seeds import OverSeeds, seed_table
from eval.report.training import alarms
from eval.report.verdict_text import verdict_text
from eval.schema.report import (
    Estimate,
    GateState,
    Metric,
    Report,
    Severity,
    SideBySide,
    TrainingCurve,
    Unit,
)

LONGEST = 60_000  # bytes; a comment on GitHub ends at 65,536 characters
FOOTER = 2_000  # bytes of it that are kept for title and last line
FLIPS = 3
LONGEST_TEXT = 500  # characters of a prompt or answer
LONGEST_RECIPE = 5_000

_ACTIVE = re.compile(r"[\\`*_{}\[\]<>#|~!&@]")


def inline(text: str) -> str:
    """Escape text so that Markdown shows it as it is, on one line."""
    shown = _ACTIVE.sub(lambda char: f"&#{ord(char[0])};", wording.visible(text))
    return " ".join(shown.replace("&#64;", "&#64;\u2060").split())  # U+2060: no @-mention


def block(text: str, longest: int = LONGEST_TEXT) -> str:
    """Fence a text as code so that no backticks inside can end it; beyond `longest` it is cut."""
    shown = wording.shortened(wording.visible(text), longest)
    ticks = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, ticks + 1)
    return f"{fence}text\n{shown}\n{fence}"


_GATE_SIGNS: dict[GateState, str] = {
    "failed": "❌",
    "unjudged": "❓",
    "passed": "✅",
    "not_applicable": "➖",
}
_SEVERITY_SIGNS: dict[Severity, str] = {"bad": "❌", "mixed": "⚠️", "good": "✅", "open": "➖"}


def _gate(gate: wording.GateText) -> str:
    reason = f"; {gate.reason}" if gate.reason else ""
    needs = inline(f"needs {gate.bound}{reason}")
    return f"{_GATE_SIGNS[gate.state]} {inline(gate.label)} {gate.value} ({needs})"


def _verdict(report: Report, variant: str) -> Iterator[str]:
    gates, text = wording.gates_of(report, variant), verdict_text(report, variant)
    sign = _SEVERITY_SIGNS[report.verdicts[variant].severity]
    yield f"### {sign} {inline(variant)}: {inline(text.headline)}"
    yield ""
    yield from (f"- {inline(str(sentence))}" for sentence in text.sentences)
    if gates:
        yield f"- Gates: {' · '.join(map(_gate, gates))}"
    yield ""


def _keeping(report: Report) -> str:
    """What was learned at what cost, and every arm's scales."""
    lines = [f"- **{inline(name)}** {inline(told)}" for name, told in costs(report).items()]
    for arm, text in scale_texts(report).items():
        header = [
            "Scale",
            "Domain accuracy",
            f"Kept of what {inline(report.baseline)} knew",
            "Gates",
        ]
        rows = (
            [
                f"**{row.scale} {row.mark}**" if row.mark else row.scale,
                f"{row.domain} ({row.domain_interval})",
                f"{row.retention} ({row.retention_interval})"
                if row.retention_interval
                else row.retention,
                inline(row.gates),
            ]
            for row in text.rows
        )
        lines += ["", f"**{inline(arm)} at several scales.** {inline(text.choice)}", ""]
        lines += _grid(header, rows)
    return "\n".join(["### What was learned, at what cost", "", *lines, ""]) if lines else ""


def _pairs(report: Report) -> str:
    """The arms beside each other, a table for every pair."""
    parts = []
    for pair in pair_texts(report):
        header = ["Metric", inline(pair.first), inline(pair.second), "Difference"]
        rows = (
            [
                inline(row.label),
                row.first,
                row.second.value,
                f"{row.second.sign} {row.second.change} ({row.second.change_interval}); "
                + inline(row.second.significance),
            ]
            for row in pair.rows
        )
        title = f"{inline(pair.second)} against {inline(pair.first)}: {pair.summary}"
        parts.append(_folded(title, _grid(header, rows)))
    return "\n".join(parts)


def _cell(metric: Metric, column: str, baseline: str) -> str:
    cell = wording.cell(metric, column, baseline)
    if cell is None:
        return "–"
    if cell.effect is None:
        return f"{cell.value} ({cell.interval})"
    strong = cell.change if cell.effect == "unclear" else f"**{cell.change}**"
    proof = ", ".join(filter(None, [cell.change_interval, inline(cell.beside)]))
    return f"{cell.value}<br>{cell.sign} {strong} ({proof})"


def _table(report: Report) -> Iterator[str]:
    columns = wording.columns(report)
    yield f"| Metric | {' | '.join(map(inline, columns))} |"
    yield f"|:--|{'--:|' * len(columns)}"
    for family, metrics in wording.by_family(report):
        yield f"| **{family.name}** |{' |' * len(columns)}"
        for metric in metrics:
            cells = " | ".join(_cell(metric, column, report.baseline) for column in columns)
            yield f"| {inline(metric.label)}{wording.DIRECTION_SIGNS[metric.better]} | {cells} |"
    yield ""
    yield (
        "↑ higher is better, ↓ lower is better. ▲ better, ▼ worse, ◆ changed, ○ within noise, "
        f"against {inline(report.baseline)} (Holm-adjusted p < {1 - report.confidence:g})."
    )
    yield ""


def chosen_flips(report: Report) -> list[tuple[SideBySide, str, bool]]:
    """Choose a few cases that changed sides, broken and fixed in turn, no case twice."""
    flips = list(wording.flips(report))
    broken, fixed = ([flip for flip in flips if flip[2] is side] for side in (False, True))
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


def _folded(title: str, lines: Iterable[str]) -> str:
    """Fold a part of the report, which the reader opens; empty if it has no lines."""
    text = "\n".join(lines)
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>\n" if text else ""


def _grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a table of cells that are Markdown already; nothing without rows."""
    for number, row in enumerate(rows):
        if number == 0:
            yield f"| {' | '.join(header)} |"
            yield f"|:--|{'--:|' * (len(header) - 1)}"
        yield f"| {' | '.join(row)} |"


def _seeds(report: Report) -> str:
    rows = (
        [
            inline(metric.label),
            *(_mean(metric, means[arm]) if arm in means else "–" for arm in report.seeds),
        ]
        for metric, means in seed_table(report)
    )
    header = ["Mean over seeds", *(f"{inline(a)} ({len(s)})" for a, s in report.seeds.items())]
    return "\n".join([*_grid(header, rows), ""])


def _mean(metric: Metric, mean: OverSeeds) -> str:
    ends = wording.interval(mean.low, mean.high, metric.unit)
    return f"{wording.value(mean.value, metric.unit)} ({ends})"


def _values(values: Mapping[str, Estimate], columns: Sequence[str], unit: Unit) -> list[str]:
    return [wording.value(values[v].value, unit) if v in values else "–" for v in columns]


def _tasks(report: Report) -> str:
    labels = {metric.key: metric for metric in report.metrics}
    columns = wording.columns(report)
    rows = (
        [
            f"{inline(metric.label)}: {inline(row.task_type or 'no task type')}",
            *_values(row.values, columns, metric.unit),
        ]
        for row in report.by_task
        if (metric := labels.get(row.key))
    )
    return _folded("Per task type", _grid(["Metric", *map(inline, columns)], rows))


def _rewordings(report: Report) -> str:
    rows = (
        [
            inline(wording.plain_name(row.perturbation)),
            *_values(row.values, report.variants, "share"),
        ]
        for row in report.by_perturbation
        if row.key == "robustness_accuracy"
    )
    header = ["Accuracy when reworded", *map(inline, report.variants)]
    return _folded("The same questions in other words", _grid(header, rows))


def _phrases(report: Report) -> str:
    columns = wording.columns(report)
    rows = (
        [
            f"{what} “{inline(row.phrase)}”",
            *(wording.value(row.shares[v], "share") if v in row.shares else "–" for v in columns),
        ]
        for what, shares in (
            ("begin", report.openings),
            ("end", report.closings),
            ("contain", report.phrases),
        )
        for row in shares
    )
    header = ["Share of answers that", *map(inline, columns)]
    return _folded("What the answers repeat", _grid(header, rows))


def _training(report: Report) -> str:
    rows = (
        [
            inline(arm),
            f"{curve.optimizer_steps:,}",
            f"{curve.trained_tokens:,}",
            wording.value(curve.loss[-1], "number") if curve.loss else "–",
            _known(curve),
            inline(", ".join(f"{key} {value}" for key, value in curve.settings.items())),
        ]
        for arm, curve in report.training.items()
    )
    header = [
        "Arm",
        "Optimizer steps",
        "Trained tokens",
        "Last loss, nats",
        "General loss, nats",
        "Settings",
    ]
    return _folded("Training", _grid(header, rows))


def _known(curve: TrainingCurve) -> str:
    """Return the loss on general text before the first step and after the last."""
    if curve.guard is None:
        return "–"
    ends = (curve.guard.loss[0], curve.guard.loss[-1])
    return " → ".join(wording.value(loss, "number") for loss in ends)


def _alarms(report: Report) -> str:
    lines = [
        f"- ⚠️ {inline(f'{a.arm}, step {a.alarm.step}: {a.alarm.message}')}" for a in alarms(report)
    ]
    return "\n".join(["### Alarms of training", "", *lines, ""]) if lines else ""


def _resampled(report: Report) -> str:
    rows = (
        [
            inline(f"{row.variant}, {wording.SUITE_NAMES[row.suite]}"),
            f"{row.stable_losses} of {row.losses}",
            f"{row.stable_gains} of {row.gains}",
        ]
        for row in report.flip_summaries
    )
    header = ["Changes that hold when sampled again", "Broken", "Fixed"]
    return "\n".join([*_grid(header, rows), ""]) if report.flip_summaries else ""


def _made(report: Report) -> str:
    versions = (f"- {inline(key)}: {inline(text)}" for key, text in report.environment.items())
    recipe = block(report.recipe, LONGEST_RECIPE)
    return _folded("How it was made", [recipe, "", *versions])


def _flips(report: Report) -> str:
    flips = chosen_flips(report)
    lines = [f"### {len(flips)} answers that changed sides", ""] if flips else []
    for sample, variant, fixed in flips:
        lines += _flip(report, sample, variant, fixed)
    return "\n".join(lines)


def _parts(report: Report) -> Iterator[tuple[str, str]]:
    """Yield the report in pieces, each with its name; what matters most comes first."""
    for variant in report.tuned:
        yield f"the verdict on {variant}", "\n".join(_verdict(report, variant))
    yield "what was learned at what cost", _keeping(report)
    if report.seeds:
        yield "the means over seeds", _seeds(report)
    yield "the alarms of training", _alarms(report)
    yield "the numbers", "\n".join(_table(report))
    yield "the arms beside each other", _pairs(report)
    yield "the flips sampled again", _resampled(report)
    yield "the flips", _flips(report)
    yield "the task types", _tasks(report)
    yield "the rewordings", _rewordings(report)
    yield "the phrases", _phrases(report)
    yield "the training", _training(report)
    yield "how it was made", _made(report)


def render_markdown(report: Report) -> str:
    """Render the report as Markdown of at most `LONGEST` bytes.

    Pieces that do not fit are left out, and the last line names them.
    """
    lines = [f"## {inline(report.title)}", ""]
    room = LONGEST - FOOTER
    left_out = []
    for name, text in _parts(report):
        size = len(text.encode()) + 1
        if size <= room:
            lines.append(text)
            room -= size
        else:
            left_out.append(name)
    missing = f"; left out for length: {', '.join(left_out)}" if left_out else ""
    last = inline(f"{report.created}; all samples and charts: index.html{missing}")
    lines.append(f"<sub>{last[:FOOTER]}</sub>")
    return "\n".join(line for line in lines if line) + "\n"
