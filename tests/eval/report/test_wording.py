import math

from hypothesis import given
from hypothesis import strategies as st

from eval.report import wording
from eval.report.verdict_text import verdict_text
from eval.schema.report import Comparison, Estimate, GateResult, Metric, Paired
from eval.verdict.verdicts import SAMENESS, judge
from tests.eval.made_samples import paired
from tests.eval.report_fixture import make_report
from tests.eval.verdict.test_verdicts import SAME, measured


def metric(better: str, difference: Paired) -> Metric:
    """A share of which base has 50 %, and x this difference."""
    values = {"base": Estimate(value=0.5, low=0.4, high=0.6, n=100)}
    return Metric(
        key="m", label="M", family="domain", unit="share", better=better, help="", values=values,
        against={"x": difference},
    )  # fmt: skip


def gate(name: str, bound: float, value: float | None, state: str = "failed") -> GateResult:
    return GateResult(variant="v", gate=name, metric="m", bound=bound, value=value, state=state)


def test_values_are_written_with_the_precision_of_their_unit():
    for number, unit, text in [
        (0.912, "share", "91.2%"),
        (0.084, "number", "0.084"),
        (12.346, "number", "12.35"),
        (1234.5, "number", "1,234"),
        (45.16, "tokens", "45.2"),
        (math.nan, "share", "n/a"),
        (math.inf, "number", "n/a"),
    ]:
        assert wording.value(number, unit) == text


def test_percentages_in_sentences_have_no_needless_zeros():
    shares = (0.85, 0.123, 0.004, 1.0, 0.0)
    assert [wording.percent(share) for share in shares] == ["85%", "12.3%", "0.4%", "100%", "0%"]


def test_differences_carry_a_sign_and_shares_differ_by_points():
    assert wording.difference(0.312, "share") == "+31.2 pts"
    assert wording.difference(-0.013, "number") == "−0.013"
    assert wording.difference(0.0, "share") == "±0.0 pts"
    assert wording.difference(-0.0004, "share") == "±0.0 pts"
    assert wording.difference_interval(-0.02, 0.05, "share") == "−2.0 to +5.0"
    assert wording.interval(0.881, 0.939, "share") == "88.1–93.9%"


def test_p_values_read_as_in_papers():
    written = {
        0.0: "p < .001",
        0.021: "p = .021",
        0.34: "p = .34",
        1.0: "p = 1.00",
        0.0496: "p = .0496",
        0.0504: "p = .050",
    }
    assert {p: wording.probability(p) for p in written} == written


def test_only_a_significant_difference_is_called_good_or_bad():
    for better, delta, p, expected in [
        ("higher", 0.2, 0.001, "better"),
        ("higher", -0.2, 0.001, "worse"),
        ("lower", 0.2, 0.001, "worse"),
        ("lower", -0.2, 0.001, "better"),
        ("neither", 0.2, 0.001, "changed"),
        ("higher", 0.2, 0.05, "unclear"),
        ("higher", 0.2, math.nan, "unclear"),
    ]:
        assert metric(better, paired(delta, p)).effect("x") == expected


def test_a_test_and_an_interval_that_disagree_decide_nothing():
    split = metric("higher", paired(0.05, 0.01))  # the interval is -0.05..0.15
    assert split.effect("x") == "unclear"
    text = wording.significance(split, "x")
    assert text == "unclear: p = .010, but the interval includes zero"


def test_noise_is_reported_with_what_the_sample_could_have_shown():
    text = wording.significance(metric("higher", paired(0.01, 0.4)), "x")
    assert text == "within noise, p = .40; could have shown ≥ 4.2 pts"


