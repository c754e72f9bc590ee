import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import wording
from eval.schema.report import Estimate, GateResult, Metric
from tests.eval.made_samples import paired
from tests.eval.report_fixture import make_report


def metric(better: str) -> Metric:
    values = {"base": Estimate(value=0.5, low=0.4, high=0.6, n=100)}
    return Metric(
        key="m", label="M", family="domain", unit="share", better=better, help="", values=values
    )


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (0.912, "share", "91.2%"),
        (0.084, "number", "0.084"),
        (12.346, "number", "12.35"),
        (1234.5, "number", "1,234"),
        (45.16, "tokens", "45.2"),
        (math.nan, "share", "n/a"),
        (math.inf, "number", "n/a"),
    ],
)
def test_values_are_written_with_the_precision_of_their_unit(number, unit, text):
    assert wording.value(number, unit) == text


def test_differences_carry_a_sign_and_shares_differ_by_points():
    assert wording.difference(0.312, "share") == "+31.2 pts"
    assert wording.difference(-0.013, "number") == "−0.013"
    assert wording.difference(0.0, "share") == "±0.0 pts"
    assert wording.difference(-0.0004, "share") == "±0.0 pts"
    assert wording.difference_interval(-0.02, 0.05, "share") == "−2.0 to +5.0"
    assert wording.interval(0.881, 0.939, "share") == "88.1–93.9%"


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0, "p < .001"),
        (0.021, "p = .021"),
        (0.34, "p = .34"),
        (1.0, "p = 1.00"),
        (0.0496, "p = .0496"),
        (0.0504, "p = .050"),
    ],
)
def test_p_values_read_as_in_papers(p, text):
    assert wording.probability(p) == text


@pytest.mark.parametrize(
    ("better", "delta", "p", "expected"),
    [
        ("higher", 0.2, 0.001, "better"),
        ("higher", -0.2, 0.001, "worse"),
        ("lower", 0.2, 0.001, "worse"),
        ("lower", -0.2, 0.001, "better"),
        ("neither", 0.2, 0.001, "changed"),
        ("higher", 0.2, 0.05, "unclear"),
        ("higher", 0.2, math.nan, "unclear"),
    ],
)
def test_only_a_significant_difference_is_called_good_or_bad(better, delta, p, expected):
    assert wording.effect(metric(better), paired(delta, p)) == expected


def test_a_test_and_an_interval_that_disagree_decide_nothing():
    split = paired(0.05, 0.01)  # the interval is -0.05..0.15
    assert wording.effect(metric("higher"), split) == "unclear"
    text = wording.significance(metric("higher"), split)
    assert text == "unclear: p = .010, but the interval includes zero"


def test_noise_is_reported_with_what_the_sample_could_have_shown():
    text = wording.significance(metric("higher"), paired(0.01, 0.4))
    assert text == "within noise, p = .40; could have shown ≥ 4.2 pts"


@pytest.mark.parametrize(
    ("gate", "bound", "value", "words"),
    [
        ("domain_accuracy_min", 0.85, 0.81, ("Domain accuracy", "81.0%", "≥ 85%")),
        ("repetition_max", 0.255, 0.31, ("Repetition", "31.0%", "≤ 25.5%")),
        ("retention_drop_max", 0.1, 0.074, ("Retention drop", "7.4 pts", "≤ 10 pts")),
    ],
)
def test_gates_are_put_into_words(gate, bound, value, words):
    result = GateResult(
        variant="v", gate=gate, metric="m", bound=bound, value=value, state="failed"
    )
    assert wording.gate_text(result)[:3] == words


@pytest.mark.parametrize(
    ("gate", "bound", "value", "words"),
    [
        ("domain_accuracy_min", 0.85, 0.8496, ("84.96%", "≥ 85%")),
        ("retention_drop_max", 0.1, 0.1004, ("10.04 pts", "≤ 10 pts")),
    ],
)
def test_a_gate_missed_by_little_does_not_read_as_kept(gate, bound, value, words):
    result = GateResult(
        variant="v", gate=gate, metric="m", bound=bound, value=value, state="failed"
    )
    assert wording.gate_text(result)[1:3] == words


def test_broken_gates_come_first_and_those_that_do_not_apply_last():
    states = ["passed", "not_applicable", "unjudged", "failed"]
    gates = [
        GateResult(variant="v", gate="stop_rate_min", metric="m", bound=0.9, value=None, state=s)
        for s in states
    ]
    report = make_report().model_copy(update={"gates": gates})
    found = wording.gates_of(report, "v")
    assert [gate.state for gate in found] == ["failed", "unjudged", "passed", "not_applicable"]
    assert found[0].value == "n/a"


def test_what_a_sample_could_have_shown_is_told_where_it_could_show_nothing():
    few = paired(0.01, 0.4).model_copy(update={"minimum_detectable": 1.7})
    assert wording.detectable(metric("higher"), few) == "are too few to show any difference"
    wide = few.model_copy(update={"minimum_detectable": 0.6})  # from 50 % nothing moves so far
    assert wording.detectable(metric("higher"), wide) == "are too few to show any difference"
    assert wording.significance(metric("higher"), wide).endswith("; too few to show any difference")
    tiny = few.model_copy(update={"minimum_detectable": 0.0002})
    assert wording.detectable(metric("higher"), tiny) == "could have shown ≥ 0.02 pts"
    alike = few.model_copy(update={"minimum_detectable": 0})
    assert wording.detectable(metric("higher"), alike) == "showed no change at all"


def test_the_confidence_chosen_decides_what_is_significant():
    found = paired(0.3, 0.03)
    assert found.significant
    assert not found.model_copy(update={"confidence": 0.99}).significant


def test_a_headline_is_split_into_its_answers_and_its_gates():
    answers, gates = wording.headline_parts("Learned, forgot; breaks 1 of 2 gates: a; cannot judge")
    assert answers == "Learned, forgot"
    assert gates == "breaks 1 of 2 gates: a; cannot judge"
    assert wording.headline_parts("No gates") == ("No gates", "")


def test_a_verdict_is_split_into_its_answer_and_its_proof():
    assert wording.lead_and_proof("Learned? Yes: 12:30 → 64%: so.") == (
        "Learned? Yes",
        "12:30 → 64%: so.",
    )
    assert wording.lead_and_proof("No colon here.") == ("No colon here.", "")


def test_flips_are_exactly_the_cases_whose_correctness_differs_from_base():
    report = make_report()
    found = {(sample.case_id, variant): fixed for sample, variant, fixed in wording.flips(report)}
    for sample in report.samples:
        for variant in ("uniform", "nlirg"):
            before, after = sample.answers["base"].correct, sample.answers[variant].correct
            assert found.get((sample.case_id, variant)) == (after if before != after else None)


def test_hidden_characters_become_visible():
    assert wording.visible("a\u202eb\u2066\x00\u200b\ud800") == (
        "a⟨U+202E⟩b⟨U+2066⟩⟨U+0000⟩⟨U+200B⟩⟨U+D800⟩"
    )


def test_ordinary_text_of_any_script_stays_as_it_is():
    text = "line\n\ttab 您好，客服。 مرحبا שלום 👩\u200d💻 ❤\ufe0f"
    assert wording.visible(text) == text


@given(st.text())
def test_visible_text_can_be_written_and_is_stable(text):
    shown = wording.visible(text)
    shown.encode("utf-8")
    assert wording.visible(shown) == shown
