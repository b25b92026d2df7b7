"""Differential privacy on the pages: what was spent, what is not protected, and what an audit says about the claim."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from wardround.evaluation.errors import InvalidReportError
from wardround.evaluation.page_parts import lower, scientific, upper
from wardround.evaluation.privacy_figure import epsilon_curve
from wardround.evaluation.privacy_model import AuditFacts, ReleaseRow, SitePrivacy, groups_of
from wardround.evaluation.privacy_view import covered, privacy_view, uncovered
from wardround.evaluation.report import index_page, site_report
from wardround.evaluation.report_json import dossier_from_json, site_report_from_json, to_json
from wardround.evaluation.report_model import Dossier, SiteReport

AUDIT = AuditFacts(
    canaries=1000,
    guesses=200,
    right=112,
    lower_bound=0.317,
    ceiling=4.1,
    confidence=0.95,
    claimed_epsilon=8.0,
    membership_auc=0.527,
    membership_tpr=0.014,
    membership_lower_bound=0.0,
    leak_unmasked_cosine=0.993,
    leak_unmasked_rank=1,
    leak_masked_cosine=0.021,
    leak_masked_rank=247,
    gallery=512,
)


def spent(site: str = "site-a", units: int | None = 412, *, rounds: int = 10, fourier: bool = False) -> SitePrivacy:
    """A site that spent 7.951 of 8, with invented figures."""
    rows = [ReleaseRow("class-sums", "class-sums", 7.071, 1.0, 1, 0.563, 0.563)]
    for number in range(1, rounds + 1):
        after = 0.563 + 7.388 * math.sqrt(number / rounds)
        if fourier and number % 5 == 1:
            rows.append(ReleaseRow(f"fourier-{number}", "fourier-sums", 14.1, 1.0, 1, 0.2, after - 0.3))
        rows.append(ReleaseRow(f"round-{number}", "training", 1.184, 0.311, 4, 2.3101, after))
    return SitePrivacy(
        site=site,
        unit="patient",
        units=units,
        epsilon=rows[-1].epsilon_after,
        limit=8.0,
        rdp_epsilon=8.589,
        delta=1e-5,
        noise_multiplier=1.184,
        sample_rate=0.311,
        steps=4 * rounds,
        releases=tuple(rows),
    )


def words(html: str) -> str:
    """The page as it is read: without tags, style and figures."""
    for element in ("style", "svg"):
        html = re.sub(rf"<{element}.*?</{element}>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


# --- the values ----------------------------------------------------------------------------------------------------


def test_what_is_left_and_what_was_spent_by_round() -> None:
    site = spent(rounds=4)
    assert site.left == pytest.approx(0.049)
    assert [at for at, _ in site.by_round] == [0, 1, 2, 3, 4]
    assert site.by_round[0][1] == 0.563
    assert site.by_round[-1][1] == site.epsilon
    assert replace(site, releases=()).by_round == ((0, 0.0),)


def test_a_round_counts_with_all_that_was_released_in_it() -> None:
    site = spent(rounds=6, fourier=True)
    assert dict(site.by_round)[6] == site.releases[-1].epsilon_after
    begun = replace(site, releases=site.releases[:-1])  # round 6's sums are charged, its training is not yet
    assert begun.releases[-1].key == "fourier-6"
    assert dict(begun.by_round)[6] == begun.releases[-1].epsilon_after


def test_releases_that_are_alike_are_one_group() -> None:
    titles = [group.title for group in groups_of(spent(rounds=12, fourier=True).releases)]
    assert titles == ["class sums", "Fourier sums, 3 in rounds 1 to 11", "training, rounds 1 to 12"]
    first, changed = spent(rounds=2).releases[1:]
    apart = groups_of([first, replace(changed, noise_multiplier=2.0)])
    assert [(group.title, group.count) for group in apart] == [("training, round 1", 1), ("training, round 2", 1)]
    assert groups_of([]) == ()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_figures_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(InvalidReportError, match="not finite"):
        replace(spent(), epsilon=value)
    with pytest.raises(InvalidReportError, match="not finite"):
        replace(AUDIT, lower_bound=value)


def test_bounds_are_rounded_to_the_safe_side() -> None:
    assert [upper(value) for value in (7.951, 7.95, 0.0, None)] == ["7.96", "7.95", "0.00", "not known"]
    assert [lower(value) for value in (0.317, 0.31, 0.0, -0.004)] == ["0.31", "0.31", "0.00", "\N{MINUS SIGN}0.01"]
    minus = "\N{MINUS SIGN}"
    assert [scientific(value) for value in (1e-5, 2.5e-6, 0.05)] == [f"1e{minus}5", f"2.5e{minus}6", f"5e{minus}2"]


# --- files ---------------------------------------------------------------------------------------------------------


def test_they_survive_json_and_older_files_still_load(
    site_report_input: Callable[..., SiteReport], dossier_input: Dossier
) -> None:
    dossier = replace(dossier_input, privacy_sites=(spent(), spent("site-b", None)), audit=AUDIT)
    report = replace(site_report_input(), private=spent(fourier=True))
    assert dossier_from_json(to_json(dossier)) == dossier
    assert site_report_from_json(to_json(report)) == report
    older, older_report = (json.loads(to_json(page)) for page in (dossier, report))
    del older["privacy_sites"], older["audit"], older_report["private"]
    assert dossier_from_json(json.dumps(older).encode()) == dossier_input
    assert site_report_from_json(json.dumps(older_report).encode()) == site_report_input()


# --- pages ---------------------------------------------------------------------------------------------------------


def test_without_differential_privacy_there_is_no_section(
    site_report_input: Callable[..., SiteReport], dossier_input: Dossier
) -> None:
    assert privacy_view((), AUDIT) is None
    for page in (index_page(dossier_input), site_report(site_report_input())):
        assert 'id="differential"' not in page
        assert "Off. Masking hides single updates" in page


def test_the_front_page_says_what_was_spent_and_what_is_not_protected(dossier_input: Dossier) -> None:
    sites = (spent(), replace(spent("site-b", None), epsilon=7.002, sample_rate=None, noise_multiplier=None))
    page = index_page(replace(dossier_input, privacy_sites=sites))
    said = words(page)
    assert covered("patient") in said
    for sentence in uncovered("patient"):
        assert sentence in said
    # A bound is rounded up, what is left is rounded down; what is not known is not 0.
    assert "site-a 412 7.96 8.00 0.04 8.59 1e\N{MINUS SIGN}5 1.18 31.1 % 40" in said
    assert "site-b not known 7.01 8.00 0.99 8.59 1e\N{MINUS SIGN}5 not known not known 40" in said
    # The largest of the sites, everywhere on the page.
    assert "Differential privacy epsilon 7.96" in said
    assert "On: epsilon = 7.96, delta = 1e\N{MINUS SIGN}5, per patient." in said
    assert "Off. Masking" not in said
    assert "What attacks measured" not in said
    assert index_page(replace(dossier_input, privacy_sites=sites)) == page


def test_a_sites_page_has_its_own_figures_as_facts(site_report_input: Callable[..., SiteReport]) -> None:
    said = words(site_report(replace(site_report_input(), private=spent(fourier=True))))
    assert "Patients in training 412" in said
    assert "Epsilon spent 7.96 of 8.00, delta 1e\N{MINUS SIGN}5" in said
    assert "Left in this study 0.04" in said
    assert "Class sums epsilon 0.563 by itself; 0.57 spent after it" in said
    assert "Training, rounds 1 to 10 epsilon 2.311 each by itself; 7.96 spent after it" in said
    assert "On: epsilon = 7.96" in said
    begun = replace(spent(units=None), releases=(), epsilon=0.0, noise_multiplier=None, sample_rate=None, steps=0)
    before = words(site_report(replace(site_report_input(), private=begun)))
    assert "Patients in training not known" in before
    assert "Epsilon spent 0.00 of 8.00" in before


@pytest.mark.parametrize("unit", ["patient", "lesion", "record"])
def test_sentences_name_the_unit(unit: str) -> None:
    assert ("any one image had" if unit == "record" else f"all images of any one {unit} had") in covered(unit)
    several = uncovered(unit)[0]
    assert "k sites spends k epsilons" in several
    assert ("one for each" in several) == (unit == "record")


def test_names_of_sites_are_text(dossier_input: Dossier) -> None:
    nasty = "<script>alert(1)</script>&$x_1$"
    page = index_page(replace(dossier_input, privacy_sites=(spent(nasty),)))
    assert "<script" not in page
    assert nasty in words(page)


# --- the figure ----------------------------------------------------------------------------------------------------


def test_the_curve_says_in_words_what_it_shows() -> None:
    drawing = epsilon_curve("e", "Epsilon", [spent(rounds=2), spent("site-b", rounds=40)])
    assert "site-a, limit 8: 0.56 before the first round, 5.79 after round 1, 7.95 after round 2" in drawing
    said = drawing[drawing.index("site-b, limit 8") : drawing.index("</desc>")]
    assert said.count("after round") == 7  # thinned, with the last one
    assert "7.95 after round 40" in said
    assert "limit 8" in drawing[drawing.index("</desc>") :]


def test_many_sites_are_grey_but_for_the_extremes() -> None:
    sites = [replace(spent(f"site-{number}", rounds=3), epsilon=5.0 + number / 10) for number in range(9)]
    drawing = epsilon_curve("e", "Epsilon", sites)
    drawn = drawing[drawing.index("</desc>") :]
    assert [name for name in (f"site-{number}" for number in range(9)) if f">{name}<" in drawn] == ["site-0", "site-8"]
    view = privacy_view(sites, None)
    assert view is not None
    assert "grey" in view.curve_note
    assert len(view.table.rows) == 9


def test_a_site_that_spent_nothing_yet_can_be_drawn() -> None:
    begun = replace(spent(), releases=(), epsilon=0.0)
    assert "0.00 before the first round" in epsilon_curve("e", "Epsilon", [begun])


# --- the audit -----------------------------------------------------------------------------------------------------


def audited(dossier: Dossier, **changed: Any) -> tuple[str, str]:
    page = index_page(replace(dossier, privacy_sites=(spent(),), audit=replace(AUDIT, **changed)))
    return page, words(page)


def test_a_bound_below_the_claim_proves_nothing_and_the_page_says_so(dossier_input: Dossier) -> None:
    page, said = audited(dossier_input)
    assert "Claimed epsilon 8.00" in said
    assert "Measured: at least 0.31, 95 % sure" in said
    assert "The most it could show 4.10" in said
    assert "Guesses that were right 112 of 200" in said
    assert "proves nothing by itself" in said
    assert "even a perfect attack would have stayed below this claim" in said
    assert "in 53 % of pairs" in said
    assert "Found 1.4 % of them at 1 % of false alarms" in said
    assert "Cosine 0.99 with the true image's features; the true image comes 1st of 512." in said
    assert "the true image comes 247th of 512, where chance would put it 256th." in said
    assert 'class="box"' in page
    assert "stayed below this claim" not in audited(dossier_input, ceiling=9.0)[1]


def test_a_bound_above_the_claim_is_a_fault(dossier_input: Dossier) -> None:
    page, said = audited(dossier_input, lower_bound=9.4, right=199, ceiling=11.0)
    assert "the claim is wrong" in said
    assert "must not be relied on" in said
    assert "proves nothing by itself" not in said
    assert 'class="box fault"' in page


def test_what_was_not_measured_is_not_told(dossier_input: Dossier) -> None:
    nothing = dict.fromkeys(
        (
            "claimed_epsilon",
            "membership_auc",
            "membership_tpr",
            "membership_lower_bound",
            "leak_unmasked_cosine",
            "leak_unmasked_rank",
            "leak_masked_cosine",
            "leak_masked_rank",
            "gallery",
        )
    )
    page, said = audited(dossier_input, **nothing)
    assert "Claimed epsilon none: no noise" in said
    assert "no claim to test" in said
    assert "Membership" not in said
    assert "Cosine" not in said
    assert "None" not in page
    assert "Cosine 0.99 with the true image's features." in audited(dossier_input, gallery=None)[1]


# --- in a browser --------------------------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.timeout(120)
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", ["index", "site"])
def test_the_section_in_a_browser(
    browser: Any,
    low_contrast: str,
    tmp_path: Path,
    dossier_input: Dossier,
    site_report_input: Callable[..., SiteReport],
    kind: str,
    width: int,
) -> None:
    long = "Universitätsklinikum-Donaudampfschifffahrt-Neuroradiologie"
    if kind == "index":
        sites = (spent(long), *(spent(f"site-{letter}") for letter in "bcd"))
        fault = replace(AUDIT, lower_bound=9.4, ceiling=11.0)
        html = index_page(replace(dossier_input, privacy_sites=sites, audit=fault))
    else:
        html = site_report(replace(site_report_input(), private=spent(long, fourier=True)))
    path = tmp_path / f"{kind}.html"
    path.write_text(html, encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    try:
        page.goto(path.as_uri())
        assert said == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(low_contrast) == []
        section = page.locator("section[aria-labelledby=differential]")
        assert section.locator("h2").inner_text() == "Differential privacy"
        drawn = section.locator("svg.figure")
        assert drawn.count() == (1 if kind == "index" else 0)
        for box in [drawing.bounding_box() for drawing in drawn.all()]:
            assert 100 < box["width"] <= width
    finally:
        page.close()
