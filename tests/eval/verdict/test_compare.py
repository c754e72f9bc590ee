import json
import math
import random

import pytest

from eval.config import EvaluateConfig, Gates
from eval.generation.samples import samples_text
from eval.report.verdict_text import verdict_text
from eval.schema.report import Metric
from eval.verdict.compare import compare, read_samples
from eval.verdict.gates import unjudged
from nlirg.errors import InputError
from tests.eval.made_samples import sample, suite_of, template_of

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CONFIG = EvaluateConfig(bootstrap=200)
OPEN_GATES = Gates.model_validate(dict.fromkeys(Gates.model_fields))


def world(seed: int, right: float, templated: float, n: int = 60):
    """All four suites of one variant, by chance."""
    rng = random.Random(seed)
    flags = [rng.random() < right for _ in range(n)]
    texts = [
        "thank you for your kind message " * (rng.random() < templated)
        + " ".join(rng.choices(LETTERS, k=12))
        for _ in range(n)
    ]
    reworded = [
        sample(
            f"domain{i}~{name}",
            rng.random() < right,
            root_id=f"domain{i}",
            suite="robustness",
            perturbation=name,
            task_type="one",
        )
        for i in range(n)
        for name in ("typos", "padding")
    ]
    return [
        *suite_of("domain", flags, task_type="one"),
        *suite_of("ood", [rng.random() < right for _ in range(n)], task_type="two"),
        *template_of(texts, reference="a b c d e f g", task_type="one"),
        *reworded,
    ]


def by_key(comparison) -> dict[str, Metric]:
    return {metric.key: metric for metric in comparison.metrics}


def ood(base: list[int], tuned: list[int], **changes):
    samples = {"base": suite_of("ood", base), "tuned": suite_of("ood", tuned)}
    return compare(samples, "base", EvaluateConfig(bootstrap=200, **changes), seed=0)


def test_planted_flips_give_exact_numbers():
    base = [1] * 80 + [0] * 20
    tuned = [1] * 68 + [0] * 12 + [1] * 5 + [0] * 15  # 12 lost, 5 gained
    found = by_key(ood(base, tuned))
    assert found["retention"].values["tuned"].value == 68 / 80
    assert found["retention"].values["tuned"].n == 80
    assert found["retention"].values["base"].value == 1
    paired = found["ood_accuracy"].against["tuned"]
    assert paired.delta == pytest.approx(-0.07)
    assert paired.low <= paired.delta <= paired.high
    assert paired.p_value == pytest.approx(0.1435, abs=1e-4)  # binomial(17, 1/2), 5 or fewer
    assert paired.n == 100


def test_planted_repetition_lengths_and_stops():
    loop = template_of(["a a a a a a", "b c d e"], finish_reason="length", tokens=6)
    samples = {"base": template_of(["x y z", "u v w"], tokens=4), "loop": loop}
    found = by_key(compare(samples, "base", CONFIG, seed=0))
    assert found["repetition_3"].values["loop"].value == pytest.approx((3 / 4 + 0) / 2)
    assert found["answer_tokens"].against["loop"].delta == 2
    assert found["stop_rate"].values["loop"].value == 0


def test_planted_robustness(monkeypatch):
    monkeypatch.setattr("eval.metrics.robustness.KIND_QUESTIONS", 4)

    def rows(typos: list[int], padding: list[int]):
        return [
            *suite_of("domain", [1, 1, 1, 1]),
            *(
                sample(
                    f"{i}{name}",
                    bool(flag),
                    root_id=f"domain{i}",
                    suite="robustness",
                    perturbation=name,
                )
                for name, flags in (("typos", typos), ("padding", padding))
                for i, flag in enumerate(flags)
            ),
        ]

    samples = {"base": rows([1, 1, 1, 1], [1, 1, 1, 1]), "x": rows([1, 0, 0, 0], [1, 1, 1, 0])}
    found = by_key(compare(samples, "base", CONFIG, seed=0))
    values = {key: metric.values["x"].value for key, metric in found.items()}
    assert values["robustness_accuracy"] == 4 / 8
    assert values["robustness_worst"] == 1 / 4
    # Root 3 is wrong in both rewordings, but right in the original wording.
    assert values["robustness_consistency"] == 1 / 4
    assert values["robustness_worst_case"] == 1 / 4
    assert values["robustness_range"] == 3 / 4 - 1 / 4
    base = {key: metric.values["base"].value for key, metric in found.items()}
    assert (base["robustness_worst_case"], base["robustness_range"]) == (1, 0)
    assert found["robustness_worst_case"].against["x"].delta == -3 / 4


