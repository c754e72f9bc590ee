"""Curves over scales, and the choice that one half of the cases makes and the other judges."""

from collections.abc import Callable

import pytest

from eval.config import EvaluateConfig, Gates
from eval.schema.report import ScaleChoice
from eval.schema.sample import Sample
from eval.verdict.scales import scale_curves, searches
from nlirg.errors import InputError
from tests.eval.made_samples import suite_of

CASES = 200
SCALES = {0.25: "arm@0.25", 0.5: "arm@0.5", 0.75: "arm@0.75"}
OFF = dict.fromkeys(Gates.model_fields)
SEED = 3


def config(**gates) -> EvaluateConfig:
    return EvaluateConfig(gates=Gates(**{**OFF, **gates}), bootstrap=100)


def trained_at(scale: float, domain: float, kept: float, n: int = CASES) -> list[Sample]:
    """What an arm says that reaches these shares at full scale, in equal parts below."""
    gained, lost = round(scale * domain * n), round(scale * (1 - kept) * n)
    return suite_of("domain", [i < gained for i in range(n)]) + suite_of(
        "ood", [i >= lost for i in range(n)]
    )


def world(domain: float = 0.8, kept: float = 0.6, n: int = CASES) -> dict[str, list[Sample]]:
    strengths = {"base": 0.0, **{name: scale for scale, name in SCALES.items()}, "arm": 1.0}
    return {name: trained_at(scale, domain, kept, n) for name, scale in strengths.items()}


def curve_of(samples: dict[str, list[Sample]], settings: EvaluateConfig, scales=SCALES):
    return scale_curves(samples, "base", {"arm": scales}, settings, SEED)["arm"]


def test_the_curve_runs_from_the_base_to_the_arm_over_all_cases() -> None:
    curve = curve_of(world(), config())
    assert [(p.scale, p.variant) for p in curve.points] == [
        (0, "base"), *SCALES.items(), (1, "arm"),
    ]  # fmt: skip
    assert [p.domain.value for p in curve.points] == [0, 0.2, 0.4, 0.6, 0.8]
    assert [p.retention.value for p in curve.points] == [1, 0.9, 0.8, 0.7, 0.6]
    assert all(p.domain.n == CASES for p in curve.points)
    assert all(p.retention.low < p.retention.value < p.retention.high for p in curve.points[1:])
    assert curve.points[0].gates == []


def test_a_scale_beyond_the_arm_comes_after_it() -> None:
    samples = world() | {"arm@1.25": trained_at(1.25, 0.8, 0.6)}
    curve = curve_of(samples, config(), {**SCALES, 1.25: "arm@1.25"})
    assert [p.scale for p in curve.points] == [0, 0.25, 0.5, 0.75, 1, 1.25]


def test_the_strongest_scale_that_keeps_the_gates_is_chosen_on_one_half() -> None:
    """Retention falls by .1 a quarter: .75 has .7, so a bound of .75 leaves .5."""
    curve = curve_of(world(), config(retention_min=0.75))
    choice = curve.choice
    assert (choice.outcome, choice.scale, choice.state) == ("chosen", 0.5, "passed")
    assert [g.state for p in curve.points[1:] for g in p.gates] == [
        "passed", "passed", "failed", "failed",
    ]  # fmt: skip
    for suite in ("domain", "ood"):
        assert choice.cases[suite] + choice.other_cases[suite] == CASES
        assert 60 < choice.cases[suite] < 140
    assert choice.trial.domain.n == choice.other_cases["domain"]
    assert choice.trial.learned.delta == pytest.approx(choice.trial.domain.value)  # base: 0
    assert curve_of(world(), config(retention_min=0.5)).choice.scale == 1


