"""Reading the LaTeX at the end of an answer, by math-verify.

The library's time limits are signals, which work in a main thread only. Instead only short passages
of arithmetic are read: known commands, shallow braces, small powers; tests hold that they are fast.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import cache
from math import prod
from typing import Any

import regex

LONGEST = 200  # characters of a passage
MOST_GROUPS = 10  # braces and parentheses
LARGEST_POWER = 1000  # the product of a passage's exponents
DIGITS = 20  # of what is no fraction, such as a root

_BOXED = regex.compile(r"\\boxed\s*(\{(?:[^{}]++|(?1))*+\})")
_PASSAGE = regex.compile(
    rf"\$\$(?P<inside>[^$]{{1,{LONGEST}}})\$\$"
    rf"|(?<!\\)\\\[(?P<inside>.{{1,{LONGEST}}}?)\\\]|(?<!\\)\\\((?P<inside>.{{1,{LONGEST}}}?)\\\)"
    rf"|(?<![\\0-9])\$(?P<inside>(?!\s)(?:[^$\n\\]|\\.){{1,{LONGEST}}}(?<!\s))\$(?![0-9])"
    r"|(?P<inside>-?\\[dt]?frac\s*(?:\{[0-9.]{1,50}\}){2})",
    regex.DOTALL,
)
_THOUSANDS = regex.compile(r"(?<=[0-9])(?:\\[,; ]|\{,\}|~)(?=[0-9]{3}(?![0-9]))")
_ARITHMETIC = regex.compile(
    r"(?:[A-Za-z0-9\s.,+\-−*/=()<>^{}\[\]]|\\[,;: !]"
    r"|\\(?:[dt]?frac|sqrt|times|cdot|div|pi|left|right|text|mathrm|mathbf|circ|quad)(?![A-Za-z]))+"
)
_POWER = regex.compile(r"\^\s*(?:\{\s*(?P<n>[-−]?[0-9]{1,3})\s*\}|(?P<n>[0-9])|\{?\s*\\circ)")
_PERCENT = regex.compile(r"\\?%\s*$")
_COMMAND = regex.compile(r"\\[A-Za-z]+|[{}\\$]")


def without_latex(text: str) -> str:
    """Return a text with its last passages of mathematics as plain numbers.

    Where something is boxed, that is the text. What the library does not read as a number is left
    without its commands and braces.
    """
    boxed = _BOXED.match(text, text.rfind(r"\boxed")) if r"\boxed" in text else None
    if boxed:
        return _plain(boxed[1][1:-1])
    for passage in list(_PASSAGE.finditer(text))[:-3:-1]:  # two: one may approximate the other
        text = text[: passage.start()] + _plain(passage["inside"]) + text[passage.end() :]
    return text


def _plain(passage: str) -> str:
    parts = _THOUSANDS.sub("", passage).split(r"\approx")
    return " ≈ ".join(map(_plain_part, parts))


def _plain_part(part: str) -> str:
    part = part.strip().strip("$").strip()
    percent = _PERCENT.search(part)
    value = _value(part[: percent.start()] if percent else part)
    if value is None:
        return f" {_COMMAND.sub(' ', part)} "
    return f" {value}{'%' if percent else ''} "


def _value(latex: str) -> Fraction | str | None:
    """Return the number that a passage comes to: of an equation, its last side; ∞ for none."""
    if not _harmless(latex):
        return None
    try:
        number = _parsed(latex)
        if number.is_Rational:
            return Fraction(int(number.p), int(number.q))
        if number.is_finite is False:
            return "∞"
        return Fraction(Decimal(str(number.evalf(DIGITS)))) if number.is_real else None
    except Exception:  # the library fails in its own ways on what is no mathematics
        return None


def _harmless(latex: str) -> bool:
    """Return whether a passage is in LaTeX and cannot stall: short arithmetic."""
    powers = [match["n"] or "1" for match in _POWER.finditer(latex)]
    return (
        ("\\" in latex or "{" in latex)
        and len(latex) <= LONGEST
        and latex.count("{") + latex.count("(") <= MOST_GROUPS
        and _ARITHMETIC.fullmatch(latex) is not None
        and len(powers) == latex.count("^")
        and prod(abs(int(power.replace("−", "-"))) or 1 for power in powers) <= LARGEST_POWER
    )


def _parsed(latex: str) -> Any:
    """Return the last side of what math-verify reads, evaluated."""
    expression = _parse()(f"${latex}$")[-1]
    if expression.is_Relational or expression.is_Boolean:
        from math_verify.grader import take_last_relation

        expression = take_last_relation(expression).rhs
    return expression.doit()


@cache
def _parse() -> Callable[[str], list[Any]]:
    from math_verify import LatexExtractionConfig, parse  # imports sympy

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of having no time limit
    config = [LatexExtractionConfig()]
    return lambda text: parse(text, config, fallback_mode="no_fallback", parsing_timeout=None)
