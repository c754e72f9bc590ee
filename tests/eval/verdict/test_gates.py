"""Gates: kept, broken, not judged, not applicable; never passed by too little."""

import pytest

from eval.cases.probe import load_probe
from eval.config import EvaluateConfig, Gates
from eval.verdict.compare import compare
from eval.verdict.gates import GATES, require_cases, unjudged
from nlirg.errors import InputError
from tests.eval.made_samples import sample, suite_of, template_of
from tests.eval.verdict.test_compare import CONFIG, OPEN_GATES, by_key, ood


def test_every_bound_of_the_recipe_is_a_gate_whose_key_says_its_direction():
    assert set(GATES) == set(Gates.model_fields)
    for name, gate in GATES.items():
        assert gate.bound == ("most" if name.endswith("_max") else "least")
        assert gate.drop == name.endswith("_drop_max")


def test_gates_of_suites_not_run_are_unjudged():
    comparison = ood([1, 0, 1], [1, 1, 1])
    assert [metric.key for metric in comparison.metrics] == ["ood_accuracy", "retention"]
    states = {gate.gate: gate.state for gate in comparison.gates}
    assert states.pop("retention_drop_max") == "passed"
    assert set(states) == {
        "domain_accuracy_min",
        "instruction_following_min",
        "commonsense_drop_max",
        "repetition_max",
        "stop_rate_min",
        "format_rate_min",
    }
    assert set(states.values()) == {"unjudged"}
    assert (
        unjudged(comparison.gates)[0] == "gate domain_accuracy_min: suite 'domain' has no answers"
    )
    outcomes = [each.outcome for each in comparison.verdicts["tuned"].conclusions]
    assert outcomes == ["unmeasured", "unmeasured", "unclear"]


def test_a_gate_is_kept_only_if_cases_left_out_could_not_break_it():
    """86 of 96 are 89.6 %, but 86 of 100 are under a bound of 88 %."""
    base = suite_of("domain", [1] * 100)
    bounds = OPEN_GATES.model_copy(update={"domain_accuracy_min": 0.88})
    config = EvaluateConfig(bootstrap=200, gates=bounds)
    lost = "4 cases were left out for errors, and could break it"
    for right, failed, state, reason in [
        (90, 0, "passed", ""),
        (90, 4, "passed", ""),
        (86, 4, "unjudged", lost),
        (80, 4, "failed", ""),
    ]:
        tuned = suite_of("domain", [1] * right + [0] * (100 - right))
        for i in range(100 - failed, 100):
            tuned[i] = tuned[i].model_copy(update={"finish_reason": "error", "error": "too long"})
        [gate] = compare({"base": base, "tuned": tuned}, "base", config, seed=0).gates
        assert (gate.state, gate.reason) == (state, reason)


def test_gates_on_forgetting():
    for name, bound, state in [
        ("retention_drop_max", 0.1, "passed"),  # 0.8 to 0.7 is a drop of 0.1, rounding or not
        ("retention_drop_max", 0.09, "failed"),
        ("retention_min", 0.875, "passed"),
        ("retention_min", 0.88, "failed"),
    ]:
        bounds = OPEN_GATES.model_copy(update={name: bound})
        (gate,) = ood([1] * 8 + [0] * 2, [1] * 7 + [0] * 3, gates=bounds).gates
        assert (gate.variant, gate.gate, gate.state) == ("tuned", name, state)


def test_gates_on_domain_and_templates():
    rows = [
        *suite_of("domain", [1] * 17 + [0] * 3),
        *template_of(["a b c d"] * 9 + ["a a a a a"]),
    ]
    comparison = compare({"base": rows, "x": rows}, "base", CONFIG, seed=0)
    judged = [gate for gate in comparison.gates if gate.value is not None]
    assert {gate.gate: (gate.state, round(gate.value, 4)) for gate in judged} == {
        "domain_accuracy_min": ("passed", 0.85),
        "repetition_max": ("passed", 0.0667),
        "stop_rate_min": ("passed", 1.0),
    }


def test_gates_that_the_cases_cannot_be_held_against_are_refused():
    cases = [case for case in load_probe() if case.task_type.startswith("commonsense")]
    require_cases(OPEN_GATES, [])
    require_cases(Gates(), load_probe())
    with pytest.raises(InputError, match=r"instruction_following_min needs .* 'instructions/...'"):
        require_cases(Gates(), cases)
    with pytest.raises(InputError, match=r"set evaluate\.gates\.instruction_following_min=null"):
        require_cases(Gates(), [])
    require_cases(Gates(instruction_following_min=None), cases)


def test_errors_in_other_tasks_do_not_leave_a_gate_unjudged():
    rows = {
        task: [sample(f"{task}{i}", True, suite="ood", task_type=task) for i in range(60)]
        for task in ("arithmetic/en", "instructions/en")
    }
    base = [row for part in rows.values() for row in part]
    broken = {"finish_reason": "error", "error": "too long"}
    tuned = [*base]
    tuned[:5] = [row.model_copy(update=broken) for row in tuned[:5]]  # arithmetic
    tuned[60:70] = [row.model_copy(update={"correct": False, "score": 0}) for row in tuned[60:70]]
    config = EvaluateConfig(
        bootstrap=200, gates=Gates(**{**dict.fromkeys(GATES), "instruction_following_min": 0.8})
    )
    [gate] = compare({"base": base, "tuned": tuned}, "base", config, seed=0).gates
    assert (gate.state, gate.value) == ("passed", 50 / 60)
    tuned[70:73] = [row.model_copy(update=broken) for row in tuned[70:73]]  # instructions
    config = config.model_copy(update={"max_error_share": 0.1})
    [gate] = compare({"base": base, "tuned": tuned}, "base", config, seed=0).gates
    assert gate.state == "unjudged"


def test_without_a_form_asked_for_there_is_no_rate_and_its_gate_does_not_apply():
    comparison = compare(
        {"base": suite_of("domain", [1] * 5)} | {"tuned": suite_of("domain", [1] * 5)},
        "base",
        CONFIG,
        seed=0,
    )
    assert "format_rate" not in by_key(comparison)
    gate = next(gate for gate in comparison.gates if gate.gate == "format_rate_min")
    assert (gate.state, gate.reason) == ("not_applicable", "no case asks for a format")
