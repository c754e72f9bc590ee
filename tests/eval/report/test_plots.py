from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.report import figures, training
from eval.report.charts.curves import LEVELS, Event, Line, areas, curves, heatmap
from eval.report.charts.plots import (
    WIDTH,
    Bar,
    Ranged,
    bars,
    padded,
)
from eval.report.charts.svg import Axis, round_ticks, spread, tag, text_width
from eval.report.plane import plane_figure
from eval.report.wording import percent, shortened
from eval.schema.report import Report
from tests.eval.report_fixture import HOSTILE, make_report
from tests.eval.seeds_fixture import make_seeds

finite = st.floats(-1e6, 1e6)


def texts(svg: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter("text"))


@dataclass(frozen=True)
class Box:
    """The pixels that a text covers."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def text_box(node: ET.Element) -> Box:
    x, y, width = float(node.get("x")), float(node.get("y")), text_width(node.text or "")
    left = {"end": x - width, "middle": x - width / 2}.get(node.get("text-anchor", ""), x)
    return Box(left, y - 9, left + width, y + 2)


def assert_texts_apart(svg: str, *classes: str) -> None:
    boxes = [(n.text, text_box(n)) for n in texts(svg) if n.get("class") in classes]
    assert boxes
    for i, (text, box) in enumerate(boxes):
        assert box.left >= -1, text
        assert box.right <= WIDTH + 1, text
        for other, second in boxes[i + 1 :]:
            assert not box.overlaps(second), (text, other)


@given(finite, st.floats(1e-3, 1e6), st.integers(2, 10))
def test_ticks_are_round_inside_the_range_and_about_as_many_as_asked(low, size, count):
    ticks = round_ticks(low, low + size, count)
    assert len(ticks) <= count + 1
    assert all(low - 1e-6 * size <= t <= low + size * (1 + 1e-6) for t in ticks)
    if len(ticks) > 1:
        step = ticks[1] - ticks[0]
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(mantissa - nice) for nice in (1, 2, 5, 10)) < 1e-3


def test_known_ticks():
    assert round_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert round_ticks(0.82, 0.97) == [0.85, 0.9, 0.95]


@pytest.mark.parametrize("ends", [(1, 1), (2, 1), (0, math.nan), (0, math.inf)])
def test_an_axis_without_a_range_is_refused(ends):
    with pytest.raises(ValueError, match="finite range"):
        round_ticks(*ends)


def test_axis_maps_its_ends_to_its_pixels_also_upside_down():
    y = Axis(0, 10, 300, 20)
    assert (y(0), y(5), y(10)) == (300, 160, 20)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.floats(1, 30))
def test_spread_labels_stay_apart_inside_and_in_order(positions, gap):
    placed = spread(positions, gap, 0, 100)
    room = min(gap, 100 / max(1, len(positions) - 1))
    ordered = sorted(placed)
    assert all(b - a >= room - 1e-6 for a, b in pairwise(ordered))
    assert ordered[0] >= -1e-6
    assert ordered[-1] <= 100 + 1e-6
    for i, a in enumerate(positions):
        for j, b in enumerate(positions):
            assert not (a < b and placed[i] > placed[j])


def test_fit_counts_wide_characters_twice_as_wide():
    assert shortened("short", 100, text_width) == "short"
    assert shortened("您好感谢您联系客服", 60, text_width) == "您好感谢…"
    assert text_width(shortened("x" * 200, 120, text_width)) <= 120


def test_markup_is_escaped_in_elements_and_attributes():
    node = tag("text", HOSTILE, aria_label='"><script>')
    assert "<script" not in node
    assert ET.fromstring(node).text == HOSTILE
    assert ET.fromstring(node).get("aria-label") == '"><script>'


def test_padding_stays_inside_the_bounds_and_never_collapses():
    assert padded([0.9, 1.0], 0, 1)[1:] == pytest.approx((0.892, 1.0))
    for values in ([0.0], [1.0], [0.5, 0.5]):
        span = padded(values, 0, 1)
        assert 0 <= span.low < span.high <= 1


def test_bars_are_as_long_as_their_values_and_their_labels_fit():
    group = [Bar("base", "s0", Ranged(0.2, 0.15, 0.25)), Bar("nlirg", "s1", Ranged(0.8, 0.7, 0.9))]
    svg = bars({"triage": group, "退款问题": group[:1]}, percent, "Accuracy")
    widths = [float(rect.get("width")) for rect in ET.fromstring(svg).iter("rect")]
    assert widths[1] == pytest.approx(4 * widths[0], rel=1e-3)
    assert_texts_apart(svg, "number", "group")


def test_bars_that_share_a_colour_carry_their_names():
    group = [Bar(f"nlirg-seed{i}", "s1", Ranged(0.2 * i, 0.1 * i, 0.3 * i)) for i in range(4)]
    svg = bars({"triage": group}, percent, "Accuracy", named=True)
    assert [n.text for n in texts(svg) if n.get("class") == "number"] == [
        f"{percent(bar.size.value)} {bar.name}" for bar in group
    ]
    assert_texts_apart(svg, "number", "group")


def test_bars_without_a_value_are_left_out():
    nothing = Bar("base", "s0", Ranged(math.nan, math.nan, math.nan))
    svg = bars({"t": [nothing]}, percent, "Accuracy")
    assert not list(ET.fromstring(svg).iter("rect"))


def test_a_gap_in_a_curve_stays_a_gap():
    svg = curves([Line("a", "s1", [0, 1, 2, 3, 4], [1, 2, math.nan, 2, 1])], "step", "loss")
    path = next(ET.fromstring(svg).iter("path")).get("d")
    assert path.count("M") == 2
    assert "nan" not in svg


def test_names_of_curves_that_end_together_do_not_overlap():
    lines = [Line(f"arm number {i}", f"s{i}", [0, 10], [3, 0.5]) for i in range(6)]
    assert_texts_apart(curves(lines, "step", "loss"), "name")


def test_stacked_shares_fill_the_height():
    layers = [Line("low", "z-low", [0, 1], [0.5, 0.7]), Line("mid", "z-mid", [0, 1], [0.5, 0.3])]
    svg = areas([0, 1], layers, "step", "share")
    low, mid = (path.get("d") for path in ET.fromstring(svg).iter("path"))
    ys = [float(pair.split(",")[1]) for pair in mid.strip("MZ").replace("L", "").split()]
    assert max(ys[:2]) - min(ys[:2]) == pytest.approx(0, abs=0.1)  # the top edge is flat at 100 %
    assert low != mid
    assert_texts_apart(svg, "name", "tick")


def test_marks_stand_at_their_steps_with_their_signs_apart():
    marks = [Event(step, f"!{i}", "s1") for i, step in enumerate([0, 50, 51, 52, 400])]
    svg = curves([Line("a", "s1", [0, 100], [3, 1])], "step", "loss", marks)
    events = [n for n in ET.fromstring(svg).iter("line") if n.get("class", "").startswith("event")]
    places = [float(node.get("x1")) for node in events]
    assert places == sorted(places)
    assert places[1] - places[0] == pytest.approx(25 * (places[3] - places[1]), rel=0.05)
    assert places[-1] <= WIDTH  # a step beyond the curve is drawn at its end
    assert_texts_apart(svg, "sign")


def test_a_heat_map_shades_each_column_against_its_own_largest_bin():
    svg = heatmap([10, 20], [[0.8, 0.2, 0, 0], [0, 0.004, 0, 0]], 0.5, ("step", "loss"))
    shades = {n.get("class"): n.get("d") for n in ET.fromstring(svg).iter("path")}
    assert set(shades) == {f"heat h{LEVELS}", f"heat h{LEVELS // 2}"}
    strongest = [part.split(",")[0] for part in shades[f"heat h{LEVELS}"].split("M")[1:]]
    assert len(set(strongest)) == 2  # one cell in either column
    ticks = [float(n.text) for n in texts(svg) if n.get("text-anchor") == "end" and n.text[0] < "A"]
    assert max(ticks) == 1.0  # bins that hold nothing are cut off


def test_a_heat_map_of_nothing_can_be_drawn():
    assert not list(ET.fromstring(heatmap([1], [[0.0, 0.0]], 0.5, ("step", "loss"))).iter("path"))


def test_a_single_logged_step_can_be_drawn():
    assert "nan" not in curves([Line("a", "s1", [5], [2.0])], "step", "loss")


def test_thinning_keeps_the_mean_and_leaves_gaps():
    steps, values = training.thinned(list(range(1200)), [float(i % 7) for i in range(1200)])
    assert len(steps) == training.MAX_POINTS
    assert sum(values) / len(values) == pytest.approx(3.0, abs=0.02)
    assert math.isnan(training.thinned([1, 2], [math.nan, 1.0])[1][0])


def test_variants_keep_one_colour_and_the_baseline_is_neutral():
    assert figures.styles(make_report()) == {
        "base": "s0", "uniform": "s1", "nlirg": "s2", "human": "human"
    }  # fmt: skip


def test_seeds_of_an_arm_share_its_colour():
    colour = figures.styles(make_seeds(arms=3, seeds=2))
    assert len({colour[f"arm{a}-seed{s}"] for a in range(3) for s in range(2)}) == 3
    assert all(colour[f"arm{a}"] == colour[f"arm{a}-seed1"] for a in range(3))


def all_figures(report: Report) -> list[figures.Figure]:
    return [
        *plane_figure(report), *figures.rewordings(report),
        *(f for keys in figures.task_keys(report) for f in figures.per_task(report, keys)),
        *figures.phrases(report), *training.losses(report), *figures.corpus(report),
        *(f for arm, curve in report.training.items() for f in training.of_arm(arm, curve)),
    ]  # fmt: skip


def test_one_metric_of_every_family_is_shown_per_task_before_the_others():
    report = make_report()
    second = report.by_task[0].model_copy(update={"key": "format_rate"})
    more = report.model_copy(update={"by_task": [*report.by_task, second]})
    assert figures.task_keys(more) == (["domain_accuracy", "repetition_3"], ["format_rate"])


@pytest.mark.parametrize(("report", "charts"), [(make_report(), 21), (make_seeds(8, 1), 45)])
def test_every_chart_of_a_report_is_wellformed_and_reads_out_its_content(report, charts):
    found = all_figures(report)
    titles = [figure.title for figure in found]
    assert len(set(titles)) == len(titles) == charts
    for figure in found:
        drawn = ET.fromstring(figure.svg)
        assert drawn.get("role") == "img"
        assert drawn.get("aria-label")
        assert "nan" not in figure.svg
        for box in map(text_box, drawn.iter("text")):
            assert box.right <= WIDTH + 1, figure.title


def test_alarms_are_numbered_over_all_arms_and_marked_in_the_chart():
    report = make_report()
    assert [(a.sign, a.arm, a.alarm.kind) for a in training.alarms(report)] == [
        ("!1", "uniform", "rising_loss"), ("!2", "uniform", "stairs")
    ]  # fmt: skip
    chart, *_ = training.losses(report)
    assert [n.text for n in texts(chart.svg) if n.get("class") == "sign"] == ["!1", "!2"]


def test_validation_losses_are_drawn_beside_the_base_that_all_arms_share():
    report = make_report()
    _, chart, *_ = training.losses(report)
    drawn = {n.text for n in texts(chart.svg) if n.get("class") == "name"}
    assert chart.title == "Validation loss"
    assert drawn == {"base", "uniform", "nlirg"}
    curve = report.training["nlirg"]
    other = curve.validation.model_copy(update={"base_loss": 1.0, "loss": [math.nan] * 10})
    arms = report.training | {"nlirg": curve.model_copy(update={"validation": other})}
    _, chart, *_ = training.losses(report.model_copy(update={"training": arms}))
    drawn = {n.text for n in texts(chart.svg) if n.get("class") == "name"}
    assert drawn == {"uniform", "nlirg"}  # other rows: no one line of the base is right for both


def test_what_a_guard_measured_is_drawn_from_step_0_with_its_bound():
    report = make_report()
    *_, loss, divergence = training.losses(report)
    assert (loss.title, divergence.title) == (
        "Loss on general text", "Changed predictions while training"
    )  # fmt: skip
    names = [{n.text for n in texts(c.svg) if n.get("class") == "name"} for c in (loss, divergence)]
    assert names == [{"uniform", "nlirg", "bound"}, {"uniform", "nlirg"}]
    assert "2.2" in loss.svg  # the first reading and what it may rise by
    unanswered = {
        arm: curve.model_copy(update={"guard": curve.guard.model_copy(update={"kl": []})})
        for arm, curve in report.training.items()
    }
    charts = list(training.losses(report.model_copy(update={"training": unanswered})))
    assert charts[-1].title == "Loss on general text"


def test_every_source_has_its_loss_where_there_are_several():
    curve = make_report().training["nlirg"]
    titles = [figure.title for figure in training.of_arm("nlirg", curve)]
    assert "Loss per source of nlirg" in titles
    alone = curve.model_copy(update={"loss_by_source": {"tickets": curve.loss}})
    titles = [figure.title for figure in training.of_arm("nlirg", alone)]
    assert "Loss per source of nlirg" not in titles


def test_of_many_task_types_those_that_end_highest_are_drawn():
    curve = make_report().training["nlirg"]
    many = {f"task{i}": [float(i), math.nan] for i in range(10)}
    short = curve.model_copy(update={"steps": [1, 2], "loss_by_task": many, "zones": {}})
    tasks, *_ = training.of_arm("nlirg", short)
    drawn = {n.text for n in texts(tasks.svg) if n.get("class") == "name"}
    assert drawn == {f"task{i}" for i in range(10 - training.MAX_TASKS, 10)}
    assert f"{training.MAX_TASKS} of 10" in tasks.note


def test_a_report_without_training_or_corpus_has_no_such_charts():
    report = make_report().model_copy(
        update={
            "training": {}, "corpus": None, "by_task": [], "metrics": [], "phrases": [],
            "openings": [], "closings": [], "by_perturbation": [],
        }
    )  # fmt: skip
    assert not all_figures(report)
