"""Both pages in a real browser: silent console, no network, fits a phone, prints, headings in order, contrast AA."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from wardround.evaluation.report import index_page, site_report
from wardround.evaluation.report_model import Dossier, SiteReport

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

CONTRAST = """() => {
  const part = c => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const rgb = s => s.match(/[\\d.]+/g).map(Number);
  const low = [];
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('svg') || ![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    let back = e, colour = [0, 0, 0, 0];
    while (back) {
      colour = rgb(getComputedStyle(back).backgroundColor);
      if (colour[3] !== 0) break;
      back = back.parentElement;
    }
    if (!back) colour = [255, 255, 255];
    const a = light(rgb(getComputedStyle(e).color)), b = light(colour);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([e.tagName, e.textContent.slice(0, 30), ratio]);
  }
  return low;
}"""


def absent(reason: str) -> None:
    """Fail where a browser is required, and otherwise skip with a reason that is printed."""
    if os.environ.get("WARDROUND_REQUIRE_BROWSER") == "1":
        pytest.fail(f"WARDROUND_REQUIRE_BROWSER=1, but {reason}")
    pytest.skip(f"PAGES WERE NOT LOOKED AT: {reason}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        absent("there is no Chromium on the PATH (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(params=["site", "index"])
def page_file(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    site_report_input: Callable[..., SiteReport],
    dossier_input: Dossier,
) -> Path:
    path = tmp_path / f"{request.param}.html"
    long = "Universitätsklinikum-Donaudampfschifffahrt-Neuroradiologie"
    if request.param == "site":
        path.write_text(site_report(site_report_input(site=long)), encoding="utf-8")
    else:
        rows = (replace(dossier_input.sites[0], site=long), *dossier_input.sites[1:])
        path.write_text(index_page(replace(dossier_input, sites=rows)), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_page_in_a_browser(browser: Any, page_file: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(page_file.as_uri())
        assert said == []
        assert asked == [page_file.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert all(b <= a + 1 for a, b in pairwise(levels))
        assert page.evaluate(CONTRAST) == []
        drawn = page.evaluate("[...document.querySelectorAll('svg.figure')].map(s => s.getBoundingClientRect().width)")
        assert drawn
        assert all(100 < drawing <= width for drawing in drawn)
    finally:
        page.close()


def test_page_prints_on_a4(browser: Any, page_file: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        page.goto(page_file.as_uri())
        pdf = page.pdf(prefer_css_page_size=True)
        assert pdf.startswith(b"%PDF")
        assert b"595" in pdf  # points across A4
        page.set_viewport_size({"width": 680, "height": 960})
        page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.scrollWidth") <= 680
    finally:
        page.close()