def test_gates_are_put_into_words():
    for name, bound, value, words in [
        ("domain_accuracy_min", 0.85, 0.81, ("Domain accuracy", "81.0%", "≥ 85%")),
        ("repetition_max", 0.255, 0.31, ("Repetition", "31.0%", "≤ 25.5%")),
        ("retention_drop_max", 0.1, 0.074, ("Retention drop", "7.4 pts", "≤ 10 pts")),
        # One that is missed by little does not read as kept.
        ("domain_accuracy_min", 0.85, 0.8496, ("Domain accuracy", "84.96%", "≥ 85%")),
        ("retention_drop_max", 0.1, 0.1004, ("Retention drop", "10.04 pts", "≤ 10 pts")),
    ]:
        text = wording.gate_text(gate(name, bound, value))
        assert (text.label, text.value, text.bound) == words


def test_broken_gates_come_first_and_those_that_do_not_apply_last():
    states = ["passed", "not_applicable", "unjudged", "failed"]
    gates = [gate("stop_rate_min", 0.9, None, state) for state in states]
    report = make_report().model_copy(update={"gates": gates})
    shown = wording.gates_of(report, "v")
    assert [text.state for text in shown] == ["failed", "unjudged", "passed", "not_applicable"]
    assert shown[0].value == "n/a"


def test_samples_that_can_show_nothing_are_called_too_few():
    for minimum, text in [
        (1.7, "are too few to show any difference"),
        (0.6, "are too few to show any difference"),  # from 50 % nothing moves so far
        (0.0002, "could have shown ≥ 0.02 pts"),
        (0, "showed no change at all"),
    ]:
        few = metric("higher", paired(0.01, 0.4, detectable=minimum))
        assert wording.detectable(few, "x") == text
        assert wording.significance(few, "x").endswith(f"; {text.removeprefix('are ')}")


def test_the_confidence_chosen_decides_what_is_significant():
    found = paired(0.3, 0.03)
    assert found.significant
    assert not found.model_copy(update={"confidence": 0.99}).significant


PARROT = {
    "better": "less of a parrot",
    "worse": "more of a parrot",
    "changed": "partly more of a parrot",
    "unclear": "no parroting shown",
}


def test_the_parrot_in_words_names_every_measure_that_changed():
    for changes, outcome, worse, better, quoted in SAME:
        text = verdict_text(comparison(measured(**changes)), "x")
        assert text.answers.split(", ")[1] == PARROT[outcome]
        names = {"worse": ", ".join(worse), "better": ", ".join(better)}
        counted = (
            (f"{len(worse)} got worse ({names['worse']})" if worse else "none got worse")
            + ", "
            + (f"{len(better)} better ({names['better']})" if better else "none better")
        ).replace("_", "-")
        expected = f"of {len(SAMENESS)} measures of sameness {counted}; {quoted.replace('_', '-')} "
        assert text.sentences[1].proof.startswith(f"{expected}50.0% → ")


def test_repeating_as_people_do_is_written_so():
    metrics = measured(opening_share=0.2)
    metrics["opening_share"].values["human"] = Estimate(value=0.7, low=0.65, high=0.75, n=100)
    text = verdict_text(comparison(metrics), "x")
    assert text.answers.split(", ")[1] == "no more of a parrot than people"
    assert text.sentences[1].lead.endswith("before, no more than the human answers")


def test_questions_without_answers_and_gates_are_written_so():
    text = verdict_text(comparison({}), "x")
    assert text.headline == (
        "Learning not measured, parroting not measured, forgetting not measured; no gates set"
    )
    assert [str(sentence) for sentence in text.sentences] == [
        "Learned? Not measured: there are no domain cases.",
        "Parrot? Not measured: there are no sampled answers.",
        "Forgot? Not measured: there are no out-of-domain cases.",
    ]


def comparison(metrics: dict[str, Metric]) -> Comparison:
    return Comparison(
        variants=["base", "x"], baseline="base", metrics=list(metrics.values()), by_task=[],
        gates=[], verdicts={"x": judge(metrics, [], "x")}, openings=[], phrases=[], samples=[],
    )  # fmt: skip


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
