"""Charts over the steps of training: curves, stacked shares, and a heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from markupsafe import Markup

from eval.report.charts.plots import (
    BOTTOM,
    LEFT,
    PLOT_HEIGHT,
    TOP,
    WIDTH,
    axes,
    names_beside,
    padded,
    right_edge,
    thousands,
)
from eval.report.charts.svg import Axis, drawing, label, spread, tag
from eval.report.wording import percent

LEVELS = 8  # shades of the heat map; see report.css


class Line(NamedTuple):
    """One curve; points that are not finite leave a gap."""

    name: str
    style: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Event:
    """Something that happened at a step; `sign` is short and explained beside the chart."""

    step: float
    sign: str
    style: str


def _path(line: Line, x: Axis, y: Axis) -> str:
    """Path data of a curve; a new subpath starts after every gap."""
    pairs = zip(line.x, line.y, strict=True)
    pieces = [
        list(run) for finite, run in groupby(pairs, lambda pair: math.isfinite(pair[1])) if finite
    ]
    return " ".join(
        "M" + " L".join(f"{x(across):.1f},{y(up):.1f}" for across, up in piece) for piece in pieces
    )


def _steps(lines: Sequence[Sequence[float]], stop: float) -> Axis:
    low, high = min(map(min, lines)), max(map(max, lines))
    return Axis(low, high if high > low else low + 1, LEFT, stop)


def _events(events: Sequence[Event], x: Axis, y: Axis) -> Markup:
    """Upright lines, each with its sign on top; signs are moved apart where they would overlap."""
    steps = [min(max(event.step, x.low), x.high) for event in events]
    places = spread([x(step) for step in steps], 20.0, x.start, x.stop)
    return Markup("").join(
        tag("line", class_=f"event {event.style}", x1=x(step), x2=x(step), y1=y.start, y2=y.stop)
        + label(place, y.stop + 9, event.sign, class_="sign", text_anchor="middle")
        for event, step, place in zip(events, steps, places, strict=True)
    )


def curves(lines: Sequence[Line], x_name: str, y_name: str, events: Sequence[Event] = ()) -> Markup:
    """Draw curves over training steps, named at their right ends; events stand behind them."""
    finite = [up for line in lines for up in line.y if math.isfinite(up)]
    span = padded(finite or [0.0, 1.0], low=0.0)
    names = [line.name for line in lines]
    x = _steps([line.x for line in lines], right_edge(names))
    y = Axis(span.low, span.high, PLOT_HEIGHT - BOTTOM, TOP + 14)
    last = [next((up for up in reversed(line.y) if math.isfinite(up)), 0.0) for line in lines]
    parts = [tag("path", class_=f"curve {line.style}", d=_path(line, x, y)) for line in lines]
    return drawing(
        WIDTH,
        PLOT_HEIGHT,
        f"{y_name} over {x_name}: {', '.join(names)}",
        axes(x, y, (x_name, y_name), (thousands, lambda tick: f"{tick:g}")),
        _events(events, x, y),
        *parts,
        names_beside([line[:2] for line in lines], [y(up) for up in last], x.stop + 11, y),
    )


def areas(steps: Sequence[float], layers: Sequence[Line], x_name: str, y_name: str) -> Markup:
    """Stack shares to 100 % over training steps, named at the right edge.

    A step whose shares are not finite counts as zero there.
    """
    names = [layer.name for layer in layers]
    x = _steps([steps], right_edge(names))
    y = Axis(0.0, 1.0, PLOT_HEIGHT - BOTTOM, TOP + 14)
    floor = [0.0] * len(steps)
    parts, middles = [], []
    for layer in layers:
        ceiling = [
            low + (up if math.isfinite(up) else 0.0) for low, up in zip(floor, layer.y, strict=True)
        ]
        outline = [*zip(steps, ceiling, strict=True), *reversed([*zip(steps, floor, strict=True)])]
        data = "M" + " L".join(f"{x(across):.1f},{y(up):.1f}" for across, up in outline) + "Z"
        parts.append(tag("path", tag("title", layer.name), class_=f"area {layer.style}", d=data))
        middles.append(y((floor[-1] + ceiling[-1]) / 2))
        floor = ceiling
    return drawing(
        WIDTH,
        PLOT_HEIGHT,
        f"{y_name} over {x_name}: {', '.join(names)}",
        axes(x, y, (x_name, y_name), (thousands, percent)),
        *parts,
        names_beside([layer[:2] for layer in reversed(layers)], middles[::-1], x.stop + 11, y),
    )


def heatmap(
    steps: Sequence[float],
    columns: Sequence[Sequence[float]],
    height: float,
    names: tuple[str, str],
) -> Markup:
    """Draw a heat map: each column shaded against its own largest cell, bins without shade cut off.

    Args:
        steps: of each column, in order; at least one.
        columns: per step the mass of each bin, bottom up.
        height: of a bin, in the unit of the upright axis, which starts at 0.
        names: of the axis across and of the upright one.
    """
    shades = [[_shade(mass, max(column)) for mass in column] for column in columns]
    bins = max((i + 1 for column in shades for i, shade in enumerate(column) if shade), default=1)
    x = _steps([steps], WIDTH - 12)
    y = Axis(0.0, height * bins, PLOT_HEIGHT - BOTTOM, TOP + 14)
    wide, tall = (x.stop - x.start) / len(columns), (y.start - y.stop) / bins
    cells: dict[int, list[str]] = {}
    for across, column in enumerate(shades):
        for up, shade in enumerate(column[:bins]):
            left, top = x.start + across * wide, y.start - (up + 1) * tall
            cells.setdefault(shade, []).append(
                f"M{left:.1f},{top:.1f}h{wide:.2f}v{tall:.2f}h-{wide:.2f}z"
            )
    return drawing(
        WIDTH,
        PLOT_HEIGHT,
        f"{names[1]} over {names[0]}: where the mass lies",
        axes(x, y, names, (thousands, lambda tick: f"{tick:g}")),
        *(
            tag("path", class_=f"heat h{shade}", d="".join(cells[shade]))
            for shade in cells
            if shade
        ),
    )


def _shade(mass: float, most: float) -> int:
    """0 (nothing to see) to `LEVELS`, by the square root: small masses stay visible."""
    return math.ceil(LEVELS * math.sqrt(mass / most) - 0.5) if most > 0 else 0
