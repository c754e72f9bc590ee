"""Gates, and the answer in plain words: did it learn, is it a parrot, did it forget?"""

from __future__ import annotations

from collections.abc import Mapping

from eval.config import Gates
from eval.measures import MEASURES
from eval.pairing import HUMAN, Tables
from eval.report import wording
from eval.schema import GateResult, Metric, Paired
from nlirg.errors import InputError

Metrics = Mapping[str, Metric]

GATES = {
    "domain_accuracy_min": "domain_accuracy",
    "retention_min": "retention",
    "retention_drop_max": "ood_accuracy",
    "repetition_max": "repetition_3",
    "stop_rate_min": "stop_rate",
    "format_rate_min": "format_rate",
}
WHERE_ASKED = {"format_rate"}  # not defined means that no case asks for a form
_ROUNDING = 1e-9  # 0.9 - 0.8 is not to break a bound of 0.1


def judge_gates(metrics: Metrics, gates: Gates, baseline: str, variant: str) -> list[GateResult]:
    """Compare one variant with every bound whose suite was run.

    `retention_drop_max` bounds the fall of out-of-domain accuracy below the baseline's.

    Raises:
        InputError: if the suite was run but the metric is not defined on it: a gate that cannot
            be judged does not count as kept.
    """
    families = {metric.family for metric in metrics.values()}
    needs = {measure.key: measure.family for measure in MEASURES}
    results = []
    for gate, key in GATES.items():
        bound = getattr(gates, gate)
        if bound is None or needs[key] not in families:
            continue
        if key not in metrics:
            if key in WHERE_ASKED:
                continue
            raise InputError(
                f"gate {gate}: {key} is not defined here, as {baseline!r} gets no question of "
                f"suite {needs[key]!r} right; set evaluate.gates.{gate}=null or give other cases"
            )
        values = metrics[key].values
        value = values[variant].value
        if gate == "retention_drop_max":
            value = values[baseline].value - value
        within = bound - value if gate.endswith("_max") else value - bound
        passed = within >= -_ROUNDING
        results.append(
            GateResult(
                variant=variant, gate=gate, metric=key, bound=bound, value=value, passed=passed
            )
        )
    return results


def judge(metrics: Metrics, tables: Tables, baseline: str, variant: str) -> list[str]:
    """Three sentences on one variant, and one more if answers failed."""
    sentences = [
        _learned(metrics, baseline, variant),
        _parrot(metrics, baseline, variant),
        _forgot(metrics, baseline, variant),
    ]
    failed = {suite: table.left_out for suite, table in tables.items() if table.left_out}
    if failed:
        counts = ", ".join(f"{count} of {suite}" for suite, count in failed.items())
        sentences.append(f"Left out, because an answer failed for some variant: {counts} cases.")
    return sentences


def _learned(metrics: Metrics, baseline: str, variant: str) -> str:
    metric = metrics.get("domain_accuracy")
    if metric is None:
        return "Learned? Not measured: there are no domain cases."
    leads = {
        "better": "Yes, it learned the domain",
        "worse": "No, it got worse at the domain",
        "unclear": "Not shown to have learned the domain",
    }
    lead = leads[wording.effect(metric, metric.against[variant])]
    return f"Learned? {lead}: accuracy {_change(metric, baseline, variant)}."


def _parrot(metrics: Metrics, baseline: str, variant: str) -> str:
    if "repetition_3" not in metrics:
        return "Parrot? Not measured: there are no sampled answers."
    metric = metrics.get("distinct_2", metrics["repetition_3"])
    leads = {
        "better": "Less of one than before",
        "worse": "More of one than before",
        "unclear": "No clear change",
    }
    lead = leads[wording.effect(metric, metric.against[variant])]
    text = f"Parrot? {lead}: {_name(metric)} {_change(metric, baseline, variant)}{_human(metric)}"
    openings = metrics["opening_share"]
    before, now = (_value(openings, name) for name in (baseline, variant))
    compared = f"{baseline} {before}{_human(openings)}"
    return f"{text}. One opening begins {now} of its answers ({compared})."


def _forgot(metrics: Metrics, baseline: str, variant: str) -> str:
    metric = metrics.get("ood_accuracy")
    if metric is None:
        return "Forgot? Not measured: there are no out-of-domain cases."
    retention = metrics.get("retention")
    if retention is None:
        return (
            f"Forgot? Cannot be seen: {baseline} gets none of the "
            f"{metric.values[baseline].n} general questions right."
        )
    leads = {
        "better": "No, it got better at general questions",
        "worse": "Yes, it forgot",
        "unclear": "No clear change",
    }
    lead = leads[wording.effect(metric, metric.against[variant])]
    kept = retention.values[variant]
    return (
        f"Forgot? {lead}: accuracy on general questions {_change(metric, baseline, variant)}. "
        f"Of the {kept.n} that {baseline} gets right it still gets "
        f"{_value(retention, variant)} right."
    )


def _excludes_zero(paired: Paired) -> bool:
    return paired.low > 0 or paired.high < 0


def _change(metric: Metric, baseline: str, variant: str) -> str:
    """`12.0% → 64.0% (+52.0 pts, interval +45.1 to +58.8, excludes zero, p < .001)`."""
    paired = metric.against[variant]
    before, now = (_value(metric, name) for name in (baseline, variant))
    ends = wording.difference_interval(paired.low, paired.high, metric.unit)
    zero = "excludes zero" if _excludes_zero(paired) else "includes zero"
    parts = [
        wording.difference(paired.delta, metric.unit),
        f"interval {ends} {zero}",
        f"{wording.probability(paired.p_holm)} adjusted",
    ]
    if wording.effect(metric, paired) == "unclear":
        least = wording.difference(paired.minimum_detectable, metric.unit).lstrip("+±")
        parts.append(f"{paired.n} cases could have shown {least}")
    return f"{before} → {now} ({', '.join(parts)})"


def _value(metric: Metric, variant: str) -> str:
    return wording.value(metric.values[variant].value, metric.unit)


def _name(metric: Metric) -> str:
    return metric.label[0].lower() + metric.label[1:]


def _human(metric: Metric) -> str:
    return f", human answers {_value(metric, HUMAN)}" if HUMAN in metric.values else ""
