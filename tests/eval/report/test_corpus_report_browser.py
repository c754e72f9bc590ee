"""The page of a scored corpus in a real browser: filters, heat maps, hostile text, many rows."""

import re
import time

import pytest
from playwright.sync_api import Page, expect

from eval.report.corpus.page import render_corpus
from tests.eval.browser import NEEDS_BROWSER, check_fits, open_page
from tests.eval.corpus_report_fixture import SAME, listed_corpus
from tests.eval.report_fixture import HOSTILE

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("corpus") / "report.html"
    path.write_text(render_corpus(listed_corpus()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser, address):
    opened, complaints = open_page(browser, address)
    yield opened
    assert complaints == []
    opened.close()


def count(page: Page, section: str = "rows") -> str:
    return page.locator(f"#{section} .count").inner_text()


def ids(page: Page) -> list[str]:
    return [text.split()[1] for text in page.locator("#rows .row h3").all_inner_texts()]


def test_what_jumps_out_is_on_the_first_screen(page):
    first = page.locator(".findings li").first
    expect(first).to_contain_text("12 of 60 rows have the same answer")
    expect(first).to_contain_text(SAME)
    assert first.bounding_box()["y"] < 600


def test_rows_are_paged_the_most_suspicious_first(page):
    assert count(page) == "1–25 of 60 rows"
    assert ids(page)[:2] == ["row-00000", "row-00001"]
    page.locator("#rows").get_by_text("Next").first.click()
    assert count(page) == "26–50 of 60 rows"


def test_filters_select_what_they_say(page):
    rows, form = listed_corpus().listed, page.locator("#filters")
    form.get_by_label("Band").select_option(label="suspect")
    assert count(page) == f"1–15 of {sum(row.band == 'suspect' for row in rows)} rows"
    form.get_by_label("Task type").select_option(label="reply")
    assert ids(page) == [r.id for r in rows if r.band == "suspect" and r.task_type == "reply"]
    form.get_by_label("Band").select_option(label="All bands")
    form.get_by_label("Task type").select_option(label="All task types")
    form.get_by_label("Duplicates").select_option(label="Answer repeats")
    assert ids(page) == [row.id for row in rows if row.answer == SAME]
    form.get_by_label("Duplicates").select_option(label="All rows")
    form.get_by_label("Search").fill("TICKET 17:")
    expect(page.locator("#rows .count")).to_have_text("1 row")
    form.get_by_label("Search").fill("nowhere to be found")
    expect(page.locator("#rows .count")).to_have_text("No row matches these filters.")


def test_sorting_by_a_score_both_ways(page):
    rows = listed_corpus().listed
    page.get_by_label("Sort by").select_option(label="mean loss")
    expected = sorted(rows, key=lambda row: -row.scores["mean_loss"])  # ties stay in order
    assert ids(page) == [row.id for row in expected[:25]]
    page.get_by_label("Order").select_option(label="Lowest first")
    expected = sorted(rows, key=lambda row: row.scores["mean_loss"])
    assert ids(page) == [row.id for row in expected[:25]]


def test_heat_maps_colour_tokens_by_loss_and_by_entropy(page):
    card = page.locator("#suspicious .sample").nth(3)  # "answer 3 of the desk one two three four"
    tokens = card.locator(".heat .t")
    assert re.search(r"\bh0\b", tokens.nth(0).get_attribute("class"))  # loss 0
    assert re.search(r"\bh4\b", tokens.nth(5).get_attribute("class"))  # loss 5
    expect(card.locator("mark .t")).to_have_text("of ")
    expect(card.locator(".pattern")).to_have_text("sure, and wrong")
    expect(card.locator(".left-out")).to_have_text(
        ["… 3 tokens before …", "… 7 tokens after"], use_inner_text=True
    )
    page.get_by_label("entropy", exact=True).check()
    tokens = page.locator("#suspicious .sample").nth(3).locator(".heat .t")
    assert re.search(r"\bh1\b", tokens.nth(5).get_attribute("class"))  # entropy 0.5
    expect(page.locator("[data-scale=entropy]")).to_be_visible()
    expect(page.locator("[data-scale=loss]")).to_be_hidden()


def test_without_entropies_there_is_nothing_to_switch(browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(render_corpus(listed_corpus(entropies=False)), encoding="utf-8")
    page, complaints = open_page(browser, path.as_uri())
    expect(page.locator("#switch")).to_be_hidden()
    assert complaints == []
    page.close()


def test_keyboard_walks_through_the_tokens(page):
    card = page.locator("#suspicious .sample").nth(3)
    card.locator(".heat").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(card.locator(".readout")).to_have_text(
        "“of” · loss 2.00 · entropy 0.20 · sure, and wrong"
    )
    page.keyboard.press("ArrowLeft")
    expect(card.locator(".readout")).to_contain_text("loss 1.00")


def test_hostile_text_is_shown_and_does_not_run(page):
    page.get_by_label("Search").fill("onerror")
    expect(page.locator("#rows .count")).to_have_text("1 row")
    expect(page.locator("#rows .asked")).to_have_text(HOSTILE)
    page.get_by_label("Search").fill("U+202E")
    expect(page.locator("#rows .answered")).to_have_text("safe ⟨U+202E⟩gnp.exe⟨U+202C⟩ end")
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_width_needs_sideways_scrolling(browser, address, width, scheme):
    check_fits(browser, address, width, scheme)


LUMINANCE = """
(() => {
  const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = (rgb) => rgb.slice(0, 3).reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * channel(c), 0);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  return [...document.querySelectorAll('[data-scale=loss] [class^=h]')].slice(1).map((node) => {
    const style = getComputedStyle(node);
    return [light(parse(style.backgroundColor)), light(parse(style.color))];
  });
})()
"""  # noqa: E501


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_scale_is_ordered_by_lightness_and_its_text_readable(browser, address, scheme):
    page, _ = open_page(browser, address, color_scheme=scheme)
    steps = page.evaluate(LUMINANCE)
    grounds = [ground for ground, _ in steps]
    assert len(steps) == 7
    assert grounds == sorted(grounds, reverse=scheme == "light")
    for ground, ink in steps:
        low, high = sorted([ground, ink])
        assert (high + 0.05) / (low + 0.05) >= 4.5
    page.close()


def test_ten_thousand_rows_stay_usable(browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(render_corpus(listed_corpus(10_000, heat=100)), encoding="utf-8")
    started = time.monotonic()
    page, complaints = open_page(browser, path.as_uri())
    expect(page.locator("#rows .count")).to_have_text("1–25 of 10,000 rows")
    assert time.monotonic() - started < 10
    for name, value in (("band", "=suspect"), ("sort", "mean_loss")):
        elapsed = page.evaluate(
            """([name, value]) => {
                const field = document.querySelector(`[name=${name}]`), started = performance.now();
                field.value = value;
                field.dispatchEvent(new Event('change', { bubbles: true }));
                return performance.now() - started;
            }""",
            [name, value],
        )
        assert elapsed < 1000
    page.get_by_label("Search").fill("ticket 4323:")
    expect(page.locator("#rows .count")).to_have_text("1 row")
    assert complaints == []
    page.close()
