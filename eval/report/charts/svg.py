"""Small pieces of SVG: elements, linear axes with round ticks, text that fits."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass

from markupsafe import Markup, escape

from eval.report.wording import shortened, visible

FONT_PX = 12.0


def tag(name: str, *children: str, **attributes: str | float) -> Markup:
    """Write one SVG element; children and attributes are escaped unless they are markup already.

    `class_` becomes `class` and `stroke_width` becomes `stroke-width`.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _attribute(value))
        for key, value in attributes.items()
    )
    inner = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, inner)


def _attribute(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def drawing(width: float, height: float, description: str, *children: str) -> Markup:
    """Wrap an SVG that scales with its container and is read out as `description`."""
    return tag(
        "svg",
        *children,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_label=visible(description),
    )


def text_width(text: str, size: float = FONT_PX) -> float:
    """Estimate the width in pixels: a wide (CJK) character is one em, others 0.62 em."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return size * (wide + 0.62 * (len(text) - wide))


def label(x: float, y: float, text: str, width: float = math.inf, **attributes: str) -> Markup:
    """Write a text whose full form stays available as a tooltip when it had to be shortened."""
    text = visible(text).replace("\n", " ")
    short = shortened(text, width, text_width)
    children = (short,) if short == text else (short, tag("title", text))
    return tag("text", *children, x=x, y=y, **attributes)


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers (1, 2 or 5 times a power of ten) inside [low, high].

    Raises:
        ValueError: if the range is empty or not finite.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"an axis needs a finite range, not {low}..{high}")
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


@dataclass(frozen=True)
class Axis:
    """A linear map from data [low, high] to pixels [start, stop]."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, number: float) -> float:
        """Pixel position of a number."""
        share = (number - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round numbers on this axis."""
        return round_ticks(self.low, self.high, count)


def spread(positions: list[float], gap: float, low: float, high: float) -> list[float]:
    """Move label positions apart until neighbours are `gap` pixels apart, inside [low, high].

    Keeps the order of the positions. If they cannot all fit, they are spaced evenly.
    """
    if not positions:
        return []
    order = sorted(range(len(positions)), key=positions.__getitem__)
    gap = min(gap, (high - low) / max(1, len(positions) - 1))
    placed: list[float] = []
    for rank, index in enumerate(order):
        floor = placed[-1] + gap if placed else low
        placed.append(max(floor, min(positions[index], high - gap * (len(order) - 1 - rank))))
    result = [0.0] * len(positions)
    for index, position in zip(order, placed, strict=True):
        result[index] = position
    return result
