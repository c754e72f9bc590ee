"""Gates: bounds that a tuned variant must keep. Each is judged or said not to be; none vanishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval import wording
from eval.config import Gates
from eval.metrics.catalogue import COMMONSENSE, INSTRUCTIONS, MEASURES, task_family
from eval.schema.case import Case
from eval.schema.report import GateResult, Metric
from eval.schema.sample import Sample
from eval.statistics.pairing import Tables
from nlirg.errors import InputError

GATES = {
    "domain_accuracy_min": "domain_accuracy",
    "instruction_following_min": "instruction_following",
    "commonsense_drop_max": "commonsense_accuracy",
    "retention_min": "retention",
    "retention_drop_max": "ood_accuracy",
    "repetition_max": "repetition_3",
    "stop_rate_min": "stop_rate",
    "format_rate_min": "format_rate",
}
TASK_FAMILIES = {
    "instruction_following_min": INSTRUCTIONS,
    "commonsense_drop_max": COMMONSENSE,
}
_SUITES = {measure.key: measure.family for measure in MEASURES}
_ROUNDING = 1e-9  # 0.9 - 0.8 is not to break a bound of 0.1


def judge_gates(
    metrics: Mapping[str, Metric], tables: Tables, gates: Gates, baseline: str, variant: str
) -> list[GateResult]:
    """Compare one variant with every bound that is set.

    A `..._drop_max` bounds the fall below the baseline's value.
    """
    bounds = {gate: getattr(gates, gate) for gate in GATES}
    return [
        _judge(gate, bound, metrics, tables, baseline, variant)
        for gate, bound in bounds.items()
        if bound is not None
    ]


def _judge(
    gate: str,
    bound: float,
    metrics: Mapping[str, Metric],
    tables: Tables,
    baseline: str,
    variant: str,
) -> GateResult:
    key = GATES[gate]
    result = GateResult(
        variant=variant, gate=gate, metric=key, bound=bound, value=None, state="unjudged"
    )
    if key not in metrics:
        return result.model_copy(update=_unmeasured(gate, tables, baseline))
    values = metrics[key].values
    value, before = values[variant].value, values[baseline].value
    reason = ""
    if gate.endswith("_drop_max"):
        value = before - value
    elif not _keeps(gate, before, bound):
        reason = f"{baseline} itself misses it with {wording.value(before, 'share')}"
    state = "passed" if _keeps(gate, value, bound) else "failed"
    left_out = sum(_bounds(gate, sample) for sample in tables[_SUITES[key]].dropped)
    worst = _at_worst(gate, value, values[variant].n, left_out)
    if state == "passed" and not _keeps(gate, worst, bound):
        state = "unjudged"
        reason = f"{left_out} cases were left out for errors, and could break it"
    return result.model_copy(update={"value": value, "state": state, "reason": reason})


def _bounds(gate: str, sample: Sample) -> bool:
    """Whether a gate is about a case that was left out."""
    if gate in TASK_FAMILIES:
        return task_family(sample.task_type) == TASK_FAMILIES[gate]
    if gate == "format_rate_min":  # where nobody answered, it is not known
        return sample.format_ok is not None or bool(sample.error)
    return True


def _at_worst(gate: str, value: float, cases: int, left_out: int) -> float:
    """A gate's value if the variant had failed in every case that was left out."""
    share = left_out / (cases + left_out)
    return value * (1 - share) + (share if gate.endswith("_max") else 0.0)


def _keeps(gate: str, value: float, bound: float) -> bool:
    within = bound - value if gate.endswith("_max") else value - bound
    return within >= -_ROUNDING


def _unmeasured(gate: str, tables: Tables, baseline: str) -> dict[str, str]:
    """Why there is no metric for a gate, and what that makes of it."""
    suite = _SUITES[GATES[gate]]
    if suite not in tables:
        return {"reason": f"suite {suite!r} has no answers"}
    if gate == "format_rate_min":
        if all(sample.format_ok is None for sample in tables[suite].cases):
            return {"state": "not_applicable", "reason": "no case asks for a format"}
        return {"reason": "only one case asks for a format"}
    if gate in TASK_FAMILIES:
        return {"reason": f"{suite!r} has fewer than two cases of {_kind(gate)}"}
    if gate == "retention_min":
        return {"reason": f"{baseline!r} gets no question of suite {suite!r} right"}
    return {"reason": f"{GATES[gate]} is not defined on the answers of suite {suite!r}"}


def _kind(gate: str) -> str:
    return f"task type '{TASK_FAMILIES[gate]}/...'"


def require_cases(gates: Gates, ood: Sequence[Case]) -> None:
    """Refuse bounds that the out-of-domain cases of a recipe cannot be held against.

    Raises:
        InputError: naming the gate and the key that switches it off.
    """
    for gate, key in GATES.items():
        if _SUITES[key] != "ood" or getattr(gates, gate) is None:
            continue
        wanted = TASK_FAMILIES.get(gate)
        fitting = [case for case in ood if wanted in (None, task_family(case.task_type))]
        if len(fitting) < 2:
            kind = f" of {_kind(gate)}" if wanted else ""
            raise InputError(
                f"gate {gate} needs two or more out-of-domain cases{kind}, and evaluate.ood has "
                f"{len(fitting)}: add 'probe' to evaluate.ood, or set evaluate.gates.{gate}=null"
            )


def unjudged(gates: Sequence[GateResult]) -> list[str]:
    """The gates that could not be judged, each with what is missing."""
    missing = (gate for gate in gates if gate.state == "unjudged")
    return list(dict.fromkeys(f"gate {gate.gate}: {gate.reason}" for gate in missing))
