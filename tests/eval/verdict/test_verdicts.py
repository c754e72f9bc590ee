"""A verdict follows from all measures of a question, and the worst decides."""

from collections.abc import Sequence

from eval.schema.report import Estimate, GateResult, Metric, Verdict
from eval.verdict.verdicts import SAMENESS, judge
from tests.eval.made_samples import paired

BETTER = {"distinct_1": "higher", "distinct_2": "higher"}
BETTER = {key: BETTER.get(key, "lower") for key in SAMENESS}


def metric(key: str, change: float, family: str = "template") -> Metric:
    """A metric whose variant differs by `change`; significantly unless that is zero."""
    found = Estimate(value=0.5, low=0.4, high=0.6, n=100)
    now = Estimate(value=0.5 + change, low=0.4, high=0.6, n=100)
    p = 0.001 if change else 1.0
    return Metric(
        key=key,
        label=key.replace("_", "-").capitalize(),
        family=family,
        unit="share",
        better=BETTER.get(key, "higher"),
        help="",
        values={"base": found, "x": now},
        against={"x": paired(change, p, half=0.05, detectable=0.1)},
    )


def measured(**changes: float) -> dict[str, Metric]:
    """Every measure of sameness, domain and general accuracy; those not named did not change."""
    found = {key: metric(key, changes.get(key, 0.0)) for key in SAMENESS}
    found["domain_accuracy"] = metric("domain_accuracy", changes.get("domain", 0.3), "domain")
    found["ood_accuracy"] = metric("ood_accuracy", changes.get("general", 0.0), "ood")
    return found | {"retention": metric("retention", 0.0, "ood")}


def gates(*states: str) -> list[GateResult]:
    return [
        GateResult(variant="x", gate="stop_rate_min", metric="m", bound=0.9, value=None, state=s)
        for s in states
    ]


def verdict(states: Sequence[str] = (), **changes: float) -> Verdict:
    return judge(measured(**changes), gates(*states), "x")


# What changed -> outcome, what got worse and better, and whose numbers are quoted.
SAME: list[tuple[dict[str, float], str, list[str], list[str], str]] = [
    ({}, "unclear", [], [], "distinct_2"),
    (
        {"opening_share": 0.2, "compression": 0.2},
        "worse", ["opening_share", "compression"], [], "opening_share",
    ),
    ({"distinct_2": 0.2}, "better", [], ["distinct_2"], "distinct_2"),
    (
        {"distinct_1": 0.2, "distinct_2": -0.2, "opening_share": 0.2},
        "worse", ["distinct_2", "opening_share"], ["distinct_1"], "distinct_2",
    ),
    (
        {"distinct_2": 0.2, "repetition_3_equal": 0.2},
        "changed", ["repetition_3_equal"], ["distinct_2"], "distinct_2",
    ),
]  # fmt: skip


def test_every_measure_of_sameness_can_tell_a_parrot():
    for changes, outcome, worse, better, quoted in SAME:
        _, parrot, _ = verdict(**changes).conclusions
        assert (parrot.question, parrot.outcome, parrot.quoted) == ("parrot", outcome, quoted)
        assert list(parrot.evidence) == list(SAMENESS)
        assert [key for key, effect in parrot.evidence.items() if effect == "worse"] == worse
        assert [key for key, effect in parrot.evidence.items() if effect == "better"] == better


def test_a_model_that_repeats_as_people_do_is_no_worse_than_they():
    """The variant has .7 of both, and only what got worse than before counts."""
    for closing, opening, alike in [(0.75, 0.5, True), (0.6, 0.5, False), (0.75, 0.8, True)]:
        metrics = measured(closing_share=0.2, opening_share=0.2)
        for key, human in (("closing_share", closing), ("opening_share", max(opening, 0.69))):
            beside = Estimate(value=human, low=human - 0.05, high=human + 0.05, n=100)
            metrics[key].values["human"] = beside
        found = judge(metrics, gates("passed"), "x")
        assert found.conclusions[1].outcome == "worse"
        assert found.conclusions[1].like_people == alike
        assert found.severity == ("good" if alike else "mixed")


def test_the_worst_answer_decides_the_severity():
    for changes, states, expected in [
        ({}, ["passed", "not_applicable"], "good"),
        ({}, [], "open"),
        ({}, ["not_applicable"], "open"),
        ({"general": -0.2}, ["passed"], "mixed"),
        ({"general": -0.2}, [], "mixed"),
        ({"domain": -0.2}, ["passed"], "mixed"),
        ({"opening_share": 0.2}, ["passed"], "mixed"),
        ({"opening_share": 0.2, "distinct_2": 0.2}, ["passed"], "mixed"),
        ({"general": 0.2}, ["passed", "failed"], "bad"),
        ({}, ["unjudged", "passed"], "bad"),
    ]:
        assert verdict(states, **changes).severity == expected, (changes, states)


def test_what_was_not_measured_is_not_held_against_a_variant():
    empty = judge({}, gates("passed"), "x")
    assert empty.severity == "good"
    assert [each.outcome for each in empty.conclusions] == ["unmeasured"] * 3


def test_verdicts_survive_the_way_through_json():
    for changes, *_ in SAME:
        judged = verdict(["passed"], **changes)
        assert Verdict.model_validate_json(judged.model_dump_json()) == judged
