"""The report in a real browser: filters, hostile text, narrow screens, many samples."""

import re

import pytest
from playwright.sync_api import Page, expect

from eval.report import write_report
from tests.eval.browser import NEEDS_BROWSER, check_fits, open_page
from tests.eval.report_fixture import HOSTILE, make_report
from tests.eval.seeds_fixture import make_seeds

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("report")
    write_report(make_report(), folder)
    return (folder / "index.html").as_uri()


@pytest.fixture
def page(browser, address):
    opened, complaints = open_page(browser, address)
    yield opened
    assert complaints == []
    opened.close()


def shown(page: Page) -> int:
    """Number of samples that the filters leave."""
    found = re.search(r"of ([\d,]+) samples", page.locator("#count").inner_text())
    return int(found[1].replace(",", "")) if found else 0


def test_all_samples_are_there_and_paged(page):
    assert shown(page) == 60
    assert page.locator(".sample").count() == 10
    first, more = page.locator(".sample h3").first.inner_text(), page.get_by_text("Next").first
    expect(page.get_by_text("Previous").first).to_be_disabled()
    for _ in range(5):
        more.click()
    expect(page.locator("#count")).to_have_text("51–60 of 60 samples")
    expect(more).to_be_disabled()
    assert page.locator(".sample h3").first.inner_text() != first


def test_filters_select_what_they_say(page):
    samples = make_report().samples
    page.get_by_label("Suite").select_option(label="robustness")
    assert shown(page) == sum(s.suite == "robustness" for s in samples)
    page.locator("#filters").get_by_label("Wording").select_option(label="typos")
    assert shown(page) == sum(s.perturbation == "typos" for s in samples)
    page.locator("#filters").get_by_label("Wording").select_option(label="Original")
    expect(page.locator("#count")).to_have_text("No sample matches these filters.")
    page.get_by_label("Suite").select_option(label="All suites")
    page.locator("#filters").get_by_label("Wording").select_option(label="Any wording")
    page.locator("#filters").get_by_label("Task type").select_option(label="triage")
    assert shown(page) == sum(s.task_type == "triage" for s in samples)


@pytest.mark.parametrize(
    ("outcome", "before", "after"),
    [("fixed", False, True), ("broken", True, False), ("wrong", False, False)],
)
def test_outcomes_are_of_the_chosen_variant(page, outcome, before, after):
    page.get_by_label("Compare").select_option(label="base → nlirg")
    page.get_by_label("Outcome").select_option(outcome)
    expected = [
        sample.case_id
        for sample in make_report().samples
        if (sample.answers["base"].correct, sample.answers["nlirg"].correct) == (before, after)
    ]
    assert shown(page) == len(expected) > 0
    titles = page.locator(".sample h3").all_inner_texts()
    assert [title.split()[0] for title in titles] == expected[:10]


def test_search_looks_into_prompts_and_answers(page):
    page.get_by_label("Search").fill("退款")
    expect(page.locator("#count")).to_have_text("1 sample")
    page.get_by_label("Search").fill("TICKET 17:")
    expect(page.locator(".sample h3")).to_contain_text("case-0017")


def test_hostile_text_is_shown_and_does_not_run(page):
    page.get_by_label("Search").fill("onerror")
    expect(page.locator("#count")).to_have_text("1 sample")
    assert page.locator(".sample .prompt").inner_text() == HOSTILE
    page.get_by_label("Search").fill("U+202E")
    expect(page.locator(".sample .prompt")).to_have_text("safe ⟨U+202E⟩gnp.exe⟨U+202C⟩ end")
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0


def test_the_policy_stops_scripts_even_if_one_were_injected(browser, address):
    page, complaints = open_page(browser, address)
    page.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 1';"
        "document.body.append(s)"
    )
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in text for text in complaints)
    page.close()


def test_words_that_differ_are_marked_on_both_sides(page):
    page.get_by_label("Compare").select_option(label="base → nlirg")
    page.get_by_label("Outcome").select_option("fixed")
    sample = page.locator(".sample", has_text="case-0006")
    expect(sample.locator(".s0 mark.gone")).to_have_text(["htroN", "soon"])
    expect(sample.locator(".s2 mark.new")).to_have_text(["North", "3 days"])


def test_help_is_reachable_by_keyboard_and_by_assistive_technology(page):
    button = page.get_by_role("button", name="What is Domain accuracy?")
    tip = page.locator("#help-domain_accuracy")
    expect(tip).to_be_hidden()
    button.focus()
    expect(tip).to_be_visible()
    expect(button).to_have_accessible_description(tip.text_content())


def test_keyboard_alone_turns_the_page(page):
    page.get_by_text("Next").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#count")).to_have_text("11–20 of 60 samples")


