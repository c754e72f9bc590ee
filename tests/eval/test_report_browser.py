"""The report in a real browser: filters, hostile text, narrow screens, many samples."""

import re
import time

import pytest
from playwright.sync_api import Page, expect

from eval.report import write_report
from tests.eval.browser import NEEDS_BROWSER, open_page
from tests.eval.report_fixture import HOSTILE, make_report

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
    page.get_by_label("Wording").select_option(label="typos")
    assert shown(page) == sum(s.perturbation == "typos" for s in samples)
    page.get_by_label("Wording").select_option(label="Original")
    expect(page.locator("#count")).to_have_text("No sample matches these filters.")
    page.get_by_label("Suite").select_option(label="All suites")
    page.get_by_label("Wording").select_option(label="Any wording")
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
    page, complaints = open_page(browser, address, width, color_scheme=scheme)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    page.close()


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


def test_five_thousand_samples_stay_usable(browser, tmp_path):
    write_report(make_report(samples=5000), tmp_path)
    started = time.monotonic()
    page, complaints = open_page(browser, (tmp_path / "index.html").as_uri())
    expect(page.locator("#count")).to_have_text("1–10 of 5,000 samples")
    assert time.monotonic() - started < 10
    assert page.locator(".sample").count() == 10
    elapsed = page.evaluate(
        """() => {
            const outcome = document.querySelector('[name=outcome]'), started = performance.now();
            outcome.value = 'fixed';
            outcome.dispatchEvent(new Event('change', { bubbles: true }));
            return performance.now() - started;
        }"""
    )
    assert elapsed < 1000
    page.get_by_label("Search").fill("ticket 4321:")
    page.get_by_label("Outcome").select_option("all")
    expect(page.locator("#count")).to_have_text("1 sample")
    assert complaints == []
    page.close()