def test_the_halves_share_no_root_and_do_not_depend_on_what_else_is_asked() -> None:
    rows = world()["base"]
    halves = {s.case_id: searches(s, SEED) for s in rows}
    again = {s.case_id: searches(s, SEED) for s in reversed(rows[:50])}
    assert again.items() <= halves.items()
    assert {s.case_id: searches(s, SEED + 1) for s in rows} != halves
    for sample in rows[:20]:
        repeats = [sample.model_copy(update={"case_id": f"{i}", "suite": "template"})
                   for i in range(4)]  # fmt: skip
        assert {searches(repeat, SEED) for repeat in repeats} == {halves[sample.case_id]}


def broken_elsewhere(wrong: Callable[[Sample], bool]) -> dict[str, list[Sample]]:
    """An arm that is right everywhere but in the cases of the half that does not choose."""
    rows = suite_of("domain", [True] * CASES) + suite_of("ood", [True] * CASES)
    fallen = [
        s.model_copy(update={"correct": False, "score": 0.0}) if wrong(s) else s for s in rows
    ]
    return {"base": rows, **dict.fromkeys(SCALES.values(), rows), "arm": fallen}


def test_a_gate_that_breaks_on_the_other_half_is_told() -> None:
    samples = broken_elsewhere(lambda s: s.suite == "ood" and not searches(s, SEED))
    choice = curve_of(samples, config(retention_min=0.9)).choice
    assert (choice.outcome, choice.scale, choice.state) == ("chosen", 1, "failed")
    assert choice.trial.retention.value == 0
    assert choice.reason == ""


def test_what_breaks_where_it_is_chosen_is_not_chosen() -> None:
    samples = broken_elsewhere(lambda s: s.suite == "ood" and searches(s, SEED))
    choice = curve_of(samples, config(retention_min=0.9)).choice
    assert (choice.outcome, choice.scale, choice.state) == ("chosen", 0.75, "passed")


def test_no_scale_is_chosen_where_every_one_breaks_a_gate() -> None:
    choice = curve_of(world(), config(domain_accuracy_min=0.85)).choice
    assert (choice.outcome, choice.scale, choice.trial, choice.state) == ("none", None, None, None)
    assert choice.cases["domain"] > 0


def test_gates_that_cannot_be_judged_leave_the_choice_open() -> None:
    choice = curve_of(world(), config(stop_rate_min=0.9)).choice
    assert (choice.outcome, choice.scale) == ("unjudged", None)
    assert choice.reason == "gate stop_rate_min: suite 'template' has no answers"
    broken = curve_of(world(), config(stop_rate_min=0.9, domain_accuracy_min=0.85)).choice
    assert broken.outcome == "none"  # a broken one is broken whatever the other says


@pytest.mark.parametrize("gates", [{}, {"format_rate_min": 0.9}])
def test_without_a_gate_that_applies_there_is_nothing_to_choose_by(gates) -> None:
    assert curve_of(world(), config(**gates)).choice == ScaleChoice(
        outcome="no_gates", cases=curve_of(world(), config()).choice.cases
    )


def test_halves_that_are_too_small_are_told_and_the_curve_is_there() -> None:
    curve = curve_of(world(n=2), config(domain_accuracy_min=0.1))
    assert len(curve.points) == 5
    assert curve.choice.scale is None or curve.choice.trial is None
    assert "half" in curve.choice.reason


def test_other_suites_do_not_count_and_a_base_that_knows_nothing_has_no_retention() -> None:
    samples = world()
    samples["base"] = samples["base"] + suite_of("robustness", [True] * 5)  # arms have none
    for name, rows in samples.items():
        samples[name] = [
            s.model_copy(update={"correct": False}) if s.suite == "ood" else s for s in rows
        ]
    curve = curve_of(samples, config(domain_accuracy_min=0.1))
    assert {p.retention for p in curve.points} == {None}
    assert (curve.choice.outcome, curve.choice.scale) == ("chosen", 1)
    assert curve.choice.trial.retention is None


def test_cases_without_a_domain_are_refused() -> None:
    samples = {n: [s for s in rows if s.suite == "ood"] for n, rows in world().items()}
    with pytest.raises(InputError, match="suite 'domain' has no answers"):
        curve_of(samples, config())
