"""A real browser for the tests of pages, and what a page complains about."""

import os
import shutil

import pytest
from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

NEEDS_BROWSER = [
    pytest.mark.browser,
    # On CI a missing browser is a fault, not a reason to pass over the page.
    pytest.mark.skipif(
        CHROMIUM is None and "CI" not in os.environ,
        reason="neither chromium nor google-chrome is installed",
    ),
]


def open_page(browser: Browser, address: str, width: int = 1280, **options) -> tuple[Page, list]:
    """A page, and the list that collects everything it complains about."""
    page = browser.new_page(viewport={"width": width, "height": 900}, **options)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    page.on("request", lambda r: r.url == address or complaints.append(f"request: {r.url}"))
    page.goto(address)
    return page, complaints


def check_fits(browser: Browser, address: str, width: int, scheme: str) -> None:
    """Assert that a page with everything opened needs no sideways scrolling."""
    page, complaints = open_page(browser, address, width, color_scheme=scheme)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    page.close()
