"""The case review page in a real browser: filters and sorting by mouse and keyboard, silent, no request, accessible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from wardround.evaluation.cases.model import CaseReview
from wardround.evaluation.cases.page import cases_page
from wardround.evaluation.report_model import ClassName

from .review import CLASSES, make_review

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@contextmanager
def opened(browser: Any, path: Path, review: CaseReview, *, width: int = 1280, script: bool = True) -> Iterator[Any]:
    path.write_text(cases_page(review), encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=script)
    tab = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    try:
        tab.goto(path.as_uri())
        yield tab
        assert said == []
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    finally:
        context.close()


def listed(tab: Any) -> list[int]:
    """Numbers of the images that can be seen, in the order on the page."""
    found: list[int] = tab.evaluate(
        "[...document.querySelectorAll('article')].filter(a => a.offsetParent).map(a => +a.dataset.record)"
    )
    return found


def wanted(review: CaseReview, kind: str, confident: float = 0.8) -> list[int]:
    keep = {
        "wrong": lambda c: c.outcome == "wrong",
        "confident": lambda c: c.outcome == "wrong" and c.confidence >= confident,
        "abstained": lambda c: c.outcome == "abstained",
        "misses": lambda c: c.set_misses,
        "right": lambda c: c.outcome == "right",
        "all": lambda c: True,
    }[kind]
    return [case.record for case in review.cases if keep(case)]


def test_filters_and_sorting_by_mouse(browser: Any, tmp_path: Path) -> None:
    review = make_review(24)
    with opened(browser, tmp_path / "cases.html", review) as tab:
        assert listed(tab) == list(range(24))
        for kind in ("wrong", "confident", "abstained", "misses", "right", "all"):
            tab.click(f"label:has(input[value={kind}])")
            assert listed(tab) == wanted(review, kind), kind
            assert tab.inner_text(f"#count-{kind}") == str(len(wanted(review, kind)))
            assert tab.inner_text("#shown").startswith(f"{len(wanted(review, kind))} of 24 images")
        tab.select_option("#order", "high")
        confidence = {case.record: case.confidence for case in review.cases}
        assert [confidence[r] for r in listed(tab)] == sorted(confidence.values(), reverse=True)
        tab.select_option("#order", "low")
        assert [confidence[r] for r in listed(tab)] == sorted(confidence.values())
        tab.select_option("#truth", "1")
        tab.select_option("#called", "2")
        fits = {case.record for case in review.cases if case.truth == 1 and case.called == 2}
        assert fits
        assert set(listed(tab)) == fits
        assert tab.inner_text("#count-all") == str(len(fits))
        tab.click("#reset")
        assert listed(tab) == list(range(24))
        tab.fill("#threshold", "65")
        tab.click("label:has(input[value=confident])")
        assert listed(tab) == wanted(review, "confident", 0.65) != wanted(review, "confident")
        assert tab.locator(".tag:visible").count() == len(listed(tab))
        tab.fill("#threshold", "101")
        assert listed(tab) == []
        assert tab.inner_text("#shown") == "None of the 24 images fits, worst first."


def test_filters_and_maps_by_keyboard(browser: Any, tmp_path: Path) -> None:
    review = make_review(24)
    with opened(browser, tmp_path / "cases.html", review) as tab:
        tab.focus("input[name=show]:checked")
        tab.keyboard.press("ArrowRight")
        assert listed(tab) == wanted(review, "wrong")
        tab.keyboard.press("ArrowRight")
        assert listed(tab) == wanted(review, "confident")
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "truth"
        for _ in range(4):
            tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "reset"
        tab.keyboard.press("Enter")
        assert listed(tab) == list(range(24))
        tab.keyboard.press("Tab")
        assert tab.locator(".map:visible").count() == 0
        tab.keyboard.press("Space")
        assert tab.locator(".map:visible").count() == 8
        first = tab.locator("article .toggle").first
        first.focus()
        tab.keyboard.press("Space")
        assert tab.locator(".map:visible").count() == 7
        over = tab.evaluate(
            "(() => { const m = document.querySelectorAll('.map')[1].getBoundingClientRect(),"
            " p = document.querySelectorAll('.map')[1].parentElement.getBoundingClientRect();"
            " return [(m.x - p.x) / p.width, m.width / p.width, m.height / p.height]; })()"
        )
        assert over == pytest.approx([0.125, 0.75, 1.0], abs=0.01)


def test_without_script_everything_is_there_in_order(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path / "cases.html", make_review(), script=False) as tab:
        assert tab.locator("article:visible").count() == 12
        assert tab.locator("#tools").is_hidden()
        tab.locator("article .toggle").first.check()  # a map needs no script
        assert tab.locator(".map:visible").count() == 1


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_can_be_read(browser: Any, low_contrast: str, tmp_path: Path, width: int) -> None:
    long = ClassName("long", "Dedifferentiated Donaudampfschifffahrtsgesellschaftskapitänssarcoma")
    with opened(browser, tmp_path / "cases.html", make_review(classes=(long, *CLASSES[1:])), width=width) as tab:
        tab.evaluate("document.querySelector('details').open = true")
        tab.check("#all-maps")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        levels = tab.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert all(b <= a + 1 for a, b in pairwise(levels))
        assert tab.evaluate(low_contrast) == []


def test_it_prints_what_is_chosen_with_the_banner(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path / "cases.html", make_review(), width=680) as tab:
        tab.click("label:has(input[value=wrong])")
        tab.emulate_media(media="print")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 680
        assert tab.locator(".banner.local").is_visible()
        assert tab.locator("#tools").is_hidden()
        assert tab.locator("article:visible").count() == len(wanted(make_review(), "wrong"))
        assert tab.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_axe_finds_no_serious_fault(browser: Any, tmp_path: Path) -> None:
    axe = __import__("axe_playwright_python.sync_playwright", fromlist=["Axe"])
    with opened(browser, tmp_path / "cases.html", make_review()) as tab:
        # The page's policy forbids foreign script; the checker goes in by way of the browser itself.
        tab.check("#all-maps")
        tab.evaluate(axe.Axe().axe_script)
        faults = tab.evaluate("axe.run().then(r => r.violations.map(v => [v.id, v.impact, v.nodes[0].html]))")
        assert [fault for fault in faults if fault[1] in ("serious", "critical")] == []