@pytest.mark.parametrize("width", [400, 800, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_width_needs_sideways_scrolling(browser, address, width, scheme):
    check_fits(browser, address, width, scheme)


def test_dark_and_light_differ_and_text_stands_out(browser, address):
    grounds = {}
    for scheme in ("light", "dark"):
        page, _ = open_page(browser, address, color_scheme=scheme)
        grounds[scheme] = page.evaluate(
            "['backgroundColor', 'color'].map(k => getComputedStyle(document.body)[k])"
        )
        page.close()
    luminance = {
        scheme: [sum(map(int, re.findall(r"\d+", colour))) / 765 for colour in colours]
        for scheme, colours in grounds.items()
    }
    assert luminance["light"][0] > 0.9 > 0.3 > luminance["light"][1]
    assert luminance["dark"][0] < 0.2 < 0.8 < luminance["dark"][1]


def test_changed_sides_are_the_fixed_and_the_broken(page):
    page.get_by_label("Compare").select_option(label="base → nlirg")
    counts = {}
    for outcome in ("fixed", "broken", "changed"):
        page.get_by_label("Outcome").select_option(outcome)
        counts[outcome] = shown(page)
    assert counts["changed"] == counts["fixed"] + counts["broken"] > 0


def test_a_flip_says_what_sampling_it_again_found(page):
    page.get_by_label("Search").fill("ticket 6:")
    expect(page.locator(".sample .again")).to_have_text(
        "sampled again: right 7 of 8, base 1 of 8; the change is stable"
    )
    expect(page.locator(".sample .s2", has=page.locator(".again"))).to_have_count(1)


def test_of_many_variants_two_stand_side_by_side_and_the_others_open(browser, tmp_path):
    write_report(make_seeds(arms=8, seeds=1), tmp_path)
    page, complaints = open_page(browser, (tmp_path / "index.html").as_uri())
    page.get_by_label("Compare").select_option(label="base → arm5-seed0")
    first = page.locator(".sample").first
    beside = first.locator(":scope > .answers h4")
    expect(beside).to_contain_text(["Reference", "base", "arm5-seed0"])
    expect(first.locator(".more h4")).to_have_count(0)
    first.get_by_text("7 more variants").click()
    expect(first.locator(".more h4")).to_have_count(7)
    assert complaints == []
    page.close()


@pytest.mark.parametrize("width", [400, 1280])
def test_many_variants_and_seeds_scroll_inside_their_tables(browser, tmp_path, width):
    write_report(make_seeds(arms=4, seeds=2), tmp_path)
    page, complaints = open_page(browser, (tmp_path / "index.html").as_uri(), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.locator("#seeds tbody tr")).to_have_count(10)
    expect(page.locator(".arm[open]")).to_have_count(0)
    assert complaints == []
    page.close()


def test_names_of_metrics_stay_in_sight_while_the_table_scrolls(browser, tmp_path):
    write_report(make_seeds(arms=8, seeds=1), tmp_path)
    page, _ = open_page(browser, (tmp_path / "index.html").as_uri())
    name = page.locator(".metrics tbody th[scope=row]").first
    before = name.bounding_box()
    page.locator(".scroll", has=page.locator(".metrics")).evaluate("box => box.scrollLeft = 400")
    assert name.bounding_box() == before
    page.close()


def test_the_plane_stands_right_after_the_verdicts_with_its_scales(page):
    section = page.locator("main > section").nth(1)
    expect(section.locator("h2")).to_have_text("What was learned, at what cost")
    expect(section.locator("svg .stop")).to_have_count(3)
    expect(section.locator("tr.chosen")).to_have_count(1)
    expect(section.locator("tr.chosen th")).to_contain_text("✗ chosen, but broken")
    box, table = (section.locator(part).first.bounding_box() for part in ("svg", "table"))
    assert box["x"] + box["width"] <= table["x"]  # side by side on a wide screen
    dashes = section.locator("svg .bound").evaluate("n => getComputedStyle(n).strokeDasharray")
    assert dashes != "none"


def test_two_arms_are_compared_in_a_table_that_is_open(page):
    rows = page.locator("#between tbody tr")
    expect(rows).to_have_count(10)
    expect(rows.first).to_be_visible()
    expect(rows.first.locator(".delta")).to_have_class("delta better")


def test_alarms_are_listed_beside_the_chart_that_marks_them(page):
    expect(page.locator(".alarms li")).to_have_count(2)
    expect(page.locator(".alarms li").first).to_contain_text("!1")
    expect(page.locator("#training svg .event")).to_have_count(2)


def test_the_printed_page_shows_all_and_no_controls(browser, address):
    page, _ = open_page(browser, address)
    page.emulate_media(media="print", color_scheme="dark")
    expect(page.locator("#filters")).to_be_hidden()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(255, 255, 255)"
    page.close()


def test_ten_thousand_samples_stay_usable(browser, tmp_path):
    write_report(make_report(samples=10_000), tmp_path)
    page, complaints = open_page(browser, (tmp_path / "index.html").as_uri())
    expect(page.locator("#count")).to_have_text("1–10 of 10,000 samples")
    interactive = page.evaluate("performance.getEntriesByType('navigation')[0].domInteractive")
    assert interactive < 5000
    assert page.locator(".sample").count() == 10
    for field, value in (("outcome", "fixed"), ("suite", "=domain"), ("text", "ticket 4320")):
        elapsed = page.evaluate(
            """([name, value]) => {
                const field = document.querySelector(`[name=${name}]`), started = performance.now();
                field.value = value;
                field.dispatchEvent(new Event('change', { bubbles: true }));
                return performance.now() - started;
            }""",
            [field, value],
        )
        assert elapsed < 1000, field
    page.get_by_label("Search").fill("ticket 4320:")
    page.get_by_label("Outcome").select_option("all")
    expect(page.locator("#count")).to_have_text("1 sample")
    assert complaints == []
    page.close()
