"""Put numbers, verdicts and foreign text into words; shared by all forms of the report."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from eval.schema.case import SUITES, Suite
from eval.schema.report import Effect, GateResult, GateState, Metric, Report, SideBySide, Unit
from eval.statistics.pairing import HUMAN
from eval.verdict.gates import GATES

EFFECT_SIGNS: dict[Effect, str] = {"better": "▲", "worse": "▼", "changed": "◆", "unclear": "○"}
DIRECTION_SIGNS = {"higher": " ↑", "lower": " ↓", "neither": ""}


@dataclass(frozen=True)
class Family:
    """A family's short name and the question it answers."""

    name: str
    question: str


FAMILIES: dict[Suite, Family] = {
    "domain": Family("Learned", "Did it learn the domain?"),
    "template": Family("Parrot", "Did its answers turn into templates?"),
    "robustness": Family("Robust", "Does it hold when the question is worded differently?"),
    "ood": Family("Forgot", "Did it lose what the base model could do?"),
}
SUITE_NAMES: dict[Suite, str] = {
    "domain": "domain",
    "robustness": "reworded",
    "template": "sampled",
    "ood": "general",
}
FAMILY_ORDER: tuple[Suite, ...] = ("domain", "template", "robustness", "ood")
assert set(FAMILY_ORDER) == set(SUITES)


def _plain(number: float) -> str:
    size = abs(number)
    decimals = 3 if size < 1 else 2 if size < 100 else 0
    return f"{number:,.{decimals}f}"


def value(number: float, unit: Unit) -> str:
    """Write a measured value: `91.2%`, `0.084`, `45.2`; `n/a` where there is none."""
    if not math.isfinite(number):
        return "n/a"
    if unit == "share":
        text = f"{100 * number:.1f}%"
    else:
        text = f"{number:,.1f}" if unit == "tokens" else _plain(number)
    return text.replace("-", "−")


def percent(share: float) -> str:
    """Write a share in a sentence or on an axis, without needless zeros: `85%`, `0.4%`."""
    return value(share, "share").replace(".0%", "%")


def difference(number: float, unit: Unit) -> str:
    """Write a signed difference; shares differ by percentage points (`+31.2 pts`)."""
    if not math.isfinite(number):
        return "n/a"
    text = f"{100 * number:.1f} pts" if unit == "share" else value(number, unit)
    digits = text.lstrip("-−")
    if not any(digit in digits for digit in "123456789"):
        return f"±{digits}"
    return f"−{digits}" if number < 0 else f"+{digits}"


def interval(low: float, high: float, unit: Unit) -> str:
    """Write the interval of a value: `88.1–93.9%`."""
    left, right = value(low, unit), value(high, unit)
    return f"{left.removesuffix('%') if right.endswith('%') else left}–{right}"


def difference_interval(low: float, high: float, unit: Unit) -> str:
    """Write the interval of a difference: `+27.0 to +35.1`."""
    ends = (difference(end, unit).removesuffix(" pts") for end in (low, high))
    return " to ".join(ends)


def probability(p: float) -> str:
    """Write a p-value as papers do: `p < .001`, `p = .021`."""
    if p < 0.001:
        return "p < .001"
    digits = f"{p:.2f}" if p >= 0.1 else f"{p:.3f}"
    if (p < 0.05) != (float(digits) < 0.05):  # .0496 is not to read .050
        digits = f"{p:.4f}"
    return f"p = {digits.removeprefix('0')}"


def significance(metric: Metric, variant: str) -> str:
    """Say in one phrase whether a difference is significant, with its adjusted p-value."""
    paired = metric.against[variant]
    p = probability(paired.p_holm)
    if metric.effect(variant) != "unclear":
        return f"significant, {p}"
    if paired.p_holm < paired.alpha:
        return f"unclear: {p}, but the interval includes zero"
    return f"within noise, {p}; {detectable(metric, variant).removeprefix('are ')}"


def detectable(metric: Metric, variant: str) -> str:
    """Say what the sample could have shown: `could have shown ≥ 3.1 pts`."""
    minimum = metric.against[variant].minimum_detectable
    if minimum == 0:
        return "showed no change at all"
    if metric.unit == "share" and minimum > _room(metric):
        return "are too few to show any difference"
    smallest = difference(minimum, metric.unit).lstrip("+±")
    if not any(digit in smallest for digit in "123456789"):
        scale, unit = (100, " pts") if metric.unit == "share" else (1, "")
        smallest = f"{scale * minimum:.1g}{unit}"
    return f"could have shown ≥ {smallest}"


def _room(metric: Metric) -> float:
    """Return how far a share can move from the baseline's, which is the first column."""
    base = next(iter(metric.values.values())).value
    return max(base, 1 - base)


@dataclass(frozen=True)
class Cell:
    """One column of a metric in words; without an effect nothing is compared."""

    value: str  # `91.2%`
    interval: str  # `88.1–93.9%`
    n: int  # cases
    beside: str  # what the baseline had where answers were cut, if its column says otherwise
    effect: Effect | None = None
    change: str = ""  # `+31.2 pts`
    change_interval: str = ""  # `+27.0 to +35.1`
    significance: str = ""  # `within noise, p = .40; could have shown ≥ 4.2 pts`

    @property
    def sign(self) -> str:
        """Sign of the effect."""
        return EFFECT_SIGNS[self.effect] if self.effect else ""


