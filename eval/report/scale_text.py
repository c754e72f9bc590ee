"""What an arm learned and at what cost, at which scales, and which to choose: in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from eval.report import wording
from eval.report.plane import metrics_of
from eval.schema.case import Suite
from eval.schema.report import (
    Estimate,
    GateResult,
    GateState,
    Paired,
    Report,
    ScaleChoice,
    ScaleCurve,
    ScalePoint,
)
from eval.verdict.gates import GATES

MARKS: dict[GateState | None, str] = {
    "passed": "✓ chosen",
    "failed": "✗ chosen, but broken on the other half",
}
ENDS: dict[float, str] = {0: "0 (base)", 1: "1 (the arm)"}


@dataclass(frozen=True)
class ScaleRow:
    """One scale of an arm in words: `0.5`, `64.0%`, `60.1–67.7%`, ... and `keeps all 6`.

    `mark` is empty but at the chosen scale, where it says what other cases make of the choice.
    """

    scale: str
    domain: str
    domain_interval: str
    retention: str
    retention_interval: str
    gates: str
    mark: str


@dataclass(frozen=True)
class ScaleText:
    """The scales of one arm: a row each, and a sentence on which to choose."""

    rows: list[ScaleRow]
    choice: str


def learned_at_a_cost(learned: Paired, retention: Estimate | None) -> str:
    """Write `learned 52.0 pts of the domain (...) at a cost of 2.9% of what it knew (...)`.

    Args:
        learned: domain accuracy against the base.
        retention: share of what the base gets right that is still right.
    """
    verb = "lost" if learned.delta < 0 else "learned"
    points = wording.difference(abs(learned.delta), "share").lstrip("+±")
    ends = wording.difference_interval(learned.low, learned.high, "share")
    text = f"{verb} {points} of the domain (interval {ends})"
    if retention is None:
        return text
    lost = wording.value(1 - retention.value, "share")
    ends = wording.interval(1 - retention.high, 1 - retention.low, "share")
    return f"{text} at a cost of {lost} of what it knew (interval {ends})"


def costs(report: Report) -> dict[str, str]:
    """Write what every tuned variant learned at what cost; empty where that was not measured."""
    if (found := metrics_of(report)) is None:
        return {}
    learned, kept = found
    return {
        name: f"{learned_at_a_cost(learned.against[name], kept.values[name])}."
        for name in report.tuned
        if name in learned.against and name in kept.values
    }


def scale_texts(report: Report) -> dict[str, ScaleText]:
    """Put every arm's scales into words."""
    return {
        arm: ScaleText([_row(point, curve) for point in curve.points], choice_text(curve))
        for arm, curve in report.scales.items()
    }


def scale_lines(report: Report) -> Iterator[str]:
    """Yield a line for every arm: what it learned at what cost, and the scale to choose."""
    told = costs(report)
    texts = scale_texts(report)
    for name in report.tuned:
        if name in told:
            yield f"{name} {told[name]}"
        if name in texts:
            yield f"{name}: {texts[name].choice}"


def _row(point: ScalePoint, curve: ScaleCurve) -> ScaleRow:
    kept = point.retention
    return ScaleRow(
        scale=ENDS.get(point.scale, f"{point.scale:g}"),
        domain=wording.value(point.domain.value, "share"),
        domain_interval=wording.interval(point.domain.low, point.domain.high, "share"),
        retention="–" if kept is None else wording.value(kept.value, "share"),
        retention_interval=""
        if kept is None or point.scale == 0
        else wording.interval(kept.low, kept.high, "share"),
        gates="–" if point.scale == 0 else _gates(point.gates),
        mark=MARKS.get(curve.choice.state, "? chosen") if curve.choice.scale == point.scale else "",
    )


def _gates(gates: Sequence[GateResult]) -> str:
    """Write `keeps all 6`, `breaks retention`, `cannot judge stop rate`."""
    applied = [gate for gate in gates if gate.state != "not_applicable"]
    parts = [
        f"{verb} {', '.join(GATES[gate.gate].label.lower() for gate in found)}"
        for state, verb in (("failed", "breaks"), ("unjudged", "cannot judge"))
        if (found := [gate for gate in applied if gate.state == state])
    ]
    if parts:
        return "; ".join(parts)
    if not applied:
        return "none judged"
    return f"keeps all {len(applied)}" if len(applied) > 1 else "keeps it"


def choice_text(curve: ScaleCurve) -> str:
    """Say in a few sentences which scale to choose, or why none was chosen."""
    choice = curve.choice
    half = f"half of the cases ({_counted(choice.cases)})"
    if choice.outcome == "no_gates":
        return "No gate applies, so that nothing chooses a scale."
    if choice.outcome == "unjudged":
        return f"No scale was chosen, since gates could not be judged: {choice.reason}."
    if choice.outcome == "none":
        return f"No scale keeps every gate: on {half} each breaks at least one."
    name = "1, the arm itself," if choice.scale == 1 else f"{choice.scale:g}"
    return (
        f"Scale {name} is the strongest that keeps every gate, chosen on {half}. "
        f"{_on_the_rest(choice)}"
    )


def _on_the_rest(choice: ScaleChoice) -> str:
    if choice.trial is None:
        return f"It could not be tried on cases that had no part in the choice: {choice.reason}."
    trial = choice.trial
    told = learned_at_a_cost(trial.learned, trial.retention)
    text = f"On the other half ({_counted(choice.other_cases)}) it {told}, and "
    if choice.state == "failed":
        broken = [wording.gate_text(gate) for gate in trial.gates if gate.state == "failed"]
        names = ", ".join(
            f"{gate.label.lower()} {gate.value}, needs {gate.bound}" for gate in broken
        )
        return f"{text}breaks there what it kept where it was chosen: {names}. Do not rely on it."
    if choice.state == "unjudged":
        reasons = "; ".join(gate.reason for gate in trial.gates if gate.state == "unjudged")
        return f"{text}not every gate can be judged there: {reasons}."
    return f"{text}keeps them there, too."


def _counted(cases: Mapping[Suite, int]) -> str:
    counts = ", ".join(f"{count} {wording.SUITE_NAMES[suite]}" for suite, count in cases.items())
    return counts or "none"
