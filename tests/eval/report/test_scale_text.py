"""What was learned at what cost, the choice of a scale, and arms beside each other, in words."""

import pytest

from eval.report import render_html, render_markdown, scale_lines
from eval.report.between import pair_texts
from eval.report.scale_text import choice_text, costs, scale_texts
from eval.schema.report import ScaleChoice
from tests.eval.made_samples import paired
from tests.eval.report.test_report import Page
from tests.eval.report_fixture import HOSTILE, make_report

REPORT = make_report()
CURVE = REPORT.scales["nlirg"]


def with_choice(**changes) -> str:
    choice = CURVE.choice.model_copy(update=changes)
    return choice_text(CURVE.model_copy(update={"choice": choice}))


def test_every_arm_has_its_sentence_with_both_intervals() -> None:
    told = costs(REPORT)
    assert told.keys() == {"uniform", "nlirg"}
    assert told["nlirg"] == (
        "learned 79.2 pts of the domain (interval +75.9 to +82.5) at a cost of 2.9% of what it "
        "knew (interval 1.3–4.5%)."
    )


def test_a_domain_that_was_lost_is_not_called_learned() -> None:
    metrics = [
        m.model_copy(update={"against": {"nlirg": paired(-0.04, 0.001, half=0.02)}})
        if m.key == "domain_accuracy"
        else m
        for m in REPORT.metrics
    ]
    told = costs(REPORT.model_copy(update={"metrics": metrics}))
    assert told["nlirg"].startswith("lost 4.0 pts of the domain (interval −6.0 to −2.0) at a cost")
    without = [m for m in REPORT.metrics if m.key != "retention"]
    assert costs(REPORT.model_copy(update={"metrics": without})) == {}


def test_the_rows_are_the_scales_and_one_is_marked() -> None:
    rows = scale_texts(REPORT)["nlirg"].rows
    assert [row.scale for row in rows] == ["0 (base)", "0.25", "0.5", "0.75", "1 (the arm)"]
    assert [bool(row.mark) for row in rows] == [False, False, False, True, False]
    assert rows[3].mark == "✗ chosen, but broken on the other half"
    kept = CURVE.choice.model_copy(update=gates_of_trial("passed"))
    sound = REPORT.model_copy(
        update={"scales": {"nlirg": CURVE.model_copy(update={"choice": kept})}}
    )
    assert scale_texts(sound)["nlirg"].rows[3].mark == "✓ chosen"
    assert [row.gates for row in rows] == [
        "–", "keeps it", "keeps it", "keeps it", "breaks retention",
    ]  # fmt: skip
    assert (rows[0].retention, rows[0].retention_interval) == ("100.0%", "")


def test_a_choice_that_does_not_hold_on_other_cases_says_so() -> None:
    text = choice_text(CURVE)
    assert text.startswith(
        "Scale 0.75 is the strongest that keeps every gate, chosen on half of the cases (210 "
        "domain, 190 general). On the other half (190 domain, 210 general) it learned 74.0 pts"
    )
    assert text.endswith(
        "breaks there what it kept where it was chosen: retention 97.5%, needs ≥ 98%. "
        "Do not rely on it."
    )


def gates_of_trial(state: str, reason: str = "") -> dict:
    gates = [
        gate.model_copy(update={"state": state, "reason": reason})
        for gate in CURVE.choice.trial.gates
    ]
    return {"trial": CURVE.choice.trial.model_copy(update={"gates": gates})}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (gates_of_trial("passed"), "and keeps them there, too."),
        (gates_of_trial("unjudged", "no cases"), "not every gate can be judged there: no cases."),
        ({"trial": None, "reason": "on the other half: two"}, "no part in the choice: on the oth"),
        ({"outcome": "none", "scale": None}, "No scale keeps every gate: on half of the cases (21"),
        ({"outcome": "no_gates", "scale": None}, "No gate applies, so that nothing chooses"),
        (
            {"outcome": "unjudged", "scale": None, "reason": "gate x: y"},
            "No scale was chosen, since gates could not be judged: gate x: y.",
        ),
        ({"scale": 1.0}, "Scale 1, the arm itself, is the strongest"),
    ],
)
def test_every_outcome_has_plain_words(changes, expected) -> None:
    assert expected in with_choice(**changes)


def test_choices_know_the_worst_gate_of_the_trial() -> None:
    assert CURVE.choice.state == "failed"
    assert ScaleChoice(outcome="none").state is None


def test_pairs_say_who_differs_from_whom() -> None:
    (pair,) = pair_texts(REPORT)
    assert (pair.first, pair.second) == ("uniform", "nlirg")
    assert pair.summary == "of 10 metrics 6 better"
    row = next(row for row in pair.rows if row.label.startswith("Domain accuracy"))
    assert (row.first, row.second.value, row.second.change) == ("81.0%", "91.2%", "+10.2 pts")
    assert row.second.effect == "better"


def test_page_and_markdown_show_plane_sentences_scales_and_pairs() -> None:
    page, markdown = Page(render_html(REPORT)), render_markdown(REPORT)
    text = " ".join(page.text.split())
    for told in (*costs(REPORT).values(), choice_text(CURVE)):
        assert told in text
        assert told.split(" (")[0] in markdown
    for label in ("0.75 ✗ chosen, but broken", "nlirg against uniform: of 10 metrics 6 better"):
        assert label in text
        assert label in markdown
    lines = list(scale_lines(REPORT))
    assert [line.split()[0] for line in lines] == ["uniform", "nlirg", "nlirg:"]


def test_without_scales_and_pairs_nothing_is_said_of_them() -> None:
    alone = REPORT.model_copy(update={"scales": {}, "between": []})
    page, markdown = Page(render_html(alone)), render_markdown(alone)
    assert "at several scales" not in page.text + markdown
    assert "compared with each other" not in page.text
    assert "at a cost of" in page.text


def test_hostile_reasons_are_text() -> None:
    choice = ScaleChoice(outcome="unjudged", reason=HOSTILE)
    curve = CURVE.model_copy(update={"choice": choice})
    hostile = REPORT.model_copy(update={"scales": {"nlirg": curve}})
    page = render_html(hostile)
    assert HOSTILE not in page
    assert HOSTILE in Page(page).text
    markdown = render_markdown(hostile)
    told = next(line for line in markdown.splitlines() if "at several scales" in line)
    assert "&#60;img" in told
    assert not set("<>") & set(told)