def test_base_against_itself_shows_no_difference():
    rows = world(0, 0.6, 0.5)
    comparison = compare({"base": rows, "copy": rows}, "base", CONFIG, seed=0)
    for metric in comparison.metrics:
        assert metric.values["base"] == metric.values["copy"].model_copy(update={"before": None})
        for paired in metric.against.values():
            assert paired.delta == 0
            # Of shares of openings, whose error is at least that of two independent samples, too.
            assert paired.low == pytest.approx(-paired.high)
            assert not paired.excludes_zero
            assert paired.p_value == paired.p_holm == 1
    assert by_key(comparison)["retention"].values["copy"].value == 1
    conclusions = comparison.verdicts["copy"].conclusions
    assert [conclusion.outcome for conclusion in conclusions] == ["unclear"] * 3
    assert (conclusions[2].lost, conclusions[2].gained) == (0, 0)
    assert verdict_text(comparison, "copy").answers == (
        "No learning shown, no parroting shown, no net forgetting shown"
    )


def test_exchanging_names_flips_signs():
    one, two = world(1, 0.5, 0.1), world(2, 0.8, 0.9)
    there = by_key(compare({"base": one, "x": two}, "base", CONFIG, seed=0))
    back = by_key(compare({"base": two, "x": one}, "base", CONFIG, seed=0))
    for key in there.keys() - {"retention"}:
        a, b = there[key].against["x"], back[key].against["x"]
        assert a.delta == pytest.approx(-b.delta)
        assert (a.low, a.high) == pytest.approx((-b.high, -b.low))
        assert a.p_value == pytest.approx(b.p_value)
        back_again = back[key].values["x"].model_copy(update={"before": None})
        if there[key].values["x"].before is None:
            assert there[key].values["base"] == back_again
        else:  # measured at equal length
            assert there[key].values["x"].before == pytest.approx(back_again.value)


def test_order_of_samples_and_of_variants_does_not_matter():
    one, two = world(1, 0.5, 0.1), world(2, 0.8, 0.9)
    there = by_key(compare({"base": one, "x": two}, "base", CONFIG, seed=0))
    other = by_key(compare({"x": two[::-1], "base": one}, "base", CONFIG, seed=0))
    assert there == other


def test_every_number_is_finite_ordered_and_json():
    samples = {"base": world(1, 0.5, 0), "x": world(2, 1.0, 1), "y": world(3, 0.0, 0.5)}
    comparison = compare(samples, "base", CONFIG, seed=0)
    for metric in comparison.metrics:
        json.dumps(metric.model_dump(), allow_nan=False)
        for estimate in metric.values.values():
            assert estimate.low <= estimate.value <= estimate.high
        for paired in metric.against.values():
            assert paired.low <= paired.delta <= paired.high
            assert 0 <= paired.p_value <= paired.p_holm <= 1


def test_values_by_task_are_those_of_its_cases():
    base = [*suite_of("ood", [1, 0, 1, 0], task_type="sums")]
    base += [sample(f"x{i}", suite="ood", task_type="facts") for i in range(3)]
    base += [sample("lonely", suite="ood", task_type="single")]
    rows = compare({"base": base}, "base", CONFIG, seed=0).by_task
    found = {(row.task_type, row.key): row.values["base"].value for row in rows}
    assert found == {
        ("sums", "ood_accuracy"): 0.5,
        ("sums", "retention"): 1.0,
        ("facts", "ood_accuracy"): 1.0,
        ("facts", "retention"): 1.0,
    }


