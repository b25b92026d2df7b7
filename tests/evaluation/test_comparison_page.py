"""The page that compares methods: self-contained, honest about what is not known, and fit for a browser."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from wardround.evaluation.comparison import (
    FIGURES,
    CellLine,
    Comparison,
    CurvePoint,
    FigureSet,
    Limits,
    Mean,
    PairedTest,
    Row,
)
from wardround.evaluation.comparison_tables import comparable
from wardround.evaluation.comparison_words import adapter_note, pixel_notes, reading
from wardround.evaluation.errors import InvalidReportError
from wardround.evaluation.report import comparison_page
from wardround.evaluation.report_json import comparison_from_json, to_json
from wardround.evaluation.report_model import ClassName

NONE = FigureSet(**dict.fromkeys(FIGURES, Mean()))
NASTY = "<script>alert(1)</script>"


def figure_set(value: float, seeds: int = 3) -> FigureSet:
    return FigureSet(**{name: Mean(value, 0.02 if seeds > 1 else None, seeds) for name in FIGURES})


def make_row(method: str, value: float, **changes: Any) -> Row:
    curve = tuple(CurvePoint(i, Mean(1.5 / i, 0.1, 3), Mean(value * (1 - 0.5**i), 0.03, 3)) for i in range(1, 11))
    given = {
        "method": method,
        "variant": "",
        "exchange": "federated",
        "limits": None,
        "cells": 3,
        "finished": 3,
        "seeds": 3,
        "folds": 1,
        "rounds": 10,
        "personalisation": figure_set(value + 0.05),
        "generalisation": figure_set(value),
        "transductive": NONE,
        "bytes_per_site_round": 2_110_781.0,
        "bytes_ratio": 10.6,
        "parameters": {"adapter": 526_336, "buffers": 1024, "metrics": 1},
        "seconds": 12.5,
        "curve": curve,
        "options": {
            "loss": "class-prompt",
            "normalisation": "batch, exact site moments, shared",
            "text_adapter": False,
        },
        "lr": 5e-4,
    }
    return Row(**{**given, **changes})


def make_test(row: Row, rival: Row, p: float | None, **changes: Any) -> PairedTest:
    given = PairedTest(
        row.method, row.variant, rival.method, rival.variant, "baseline", "generalisation",
        0.08, 0.03, 0.13, p, p, 900, 240, 3,
    )  # fmt: skip
    return replace(given, **changes)


def make_cell(method: str, seed: int, **changes: Any) -> CellLine:
    name = f"{method}__seed-{seed}__out-unseen"
    given = CellLine(
        name, method, "", seed, "unseen", "0.1.0", "", False, 0.8, 0.75, 10, 12.5, f"cells/{name}/cell.json"
    )
    return replace(given, **changes)


def make_comparison(**changes: Any) -> Comparison:
    """A whole comparison: every kind of method, one granted less, one transductive, one failed cell."""
    zero = make_row("zero-shot", 0.55, exchange="nothing", rounds=0, curve=(), bytes_per_site_round=0.0,
                    bytes_ratio=None, parameters={}, seconds=0.1)  # fmt: skip
    fedavg = make_row("fedavg", 0.60, limits=Limits(5, 300, 1, False), seeds=1, cells=1, finished=1,
                      personalisation=figure_set(0.6, 1), generalisation=figure_set(0.6, 1), bytes_ratio=1.0,
                      bytes_per_site_round=605_000_000.0)  # fmt: skip
    rows = (
        zero,
        make_row("local-only", 0.62, exchange="alone", bytes_per_site_round=0.0, bytes_ratio=None, parameters={}),
        make_row("pooled", 0.90, exchange="pooled", bytes_per_site_round=None, bytes_ratio=None, parameters={}),
        fedavg,
        make_row("fedclip", 0.66, finished=2, seeds=2),
        make_row("facmic", 0.72),
        make_row("faa-clip", 0.71, generalisation=NONE, transductive=figure_set(0.83)),
    )
    cells = [make_cell(row.method, seed) for seed in range(3) for row in rows if row.method != "fedavg" or seed == 0]
    cells[4] = replace(
        cells[4], reason=f"a loss that is not finite {NASTY}", wardround="", personalisation=None, generalisation=None
    )
    given = {
        "study": "brains",
        "dataset": "Brain MRI, four classes",
        "classes": (ClassName("glioma", "Glioma"), ClassName("notumor", "No tumour")),
        "synthetic": True,
        "ablation": "",
        "option": "",
        "methods": tuple(row.method for row in rows),
        "seeds": (0, 1, 2),
        "folds": ("unseen",),
        "leave_one_out": False,
        "reference": "a public set, taken out before sites are made",
        "rows": rows,
        "tests": (make_test(rows[5], zero, 0.004), make_test(fedavg, zero, 0.4, difference=-0.01, low=-0.05)),
        "cells": tuple(cells),
        "backbone": "embedded",
        "backbone_fingerprint": "ab" * 32,
    }
    return Comparison(**{**given, **changes})


def make_ablation() -> Comparison:
    rows = tuple(make_row("facmic", 0.6 + i / 50, variant=str(size)) for i, size in enumerate((4, 8, 16, 32, 64)))
    cells = tuple(make_cell("facmic", 0, variant=row.variant) for row in rows)
    tests = tuple(make_test(row, rows[0], 0.2, against="variant") for row in rows[1:])
    return make_comparison(
        ablation="batch-size", option="batch size", methods=("facmic",), rows=rows, cells=cells, tests=tests
    )


@pytest.fixture(scope="module")
def html() -> str:
    return comparison_page(make_comparison())


def test_page_is_one_file_without_script_or_network(html: str) -> None:
    assert re.findall(r"<(script|link|img|iframe|object|embed|form)\b", html) == []
    assert "@import" not in html
    assert re.findall(r"""(?:src|xlink:href)\s*=""", html) == []
    assert re.findall(r"https?://", html.replace('xmlns="http://www.w3.org/2000/svg"', "")) == []
    assert "default-src 'none'" in html
    assert html.count("&lt;script&gt;") == 1


def test_same_input_gives_the_same_bytes_and_json_reads_back(html: str) -> None:
    comparison = make_comparison()
    assert comparison_page(comparison) == html
    data = to_json(comparison)
    assert comparison_from_json(data) == comparison
    assert to_json(comparison_from_json(data)) == data
    with pytest.raises(InvalidReportError, match="layout version 9"):
        make_comparison(schema=9)
    with pytest.raises(InvalidReportError):
        comparison_from_json(b"{}")


def words_of(page: str) -> str:
    text = re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.S))
    return re.sub(r"\s+", " ", unescape(text))


def test_what_a_reader_has_to_know_is_said(html: str) -> None:
    words = words_of(html)
    for said in (
        "SYNTHETIC PHANTOMS",
        "1 of 19 cells failed",
        "failed: a loss that is not finite",
        "Incomplete, and not to be ranked: fedclip",
        "2 of 3 cells",
        "† fedavg: 5 rounds, at most 300 training images a site, 1 seed, the study's own unseen site only.",
        "Transductive figures come from adaptation to the very images that are tested on",
        "Not comparable with strict generalisation",
        "not ranked: pooled, fedavg† and fedclip",
        "nothing is exchanged",
        "all images in one place",
        "605.0 MB",
        "10.6 times as much",
        "adapter 526,336, buffers 1,024, metrics 1",
        "facmic beats zero-shot in generalisation",
        "Best balanced accuracy on sites that took no part 0.72",
    ):
        assert said in words, said
    real = words_of(comparison_page(make_comparison(synthetic=False)))
    assert "phantom" not in real.lower()


def test_what_is_not_known_is_a_dash() -> None:
    unknown = dict.fromkeys(("bytes_per_site_round", "bytes_ratio", "seconds", "rounds"))
    bare = make_row(
        "facmic",
        0.5,
        personalisation=NONE,
        generalisation=NONE,
        parameters={},
        curve=(),
        finished=0,
        seeds=0,
        **unknown,
    )
    cell = make_cell("facmic", 0, reason="too few images", personalisation=None, generalisation=None, rounds=None,
                     seconds=None)  # fmt: skip
    empty = make_comparison(rows=(bare,), cells=(cell,), tests=(), methods=("facmic",))
    words = words_of(comparison_page(empty))
    assert "No cell has a figure" in words
    assert "facmic failed: too few images 0 – – – –" in words
    assert "None" not in words
    assert "nan" not in words


def test_only_complete_rows_are_ranked() -> None:
    assert [row.method for row in comparable(make_comparison())] == ["zero-shot", "local-only", "facmic", "faa-clip"]


def test_the_sentence_says_what_the_tests_came_to() -> None:
    comparison = make_comparison()
    rows = comparison.rows
    zero, facmic, faa = rows[0], rows[5], rows[6]

    def said(*tests: PairedTest) -> str:
        return " ".join(reading(replace(comparison, tests=tests)))

    assert "No method beats the best baseline by more than chance" in said(make_test(facmic, zero, 0.2))
    unknown = make_test(facmic, zero, None, low=None, high=None)
    assert "Too few groups" in said(unknown)
    assert "no baseline" in said()
    assert "No difference from the first variant" in " ".join(reading(make_ablation()))
    assert pixel_notes(make_ablation()) == ()

    # Behind a rival that was chosen by its score: an interval, and no claim, whatever p is.
    behind = make_test(rows[4], zero, 0.001, difference=-0.1, low=-0.15, high=-0.05, p_holm=None)
    words = said(behind, make_test(facmic, zero, 0.004))
    assert "facmic beats zero-shot in generalisation" in words
    assert "falls behind" not in words
    assert "Not shown to beat it" in words
    assert "fedclip in generalisation (−0.100 from zero-shot, −0.150 to −0.050)" in words
    own = make_test(rows[1], zero, 0.001, difference=-0.1, p_holm=None)
    assert "local-only" not in said(own, make_test(facmic, zero, 0.004))

    # FedCLIP was not chosen: both directions, and what is not shown.
    against = {"against": "fedclip"}
    words = said(
        make_test(facmic, rows[4], 0.001, **against),
        make_test(faa, rows[4], 0.3, difference=0.01, low=-0.02, high=0.04, **against),
        make_test(rows[3], rows[4], 0.001, difference=-0.1, **against),
    )
    assert "Against FedCLIP" in words
    assert "facmic beats fedclip in generalisation; fedavg falls behind fedclip in generalisation." in words
    assert "Not shown to beat it" in words
    assert "faa-clip in generalisation (+0.010 from fedclip, −0.020 to 0.040)" in words
    assert "no method beats it" in said(make_test(facmic, rows[4], 0.9, **against))

    pixels = make_test(facmic, rows[3], 0.01, against="pixels")
    words = said(pixels, replace(pixels, method="fedclip", p_holm=0.5))
    assert "on the cells that both have" in words
    assert "1 other difference may be chance" in words


def test_pictures_that_cannot_be_a_rival_are_named() -> None:
    comparison = make_comparison()
    excluded = pixel_notes(comparison)[1]
    assert "fedavg† cannot be the best baseline of a method with more cells: each has 1 of 3 cells" in excluded
    assert "cells that both have" not in excluded
    tested = replace(comparison, tests=(make_test(comparison.rows[5], comparison.rows[3], 0.01, against="pixels"),))
    assert "on the cells that both have" in pixel_notes(tested)[1]
    assert "Against methods that train on pictures" in words_of(comparison_page(tested))


def test_options_are_on_the_page(html: str) -> None:
    rows = [
        make_row("local-only", 0.6, exchange="alone", trains="facmic", lr=5e-4, logit_adjustment=0.5),
        make_row("fedclip", 0.6, lr=3e-3, options={"loss": "class-prompt", "text_adapter": False, "mu": 0.01}),
    ]
    comparison = make_comparison(rows=tuple(rows), tests=(make_test(rows[1], rows[0], 0.5),))
    words = words_of(comparison_page(comparison))
    assert "local-only facmic adapter 0.0005 0.5" in words
    assert "fedclip 0.003 0 loss: class-prompt; text adapter: no; mu: 0.01" in words
    assert adapter_note(comparison) == ("local-only (facmic adapter): without adaptation.",)
    assert adapter_note(make_comparison()) == ()


def test_notes_calibration_and_code_are_said(html: str) -> None:
    words = words_of(html)
    assert "Source code not known (18 cells)" in words
    assert "different code" not in words
    assert "fitted on validation images after training" in words
    cells = make_comparison().cells
    mixed = make_comparison(
        notes=("Rows are not paired.",),
        calibrations=("after", "federated-head"),
        cells=(replace(cells[0], code="ab" * 32), *cells[1:]),
    )
    words = words_of(comparison_page(mixed))
    assert "Rows are not paired." in words
    assert "different code: abababababab (1 cell) and not known (17 cells)" in words
    assert "Adapters carry a temperature" in words
    same = words_of(comparison_page(make_comparison(cells=tuple(replace(cell, code="cd" * 32) for cell in cells))))
    assert "different code" not in same
    assert "cd" * 32 in same


def test_curves_have_a_panel_a_method_and_say_their_values(html: str) -> None:
    titles = re.findall(r"<title id=\"(?:curve|loss)\d+-title\">([^<]+)</title>", html)
    methods = ["local-only", "pooled", "fedavg†", "fedclip", "facmic", "faa-clip"]
    assert titles == [f"{what} of {name}" for what in ("Balanced accuracy", "Training loss") for name in methods]
    assert "Balanced accuracy of facmic. round 1 0.36, round 10 0.72." in html
    one = comparison_page(make_ablation())
    assert "4: round 1" in one
    assert "64: round 1" in one
    identifiers = re.findall(r'\bid="([^"]+)"', html)
    assert len(identifiers) == len(set(identifiers))


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.timeout(120)
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", ["methods", "ablation"])
def test_page_in_a_browser(browser: Any, low_contrast: str, tmp_path: Path, width: int, kind: str) -> None:
    file = tmp_path / "index.html"
    file.write_text(comparison_page(make_comparison() if kind == "methods" else make_ablation()), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(file.as_uri())
        assert said == []
        assert asked == [file.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert all(b <= a + 1 for a, b in pairwise(levels))
        assert page.evaluate(low_contrast) == []
        drawn = page.evaluate("[...document.querySelectorAll('svg.figure')].map(s => s.getBoundingClientRect().width)")
        assert drawn
        assert all(100 < drawing <= width for drawing in drawn)
        cut = page.evaluate(
            "[...document.querySelectorAll('caption')].filter(c => c.getBoundingClientRect().right > innerWidth).length"
        )
        assert cut == 0  # a table may be scrolled sideways, its caption is read where it stands
    finally:
        page.close()
