"""Gates: bounds that a tuned variant must keep. Each is judged or reported as not judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from eval.config import Gates
from eval.metrics.catalogue import COMMONSENSE, INSTRUCTIONS, MEASURES, task_family
from eval.schema.case import Case, Suite
from eval.schema.report import GateResult, Metric
from eval.schema.sample import Sample
from eval.statistics.pairing import Tables
from nlirg.errors import InputError

_SUITES = {measure.key: measure.family for measure in MEASURES}
_ROUNDING = 1e-9  # 0.9 - 0.8 is not to break a bound of 0.1


@dataclass(frozen=True)
class Gate:
    """What one field of `eval.config.Gates` bounds.

    Attributes:
        label: its name for a reader.
        metric: key of the metric, a share.
        bound: `least` if the value must reach the bound, `most` if it must not exceed it.
        drop: bounds the fall below the baseline's value instead of the value.
        task_family: family of task types that the metric is measured on, if not the whole suite.
    """

    label: str
    metric: str
    bound: Literal["least", "most"]
    drop: bool = False
    task_family: str = ""

    @property
    def suite(self) -> Suite:
        """The suite that the metric is measured on."""
        return _SUITES[self.metric]

    def keeps(self, value: float, bound: float) -> bool:
        """Return whether a value keeps a bound, rounding errors aside."""
        within = bound - value if self.bound == "most" else value - bound
        return within >= -_ROUNDING

    def concerns(self, sample: Sample) -> bool:
        """Return whether a case that was left out is among those that the metric is about."""
        if self.task_family:
            return task_family(sample.task_type) == self.task_family
        if self.metric == "format_rate":  # where nobody answered, it is not known
            return sample.format_ok is not None or bool(sample.error)
        return True

    def at_worst(self, value: float, cases: int, left_out: int) -> float:
        """Return the value if the variant had failed in every case that was left out."""
        share = left_out / (cases + left_out)
        return value * (1 - share) + (share if self.bound == "most" else 0.0)


GATES = {
    "domain_accuracy_min": Gate("Domain accuracy", "domain_accuracy", "least"),
    "instruction_following_min": Gate(
        "Instruction following", "instruction_following", "least", task_family=INSTRUCTIONS
    ),
    "commonsense_drop_max": Gate(
        "Commonsense drop", "commonsense_accuracy", "most", drop=True, task_family=COMMONSENSE
    ),
    "retention_min": Gate("Retention", "retention", "least"),
    "retention_drop_max": Gate("Retention drop", "ood_accuracy", "most", drop=True),
    "repetition_max": Gate("Repetition", "repetition_3", "most"),
    "stop_rate_min": Gate("Stop rate", "stop_rate", "least"),
    "format_rate_min": Gate("Format rate", "format_rate", "least"),
}


def judge_gates(
    metrics: Mapping[str, Metric], tables: Tables, gates: Gates, baseline: str, variant: str
) -> list[GateResult]:
    """Compare one variant with every bound that is set."""
    results = []
    for name, gate in GATES.items():
        if (bound := getattr(gates, name)) is None:
            continue
        metric = metrics.get(gate.metric)
        judged: dict[str, Any] = (
            _judge(gate, bound, metric, tables, baseline, variant)
            if metric
            else {"value": None, "state": "unjudged", **_unmeasured(gate, tables, baseline)}
        )
        results.append(
            GateResult(variant=variant, gate=name, metric=gate.metric, bound=bound, **judged)
        )
    return results


def _judge(
    gate: Gate, bound: float, metric: Metric, tables: Tables, baseline: str, variant: str
) -> dict[str, Any]:
    """Return value, state and reason of a gate whose metric was measured."""
    value, before = metric.values[variant].value, metric.values[baseline].value
    reason = ""
    if gate.drop:
        value = before - value
    elif not gate.keeps(before, bound):
        reason = f"{baseline} itself misses it with {before:.1%}"
    state = "passed" if gate.keeps(value, bound) else "failed"
    left_out = sum(map(gate.concerns, tables[gate.suite].dropped))
    worst = gate.at_worst(value, metric.values[variant].n, left_out)
    if state == "passed" and not gate.keeps(worst, bound):
        state = "unjudged"
        reason = f"{left_out} cases were left out for errors, and could break it"
    return {"value": value, "state": state, "reason": reason}


def _unmeasured(gate: Gate, tables: Tables, baseline: str) -> dict[str, str]:
    """Return why there is no metric for a gate, and its state if that is not `unjudged`."""
    suite = gate.suite
    if suite not in tables:
        return {"reason": f"suite {suite!r} has no answers"}
    if gate.metric == "format_rate":
        if all(sample.format_ok is None for sample in tables[suite].cases):
            return {"state": "not_applicable", "reason": "no case asks for a format"}
        return {"reason": "only one case asks for a format"}
    if gate.task_family:
        return {"reason": f"{suite!r} has fewer than two cases of {_kind(gate)}"}
    if gate.metric == "retention":
        return {"reason": f"{baseline!r} gets no question of suite {suite!r} right"}
    return {"reason": f"{gate.metric} is not defined on the answers of suite {suite!r}"}


def _kind(gate: Gate) -> str:
    return f"task type '{gate.task_family}/...'"


def require_cases(gates: Gates, ood: Sequence[Case], limited: bool = False) -> None:
    """Refuse bounds that the out-of-domain cases of a recipe cannot be held against.

    Args:
        gates: the bounds.
        ood: the cases that are asked.
        limited: whether `evaluate.max_cases` has left some out.

    Raises:
        InputError: naming the gate and the key that switches it off.
    """
    for name, gate in GATES.items():
        if gate.suite != "ood" or getattr(gates, name) is None:
            continue
        fitting = [c for c in ood if gate.task_family in ("", task_family(c.task_type))]
        if len(fitting) < 2:
            kind = f" of {_kind(gate)}" if gate.task_family else ""
            raise InputError(
                f"gate {name} needs two or more out-of-domain cases{kind}, and "
                f"{len(fitting)} are asked: "
                + ("raise evaluate.max_cases, " if limited else "")
                + f"add 'probe' to evaluate.ood, or set evaluate.gates.{name}=null"
            )


def unjudged(gates: Sequence[GateResult]) -> list[str]:
    """List the gates that could not be judged, each with what is missing."""
    missing = (gate for gate in gates if gate.state == "unjudged")
    return list(dict.fromkeys(f"gate {gate.gate}: {gate.reason}" for gate in missing))
