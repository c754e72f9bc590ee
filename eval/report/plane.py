"""The plane of learning and keeping: the base in its corner, every arm, and its scales."""

from __future__ import annotations

from collections.abc import Iterator

from eval.report.charts.plane import Bound, Point, Track, plane
from eval.report.charts.plots import Ranged
from eval.report.figures import Figure, ranged, styles
from eval.report.wording import gate_text
from eval.schema.report import Metric, Report, ScaleCurve

WHOLE = Ranged(1.0, 1.0, 1.0)  # the base keeps all that it knows
AXES = {"domain_accuracy_min": "x", "retention_min": "y"}  # gates that are lines in the plane
DROP = "retention_drop_max"


def metrics_of(report: Report) -> tuple[Metric, Metric] | None:
    """Return domain accuracy and retention; None where one was not measured."""
    metrics = {metric.key: metric for metric in report.metrics}
    learned, kept = metrics.get("domain_accuracy"), metrics.get("retention")
    return None if learned is None or kept is None else (learned, kept)


def plane_figure(report: Report) -> Iterator[Figure]:
    """Plot what is kept of what the base knows against domain accuracy."""
    if (found := metrics_of(report)) is None:
        return
    learned, kept = found
    colour = styles(report)
    points = [
        Point(
            name,
            colour[name],
            ranged(learned.values[name]),
            WHOLE if name == report.baseline else ranged(kept.values[name]),
        )
        for name in report.variants
        if name in learned.values and (name in kept.values or name == report.baseline)
    ]
    tracks = [
        Track(arm, colour[arm], _stops(curve, colour[arm]))
        for arm, curve in report.scales.items()
        if all(point.retention is not None for point in curve.points)
    ]
    svg = plane(points, learned.label, kept.label, tracks, _bounds(report))
    yield Figure("Learning against forgetting", _note(report, bool(tracks)), svg, [])


def _stops(curve: ScaleCurve, style: str) -> list[Point]:
    """Return the places of a curve; base and arm stand there with their own names."""
    return [
        Point(
            "" if point.scale in (0, 1) else f"{point.scale:g}",
            style,
            ranged(point.domain),
            WHOLE if point.scale == 0 else ranged(point.retention),
        )
        for point in curve.points
        if point.retention is not None
    ]


def _bounds(report: Report) -> list[Bound]:
    found = {gate.gate: gate for gate in report.gates if gate.gate in AXES}
    return [
        Bound(AXES[name], gate.bound, f"gate {gate_text(gate).bound}")
        for name, gate in found.items()
    ]


def _note(report: Report, scaled: bool) -> str:
    parts = [
        "Further right: learned more. Further up: kept more of what "
        f"{report.baseline} gets right, which it itself keeps whole. Thin lines are the intervals."
    ]
    if scaled:
        parts.append(f"Curves join the scales of an arm, from {report.baseline} on.")
    if _bounds(report):
        parts.append("Dashed lines are gates.")
    if any(gate.gate == DROP for gate in report.gates):
        parts.append(
            "The gate on the drop of general accuracy counts new right answers too, so that it is "
            "no line here."
        )
    return " ".join(parts)
