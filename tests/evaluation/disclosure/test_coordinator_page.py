"""The coordinator's page and its twins: complete, the same bytes, readable in a browser and by a screen reader."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from wardround.evaluation.disclosure.bands import band_of
from wardround.evaluation.disclosure.coordinator_view import coordinator_page
from wardround.evaluation.disclosure.published import Published
from wardround.evaluation.disclosure.publishing import publish
from wardround.evaluation.disclosure.twins import deployed_summary, from_json, to_csv, to_json
from wardround.evaluation.errors import InvalidReportError
from wardround.evaluation.report_model import ClassName

from .reader import csv_lines, json_lines
from .studies import draw, facts, summed

SMALL = Published(facts(2), 3, None, ((band_of(3), band_of(1)), (band_of(2), band_of(4))))


@pytest.fixture(scope="module")
def published() -> Published:
    return publish(summed(*draw(300, 4, seed=300), temperature=1.4), facts(4))


@pytest.fixture(scope="module")
def nothing() -> Published:
    return publish(summed(*draw(0, 3)), facts(3))


def test_json_reads_back(published: Published, nothing: Published) -> None:
    for each in (published, nothing):
        assert from_json(to_json(each)) == each
        assert to_json(each) == to_json(from_json(to_json(each)))


@pytest.fixture(scope="module")
def page_of(published: Published) -> str:
    return coordinator_page(published)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"schema": 2}'])
def test_other_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidReportError):
        from_json(data)


def test_a_broken_band_in_json_is_refused(published: Published) -> None:
    text = to_json(published).decode()
    assert '"low": 1,' in text
    with pytest.raises(InvalidReportError):
        from_json(re.sub(r'"low": 1,', '"low": 99999,', text, count=1).encode())


def test_the_csv_has_every_figure_and_no_formula(published: Published) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(published))))
    assert {len(row) for row in rows} == {6}
    assert {row[0] for row in rows[1:]} == {
        "figures",
        "confusion",
        "classes",
        "margins",
        "reliability",
        "reliability before the temperature",
        "decisions at 0.1",
        "decisions at 0.25",
        "decisions at 0.5",
        "abstention",
        "subgroups by sex",
        "withheld",
    }
    assert sum(row[0] == "confusion" for row in rows) == 16
    assert all(cell[:1] not in "=+-@" for row in rows for cell in row[:3] if cell)
    assert all(cell == "" or float(cell) == float(cell) for row in rows[1:] for cell in row[3:5])


def test_every_figure_of_the_json_has_its_line_in_the_csv(published: Published) -> None:
    in_json = list(json_lines(json.loads(to_json(published))))
    assert len(in_json) > 100
    assert set(in_json) <= set(csv_lines(to_csv(published)))


def test_summary_has_middles_or_null(published: Published, nothing: Published) -> None:
    found = deployed_summary(published)
    assert set(found) == {
        *("n", "accuracy", "balanced_accuracy", "macro_f1", "macro_auroc"),
        *("ece", "classwise_ece", "brier", "nll", "temperature"),
    }
    assert (found["n"], found["nll"], found["classwise_ece"]) == (None, None, None)
    assert found["balanced_accuracy"] == pytest.approx(0.9, abs=0.05)
    assert all(value is None or round(value, 2) == value for value in found.values())
    assert set(deployed_summary(nothing).values()) == {None}
    assert found["temperature"] == 1.4


def test_page_has_all_sections_and_the_same_bytes(published: Published, page_of: str) -> None:
    page = page_of
    assert page == coordinator_page(published)
    assert "<script" not in page
    sections = ("use", "data", "partition", "headline", "classes", "calibration", "decision", "abstention")
    sections = (*sections, "subgroups", "shift", "failures", "privacy", "limits")
    numbered = re.findall(r'<h2 id="(\w+)" class="numbered"><span class="no">(\d+)</span>', page)
    assert numbered == [(name, str(at)) for at, name in enumerate(sections, start=1)]
    assert [name for name, _ in re.findall(r'<a href="#(\w+)"><span class="no">(\d+)', page)] == list(sections)
    assert "default-src 'none'" in page
    assert "SYNTHETIC" not in page


def test_page_says_what_is_withheld_and_why(published: Published, nothing: Published, page_of: str) -> None:
    page = page_of
    for missing in published.withheld:
        assert missing.what in page
        assert missing.why in page
    assert "No site has a test image" in coordinator_page(nothing)
    few = coordinator_page(SMALL)
    assert "Every count is under 11" in few
    assert "too few" in few


def test_page_says_whether_an_earlier_report_was_taken_into_account(page_of: str) -> None:
    assert "whoever has one may compare" in page_of
    assert f"SHA-256 {'5e' * 32}" in coordinator_page(replace(SMALL, earlier="5e" * 32))


def test_names_are_escaped() -> None:
    strange = replace(facts(2), classes=(ClassName("<b>x", "<i>y & z"), ClassName("b", "B")))
    page = coordinator_page(replace(SMALL, facts=strange))
    assert "<i>y" not in page
    assert "&lt;i&gt;y &amp; z" in page


@pytest.mark.browser
@pytest.mark.timeout(120)
def test_page_in_a_browser(browser: Any, low_contrast: str, page_of: str, tmp_path: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    path = tmp_path / "report.html"
    path.write_text(page_of, encoding="utf-8")
    # The page forbids scripts, and a checker is one.
    context = browser.new_context(bypass_csp=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(path.as_uri())
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert all(b <= a + 1 for a, b in pairwise(levels))
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(low_contrast) == []
        found = Axe().run(page).response["violations"]
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
        assert said == []
        assert asked == [path.as_uri()]
    finally:
        context.close()
