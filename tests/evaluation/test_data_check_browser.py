"""The page of ``wardround data check`` in a real browser: silent, no request, accessible, on a phone too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from wardround.medical_datasets.catalog import DATASETS, list_images
from wardround.medical_datasets.listing import Wanted
from wardround.medical_datasets.quality.check import check_listing
from wardround.platform.data_check import Checked
from wardround.platform.data_check_page import check_page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

LONG = "a_very_long_name_" + "x" * 140 + ".png"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)

    def save(path: Path, quality: int = 95) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (6, 6), dtype=np.uint8))
        coarse.resize((72, 72), Image.Resampling.BICUBIC).convert("RGB").save(path, quality=quality)

    for number in range(24):
        save(root / ("Training", "Testing")[number % 2] / ("glioma", "notumor")[number % 3 == 0] / f"{number}.jpg")
    first = root / "Training" / "glioma" / "2.jpg"
    for name in ("Testing/glioma/a.jpg", "Testing/notumor/b.jpg", f"Training/glioma/{LONG}"):
        (root / name).write_bytes(first.read_bytes())
    (root / "Training" / "glioma" / "broken.jpg").write_bytes(b"no")
    for number in range(70):
        (root / "Training" / "notumor" / f"empty{number}.jpg").write_bytes(b"")
    save(root / "Training" / "ependymoma" / "e.jpg")
    listing = list_images(DATASETS["brain-mri"], Wanted(root))
    return check_page([Checked(listing, check_listing(listing))], "images")


@contextmanager
def opened(browser: Any, path: Path, page: str, width: int) -> Iterator[Any]:
    path.write_text(page, encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 844})
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


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_can_be_read(browser: Any, low_contrast: str, tmp_path: Path, page: str, width: int) -> None:
    with opened(browser, tmp_path / "check.html", page, width) as tab:
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        levels = tab.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert all(b <= a + 1 for a, b in pairwise(levels))
        assert tab.evaluate(low_contrast) == []
        assert tab.locator(".banner.local").is_visible()
        side = tab.evaluate(
            "(() => { const [a, b] = [...document.querySelector('.several').querySelectorAll('img')]"
            ".map(i => i.getBoundingClientRect()); return [a.y === b.y, a.right <= b.left]; })()"
        )
        assert side == [True, True]


def test_findings_are_reached_by_keyboard(browser: Any, tmp_path: Path, page: str) -> None:
    with opened(browser, tmp_path / "check.html", page, 1280) as tab:
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.className") == "skip"
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.className") == "scroll"
        tab.keyboard.press("Tab")
        tab.keyboard.press("Enter")
        assert tab.evaluate("location.hash") == "#f0-0"
        top, bar = tab.evaluate(
            "[document.querySelector(location.hash).getBoundingClientRect().top,"
            " document.querySelector('.banner.local').getBoundingClientRect().bottom]"
        )
        assert top >= bar  # not under the banner
        tab.locator("summary").first.focus()
        before = tab.evaluate("document.activeElement.parentElement.open")
        tab.keyboard.press("Enter")
        assert tab.evaluate("document.activeElement.parentElement.open") is not before


def test_axe_finds_no_serious_fault_and_it_prints(browser: Any, tmp_path: Path, page: str) -> None:
    axe = __import__("axe_playwright_python.sync_playwright", fromlist=["Axe"])
    with opened(browser, tmp_path / "check.html", page, 1280) as tab:
        # The page's policy forbids foreign script; the checker goes in by way of the browser itself.
        tab.evaluate(axe.Axe().axe_script)
        faults = tab.evaluate("axe.run().then(r => r.violations.map(v => [v.id, v.impact, v.nodes[0].html]))")
        assert [fault for fault in faults if fault[1] in ("serious", "critical")] == []
        tab.emulate_media(media="print")
        assert tab.locator(".banner.local").is_visible()
        assert tab.pdf(prefer_css_page_size=True).startswith(b"%PDF")
