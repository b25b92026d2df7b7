"""What pages say of what is not there and of when: sums that nobody made, dated ledgers, times, what a phone cuts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape

from wardround.evaluation.report import index_page, site_report
from wardround.evaluation.report_model import ClassName, Dossier, Link, SiteReport
from wardround.evaluation.site_figures import site_figures
from wardround.evaluation.statements import Statement


def words(html: str) -> str:
    """All text of a page."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<style.*?</style>", " ", html, flags=re.S))))


def page_of(report: SiteReport) -> str:
    """The page with few resamples: what it says of intervals does not matter here."""
    return site_report(report, figures=site_figures(report, resamples=20))


def test_the_front_page_says_why_there_are_no_figures_of_all_sites(dossier_input: Dossier) -> None:
    bare = words(index_page(replace(dossier_input, not_summed="site-2 stayed <b>away</b>")))
    assert "All sites together: not published Site-2 stayed <b>away</b>." in bare
    assert "This run holds no report of the coordinator." in words(index_page(dossier_input))
    link = Link("Coordinator's report", "coordinator/report.html", "all sites together")
    full = index_page(replace(dossier_input, links=(link,)))
    assert "not published" not in words(full)
    for kind in ("html", "json", "csv"):
        assert f'href="coordinator/report.{kind}"' in full


def test_a_site_does_not_speak_of_sums_that_nobody_made(site_report_input: Callable[..., SiteReport]) -> None:
    report = site_report_input(n_groups=12)
    assert "What others see is made from sums over sites" in words(page_of(report))
    said = words(page_of(replace(report, not_summed="a site stayed away")))
    assert "made from sums over sites" not in said
    assert "No figures of all sites together are here: a site stayed away. This page is not suppressed" in said


def test_facts_of_the_ledger_are_dated(site_report_input: Callable[..., SiteReport], dossier_input: Dossier) -> None:
    for html in (page_of(site_report_input(n_groups=12)), index_page(dossier_input)):
        assert "Ledger when the report was made" in words(html)


def test_statements_say_the_minute_and_keep_the_exact_time(
    dossier_input: Dossier, statements: tuple[Statement, ...]
) -> None:
    given = ["2026-11-27T03:07:12.345678+00:00", "2026-11-27T03:07:12Z", "2026-11-27T03:07:12+02:00", "later"]
    html = index_page(dossier_input, [replace(statements[0], time=time) for time in given])
    shown = [
        (exact, unescape(title)) for exact, title in re.findall(r'<time datetime="([^"]*)" title="([^"]*)">', html)
    ]
    assert [unescape(exact) for exact, _ in shown] == [title for _, title in shown] == given
    assert words(html).count("2026-11-27 03:07 UTC") == 2
    assert "· 2026-11-27T03:07:12+02:00" in words(html)


def test_what_is_wider_than_a_phone_says_so(
    site_report_input: Callable[..., SiteReport], skin_classes: tuple[ClassName, ...], dossier_input: Dossier
) -> None:
    front = index_page(dossier_input)
    assert front.count('class="hint"') == 1  # rounds
    assert "columns are cut off" in front
    for classes, wider in ((site_report_input().classes, False), (skin_classes, True)):
        page = page_of(site_report_input(classes=classes, n_groups=12))
        assert ("Scroll the figure sideways" in page) is wider