def test_retention_of_a_base_that_knows_nothing_is_unjudged():
    bounds = OPEN_GATES.model_copy(update={"retention_min": 0.5})
    comparison = ood([0, 0], [1, 0], gates=bounds)
    assert unjudged(comparison.gates) == [
        "gate retention_min: 'base' gets no question of suite 'ood' right"
    ]
    assert "retention" not in by_key(comparison)
    text = verdict_text(comparison, "tuned")
    assert str(text.sentences[2]) == (
        "Forgot? Cannot be seen: base gets none of the 2 general questions right."
    )
    assert text.gates == "cannot judge 1 of 1 gates: retention"


def families(commonsense: list[int], instructions: list[int]):
    """Out-of-domain samples of two families, half of each in either language."""
    return [
        sample(f"{family}{i}", bool(flag), suite="ood", task_type=f"{family}/{('en', 'zh')[i % 2]}")
        for family, flags in (("commonsense", commonsense), ("instructions", instructions))
        for i, flag in enumerate(flags)
    ]


def test_families_of_questions_are_added_up_over_languages():
    samples = {
        "base": families([1] * 9 + [0], [1] * 7 + [0] * 3),
        "x": families([1] * 7 + [0] * 3, [1] * 8 + [0] * 2),
    }
    comparison = compare(samples, "base", CONFIG, seed=0)
    found = {gate.gate: gate for gate in comparison.gates}
    assert found["commonsense_drop_max"].value == pytest.approx(0.2)
    assert found["commonsense_drop_max"].state == "failed"
    following = found["instruction_following_min"]
    assert (following.value, following.state) == (0.8, "passed")
    assert following.reason == "base itself misses it with 70.0%"
    assert by_key(comparison)["commonsense_accuracy"].values["x"].n == 10


def test_a_family_of_one_question_is_unjudged():
    rows = families([1], [1, 1])
    found = {g.gate: g for g in compare({"base": rows, "x": rows}, "base", CONFIG, seed=0).gates}
    assert found["commonsense_drop_max"].state == "unjudged"
    assert "fewer than two cases of task type 'commonsense/...'" in (
        found["commonsense_drop_max"].reason
    )


def test_a_metric_that_is_not_finite_stops_the_comparison(monkeypatch):
    monkeypatch.setattr("eval.statistics.inference.t_test", lambda *_: math.nan)
    rows = world(0, 0.6, 0.5)
    with pytest.raises(InputError, match=r"cannot judge: .* of variant 'x': p_value is nan"):
        compare({"base": rows, "x": rows}, "base", CONFIG, seed=0)


def test_verdicts_say_what_happened():
    learned = {
        "base": world(1, 0.2, 0.0),
        "x": world(2, 0.95, 1.0),
    }
    comparison = compare(learned, "base", CONFIG, seed=0)
    answers, parrot, _ = comparison.verdicts["x"].conclusions
    assert (answers.outcome, answers.evidence) == ("better", {"domain_accuracy": "better"})
    assert parrot.outcome == "worse"
    assert set(parrot.evidence) <= by_key(comparison).keys()
    sentences = verdict_text(comparison, "x").sentences
    assert len(sentences) == 3
    assert sentences[0].lead == "Learned? Yes, it learned the domain"
    assert "excludes zero" in sentences[0].proof
    assert sentences[1].lead.startswith("Parrot? More of one")

    comparison = ood([1] * 40, [0] * 30 + [1] * 10)
    (forgot,) = comparison.verdicts["tuned"].conclusions[2:]
    assert (forgot.outcome, forgot.lost, forgot.gained) == ("worse", 30, 0)
    assert "still gets 25.0% right" in verdict_text(comparison, "tuned").sentences[2].proof

    null = verdict_text(ood([1, 0] * 20, [1, 0] * 19 + [1, 1]), "tuned").sentences[2]
    assert null.lead == "Forgot? No net loss shown"
    assert null.proof.endswith("still gets 100.0% right: 0 lost, 1 of the others gained.")
    assert "includes zero" in null.proof
    assert "40 cases could have shown ≥ " in null.proof


def test_failed_answers_are_counted():
    base, tuned = suite_of("ood", [1] * 5), suite_of("ood", [1] * 5)
    tuned[0] = tuned[0].model_copy(update={"finish_reason": "error", "error": "too long"})
    lenient = CONFIG.model_copy(update={"max_error_share": 0.2})
    comparison = compare({"base": base, "x": tuned}, "base", lenient, seed=0)
    assert comparison.left_out == {"ood": 1}
    assert verdict_text(comparison, "x").sentences[-1].proof == "1 of ood cases."


