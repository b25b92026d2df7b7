"""The pages as text: complete, escaped, self-contained, deterministic, and honest where there is little to say."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from wardround.evaluation.figures_svg import confusion_figure, learning_curve, reliability_diagram
from wardround.evaluation.metrics import figures
from wardround.evaluation.page_parts import byte_size, number, plural, signed
from wardround.evaluation.reliability import reliability_bins
from wardround.evaluation.report import evaluation_page, index_page
from wardround.evaluation.report import site_report as full_report
from wardround.evaluation.report_model import ClassName, Dossier, Predictions, PrivacyFacts, SiteReport
from wardround.evaluation.scores import score
from wardround.evaluation.site_figures import SiteFigures, score_of, site_figures
from wardround.evaluation.statements import Statement

VOID = {"meta", "link", "br", "hr", "img", "input", "use", "path"}


class Page(HTMLParser):
    """Collects what the tests ask about, and complains about tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> does not nest"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def site_report(report: SiteReport) -> str:
    """The page with few resamples: what it says of intervals does not matter here."""
    return full_report(report, figures=site_figures(report, resamples=30))


@pytest.fixture(scope="module")
def site_html(site_report_input: Callable[..., SiteReport]) -> str:
    return site_report(site_report_input())


@pytest.fixture(scope="module")
def rich_html(rich_report: SiteReport, rich_figures: SiteFigures, statements: tuple[Statement, ...]) -> str:
    return full_report(rich_report, statements, figures=rich_figures, cases="cases.html")


@pytest.fixture(scope="module")
def evaluation_html(rich_figures: SiteFigures) -> str:
    return evaluation_page(
        rich_figures.federated,
        title="Any <b>model</b>",
        source="predictions.csv",
        notes=("Note <i>first</i>.", "Beware <i>now</i>."),
        warnings=("Beware <i>now</i>.",),
        digest="ab" * 32,
    )


@pytest.fixture(scope="module")
def index_html(dossier_input: Dossier) -> str:
    return index_page(dossier_input)


@pytest.fixture(params=["site_html", "rich_html", "index_html", "evaluation_html"])
def html(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


def test_page_is_one_file_without_script_or_network(html: str) -> None:
    page = Page(html)
    assert {name for name, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "form"})
    assert "@import" not in html
    assert re.findall(r"""(?:src|xlink:href)\s*=""", html) == []
    assert re.findall(r"https?://", html.replace('xmlns="http://www.w3.org/2000/svg"', "")) == []
    for target in re.findall(r"url\(([^)]*)\)", html):
        assert target.startswith("#")
    assert "default-src 'none'" in html


