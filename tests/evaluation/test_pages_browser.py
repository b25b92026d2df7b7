"""Pages in a real browser: silent console, no network, fit a phone, print, headings in order, contrast AA, axe-core."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from wardround.evaluation.report import evaluation_page, index_page, site_report
from wardround.evaluation.report_model import Dossier, SiteReport
from wardround.evaluation.site_figures import SiteFigures
from wardround.evaluation.statements import Statement

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]
LONG = "Universitätsklinikum-Donaudampfschifffahrt-Neuroradiologie"


@pytest.fixture(scope="module")
def page_files(
    tmp_path_factory: pytest.TempPathFactory,
    rich_report: SiteReport,
    rich_figures: SiteFigures,
    dossier_input: Dossier,
    statements: tuple[Statement, ...],
) -> dict[str, Path]:
    """A site's page with everything on it, the front page, and the page of any model's predictions."""
    folder = tmp_path_factory.mktemp("pages")
    long = replace(statements[0], name=LONG, remarks=LONG * 4)
    first = replace(dossier_input.sites[0], site=LONG, cases_link="sites/a/cases.html", twin_links=("sites/a/x.json",))
    pages = {
        "site": site_report(
            replace(rich_report, site=LONG), (*statements, long), figures=rich_figures, cases="cases.html"
        ),
        "index": index_page(replace(dossier_input, sites=(first, *dossier_input.sites[1:])), (*statements, long)),
        "evaluation": evaluation_page(rich_figures.federated, title=LONG, source="predictions.csv", digest="ab" * 32),
    }
    for name, html in pages.items():
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.fixture(params=["site", "index", "evaluation"])
def page_file(request: pytest.FixtureRequest, page_files: dict[str, Path]) -> Path:
    return page_files[request.param]


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_page_in_a_browser(browser: Any, low_contrast: str, page_file: Path, width: int) -> None:
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
        assert page.evaluate(low_contrast) == []
        drawn = page.evaluate("[...document.querySelectorAll('svg.figure')].map(s => s.getBoundingClientRect().width)")
        assert drawn
        assert all(100 < drawing <= width for drawing in drawn)
        # Type in figures stays readable on a phone too.
        sizes = page.evaluate(
            "[...document.querySelectorAll('svg.figure text')].map(t => t.getBoundingClientRect().height)"
            ".filter(h => h > 0)"
        )
        assert min(sizes) >= 9
    finally:
        page.close()


@pytest.mark.parametrize(("name", "width"), [("site", 390), ("index", 1280), ("evaluation", 1280)])
def test_axe_finds_no_serious_fault(browser: Any, page_files: dict[str, Path], name: str, width: int) -> None:
    axe = __import__("axe_playwright_python.sync_playwright", fromlist=["Axe"])
    page_file = page_files[name]
    page = browser.new_page(viewport={"width": width, "height": 900})
    try:
        page.goto(page_file.as_uri())
        found = axe.Axe().run(page)
        bad = [
            (fault["id"], fault["impact"], fault["nodes"][0]["html"][:200])
            for fault in found.response["violations"]
            if fault["impact"] in ("serious", "critical")
        ]
        assert bad == []
        assert found.response["passes"]  # it did look
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
        # No table is cut at the edge of the paper.
        wide = "[...document.querySelectorAll('table')].filter(t => t.getBoundingClientRect().right > 681).length"
        assert page.evaluate(wide) == 0
    finally:
        page.close()