def test_flips_are_shown_first_and_then_changed_answers():
    base = [sample(str(i), True, answer="same") for i in range(4)]
    tuned = [
        base[0],
        base[1].model_copy(update={"answer": "other"}),
        base[2].model_copy(update={"answer": "wrong", "correct": False, "score": 0.0}),
        base[3],
    ]
    shown = compare({"base": base, "x": tuned}, "base", CONFIG, seed=0).samples
    assert [row.case_id for row in shown] == ["2", "1", "0", "3"]
    assert shown[0].answers["x"].text == "wrong"
    assert not shown[0].answers["x"].correct


def test_samples_of_a_folder_are_read(tmp_path):
    counts = {"ood": 2, "domain": 2}
    with pytest.raises(InputError, match="evaluate again"):
        read_samples(tmp_path, counts)
    for suite in counts:
        (tmp_path / f"samples_{suite}.jsonl").write_text(samples_text(suite_of(suite, [1, 0])))
    assert len(read_samples(tmp_path, counts)) == 4
    with pytest.raises(InputError, match="2 samples, but 3 were written; delete"):
        read_samples(tmp_path, {"ood": 3})


def test_chance_alone_is_seldom_called_a_difference():
    rng = random.Random(0)
    alarms = 0
    for _ in range(40):
        flags = [[rng.random() < 0.5 for _ in range(50)] for _ in range(2)]
        paired = by_key(ood(*flags))["ood_accuracy"].against["tuned"]
        alarms += paired.p_value < 0.05
        assert math.isfinite(paired.minimum_detectable)
    assert alarms <= 5


def test_format_is_rated_over_the_cases_that_ask_for_one():
    right = suite_of("domain", [1] * 10)
    base = [sample.model_copy(update={"format_ok": True}) for sample in right[:5]] + right[5:]
    tuned = [sample.model_copy(update={"format_ok": i < 4}) for i, sample in enumerate(base[:5])]
    comparison = compare({"base": base, "tuned": tuned + right[5:]}, "base", CONFIG, seed=0)
    rate = by_key(comparison)["format_rate"].values
    assert (rate["base"].value, rate["tuned"].value, rate["tuned"].n) == (1.0, 0.8, 5)
    states = {gate.gate: gate.state for gate in comparison.gates if gate.value is not None}
    assert states == {"domain_accuracy_min": "passed", "format_rate_min": "failed"}


def test_ranked_answers_add_how_likely_the_right_option_is():
    def answers(likely: float, right: bool):
        logprobs = {"yes": math.log(likely), "no": math.log(1 - likely)}
        ranked = suite_of("ood", [right] * 6, score=likely, option_logprobs=logprobs, tokens=0)
        written = suite_of("ood", [True] * 4)
        return ranked + [s.model_copy(update={"case_id": f"w{s.case_id}"}) for s in written]

    found = by_key(
        compare({"base": answers(0.6, True), "tuned": answers(0.9, True)}, "base", CONFIG, 0)
    )
    metric = found["ood_option_probability"]
    assert {name: each.value for name, each in metric.values.items()} == pytest.approx(
        {"base": 0.6, "tuned": 0.9}
    )
    assert (metric.values["base"].n, metric.against["tuned"].delta) == (6, pytest.approx(0.3))
    assert found["ood_accuracy"].against["tuned"].delta == 0
    assert found["ood_accuracy"].values["base"].n == 10
    assert "ood_option_probability" not in by_key(ood([1, 1, 0], [1, 0, 0]))


def test_of_a_large_suite_the_cases_judged_differently_are_shown_first(monkeypatch):
    monkeypatch.setattr("eval.verdict.compare.SHOWN_ANSWERS", 40)
    shown = ood([1] * 50 + [0] * 50, [1] * 45 + [0] * 5 + [1] * 5 + [0] * 45).samples
    assert len(shown) == 20
    changed = [len({a.correct for a in row.answers.values()}) > 1 for row in shown]
    assert changed == [True] * 10 + [False] * 10
