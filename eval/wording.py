"""How numbers, effects and foreign text are put into words; shared by all forms of the report."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from typing import Literal, NamedTuple

from eval.schema.case import SUITES, Suite
from eval.schema.report import GateResult, GateState, Metric, Paired, Report, SideBySide

Unit = Literal["share", "number", "tokens"]
Effect = Literal["better", "worse", "changed", "unclear"]

EFFECT_SIGNS: dict[Effect, str] = {"better": "▲", "worse": "▼", "changed": "◆", "unclear": "○"}


class Family(NamedTuple):
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
    """A measured value: `91.2%`, `0.084`, `45.2`; `n/a` where there is none."""
    if not math.isfinite(number):
        return "n/a"
    if unit == "share":
        text = f"{100 * number:.1f}%"
    else:
        text = f"{number:,.1f}" if unit == "tokens" else _plain(number)
    return text.replace("-", "−")


def difference(number: float, unit: Unit) -> str:
    """A signed difference; shares differ by percentage points (`+31.2 pts`)."""
    if not math.isfinite(number):
        return "n/a"
    text = f"{100 * number:.1f} pts" if unit == "share" else value(number, unit)
    digits = text.lstrip("-−")
    if not any(digit in digits for digit in "123456789"):
        return f"±{digits}"
    return f"−{digits}" if number < 0 else f"+{digits}"


def interval(low: float, high: float, unit: Unit) -> str:
    """The interval of a value: `88.1–93.9%`."""
    left, right = value(low, unit), value(high, unit)
    return f"{left.removesuffix('%') if right.endswith('%') else left}–{right}"


def difference_interval(low: float, high: float, unit: Unit) -> str:
    """The interval of a difference: `+27.0 to +35.1`."""
    ends = (difference(end, unit).removesuffix(" pts") for end in (low, high))
    return " to ".join(ends)


def before(metric: Metric, column: str, baseline: str) -> str:
    """What the baseline had where a variant, or the human answers, were measured beside it."""
    beside = metric.values[column].before
    return value(metric.values[baseline].value if beside is None else beside, metric.unit)


def beside(metric: Metric, column: str, baseline: str) -> str:
    """`base 0.412 at equal length`, where that is not the value shown for the baseline."""
    if metric.values[column].before is None:
        return ""
    found = before(metric, column, baseline)
    same = found == value(metric.values[baseline].value, metric.unit)
    return "" if same else f"{baseline} {found} at equal length"


def probability(p: float) -> str:
    """A p-value as it is printed in papers: `p < .001`, `p = .021`."""
    if p < 0.001:
        return "p < .001"
    digits = f"{p:.2f}" if p >= 0.1 else f"{p:.3f}"
    if (p < 0.05) != (float(digits) < 0.05):  # .0496 is not to read .050
        digits = f"{p:.4f}"
    return f"p = {digits.removeprefix('0')}"


def effect(metric: Metric, paired: Paired) -> Effect:
    """Whether a difference is significant and, if so, in which direction."""
    if not paired.significant:
        return "unclear"
    if metric.better == "neither":
        return "changed"
    return "better" if (paired.delta > 0) == (metric.better == "higher") else "worse"


def significance(metric: Metric, paired: Paired) -> str:
    """One phrase: the verdict on the difference with its adjusted p-value."""
    p = probability(paired.p_holm)
    if effect(metric, paired) != "unclear":
        return f"significant, {p}"
    if paired.p_holm < paired.alpha:
        return f"unclear: {p}, but the interval includes zero"
    return f"within noise, {p}; {detectable(metric, paired).removeprefix('are ')}"


def detectable(metric: Metric, paired: Paired) -> str:
    """What the sample could have shown: `could have shown ≥ 3.1 pts`."""
    if paired.minimum_detectable == 0:
        return "showed no change at all"
    if metric.unit == "share" and paired.minimum_detectable > _room(metric):
        return "are too few to show any difference"
    smallest = difference(paired.minimum_detectable, metric.unit).lstrip("+±")
    if not any(digit in smallest for digit in "123456789"):
        scale, unit = (100, " pts") if metric.unit == "share" else (1, "")
        smallest = f"{scale * paired.minimum_detectable:.1g}{unit}"
    return f"could have shown ≥ {smallest}"


def _room(metric: Metric) -> float:
    """How far a share can move from the baseline's, which is the first column."""
    base = next(iter(metric.values.values())).value
    return max(base, 1 - base)


class GateText(NamedTuple):
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


def gate_text(gate: GateResult) -> GateText:
    """Words for a gate, from its name: `<what>_min` or `<what>_max`.

    All gates are shares; a gate on a `..._drop` bounds a difference of shares.
    """
    sign = "≥" if gate.gate.endswith("_min") else "≤"
    measured = "n/a" if gate.value is None else value(gate.value, "share")
    bound = value(gate.bound, "share")
    if gate.value is not None and gate.state == "failed" and measured == bound:
        measured = f"{100 * gate.value:.8g}%"  # 84.96 % is not to read 85.0 %, needs 85 %
    if gate.gate.endswith("_drop_max"):
        measured, bound = measured.replace("%", " pts"), bound.replace("%", " pts")
    return GateText(
        gate_label(gate.gate),
        measured,
        f"{sign} {bound.replace('.0', '')}",
        gate.state,
        gate.reason,
    )


def gate_label(gate: str) -> str:
    """`domain_accuracy_min` is the gate `Domain accuracy`."""
    return (gate.rpartition("_")[0] or gate).replace("_", " ").capitalize()


def gates_of(report: Report, variant: str) -> list[GateText]:
    """The gates of one variant, broken ones first."""
    gates = [gate_text(gate) for gate in report.gates if gate.variant == variant]
    return sorted(gates, key=lambda gate: list(GATE_STATES).index(gate.state))


def headline_parts(headline: str) -> tuple[str, str]:
    """Split a headline at its first semicolon: the three answers, and what the gates say."""
    answers, _, gates = headline.partition("; ")
    return answers, gates


def lead_and_proof(sentence: str) -> tuple[str, str]:
    """Split a verdict at its first colon: the answer, and the numbers that support it."""
    lead, _, proof = sentence.partition(": ")
    return lead, proof


def plain_name(name: str) -> str:
    """A name from the code as a reader says it: `field_order` is `field order`."""
    return name.replace("_", " ")


def columns(report: Report) -> list[str]:
    """Columns of the metrics table: the variants, baseline first, then the human answers."""
    human = any("human" in metric.values for metric in report.metrics)
    return [*report.variants, *(["human"] if human else [])]


def tuned(report: Report) -> list[str]:
    """Every variant but the baseline."""
    return [variant for variant in report.variants if variant != report.baseline]


def by_family(report: Report) -> list[tuple[Family, list[Metric]]]:
    """The metrics in the order of the questions a reader asks; empty families left out."""
    groups = (
        (FAMILIES[key], [metric for metric in report.metrics if metric.family == key])
        for key in FAMILY_ORDER
    )
    return [(family, metrics) for family, metrics in groups if metrics]


def flips(report: Report) -> Iterator[tuple[SideBySide, str, bool]]:
    """Cases that a variant fixed (True) or broke (False) against the baseline."""
    for sample in report.samples:
        before = sample.answers.get(report.baseline)
        for variant in tuned(report):
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