def test_page_can_be_heard_and_navigated(html: str) -> None:
    page = Page(html)
    assert page.named("html")[0]["lang"] == "en-GB"
    levels = [int(name[1]) for name, _ in page.tags if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    identifiers = [a["id"] for _, a in page.tags if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    for _, attributes in page.tags:
        for reference in (attributes.get("aria-labelledby") or "").split():
            assert reference in identifiers
        local = re.fullmatch(r"#(.+)|url\(#(.+)\)", attributes.get("href") or attributes.get("clip-path") or "")
        if local:
            assert (local.group(1) or local.group(2)) in identifiers
    assert len(page.named("table")) == len(page.named("caption"))
    assert all(cell.get("scope") in {"row", "col"} for cell in page.named("th"))
    drawings = [a for a in page.named("svg") if "figure" in (a.get("class") or "")]
    assert drawings
    assert all(a.get("role") == "img" and a.get("aria-labelledby") for a in drawings)


def test_same_input_gives_the_same_bytes(
    site_html: str, index_html: str, site_report_input: Callable[..., SiteReport], dossier_input: Dossier
) -> None:
    assert site_report(site_report_input()) == site_html
    assert index_page(dossier_input) == index_html


def test_site_page_prints_its_figures(site_html: str, site_report_input: Callable[..., SiteReport]) -> None:
    report = site_report_input()
    z, y, _ = report.federated.arrays(4)
    values = figures(z, y, temperature=report.federated.temperature, classes=[c.name for c in report.classes])
    words = Page(site_html).words
    for value, digits in (
        (values.balanced_accuracy, 2),
        (values.macro_auroc, 2),
        (values.ece, 3),
        (values.brier, 3),
        (values.nll, 3),
    ):
        assert number(value, digits) in words
    for needed in ("Research use, not for diagnosis", "SYNTHETIC PHANTOMS", "Decision curve", "42.2"):
        assert needed.lower() in words.lower().replace("\N{NO-BREAK SPACE}", " ")
    for needed in (
        report.provenance.model_hash,
        report.privacy.ledger_head,
        "Reviewed by",
        "1 image could not be read",
    ):
        assert needed in words


def test_dossier_links_to_reports_rounds_and_ledgers(index_html: str) -> None:
    links = {a["href"] for a in Page(index_html).named("a")}
    assert {
        "sites/site-a/report.html",
        "sites/unseen/report.html",
        "sites/site-a/ledger.jsonl",
        "rounds.jsonl",
    } <= links
    assert "sites/unseen/ledger.jsonl" not in links


def test_real_images_have_no_phantom_banner(site_report_input: Callable[..., SiteReport]) -> None:
    assert "PHANTOM" not in site_report(site_report_input(synthetic=False)).upper()


def test_marks_are_on_top_of_both_pages_as_text(
    site_report_input: Callable[..., SiteReport], dossier_input: Dossier
) -> None:
    marks = ("Transductive: the set held <b>these</b>.", "Oracle: it knew labels.")
    for html in (
        site_report(replace(site_report_input(), marks=marks)),
        index_page(replace(dossier_input, marks=marks)),
    ):
        page = Page(html)
        assert [a.get("class") for a in page.named("p") if a.get("role") == "note"] == ["banner"] * 3
        assert "<b>these" not in html
        for mark in marks:
            assert page.words.index(mark) < page.words.index("Research use, not for diagnosis")


def test_a_temperature_that_the_model_carries_is_named_as_such(site_report_input: Callable[..., SiteReport]) -> None:
    report = site_report_input()
    z, y, groups = report.federated.arrays(4)
    for source, said in (("model", True), ("none", False)):
        given = Predictions.from_arrays(z, y, groups, source=source)  # type: ignore[arg-type]
        words = Page(site_report(replace(report, federated=given, local_only=None, zero_shot=None))).words
        assert ("The temperature is carried by the model" in words) is said
        assert ("As trained (temperature carried by the model)" in words) is said
        assert ("No temperature could be fitted" in words) is not said
        assert ("As trained (temperature 1)" in words) is not said
        assert "Calibrated:" not in words


def test_only_warnings_of_an_evaluation_are_banners_and_notes_come_last(evaluation_html: str) -> None:
    page = Page(evaluation_html)
    assert [a.get("class") for a in page.named("p") if a.get("role") == "note"] == ["banner"]
    words = page.words
    assert words.count("Beware <i>now</i>.") == words.count("Note <i>first</i>.") == 1
    assert words.index("Beware") < words.index("Evaluation of predictions") < words.index("Note <i>first")
    assert words.index("Notes on the file") < words.index("Note <i>first")
    assert "kept out of training, the model" not in words


def test_the_front_page_never_prints_a_calibration_error_without_its_bound(dossier_input: Dossier) -> None:
    def told(dossier: Dossier) -> list[list[str]]:
        html = index_page(dossier)
        body = html[html.index('aria-label="Calibration at every site"') :]
        rows = body[: body.index("</table>")].split('<tr role="row">')[2:]
        cells = [re.findall(r"<td[^>]*><span>(.*?)</span></td>", row) for row in rows]
        return [[re.sub(r"<[^>]+>", " ", cell).strip() for cell in row] for row in cells]

    scores = [*(row.federated for row in dossier_input.sites), dossier_input.overall]
    for row, cells in zip(scores, told(dossier_input), strict=True):
        assert row is not None
        wanted = [number(value, 3) for value in (row.brier, row.ece, row.ece_once, row.ece_bound)]
        assert [cell.split()[0] for cell in cells] == wanted
        assert f"{number(row.brier_low, 3)} to {number(row.brier_high, 3)}" in cells[0]
        assert ("more than chance explains" in cells[3]) == ((row.ece_once or 0) > (row.ece_bound or 0))
    assert index_page(dossier_input).count(">Calibration error<") == 1
    bare = replace(dossier_input.sites[0].federated, ece_bound=None)
    older = replace(dossier_input, sites=(replace(dossier_input.sites[0], federated=bare),), overall=None)
    assert told(older)[0][1:] == ["not known"] * 3


def test_under_ten_groups_pages_say_too_few_with_the_counts(
    site_report_input: Callable[..., SiteReport], dossier_input: Dossier
) -> None:
    report = site_report_input(n_groups=9)
    words = Page(site_report(report)).words
    assert "Balanced accuracy too few 18 images of 9 patients; a figure needs at least 10 patients" in words
    assert "18 test images of 9 patients: too few to say how good the model is" in words
    line = score(report.federated, report.classes)
    assert (line.n, line.n_groups, line.balanced_accuracy, line.ece, line.brier) == (18, 9, None, None, None)
    assert line.note == "too few groups"
    assert score_of(site_figures(report, resamples=20).federated) == line
    front = replace(dossier_input, overall=line, sites=(replace(dossier_input.sites[0], federated=line),))
    page = Page(index_page(front)).words
    assert page.count("too few 18 images of 9 groups") == 5  # the card, and two cells in each of two rows


def test_names_are_text_and_never_markup(site_report_input: Callable[..., SiteReport], dossier_input: Dossier) -> None:
    nasty = '<script>alert("1")</script>&$x_1$'
    classes = (ClassName(nasty, nasty), *site_report_input().classes[1:])
    page = site_report(site_report_input(site=nasty, classes=classes))
    assert "<script" not in page
    assert nasty in Page(page).words
    rows = (replace(dossier_input.sites[0], site=nasty), *dossier_input.sites[1:])
    front = index_page(replace(dossier_input, study=nasty, sites=rows))
    assert "<script" not in front
    assert nasty in Page(front).words


def test_seven_classes_and_an_unseen_site(
    site_report_input: Callable[..., SiteReport], skin_classes: tuple[ClassName, ...]
) -> None:
    words = Page(site_report(site_report_input(classes=skin_classes, n_groups=12, role="unseen"))).words
    assert "took no part in training" in words
    assert "too few" in words
    assert "A model that is missing here was not scored" in words


def only(report: SiteReport, keep: np.ndarray) -> SiteReport:
    """The report on a part of its test images."""

    def cut(given: Predictions | None) -> Predictions | None:
        if given is None:
            return None
        z, y, groups = given.arrays(len(report.classes))
        return Predictions.from_arrays(z[keep], y[keep], groups[keep].tolist(), temperature=given.temperature)

    federated = cut(report.federated)
    assert federated is not None
    return replace(report, federated=federated, local_only=cut(report.local_only), zero_shot=cut(report.zero_shot))


def test_one_class_site_says_not_known(site_report_input: Callable[..., SiteReport]) -> None:
    report = site_report_input()
    page = Page(site_report(only(report, np.array(report.federated.labels) == 2)))
    assert "the test images are of one class only" in page.words
    assert "No test image of Glioma, Meningioma and Pituitary tumour" in page.words
    assert "Balanced accuracy not known" in page.words


def test_two_of_four_classes_name_the_missing_ones(site_report_input: Callable[..., SiteReport]) -> None:
    report = site_report_input()
    words = Page(site_report(only(report, np.isin(report.federated.labels, [0, 1])))).words
    assert "No test image of No tumour and Pituitary tumour" in words
    assert "averaged over the 2 classes present" in words


@pytest.mark.parametrize("n", [0, 1])
def test_none_or_one_image(site_report_input: Callable[..., SiteReport], n: int) -> None:
    report = site_report_input()
    words = Page(site_report(only(report, np.arange(len(report.federated.labels)) < n))).words
    assert "not known" in words
    assert "nan" not in re.findall(r"[a-z]+", words.lower())
    assert ("There are no test images" in words) == (n == 0)


def test_privacy_section_says_what_was_off(site_report_input: Callable[..., SiteReport]) -> None:
    report = site_report_input()
    off = Page(site_report(replace(report, privacy=PrivacyFacts(False, bytes_sent=10)))).words
    assert "OFF: single updates were visible to the coordinator" in off
    dp = PrivacyFacts(
        True, 3, 4, epsilon=3.2, delta=1e-5, unit="patient", bytes_sent=1, ledger_entries=1, ledger_head="ab"
    )
    on = Page(site_report(replace(report, privacy=dp))).words
    assert "epsilon = 3.20" in on
    assert "per patient" in on
    assert "at least 3 of 4 sites" in on


def test_dossier_without_rounds_overall_or_scores(dossier_input: Dossier) -> None:
    bare = replace(
        dossier_input,
        rounds=(),
        overall=None,
        links=(),
        simulation=False,
        sites=tuple(replace(row, zero_shot=None, local_only=None) for row in dossier_input.sites),
    )
    words = Page(index_page(bare)).words
    assert "No round was completed" in words
    assert "to compare" in words
    assert "one machine" not in words
    assert Page(index_page(replace(bare, sites=()))).words


def test_figures_say_in_words_what_they_show() -> None:
    drawing = confusion_figure("m", "Matrix", np.array([[3, 1], [0, 2]]), ["ill", "well"])
    assert "of 4 ill: 3 called ill, 1 called well" in drawing
    assert "round 2: 0.50" in learning_curve("c", "Curve", [1, 2], [None, 0.5])
    bins = reliability_bins(np.array([0.95, 0.95]), np.array([1.0, 0.0]))
    assert "0.9 to 1.0: 2 images, mean confidence 0.95, right 0.50" in reliability_diagram("r", "Bins", bins)


def test_drawing_leaves_no_global_state() -> None:
    import sys

    import matplotlib as mpl

    before = dict(mpl.rcParams)
    learning_curve("c", "Curve", [1], [0.5])
    assert dict(mpl.rcParams) == before
    assert "wardround.evaluation.figures_svg" in sys.modules


def test_numbers_as_words() -> None:
    assert number(None) == "not known"
    assert number(-0.001) == "0.00"
    assert signed(0.5) == "+0.50"
    assert signed(-0.5) == "\N{MINUS SIGN}0.50"
    assert signed(0.0) == "0.00"
    sizes = [byte_size(n).replace("\N{NO-BREAK SPACE}", " ") for n in (0, 999, 1000, 999_950, 42_183_004)]
    assert sizes == ["0 B", "999 B", "1.0 kB", "1.0 MB", "42.2 MB"]
    assert byte_size(None) == "not known"
    assert [plural(n, "entry") for n in (0, 1, 2)] == ["0 entries", "1 entry", "2 entries"]


def test_every_template_is_of_a_kind_that_the_wheel_carries() -> None:
    import tomllib
    from pathlib import Path

    from wardround.evaluation import report

    folder = Path(report.__file__).parent
    project = tomllib.loads((folder.parent / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["wardround.evaluation"]
    carried = {path for pattern in patterns for path in folder.glob(pattern)}
    assert carried == set((folder / "templates").iterdir())
