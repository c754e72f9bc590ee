"""The charts of training: loss with its alarms, and what every arm's tokens were like."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.report.charts.curves import Event, Line, areas, curves, heatmap
from eval.report.figures import ZONE_STYLES, Figure, styles
from eval.schema.report import GuardCurve, Report, TrainingCurve
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
    """Draw training and validation loss and what was still known, each of all arms in one chart."""
    yield from _training_loss(report)
    yield from _validation_loss(report)
    yield from _general_loss(report)
    yield from _general_divergence(report)


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


def _general_loss(report: Report) -> Iterator[Figure]:
    """Draw the loss on general text from before the first step on."""
    note = "Mean loss of general text: where it rises, the arm forgets."
    guards = {arm: each for arm, curve in report.training.items() if (each := curve.guard)}
    lines = {arm: (each.steps, each.loss) for arm, each in guards.items()}
    yield from _watched(report, "Loss on general text", note, guards, lines, "loss")


def _general_divergence(report: Report) -> Iterator[Figure]:
    """Draw how far predictions have moved from the base's, on what the base itself would say."""
    note = "KL(base ‖ model) on the base model’s own answers: how far it has moved from the base."
    guards = {arm: each for arm, curve in report.training.items() if (each := curve.guard)}
    lines = {arm: (each.steps, each.kl) for arm, each in guards.items() if each.kl}
    yield from _watched(report, "Changed predictions while training", note, guards, lines, "kl")


def _watched(
    report: Report,
    title: str,
    note: str,
    guards: Mapping[str, GuardCurve],
    readings: Mapping[str, tuple[list[int], list[float]]],
    metric: str,
) -> Iterator[Figure]:
    """Draw readings of guards, and the bounds on them."""
    if not readings:
        return
    colour = styles(report)
    lines = [
        Line(arm, colour.get(arm, "s0"), *thinned(steps, values))
        for arm, (steps, values) in readings.items()
    ]
    ends = [min(min(line.x) for line in lines), max(max(line.x) for line in lines)]
    bounds = {
        round(guard.max_rise + readings[arm][1][0], 6)
        for arm, guard in guards.items()
        if guard.metric == metric and arm in readings and math.isfinite(readings[arm][1][0])
    }
    lines += [Line("bound", "s0", ends, [bound, bound]) for bound in sorted(bounds)]
    yield Figure(title, note, curves(lines, STEPS, "Nats per token"), [])


def of_arm(arm: str, curve: TrainingCurve) -> Iterator[Figure]:
    """Draw zones of an arm's tokens, loss per task type, and where its weights lay."""
    if not curve.steps:
        return
    yield from _zones(arm, curve)
    yield from _kinds(arm, curve.steps, curve.loss_by_task, "task type")
    yield from _kinds(arm, curve.steps, curve.loss_by_source, "source")
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


def _kinds(
    arm: str, steps: Sequence[int], losses: Mapping[str, list[float]], kind: str
) -> Iterator[Figure]:
    """Draw loss per kind of rows; of many, those that end highest. One alone is no news."""
    if len(losses) < 2:
        return
    curves_of = {name: thinned(steps, loss) for name, loss in losses.items()}
    highest = sorted(curves_of, key=lambda name: -_last(curves_of[name][1]))[:MAX_TASKS]
    lines = [
        Line(name or f"no {kind}", f"s{number}", *curves_of[name])
        for number, name in enumerate(highest, start=1)
    ]
    note = f"Mean unweighted loss of each {kind}’s tokens."
    if len(curves_of) > MAX_TASKS:
        note += f" The {MAX_TASKS} of {len(curves_of)} that end highest."
    yield Figure(f"Loss per {kind} of {arm}", note, curves(lines, STEPS, "Loss in nats"), [])


def _last(values: Sequence[float]) -> float:
    return next((value for value in reversed(values) if math.isfinite(value)), 0.0)
