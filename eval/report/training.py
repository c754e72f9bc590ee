"""The charts of training: loss with its alarms, and what every arm's tokens were like."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from eval.report.charts.curves import Event, Line, areas, curves, heatmap
from eval.report.figures import ZONE_STYLES, Figure, styles
from eval.schema.report import Report, TrainingCurve
from nlirg.monitoring.alarm import Alarm

MAX_POINTS = 120  # per curve: more cannot be distinguished at the size they are drawn
MAX_TASKS = 6  # curves in one chart, and colours
STEPS = "Optimizer step"


@dataclass(frozen=True)
class NumberedAlarm:
    """An alarm of an arm with the sign that points to it in the chart of losses."""

    sign: str
    arm: str
    alarm: Alarm


def alarms(report: Report) -> list[NumberedAlarm]:
    """Number the alarms of all arms."""
    raised = [(arm, alarm) for arm, curve in report.training.items() for alarm in curve.alarms]
    return [NumberedAlarm(f"!{n}", arm, alarm) for n, (arm, alarm) in enumerate(raised, start=1)]


def thinned(steps: Sequence[int], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Average consecutive bins, so that a curve has at most `MAX_POINTS` points.

    A bin without a finite value stays a gap (NaN).
    """
    parts = min(MAX_POINTS, len(steps))
    bins = np.array_split(np.asarray(values, dtype=float), parts)
    across = [float(part.mean()) for part in np.array_split(np.asarray(steps), parts)]
    finite = [part[np.isfinite(part)] for part in bins]
    return across, [float(part.mean()) if part.size else float("nan") for part in finite]


def losses(report: Report) -> Iterator[Figure]:
    """Draw training and validation loss, each of every arm in one chart."""
    yield from _training_loss(report)
    yield from _validation_loss(report)


def _training_loss(report: Report) -> Iterator[Figure]:
    """Draw training loss with the alarms."""
    colour = styles(report)
    lines = [
        Line(arm, colour.get(arm, "s0"), *thinned(curve.steps, curve.loss))
        for arm, curve in report.training.items()
        if curve.steps
    ]
    if not lines:
        return
    events = [Event(a.alarm.step, a.sign, colour.get(a.arm, "s0")) for a in alarms(report)]
    note = "Mean unweighted loss of the tokens trained at each step; neighbouring steps averaged."
    if events:
        note += " Upright lines are alarms, explained under their signs."
    yield Figure("Training loss", note, curves(lines, STEPS, "Loss in nats", events), [])


def _validation_loss(report: Report) -> Iterator[Figure]:
    """Draw validation loss, with the base model's where all arms have the same rows."""
    colour = styles(report)
    validations = {
        arm: curve.validation for arm, curve in report.training.items() if curve.validation
    }
    if not validations:
        return
    lines = [
        Line(arm, colour.get(arm, "s0"), *thinned(each.steps, each.loss))
        for arm, each in validations.items()
    ]
    note = "Mean loss of rows that were held out of training: where it rises, the arm overfits."
    bases = {each.base_loss for each in validations.values()}
    if len(bases) == 1 and (base := bases.pop()) is not None:
        ends = [min(min(line.x) for line in lines), max(max(line.x) for line in lines)]
        lines.insert(0, Line(report.baseline, "s0", ends, [base, base]))
    yield Figure("Validation loss", note, curves(lines, STEPS, "Loss in nats"), [])


def of_arm(arm: str, curve: TrainingCurve) -> Iterator[Figure]:
    """Draw zones of an arm's tokens, loss per task type, and where its weights lay."""
    if not curve.steps:
        return
    yield from _zones(arm, curve)
    yield from _tasks(arm, curve)
    if curve.weights and any(map(any, curve.weights.shares)):
        svg = heatmap(
            curve.weights.steps, curve.weights.shares, curve.weights.bin_width,
            (STEPS, "Token loss in nats"),
        )  # fmt: skip
        note = "On tokens of which loss the weights lay: the stronger the colour, the more of them."
        yield Figure(f"Where the weights of {arm} lay", note, svg, [])


def _zones(arm: str, curve: TrainingCurve) -> Iterator[Figure]:
    layers = [
        Line(zone, style, *thinned(curve.steps, curve.zones[zone]))
        for zone, style in ZONE_STYLES.items()
        if curve.zones.get(zone)
    ]
    if layers:
        svg = areas(layers[0].x, layers, STEPS, "Share of trained tokens")
        note = "How hard the trained tokens were: from known (low) to out of reach (discarded)."
        yield Figure(f"Loss zones while training {arm}", note, svg, [])


def _tasks(arm: str, curve: TrainingCurve) -> Iterator[Figure]:
    """Draw loss per task type; of many, those that end highest. One type alone is no news."""
    if len(curve.loss_by_task) < 2:
        return
    curves_of = {task: thinned(curve.steps, loss) for task, loss in curve.loss_by_task.items()}
    highest = sorted(curves_of, key=lambda task: -_last(curves_of[task][1]))[:MAX_TASKS]
    lines = [
        Line(task or "no task type", f"s{number}", *curves_of[task])
        for number, task in enumerate(highest, start=1)
    ]
    note = "Mean unweighted loss of each task type’s tokens."
    if len(curves_of) > MAX_TASKS:
        note += f" The {MAX_TASKS} of {len(curves_of)} that end highest."
    yield Figure(f"Loss per task type of {arm}", note, curves(lines, STEPS, "Loss in nats"), [])


def _last(values: Sequence[float]) -> float:
    return next((value for value in reversed(values) if math.isfinite(value)), 0.0)
