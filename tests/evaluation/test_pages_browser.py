"""Both pages in a real browser: silent console, no network, fits a phone, prints, headings in order, contrast AA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from wardround.evaluation.report import index_page, site_report
from wardround.evaluation.report_model import Dossier, SiteReport

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


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
