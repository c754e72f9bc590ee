"""The plane of two shares: points with their intervals, tracks of points, and bounds as lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from eval.report.charts.plots import (
    BOTTOM,
    LEFT,
    PLOT_HEIGHT,
    TOP,
    WIDTH,
    Ranged,
    axes,
    names_beside,
    padded,
    right_edge,
)
from eval.report.charts.svg import FONT_PX, Axis, drawing, label, spread, tag, text_width
from eval.report.wording import percent

FEW = 4  # points of tracks, all together, whose intervals can still be told apart
SMALL_PX = 11.0  # of labels beside points


@dataclass(frozen=True)
class Point:
    """One named place in the plane; `style` is its colour class."""

    name: str
    style: str
    x: Ranged
    y: Ranged


@dataclass(frozen=True)
class Track:
    """Places joined by a line, in order; their names are written beside them, empty ones not."""

    name: str
    style: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Bound:
    """A value that one side must reach: an upright line for `x`, a level one for `y`."""

    side: str
    value: float
    text: str


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def plane(
    points: Sequence[Point],
    x_name: str,
    y_name: str,
    tracks: Sequence[Track] = (),
    bounds: Sequence[Bound] = (),
) -> Markup:
    """Plot shares against shares, each point with the intervals of both and its name.

    Args:
        points: with intervals, named at the right.
        x_name: title of the axis across.
        y_name: title of the upright axis.
        tracks: curves under the points, which are no part of them; with a few points on them all
            have their intervals.
        bounds: lines that the axes are made to hold.
    """
    passed = [point for track in tracks for point in track.points if point.name]
    whiskered = [*points, *(passed if len(passed) <= FEW else ())]
    x, y = (_axis(side, points, passed, whiskered, bounds) for side in "xy")
    taken = [_around(point, x, y) for point in (*points, *passed)]
    return drawing(
        WIDTH,
        PLOT_HEIGHT,
        f"{y_name} against {x_name}. {_read_out(points, tracks, bounds)}",
        axes(x, y, (x_name, y_name), (percent, percent)),
        *(_bound(bound, x, y, taken) for bound in bounds),
        _names_aside(points, x, y),
        *(_line(track, x, y) for track in tracks),
        *(_whiskers(point, x, y) for point in whiskered),
        *(_mark(point, x, y, "stop", 4.0) for point in passed),
        *(_mark(point, x, y, "mark", 6.0) for point in points),
        *(_step(point, x, y, taken) for point in passed),
    )


def _axis(
    side: str,
    points: Sequence[Point],
    passed: Sequence[Point],
    whiskered: Sequence[Point],
    bounds: Sequence[Bound],
) -> Axis:
    ends = [end for point in whiskered for end in getattr(point, side)]
    ends += [getattr(point, side).value for point in passed]
    ends += [bound.value for bound in bounds if bound.side == side]
    span = padded(ends, 0, 1)
    if side == "x":
        return Axis(span.low, span.high, LEFT, right_edge([point.name for point in points]))
    return Axis(span.low, span.high, PLOT_HEIGHT - BOTTOM, TOP + 14)


def _read_out(points: Sequence[Point], tracks: Sequence[Track], bounds: Sequence[Bound]) -> str:
    parts = [f"{p.name}: {percent(p.x.value)}, {percent(p.y.value)}" for p in points]
    parts += [
        f"{track.name} at {p.name}: {percent(p.x.value)}, {percent(p.y.value)}"
        for track in tracks
        for p in track.points
        if p.name
    ]
    return "; ".join([*parts, *(bound.text for bound in bounds)])


def _whiskers(point: Point, x: Axis, y: Axis) -> Markup:
    across = {"y1": y(point.y.value), "y2": y(point.y.value)}
    upward = {"x1": x(point.x.value), "x2": x(point.x.value)}
    style = f"whisker {point.style}"
    return tag("line", class_=style, x1=x(point.x.low), x2=x(point.x.high), **across) + tag(
        "line", class_=style, y1=y(point.y.low), y2=y(point.y.high), **upward
    )


def _mark(point: Point, x: Axis, y: Axis, kind: str, radius: float) -> Markup:
    told = "; ".join(
        f"{percent(side.value)} ({percent(side.low)} to {percent(side.high)})"
        for side in (point.x, point.y)
    )
    return tag(
        "circle",
        tag("title", f"{point.name}: {told}"),
        class_=f"{kind} {point.style}",
        cx=x(point.x.value),
        cy=y(point.y.value),
        r=radius,
    )


def _line(track: Track, x: Axis, y: Axis) -> Markup:
    places = (f"{x(point.x.value):.1f},{y(point.y.value):.1f}" for point in track.points)
    return tag("path", class_=f"curve {track.style}", d="M" + " L".join(places))


def _around(point: Point, x: Axis, y: Axis) -> _Box:
    across, up = x(point.x.value), y(point.y.value)
    return _Box(across - 6, up - 6, across + 6, up + 6)


def _step(point: Point, x: Axis, y: Axis, taken: list[_Box]) -> Markup:
    """Write a name beside a point, on the first side where nothing stands; nowhere if none is."""
    across, up = x(point.x.value), y(point.y.value)
    width = text_width(point.name, SMALL_PX)
    for anchor, left, base in (
        ("start", across + 6, up - 5),  # curves fall to the right, so that this side is empty
        ("end", across - 6 - width, up + 14),
        ("start", across + 6, up + 14),
        ("end", across - 6 - width, up - 5),
    ):
        box = _Box(left, base - SMALL_PX, left + width, base + 2)
        inside = box.left >= x.start and box.right <= x.stop and box.bottom <= y.start
        if inside and not any(box.meets(other) for other in taken):
            taken.append(box)
            at = left if anchor == "start" else left + width
            return label(at, base, point.name, class_="step", text_anchor=anchor)
    return Markup("")


def _bound(bound: Bound, x: Axis, y: Axis, taken: list[_Box]) -> Markup:
    """Draw a bound, and its text at the end of the line that is farther from the points."""
    width = text_width(bound.text, SMALL_PX)
    if bound.side == "x":
        place = x(bound.value)
        line = tag("line", class_="bound", x1=place, x2=place, y1=y.start, y2=y.stop)
        left = place - 5 - width if place - 5 - width >= x.start else place + 5
        base = y.start - 6
    else:
        place = y(bound.value)
        line = tag("line", class_="bound", x1=x.start, x2=x.stop, y1=place, y2=place)
        left, base = x.start + 5, place - 5
    box = _Box(left, base - SMALL_PX, left + width, base + 2)
    if any(box.meets(other) for other in taken):
        base = y.stop + 12 if bound.side == "x" else place + 13
        box = _Box(left, base - SMALL_PX, left + width, base + 2)
    taken.append(box)
    return line + label(left, base, bound.text, x.stop - left, class_="step")


def _names_aside(points: Sequence[Point], x: Axis, y: Axis) -> Markup:
    """Write the names of points in a column at the right, with a thin line to each point."""
    ordered = sorted(points, key=lambda point: y(point.y.value))
    heights = [y(point.y.value) for point in ordered]
    places = spread(heights, FONT_PX + 2, y.stop + 4, y.start - 2)
    edge = x.stop + 11
    lines = [
        tag("line", class_="leader", x1=x(point.x.value), y1=height, x2=edge, y2=place)
        for point, height, place in zip(ordered, heights, places, strict=True)
    ]
    names = [(point.name, point.style) for point in ordered]
    return Markup("").join(lines) + names_beside(names, heights, edge, y)
