"""What a site's page and the page of any predictions say: all sections, the figure set's figures, no markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape

import pytest
from wardround.evaluation.errors import InvalidReportError
from wardround.evaluation.page_parts import number, plural
from wardround.evaluation.report import evaluation_page, index_page, site_report
from wardround.evaluation.report_model import Dossier, Link, SiteReport
from wardround.evaluation.site_facts import Collection, PartitionFacts
from wardround.evaluation.site_figures import SiteFigures, site_figures
from wardround.evaluation.statements import Statement

SECTIONS = (
    "Intended use, model and review",
    "Data of this site",
    "Partition and duplicates",
    "Headline",
    "Each class",
    "Can the probabilities be trusted?",
    "Would acting on it do more good than harm?",
    "When it may decline to answer",
    "Subgroups",
    "Federated, local only, zero-shot",
    "Failure cases",
    "What left this site",
    "Limits, monitoring and checklists",
)


def words(html: str) -> str:
    """The page as it is read: without tags, style and figures."""
    for element in ("style", "svg"):
        html = re.sub(rf"<{element}.*?</{element}>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


@pytest.fixture(scope="module")
def site_html(site_report_input: Callable[..., SiteReport]) -> str:
    return quick(site_report_input())


def quick(report: SiteReport) -> str:
    return site_report(report, figures=site_figures(report, resamples=30))


@pytest.fixture(scope="module")
def rich_html(rich_report: SiteReport, rich_figures: SiteFigures, statements: tuple[Statement, ...]) -> str:
    return site_report(rich_report, statements, figures=rich_figures, cases="cases.html")


@pytest.fixture(scope="module")
def evaluation_html(rich_figures: SiteFigures) -> str:
    notes, digest = ("Note <i>first</i>.",), "ab" * 32
    return evaluation_page(
        rich_figures.federated, title="Any <b>model</b>", source="predictions.csv", notes=notes, digest=digest
    )


def test_all_sections_are_there_in_order_with_their_numbers(rich_html: str, site_html: str) -> None:
    for html in (rich_html, site_html):
        found = re.findall(r'<h2 id="[a-z]+" class="numbered"><span class="no">(\d+)</span>([^<]+)</h2>', html)
        assert found == [(str(at), title) for at, title in enumerate(SECTIONS, start=1)]
        for key in re.findall(r'<section aria-labelledby="([a-z]+)">', html):
            assert f'<h2 id="{key}"' in html
        # Sentences come before any figure or table of a section.
        for section in html.split('<h2 id="')[2:]:
            body = section[section.index("</h2>") + 5 :].lstrip()
            assert body.startswith(('<p class="reading">', '<p class="box'))


def test_what_is_not_recorded_is_said(site_html: str, rich_html: str) -> None:
    bare, rich = words(site_html), words(rich_html)
    for term in ("Dates", "Eligibility", "Source", "Terms"):
        assert f"{term} Not recorded in this data set." in bare
    assert "How they were made: not recorded in this data set." in bare
    assert "Dates 2019 to 2021" in rich
    assert "Eligibility Not recorded in this data set." in rich
    assert "No column about patients or devices is recorded" in bare
    assert "No prediction sets" in bare
    assert "No threshold was named beforehand" in bare
    assert "Not looked for: every image has a known patient" in bare


def test_partition_warns_of_what_flatters(site_report_input: Callable[..., SiteReport], rich_html: str) -> None:
    rich = words(rich_html)
    assert "7 images in 3 groups that look alike" in rich
    assert "2 patients of this site are at another site as well" in rich
    facts = PartitionFacts("lesion", 4, 0, 0, 1, 0)
    said = words(quick(replace(site_report_input(), partition=facts, collection=Collection(dates="May"))))
    assert "1 patient of this site lie in more than one part" in said
    assert "none found among these images" in said
    assert "are at another site as well" not in said


def test_figures_of_the_page_are_those_of_the_figure_set(rich_html: str, rich_figures: SiteFigures) -> None:
    said = words(rich_html)
    found = rich_figures.federated
    assert found.after is not None
    assert found.risk.chosen is not None
    for value, digits in (
        (found.balanced_accuracy.value, 2),
        (found.macro_f1.low, 2),
        (found.before.ece.value, 3),
        (found.after.ece_equal_mass.value, 3),
        (found.after.smooth_ece.value, 3),
        (found.after.l2_debiased.value, 3),
        (found.after.slope.value, 2),
        (found.after.intercept.high, 2),
        (found.risk.aurc.value, 3),
        (found.per_class[0].auroc.value, 2),
        (rich_figures.gains["zero_shot"].low, 2),
    ):
        assert number(value, digits) in said
    assert f"in a bin of {plural(found.after.mce_n, 'image')}" in said
    assert "The model answers when its confidence is at least 0.60." in said
    assert f"The cost: {found.n - found.risk.chosen.answered} of 120 images" in said
    assert "chosen on validation images for a risk of 10" in said
    named = next(point for point in found.decision[1].points if point.named)
    assert number(named.model.value, 3) in said
    assert f"everybody: {number(named.treat_all, 3)}" in said
    for row in found.sets:
        assert f"{row.covered.numerator} of {row.covered.denominator}" in said
    missing = next(row for row in found.missingness if row.column == "sex")
    assert f"not recorded for {missing.missing} of 120 images" in said
    assert "too few: under 5 images" in said  # the level 80+ has four


def test_confident_errors_come_first_and_by_number_alone(
    rich_html: str, rich_report: SiteReport, rich_figures: SiteFigures
) -> None:
    section = rich_html[rich_html.index('id="failures"') : rich_html.index('id="privacy"')]
    shown = [float(value) for value in re.findall(r'data-label="Confidence"><span>(?:<strong>)?([\d.]+)', section)]
    assert shown == sorted(shown, reverse=True)
    assert 0 < len(shown) <= 12
    numbers = [int(value) for value in re.findall(r"Image (\d+)<small>", section)]
    sample = rich_figures.sample
    called = sample.stated.argmax(axis=1)
    assert all(called[at - 1] != sample.labels[at - 1] for at in numbers)
    assert '<a href="cases.html">case review</a>' in section
    with pytest.raises(InvalidReportError, match="not a relative path"):
        site_report(rich_report, figures=rich_figures, cases="https://example.org/")


def test_statements_are_shown_as_text(
    rich_html: str, statements: tuple[Statement, ...], dossier_input: Dossier
) -> None:
    for html in (rich_html, index_page(dossier_input, {"site-a": statements}), index_page(dossier_input, statements)):
        assert "<script" not in html
        assert "<b>Moe" not in html
        said = words(html)
        assert "Accepted with remarks" in said
        here = html == rich_html
        about = "About this very report." if here else "About the report as it is now."
        assert f"{about} Checked: the ledger holds; its owner's key signed this entry." in said
        earlier = "not about this one" if here else "not about the one that is here now"
        assert f"About an earlier report , {earlier}. Checked: NOT VERIFIED" in said
        assert said.index("Dr A. Lind") < said.index("B. <b>Moe</b>")
    assert "Signed statements" not in index_page(dossier_input)


def test_evaluation_page_has_the_sections_about_figures(evaluation_html: str, rich_figures: SiteFigures) -> None:
    said = words(evaluation_html)
    for title in SECTIONS[3:9]:
        assert title in said
    for title in (*SECTIONS[:3], *SECTIONS[9:]):
        assert title not in said
    assert "Any <b>model</b>" in said
    assert "<b>model" not in evaluation_html
    assert "<i>first" not in evaluation_html
    assert "ab" * 32 in said
    assert "60 resamples of patients, seed 0" in said
    assert (
        evaluation_page(rich_figures.federated, title="Any <b>model</b>", source="predictions.csv") != evaluation_html
    )


def test_front_page_opens_every_report_and_what_lies_beside_it(dossier_input: Dossier) -> None:
    first = replace(
        dossier_input.sites[0],
        cases_link="sites/site-a/cases.html",
        twin_links=("sites/site-a/report-figures.json", "sites/site-a/report-figures.csv"),
    )
    together = Link("Coordinator's report", "coordinator/report.html", "from sums")
    html = index_page(replace(dossier_input, sites=(first, *dossier_input.sites[1:]), links=(together,)))
    reports = html[html.index('id="reports"') : html.index('id="sites"')]
    links = re.findall(r'<a href="([^"]+)">([^<]+)</a>', reports)
    assert links[:8] == [
        ("coordinator/report.html", "All sites together"),
        ("coordinator/report.json", "Figures as JSON"),
        ("coordinator/report.csv", "Figures as CSV"),
        ("sites/site-a/report.html", "site-a"),
        ("sites/site-a/cases.html", "Case review"),
        ("sites/site-a/report-figures.json", "Figures as JSON"),
        ("sites/site-a/report-figures.csv", "Figures as CSV"),
        ("sites/site-a/ledger.jsonl", "Ledger"),
    ]
    assert ("sites/unseen/report.html", "unseen") in links
    assert "at 5 of 5 sites in balanced accuracy, at 4 of them by more than chance explains" in words(html)
    assert "coordinator/report.html" not in index_page(dossier_input)
