"""What is concluded about a variant: did it learn, is it a parrot, did it forget?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.schema.report import (
    Conclusion,
    Effect,
    GateResult,
    Metric,
    Question,
    Severity,
    Verdict,
)
from eval.statistics.pairing import HUMAN

Metrics = Mapping[str, Metric]

# What tells a parrot, the one whose numbers are quoted first. How long answers are, and whether
# they end by themselves, is not among them: short answers can be as varied as long ones.
SAMENESS = (
    "distinct_2",
    "repetition_3_equal",
    "distinct_1",
    "top_phrases_share",
    "opening_share",
    "closing_share",
    "duplicate_share",
    "compression",
    "empty_share",
)


def judge(metrics: Metrics, gates: Sequence[GateResult], variant: str) -> Verdict:
    """Answer the three questions about one variant, and weigh them with its gates."""
    conclusions = [
        _learned(metrics, variant), _parrot(metrics, variant), _forgot(metrics, variant)
    ]  # fmt: skip
    return Verdict(severity=_severity(conclusions, gates), conclusions=conclusions)


def _severity(conclusions: Sequence[Conclusion], gates: Sequence[GateResult]) -> Severity:
    states = {gate.state for gate in gates}
    if states & {"failed", "unjudged"}:
        return "bad"
    if any(conclusion.severity == "mixed" for conclusion in conclusions):
        return "mixed"
    return "good" if "passed" in states else "open"


def _unmeasured(question: Question) -> Conclusion:
    return Conclusion(question=question, outcome="unmeasured", severity="open")


def _learned(metrics: Metrics, variant: str) -> Conclusion:
    metric = metrics.get("domain_accuracy")
    return _by_accuracy("learned", metric, variant) if metric else _unmeasured("learned")


def _by_accuracy(
    question: Question, metric: Metric, variant: str, lost: int = 0, gained: int = 0
) -> Conclusion:
    effect = metric.effect(variant)
    return Conclusion(
        question=question,
        outcome=effect,
        severity="mixed" if effect == "worse" else "good",
        evidence={metric.key: effect},
        lost=lost,
        gained=gained,
    )


def _parrot(metrics: Metrics, variant: str) -> Conclusion:
    """Conclude from the measures of sameness that the variant has a difference in."""
    measured = [
        metrics[key] for key in SAMENESS if key in metrics and variant in metrics[key].against
    ]
    if not measured:
        return _unmeasured("parrot")
    evidence = {metric.key: metric.effect(variant) for metric in measured}
    outcome = _parroting(list(evidence.values()))
    like_people = _like_people(
        [metric for metric in measured if evidence[metric.key] == "worse"], variant
    )
    harm = outcome in ("worse", "changed") and not like_people
    return Conclusion(
        question="parrot",
        outcome=outcome,
        severity="mixed" if harm else "good",
        evidence=evidence,
        like_people=like_people,
    )


def _parroting(effects: Sequence[Effect]) -> Effect:
    """Sum up what became of the measures of sameness.

    `better` only if none got worse: several of them gain together from one change (words that are
    new in the first sentence), so that they may not outvote the others; `worse` if most did.
    That one of several would be called different by chance is what Holm's correction bounds.
    """
    worse, better = effects.count("worse"), effects.count("better")
    if worse and better:
        return "worse" if worse > better else "changed"
    return "worse" if worse else "better" if better else "unclear"


def _like_people(worse: Sequence[Metric], variant: str) -> bool:
    """Return whether no measure that got worse lies beyond the human answers' interval."""
    known = [metric for metric in worse if HUMAN in metric.values]
    return bool(known) and not any(
        metric.values[variant].value < metric.values[HUMAN].low
        if metric.better == "higher"
        else metric.values[variant].value > metric.values[HUMAN].high
        for metric in known
    )


def _forgot(metrics: Metrics, variant: str) -> Conclusion:
    """Conclude from general accuracy; a base that gets nothing right has nothing to forget."""
    accuracy, retention = metrics.get("ood_accuracy"), metrics.get("retention")
    if accuracy is None or retention is None:
        return _unmeasured("forgot")
    paired, kept = accuracy.against[variant], retention.values[variant]
    lost = round(kept.n * (1 - kept.value))
    gained = lost + round(paired.n * paired.delta)
    return _by_accuracy("forgot", accuracy, variant, lost=lost, gained=gained)
