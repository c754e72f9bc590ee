"""The plane of learning and keeping: points, curves over scales, gates as lines."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.report.charts.plane import Bound, Point, Track, plane
from eval.report.charts.plots import WIDTH, Ranged
from eval.report.plane import plane_figure
from eval.schema.report import Report
from tests.eval.report.test_plots import assert_texts_apart, texts
from tests.eval.report_fixture import make_report
from tests.eval.seeds_fixture import make_seeds

REPORT = make_report()


def exactly(share: float) -> Ranged:
    return Ranged(share, share, share)


def about(share: float) -> Ranged:
    return Ranged(share, max(0.0, share - 0.03), min(1.0, share + 0.03))


def of_class(svg: str, kind: str) -> list[ET.Element]:
    return [n for n in ET.fromstring(svg).iter() if n.get("class", "").split()[:1] == [kind]]


def changed(report: Report, key: str, **values) -> Report:
    metrics = [
        m.model_copy(update=values) if m.key == key else m
        for m in report.metrics
        if values or m.key != key
    ]
    return report.model_copy(update={"metrics": metrics})


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4))
def test_every_point_is_drawn_at_any_position(pairs):
    points = [Point(f"arm {i}", f"s{i}", exactly(a), exactly(b)) for i, (a, b) in enumerate(pairs)]
    stops = [Point(f"{i}", "s1", exactly(a), exactly(b)) for i, (a, b) in enumerate(pairs)]
    bounds = [Bound("x", pairs[0][0], "gate"), Bound("y", pairs[0][1], "gate")]
    svg = plane(points, "Learned", "Kept", [Track("arm 0", "s1", stops)], bounds)
    assert len(of_class(svg, "mark")) == len(of_class(svg, "key")) == len(pairs)
    assert len(of_class(svg, "stop")) == len(pairs)
    assert len(of_class(svg, "bound")) == 2
    assert "nan" not in svg


def test_labels_do_not_overlap_when_points_nearly_coincide():
    points = [
        Point(name, "s1", about(x), Ranged(0.9, 0.85, 0.95))
        for name, x in [("base", 0.1), ("uniform", 0.9), ("nlirg", 0.905), ("random", 0.91)]
    ]
    stops = [Point(f"{i / 8:g}", "s1", about(0.9 + i / 1000), about(0.9)) for i in range(8)]
    bounds = [Bound("x", 0.905, "gate ≥ 85%"), Bound("y", 0.9, "gate ≥ 98%")]
    svg = plane(points, "Domain accuracy", "Retention", [Track("nlirg", "s1", stops)], bounds)
    assert_texts_apart(svg, "name", "tick")
    assert_texts_apart(svg, "step")


def test_names_of_many_points_stand_apart_in_the_order_of_the_points():
    points = [
        Point(f"arm-{i}", f"s{i % 6}", about(0.9), Ranged(0.8 + 0.003 * i, 0.7, 0.9))
        for i in range(15)
    ]
    svg = plane(points, "Domain accuracy", "Retention")
    assert_texts_apart(svg, "name", "tick")
    names = {node.text: float(node.get("y")) for node in texts(svg) if node.get("class") == "name"}
    assert sorted(names, key=names.get, reverse=True) == [point.name for point in points]


def test_the_base_stands_in_its_corner_and_every_arm_right_of_and_below_it():
    (figure,) = plane_figure(REPORT)
    marks = {n.find("title").text.split(":")[0]: n for n in of_class(figure.svg, "mark")}
    places = {name: (float(n.get("cx")), float(n.get("cy"))) for name, n in marks.items()}
    base = places.pop("base")
    assert places.keys() == {"uniform", "nlirg"}
    assert all(x > base[0] and y > base[1] for x, y in places.values())
    assert "base: 12%, 100%" in figure.svg


def test_a_curve_joins_the_scales_from_the_base_to_the_arm():
    (figure,) = plane_figure(REPORT)
    (curve,) = of_class(figure.svg, "curve")
    assert curve.get("class") == "curve s2"  # nlirg's colour
    corners = [tuple(map(float, p.split(","))) for p in curve.get("d")[1:].split(" L")]
    across = [x for x, _ in corners]
    assert len(corners) == 5
    assert across == sorted(across)
    ends = {(float(n.get("cx")), float(n.get("cy"))) for n in of_class(figure.svg, "mark")}
    for corner in (corners[0], corners[-1]):
        assert any(abs(x - corner[0]) + abs(y - corner[1]) < 0.2 for x, y in ends)
    assert [n.text for n in of_class(figure.svg, "step") if n.text[0] == "0"] == [
        "0.25", "0.5", "0.75",
    ]  # fmt: skip
    assert "Curves join the scales" in figure.note


def test_gates_are_lines_only_where_they_bound_what_the_plane_shows():
    """A fall of general accuracy is net of what was gained, and retention is not."""
    (figure,) = plane_figure(REPORT)
    (line,) = of_class(figure.svg, "bound")
    assert line.get("x1") == line.get("x2")  # domain accuracy
    assert "gate ≥ 85%" in figure.svg
    assert "drop of general accuracy" in figure.note
    gate = REPORT.gates[0].model_copy(
        update={"gate": "retention_min", "metric": "retention", "bound": 0.98}
    )
    (figure,) = plane_figure(REPORT.model_copy(update={"gates": [gate]}))
    (line,) = of_class(figure.svg, "bound")
    assert line.get("y1") == line.get("y2")
    assert "drop of general accuracy" not in figure.note
    (figure,) = plane_figure(REPORT.model_copy(update={"gates": []}))
    assert of_class(figure.svg, "bound") == []


def test_without_scales_the_arms_are_points_alone():
    (figure,) = plane_figure(REPORT.model_copy(update={"scales": {}}))
    assert of_class(figure.svg, "curve") == of_class(figure.svg, "stop") == []
    assert len(of_class(figure.svg, "mark")) == 3
    (figure,) = plane_figure(make_seeds(arms=3, seeds=2))
    assert len(of_class(figure.svg, "mark")) == 7


@pytest.mark.parametrize("key", ["domain_accuracy", "retention"])
def test_there_is_no_plane_where_a_side_was_not_measured(key):
    assert list(plane_figure(changed(REPORT, key))) == []


def test_hostile_names_stay_text():
    name = '"><script>alert(1)</script>'
    point = Point(name, "s1", exactly(0.5), exactly(0.5))
    svg = plane([point], name, name, [Track(name, "s1", [point])], [Bound("x", 0.4, name)])
    drawn = ET.fromstring(svg)
    assert not list(drawn.iter("script"))
    assert all(float(node.get("x")) <= WIDTH for node in texts(svg))
