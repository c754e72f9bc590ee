"""What is said of a variant follows from all measures of a question, and the worst decides."""

import pytest

from eval.schema.report import Estimate, GateResult, Metric
from eval.verdict.verdicts import SAMENESS, headline, judge, tone
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


@pytest.mark.parametrize(
    ("changes", "said", "counted", "quoted"),
    [
        ({}, "no parroting shown", "none got worse, none better", "distinct-2"),
        (
            {"opening_share": 0.2, "compression": 0.2},
            "more of a parrot",
            "2 got worse (opening-share, compression), none better",
            "opening-share",
        ),
        (
            {"distinct_2": 0.2},
            "less of a parrot",
            "none got worse, 1 better (distinct-2)",
            "distinct-2",
        ),
        (
            {"distinct_1": 0.2, "distinct_2": -0.2, "opening_share": 0.2},
            "more of a parrot",
            "2 got worse (distinct-2, opening-share), 1 better (distinct-1)",
            "distinct-2",
        ),
        (
            {"distinct_2": 0.2, "repetition_3_equal": 0.2},
            "partly more of a parrot",
            "1 got worse (repetition-3-equal), 1 better (distinct-2)",
            "distinct-2",
        ),
    ],
)
def test_every_measure_of_sameness_can_tell_a_parrot(changes, said, counted, quoted):
    metrics = measured(**changes)
    assert headline(metrics, [], "x").split(", ")[1] == said
    sentence = judge(metrics, {}, "base", "x")[1]
    assert f"of {len(SAMENESS)} measures of sameness {counted}; {quoted} 50.0% → " in sentence


@pytest.mark.parametrize(
    ("closing", "opening", "told"), [(0.75, 0.5, True), (0.6, 0.5, False), (0.75, 0.8, True)]
)
def test_a_model_that_repeats_as_people_do_is_told_from_one_that_repeats_more(
    closing, opening, told
):
    """The variant has .7 of both, and only what got worse than before counts."""
    metrics = measured(closing_share=0.2, opening_share=0.2)
    for key, human in (("closing_share", closing), ("opening_share", max(opening, 0.69))):
        beside = Estimate(value=human, low=human - 0.05, high=human + 0.05, n=100)
        metrics[key].values["human"] = beside
    sentence = judge(metrics, {}, "base", "x")[1]
    assert ("More of one than before, no more than the human answers: " in sentence) == told
    said = "no more of a parrot than people" if told else "more of a parrot"
    assert headline(metrics, [], "x").split(", ")[1] == said
    assert tone(metrics, gates("passed"), "x") == ("good" if told else "mixed")


@pytest.mark.parametrize(
    ("changes", "states", "expected"),
    [
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
    ],
)
def test_the_worst_answer_decides_the_tone(changes, states, expected):
    assert tone(measured(**changes), gates(*states), "x") == expected


def test_what_was_not_measured_is_not_held_against_a_variant():
    assert tone({}, gates("passed"), "x") == "good"
    assert headline({}, [], "x").startswith("Learning not measured, parroting not measured, ")
