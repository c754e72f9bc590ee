"""Charts as inline SVG, coloured by CSS classes so that they follow light and dark.

Every chart is drawn 440 pixels wide, a size at which its 12-pixel text stays readable on a phone;
wide screens show charts side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from eval.report.charts.svg import FONT_PX, Axis, drawing, label, spread, tag, text_width

WIDTH = 440.0
LEFT, TOP, BOTTOM = 52.0, 12.0, 42.0
PLOT_HEIGHT, HISTOGRAM_HEIGHT = 300.0, 210.0
BAR, BAR_GAP, GROUP_GAP = 13.0, 3.0, 16.0

Format = Callable[[float], str]


class Ranged(NamedTuple):
    """A number with its interval; equal ends draw no whisker."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bar:
    """One bar of a group."""

    name: str
    style: str
    size: Ranged


def padded(values: Sequence[float], low: float = -math.inf, high: float = math.inf) -> Ranged:
    """Return the range of an axis around values: 8 % air on both sides, kept inside [low, high]."""
    bottom, top = min(values), max(values)
    air = 0.08 * (top - bottom) or 0.05 * abs(top) or 0.5
    return Ranged(0.0, max(low, bottom - air), min(high, top + air))


def axes(x: Axis, y: Axis, names: tuple[str, str], formats: tuple[Format, Format]) -> Markup:
    """Draw grid lines, tick labels and the two axis titles."""
    parts = []
    for tick in y.ticks():
        parts.append(tag("line", class_="grid", x1=x.start, x2=x.stop, y1=y(tick), y2=y(tick)))
        parts.append(
            label(x.start - 7, y(tick) + 4, formats[1](tick), class_="tick", text_anchor="end")
        )
    for tick in x.ticks():
        parts.append(tag("line", class_="grid", x1=x(tick), x2=x(tick), y1=y.start, y2=y.stop))
        parts.append(
            label(x(tick), y.start + 17, formats[0](tick), class_="tick", text_anchor="middle")
        )
    parts.append(tag("line", class_="axis", x1=x.start, x2=x.stop, y1=y.start, y2=y.start))
    parts.append(label(x.stop, y.start + 35, f"{names[0]} →", class_="title", text_anchor="end"))
    parts.append(label(2, TOP, f"↑ {names[1]}", class_="title"))
    return Markup("").join(parts)


def right_edge(names: Sequence[str]) -> float:
    """Return where the plot must end for the names to fit beside it, in a third at most."""
    return WIDTH - min(WIDTH / 3, max(map(text_width, names)) + 26)


def names_beside(
    names: Sequence[tuple[str, str]], heights: Sequence[float], x: float, y: Axis
) -> Markup:
    """Write names, given with their styles, at the right of a plot, without overlap."""
    places = spread([*heights], FONT_PX + 2, y.stop + 4, y.start - 2)
    return Markup("").join(
        tag("circle", class_=f"key {style}", cx=x, cy=place, r=4)
        + label(x + 8, place + 4, name, WIDTH - x - 8, class_="name")
        for (name, style), place in zip(names, places, strict=True)
    )


def _bar(bar: Bar, x: Axis, top: float, written: str) -> Markup:
    middle = top + BAR / 2
    end = x(bar.size.value)
    parts = [
        tag(
            "rect",
            tag("title", f"{bar.name}: {written}"),
            class_=f"bar {bar.style}",
            x=x.start,
            y=top,
            width=max(1.0, end - x.start),
            height=BAR,
        )
    ]
    if bar.size.high > bar.size.low:
        ends = {"x1": x(bar.size.low), "x2": x(bar.size.high)}
        parts.append(tag("line", class_="interval", y1=middle, y2=middle, **ends))
        end = max(end, ends["x2"])
    parts.append(label(end + 6, middle + 4, written, WIDTH - end - 6, class_="number"))
    return Markup("").join(parts)


def bars(
    groups: Mapping[str, Sequence[Bar]], written: Format, description: str, named: bool = False
) -> Markup:
    """Draw horizontal bars from zero in named groups, each with its value written at its end.

    Bars whose value is not finite are left out. `named` bars have their name there too, for where
    colours do not tell them apart.
    """

    def caption(bar: Bar) -> str:
        return f"{written(bar.size.value)} {bar.name}" if named else written(bar.size.value)

    shown = {
        name: [bar for bar in group if math.isfinite(bar.size.value)]
        for name, group in groups.items()
    }
    ends = [end for group in shown.values() for bar in group for end in bar.size]
    captions = (caption(bar) for group in shown.values() for bar in group)
    margin = min(WIDTH / 2, max(map(text_width, captions), default=0.0) + 12)
    x = Axis(0.0, max([*ends, 1e-9]), 1.0, WIDTH - margin)
    parts, top = [], 0.0
    for name, group in shown.items():
        parts.append(label(0, top + FONT_PX, name, WIDTH, class_="group"))
        top += FONT_PX + 7
        for bar in group:
            parts.append(_bar(bar, x, top, caption(bar)))
            top += BAR + BAR_GAP
        top += GROUP_GAP
    return drawing(WIDTH, max(1.0, top - GROUP_GAP), description, *parts)


def thousands(number: float) -> str:
    """Write a count on an axis: `250`, `1.5k`."""
    return f"{number / 1000:g}k" if abs(number) >= 1000 else f"{number:g}"


def histogram(
    start: float, width: float, counts: Sequence[int], beyond: int, x_name: str, y_name: str
) -> Markup:
    """Draw counts in bins of equal width; those above the last bin stand in a bar of their own.

    Args:
        start: lower edge of the first bin.
        width: of a bin.
        counts: per bin; at least one.
        beyond: count above the last bin.
        x_name: what was counted.
        y_name: of what kind the counts are.
    """
    stop = start + width * len(counts)
    columns = [(start + width * i, count, "") for i, count in enumerate(counts)]
    if beyond:
        columns.append((stop + width, beyond, "beyond"))
    x = Axis(start, columns[-1][0] + width, LEFT, WIDTH - 12)
    y = Axis(0.0, max(1, *counts, beyond), HISTOGRAM_HEIGHT - BOTTOM, TOP + 14)
    parts = []
    for low, count, style in columns:
        values = f"above {low - width:g}" if style else f"{low:g} to {low + width:g}"
        parts.append(
            tag(
                "rect",
                tag("title", f"{values}: {count:,}"),
                class_=f"bar s2 {style}".rstrip(),
                x=x(low) + 0.5,
                y=y(count),
                width=max(1.0, x(low + width) - x(low) - 1),
                height=y.start - y(count),
            )
        )
    return drawing(
        WIDTH,
        HISTOGRAM_HEIGHT,
        f"{y_name} by {x_name}, from {start:g} to {stop:g}; {beyond:,} above",
        axes(x, y, (x_name, y_name), (thousands, thousands)),
        *parts,
    )
