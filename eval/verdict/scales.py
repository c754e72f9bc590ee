"""Every arm at several scales: the curve of learning against keeping, and the scale to choose.

A scale that is chosen because it keeps the gates on some cases keeps them there by choice. So half
of the cases choose, and the other half says what the chosen scale is worth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.config import EvaluateConfig
from eval.metrics.catalogue import MEASURES, build_metrics
from eval.schema.case import Suite
from eval.schema.report import (
    Estimate,
    GateResult,
    Metric,
    ScaleChoice,
    ScaleCurve,
    ScalePoint,
    ScaleTrial,
)
from eval.schema.sample import Sample
from eval.statistics.estimates import ComparisonConfig
from eval.statistics.pairing import Tables, pair_samples
from eval.verdict.gates import GATES, judge_gates, unjudged
from nlirg.errors import InputError

SCALE_SUITES: tuple[Suite, ...] = ("domain", "template", "ood")
LEARNED, KEPT = "domain_accuracy", "retention"
_MEASURES = [m for m in MEASURES if m.key in {LEARNED, KEPT, *(g.metric for g in GATES.values())}]

Samples = Mapping[str, Sequence[Sample]]


@dataclass(frozen=True)
class _Judged:
    """Some cases' answers of one arm at all scales: paired, and measured where gates look."""

    tables: Tables
    metrics: Mapping[str, Metric]
    config: EvaluateConfig
    baseline: str

    def gates(self, variant: str) -> list[GateResult]:
        return judge_gates(self.metrics, self.tables, self.config.gates, self.baseline, variant)

    def retention(self, variant: str) -> Estimate | None:
        kept = self.metrics.get(KEPT)
        return None if kept is None else kept.values[variant]

    @property
    def cases(self) -> dict[Suite, int]:
        return {suite: len(table.cases) for suite, table in self.tables.items()}


def scale_curves(
    samples: Samples,
    baseline: str,
    scales: Mapping[str, Mapping[float, str]],
    config: EvaluateConfig,
    seed: int,
) -> dict[str, ScaleCurve]:
    """Draw every arm's curve over all cases, and choose its scale on half of them.

    Args:
        samples: variant -> its samples; of suites that do not count here, too.
        baseline: the base model's name.
        scales: arm -> scale -> the variant that is the arm at that scale, the arm itself aside.
        config: gates, number of bootstrap resamples, confidence.
        seed: of the halves and of resampling.

    Raises:
        InputError: if the samples of all cases cannot be paired.
    """
    return {
        arm: _curve(samples, baseline, arm, of_arm, config, seed) for arm, of_arm in scales.items()
    }


def searches(sample: Sample, seed: int) -> bool:
    """Return whether a case belongs to the half that chooses.

    It depends on the root alone, so that all that is made of one question is in one half, whatever
    else is asked.
    """
    digest = hashlib.sha256(f"{seed}/{sample.root_id or sample.case_id}".encode()).digest()
    return digest[0] % 2 == 0


def _curve(
    samples: Samples,
    baseline: str,
    arm: str,
    of_arm: Mapping[float, str],
    config: EvaluateConfig,
    seed: int,
) -> ScaleCurve:
    variants = dict(sorted({**of_arm, 1.0: arm}.items()))
    asked = {
        name: [sample for sample in samples[name] if sample.suite in SCALE_SUITES]
        for name in (baseline, *variants.values())
    }
    whole = _judged(asked, baseline, config, seed)
    choice, gates = _choose(asked, baseline, variants, config, seed)
    points = [_point(whole, 0.0, baseline, [])]
    points += [_point(whole, s, name, gates.get(s, [])) for s, name in variants.items()]
    return ScaleCurve(points=points, choice=choice)


def _judged(samples: Samples, baseline: str, config: EvaluateConfig, seed: int) -> _Judged:
    tables = pair_samples(samples, baseline, config.max_error_share)
    if "domain" not in tables:
        raise InputError("suite 'domain' has no answers, so that no scale can be told from another")
    settings = ComparisonConfig(baseline, config.bootstrap, config.confidence, seed)
    metrics = build_metrics(tables, settings, measures=_MEASURES)
    return _Judged(tables, {metric.key: metric for metric in metrics}, config, baseline)


def _point(judged: _Judged, scale: float, variant: str, gates: list[GateResult]) -> ScalePoint:
    return ScalePoint(
        scale=scale,
        variant=variant,
        domain=judged.metrics[LEARNED].values[variant],
        retention=judged.retention(variant),
        gates=gates,
    )


def _choose(
    samples: Samples,
    baseline: str,
    variants: Mapping[float, str],
    config: EvaluateConfig,
    seed: int,
) -> tuple[ScaleChoice, dict[float, list[GateResult]]]:
    """Choose a scale on one half; also return every scale's gates there."""
    try:
        search = _judged(_half(samples, seed, True), baseline, config, seed)
    except InputError as error:
        reason = f"on the half that chooses: {error}"
        return ScaleChoice(outcome="unjudged", reason=reason), {}
    gates = {scale: search.gates(name) for scale, name in variants.items()}
    keeping = [scale for scale, results in gates.items() if _keeps(results)]
    if not keeping:
        return _no_choice(gates, search.cases), gates
    choice = ScaleChoice(outcome="chosen", scale=max(keeping), cases=search.cases)
    try:
        rest = _judged(_half(samples, seed, False), baseline, config, seed)
    except InputError as error:
        reason = f"on the other half: {error}"
        return choice.model_copy(update={"reason": reason}), gates
    variant = variants[max(keeping)]
    trial = ScaleTrial(
        domain=rest.metrics[LEARNED].values[variant],
        learned=rest.metrics[LEARNED].against[variant],
        retention=rest.retention(variant),
        gates=rest.gates(variant),
    )
    return choice.model_copy(update={"trial": trial, "other_cases": rest.cases}), gates


def _half(samples: Samples, seed: int, search: bool) -> dict[str, list[Sample]]:
    return {
        name: [sample for sample in rows if searches(sample, seed) == search]
        for name, rows in samples.items()
    }


def _keeps(gates: Sequence[GateResult]) -> bool:
    states = {gate.state for gate in gates}
    return "passed" in states and not states & {"failed", "unjudged"}


def _no_choice(gates: Mapping[float, Sequence[GateResult]], cases: dict[Suite, int]) -> ScaleChoice:
    states = {scale: {gate.state for gate in results} for scale, results in gates.items()}
    if not any(found & {"passed", "failed", "unjudged"} for found in states.values()):
        return ScaleChoice(outcome="no_gates", cases=cases)
    if all("failed" in found for found in states.values()):
        return ScaleChoice(outcome="none", cases=cases)
    open_gates = [gate for results in gates.values() for gate in results]
    reason = "; ".join(unjudged(open_gates))
    return ScaleChoice(outcome="unjudged", reason=reason, cases=cases)