def cell(metric: Metric, column: str, baseline: str) -> Cell | None:
    """Put one column of a metric into words; None if it was not measured."""
    estimate, unit = metric.values.get(column), metric.unit
    if estimate is None:
        return None
    shown = value(estimate.value, unit), interval(estimate.low, estimate.high, unit), estimate.n
    aside = beside(metric, column, baseline)
    if (paired := metric.against.get(column)) is None:
        return Cell(*shown, aside)
    return Cell(
        *shown,
        aside,
        metric.effect(column),
        difference(paired.delta, unit),
        difference_interval(paired.low, paired.high, unit),
        significance(metric, column),
    )


def beside(metric: Metric, column: str, baseline: str) -> str:
    """Write the baseline's value at equal length: `base 0.412 at equal length`.

    Empty where the column was not cut, or the value reads like the one in the baseline's column.
    """
    if metric.values[column].before is None:
        return ""
    before = value(metric.base_value(column, baseline), metric.unit)
    shown = value(metric.values[baseline].value, metric.unit)
    return "" if before == shown else f"{baseline} {before} at equal length"


@dataclass(frozen=True)
class GateText:
    """A gate in words: `Repetition`, `18.2%`, `≤ 25.0%`, its state and the reason for that."""

    label: str
    value: str
    bound: str
    state: GateState
    reason: str


# In the order in which they are shown: what needs the reader's eye comes first.
GATE_STATES: dict[GateState, str] = {
    "failed": "broken",
    "unjudged": "cannot be judged",
    "passed": "kept",
    "not_applicable": "does not apply",
}
GATE_SIGNS: dict[GateState, str] = {
    "failed": "✗",
    "unjudged": "?",
    "passed": "✓",
    "not_applicable": "–",
}


def gate_text(result: GateResult) -> GateText:
    """Put a gate into words; a bound on a drop is in percentage points."""
    gate = GATES[result.gate]
    measured, bound = "n/a", percent(result.bound)
    if result.value is not None:
        measured = value(result.value, "share")
        if result.state == "failed" and measured == value(result.bound, "share"):
            measured = f"{100 * result.value:.8g}%"  # 84.96 % is not to read 85.0 %, needs 85 %
    if gate.drop:
        measured, bound = measured.replace("%", " pts"), bound.replace("%", " pts")
    sign = "≥" if gate.bound == "least" else "≤"
    return GateText(gate.label, measured, f"{sign} {bound}", result.state, result.reason)


def gates_of(report: Report, variant: str) -> list[GateText]:
    """Return the gates of one variant, broken ones first."""
    gates = [gate_text(gate) for gate in report.gates if gate.variant == variant]
    return sorted(gates, key=lambda gate: list(GATE_STATES).index(gate.state))


def plain_name(name: str) -> str:
    """Write a name from the code as a reader says it: `field_order` is `field order`."""
    return name.replace("_", " ")


def columns(report: Report) -> list[str]:
    """Return the columns of the metrics table: the variants, then the human answers if any."""
    human = any(HUMAN in metric.values for metric in report.metrics)
    return [*report.variants, *([HUMAN] if human else [])]


def by_family(report: Report) -> list[tuple[Family, list[Metric]]]:
    """Return the metrics in the order of the questions a reader asks; no empty families."""
    groups = (
        (FAMILIES[key], [metric for metric in report.metrics if metric.family == key])
        for key in FAMILY_ORDER
    )
    return [(family, metrics) for family, metrics in groups if metrics]


def flips(report: Report) -> Iterator[tuple[SideBySide, str, bool]]:
    """Yield the cases that a variant fixed (True) or broke (False) against the baseline."""
    for sample in report.samples:
        before = sample.answers.get(report.baseline)
        for variant in report.tuned:
            after = sample.answers.get(variant)
            if before and after and before.correct != after.correct:
                yield sample, variant, after.correct


# Cc: controls, Cf: format characters (bidi overrides, zero-width), Cs: lone surrogates.
_HIDDEN = {"Cc", "Cf", "Cs"}
_HARMLESS = {"\n", "\t", "\u200d", "\ufe0f"}  # line breaks, tabs, and what emoji are joined with


def visible(text: str) -> str:
    """Show characters that hide or reorder text as `⟨U+202E⟩` instead of letting them act."""
    text = text.replace("\r\n", "\n")
    if text.replace("\n", "").isprintable():  # the common case, much faster than the loop
        return text
    return "".join(
        f"⟨U+{ord(char):04X}⟩"
        if char not in _HARMLESS and unicodedata.category(char) in _HIDDEN
        else char
        for char in text
    )


def shortened(text: str, limit: float, size: Callable[[str], float] = len) -> str:
    """Return the longest beginning that fits, with an ellipsis if something was cut.

    Args:
        text: what may be cut, between characters.
        limit: largest size, the ellipsis included.
        size: of a text; grows with it, by one at least for every character.
    """
    if size(text) <= limit:
        return text
    low, high = 0, min(len(text), int(limit))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(text[:middle] + "…") <= limit else (low, middle - 1)
    return text[:low].rstrip() + "…"


def quoted(text: str, length: int = 80) -> str:
    """Write a text on one line in quotation marks, shortened."""
    return f"“{shortened(' '.join(text.split()), length)}”"
