import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from io import StringIO

import numpy as np
import pytest
from pydantic import ValidationError
from rich.console import Console

from eval.report import render_html, render_markdown, terminal_table, write_report
from eval.report.markdown import FLIPS, LONGEST, block, chosen_flips, inline
from eval.report.seeds import mean_interval, over_seeds
from eval.report.verdict_text import verdict_text
from eval.schema.report import Report
from eval.verdict.verdicts import judge
from tests.eval.report_fixture import BIDI, CHINESE, HOSTILE, TICKS, make_report
from tests.eval.seeds_fixture import make_seeds

REPORT = make_report()


class Page(HTMLParser):
    """Elements with their attributes, and the text of scripts, styles and the rest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.text = ""
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open = tag if tag in self.raw else ""

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open:
            self.raw[self._open].append(data)
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def html() -> str:
    return render_html(REPORT)


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_verdicts_gates_and_numbers_are_on_the_page(page):
    text = " ".join(page.text.split())
    for variant in REPORT.tuned:
        said = verdict_text(REPORT, variant)
        assert all(str(sentence) in text for sentence in said.sentences)
        assert said.answers in text
    assert "breaks 2 of 4 gates: domain accuracy, repetition" in text
    assert "keeps all 4 gates" in text
    for metric in REPORT.metrics:
        assert metric.label in text
        assert metric.help in text
    for number in ("91.2%", "88.4–94.0%", "+79.2 pts", "+75.9 to +82.5", "significant, p < .001"):
        assert number in text


def test_the_verdicts_come_before_the_numbers_and_these_before_the_samples(html):
    places = [html.index(mark) for mark in ('class="verdicts"', 'id="numbers"', 'id="samples"')]
    assert places == sorted(places)


def test_families_answer_their_questions_in_order(page):
    names = ["Learned", "Parrot", "Robust", "Forgot"]
    places = [page.text.index(f"{name} ") for name in names]
    assert places == sorted(places)


def test_the_policy_allows_this_style_and_this_script_only(page):
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv"))
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    style, script = "".join(page.raw["style"]), page.raw["script"][-1]
    for kind, text in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_nothing_is_fetched_and_nothing_needs_an_inline_permission(page, html):
    assert not page.all("img") + page.all("iframe") + page.all("object")
    for tag, attributes in page.elements:
        assert not {"style", "src", "srcset", "action"} & attributes.keys(), tag
        assert not [key for key in attributes if key.startswith("on")], tag
        if "href" in attributes:
            assert attributes["href"] in {"#numbers", "data:,"}
    assert "url(" not in html
    assert "@import" not in html


def test_hostile_text_is_escaped_wherever_it_stands(page, html):
    assert len(page.all("script")) == 2
    assert HOSTILE not in html
    assert HOSTILE in page.text  # the recipe, the environment and the quarantine show it
    assert not any(
        "hacked" in (value or "")
        for tag, attributes in page.elements
        for key, value in attributes.items()
        if key != "aria-label"
    )


def test_characters_that_reorder_text_are_shown_instead(html):
    assert "\u202e" in BIDI
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00]", html)
    assert "⟨U+202E⟩gnp.exe" in html


def test_the_samples_survive_the_way_into_the_page(page):
    data = json.loads(page.raw["script"][0])
    assert data["variants"] == ["base", "uniform", "nlirg"]
    found = {row["id"]: row for row in data["samples"]}
    assert len(found) == len(REPORT.samples)
    assert found["hostile"]["answers"][1] == [HOSTILE, True, "length"]
    assert found["chinese"]["reference"].startswith(CHINESE)
    assert "<" not in page.raw["script"][0]


def test_every_help_text_belongs_to_its_button(page):
    tips = {a["id"] for tag, a in page.elements if a.get("role") == "tooltip"}
    pointed = {a["aria-describedby"] for a in page.all("button") if "aria-describedby" in a}
    assert tips == pointed
    assert len(tips) == len(REPORT.metrics)


def test_a_bare_report_renders():
    unmeasured = {name: judge({}, [], name) for name in REPORT.tuned}
    bare = REPORT.model_copy(
        update={
            "metrics": [], "by_task": [], "gates": [], "verdicts": unmeasured, "openings": [],
            "phrases": [], "samples": [], "training": {}, "corpus": None, "environment": {},
        }
    )  # fmt: skip
    assert "Gates of" not in render_html(bare)
    assert "Gates:" not in render_markdown(bare)
    assert terminal_table(bare).row_count == 1


def test_of_suites_that_are_not_shown_whole_it_is_said_how_much_is(html):
    shown = sum(sample.suite == "domain" for sample in REPORT.samples)
    assert f"Shown are {shown:,} of 10,000 domain; the rest is in" in html


def test_rendering_is_deterministic(html):
    assert render_html(make_report()) == html


def test_markdown_holds_verdicts_gates_table_and_three_flips():
    text = render_markdown(REPORT)
    assert "### ❌ uniform: Learned the domain, more of a parrot, forgot; breaks 2 of 4" in text
    assert "### ⚠️ nlirg: Learned the domain, more of a parrot, no net forgetting" in text
    assert "✅ Domain accuracy 91.2% (needs ≥ 85%)" in text
    assert "91.2%<br>▲ **+79.2 pts** (+75.9 to +82.5)" in text
    assert "92.5%<br>○ −1.5 pts (−4.6 to +1.6)" in text
    assert len(re.findall("(fixed|broken) by", text)) == FLIPS
    for table in tables(text):
        assert len({line.count("|") for line in table}) == 1


def tables(markdown: str) -> list[list[str]]:
    """The tables of a text, as their lines."""
    blocks = (block.splitlines() for block in markdown.split("\n\n"))
    return [lines for lines in blocks if lines and lines[0].startswith("|")]


def test_markdown_holds_what_the_page_holds():
    text = render_markdown(REPORT)
    for line in (
        "- ⚠️ uniform, step 2400: the loss has risen steadily",
        "| nlirg, domain | 1 of 3 | 24 of 31 |",
        "| Domain accuracy: reply | 10.0% | 70.0% | 85.0% | – |",
        "| field order | 12.0% | 78.0% | 90.0% |",
        "| begin “Thank you for contacting us” | 3.0% | 86.0% | 71.0% | 70.0% |",
        "| nlirg | 4,000 | 39,412 | ",
        "learning_rate: 0.0002",
        "- vllm: 0.32.0",
    ):
        assert line in text
    assert text.count("<details>") == text.count("</details>") == FLIPS + 6
    assert len(tables(text)) == 8


def test_markdown_of_several_seeds_starts_its_numbers_with_their_means():
    text = render_markdown(make_seeds(arms=2, seeds=3))
    assert "| Mean over seeds | arm0 (3) | arm1 (3) |" in text
    assert text.index("Mean over seeds") < text.index("| Metric | base |")


@pytest.mark.parametrize(("arms", "whole"), [(8, True), (40, False), (200, False)])
def test_markdown_fits_into_a_comment_and_says_what_it_left_out(arms, whole):
    text = render_markdown(make_seeds(arms, seeds=1))
    assert len(text.encode()) <= LONGEST
    assert ("left out for length" not in text) == whole
    if not whole:
        assert text.count("<details>") == text.count("</details>")


def test_a_mean_over_seeds_has_students_interval():
    mean, low, high = mean_interval([0.80, 0.82, 0.84], 0.95)
    assert (mean, high - mean) == pytest.approx((0.82, 4.3027 * 0.02 / 3**0.5), rel=1e-4)
    assert mean - low == pytest.approx(high - mean)
    assert mean_interval([0.5, 0.5], 0.95) == (0.5, 0.5, 0.5)
    assert np.isnan(mean_interval([0.5], 0.95)[1:]).all()


def test_an_arm_whose_seeds_lack_a_metric_is_left_out():
    report = make_seeds(arms=2, seeds=2)
    metric = report.metrics[0]
    lacking = {k: v for k, v in metric.values.items() if k != "arm0-seed1"}
    found = over_seeds(report, metric.model_copy(update={"values": lacking}))
    assert set(found) == {"arm1"}
    assert found["arm1"].delta == pytest.approx(found["arm1"].value - metric.values["base"].value)


def test_flips_show_losses_as_well_as_gains_and_no_case_twice():
    flips = chosen_flips(REPORT)
    assert [fixed for _, _, fixed in flips] == [False, True, False]
    assert len({sample.case_id for sample, _, _ in flips}) == FLIPS


def test_inline_text_has_no_active_character_left():
    for text in (HOSTILE, BIDI, TICKS, "a | b\n\n# c", "![x](http://e.org)"):
        shown = re.sub(r"&#\d+;", "", inline(text))
        assert not re.search(r"[\\`*_\[\]<>|!\n\u202e]", shown)


def test_a_code_block_ends_where_its_text_ends():
    for text in (TICKS, "````\nx\n````", "plain", HOSTILE):
        lines = block(text).splitlines()
        fence = lines[-1]
        assert set(fence) == {"`"}
        assert lines[0] == f"{fence}text"
        assert not any(line.startswith(fence) for line in lines[1:-1])


def test_the_base_at_equal_length_reads_alike_in_every_form_of_the_report():
    metrics = []
    for metric in REPORT.metrics:
        if metric.key == "distinct_2":
            cut = metric.values["nlirg"].model_copy(update={"before": 0.333})
            same = metric.values["uniform"].model_copy(update={"before": 0.412})
            values = metric.values | {"nlirg": cut, "uniform": same}
            metric = metric.model_copy(update={"values": values})
        metrics.append(metric)
    report = REPORT.model_copy(update={"metrics": metrics})
    out = StringIO()
    Console(file=out, width=100, color_system=None).print(terminal_table(report))
    forms = [Page(render_html(report)).text, render_markdown(report), out.getvalue()]
    for text in forms:
        assert "base 0.333 at" in text
        assert text.count("equal length") == 1  # what the base's own column says is not repeated


def test_long_answers_are_cut_in_markdown():
    assert len(block("x" * 10_000)) < 600


@pytest.mark.parametrize("width", [80, 100])
def test_the_terminal_table_fits_and_names_every_number(width):
    out = StringIO()
    Console(file=out, width=width, color_system=None).print(terminal_table(REPORT))
    text = out.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for number in ("91.2% ▲+79.2", "+75.9 to +82.5", "18.2% ▼+10.0", "✗ 2 of 4", "✓ 4 of 4"):
        assert number in text


def test_deltas_are_coloured_by_their_meaning():
    out = StringIO()
    Console(file=out, width=100, force_terminal=True, color_system="standard").print(
        terminal_table(REPORT)
    )
    assert "\x1b[32m ▲+79.2" in out.getvalue()
    assert "\x1b[31m ▼+22.8" in out.getvalue()
    assert "\x1b[2m+75.9 to +82.5" in out.getvalue()


def test_the_three_files_are_written_and_the_results_read_back(tmp_path):
    write_report(REPORT, tmp_path / "report")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "index.html",
        "report.md",
        "results.json",
    ]
    text = (tmp_path / "report" / "results.json").read_text(encoding="utf-8")
    read = Report.model_validate_json(text)
    assert repr(read) == repr(REPORT)  # NaN, which training curves hold, equals nothing
    old = json.loads(text) | {"format": 1}
    with pytest.raises(ValidationError, match="format"):
        Report.model_validate(old)


def test_numbers_without_a_value_and_lone_surrogates_can_be_written(tmp_path):
    broken = REPORT.model_copy(
        update={
            "corpus": REPORT.corpus.model_copy(
                update={"mean_loss": math.nan, "zones": {"low": math.inf, "mid": -math.inf}}
            ),
            "environment": {"command": "cut \ud83d", "\udcff": "key"},
            "samples": [REPORT.samples[0].model_copy(update={"prompt": "\udfff"})],
        }
    )
    write_report(broken, tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = (tmp_path / "results.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse)["environment"] == {
        "command": "cut \ufffd", "\ufffd": "key"
    }  # fmt: skip
    read = Report.model_validate_json(text)
    assert math.isnan(read.corpus.mean_loss)
    assert read.corpus.zones == {"low": math.inf, "mid": -math.inf}
    assert "⟨U+D83D⟩" in (tmp_path / "index.html").read_text(encoding="utf-8")
