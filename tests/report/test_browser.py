"""The report in a browser: no network, no error, readable by all, on a phone and on paper."""

import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from hpa_search.report.write import write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync")
PHONE, DESK, PAPER = 390, 1280, 688
"""Widths in pixels; paper is A4 without its margins of 14 mm."""

pytestmark = [pytest.mark.long, pytest.mark.skipif(BROWSER is None, reason="needs Chromium")]


@pytest.fixture(scope="module")
def context():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield browser.new_context(offline=True)
        browser.close()


@pytest.fixture
def page(context, finished, tmp_path):
    write_report(finished / "out", finished / "cache", to=tmp_path / "report.html")
    page, page.faults = context.new_page(), []
    page.on("console", lambda message: page.faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("requestfailed", lambda request: page.faults.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    yield page
    page.close()


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_it_opens_without_a_fault_and_fits(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.faults == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    faults = Axe().run(page).response["violations"]
    assert [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in faults] == []


def test_on_paper_no_table_is_cut(page, tmp_path):
    page.emulate_media(media="print")
    page.set_viewport_size({"width": PAPER, "height": 1000})
    assert page.evaluate(
        "[...document.querySelectorAll('table, img')].every(part => part.getBoundingClientRect().right <= innerWidth)"
    )
    assert page.evaluate("getComputedStyle(document.querySelector('tr')).breakInside") == "avoid"
    assert page.pdf(path=str(tmp_path / "report.pdf"), format="A4").startswith(b"%PDF")
