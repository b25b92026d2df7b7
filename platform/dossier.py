"""The pages of a run: a report per site, the front page, their twins, and rebuilding all from the files beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..evaluation.audit_view import audit_page
from ..evaluation.disclosure.published import Published
from ..evaluation.figures.twins import to_csv
from ..evaluation.pdf import to_pdf
from ..evaluation.report import index_page, site_report
from ..evaluation.report_json import dossier_from_json, figures_to_json, site_report_from_json, to_json
from ..evaluation.report_model import Dossier, Link, SiteReport, SiteRow
from ..evaluation.site_figures import SiteFigures, site_figures
from ..evaluation.statements import Statement
from ..privacy.atomic import make_private, write_atomic
from ..privacy.ledger.batches import COORDINATOR
from .audit.annex import annex
from .audit.page import audit_page_of, audit_run
from .coordinator_report import PAGE, coordinator_files, facts_of, publish_sums
from .errors import RunFolderError
from .figures_loop import erase_sums
from .report_inputs import dossier_of, site_report_of
from .results import Results, model_card, summary
from .run_folder import RunFolder
from .site_calibration import write_site_calibration
from .statements import statements_of
from .study_file import load_study

CASES = "cases.html"
TWINS = ("report-figures.json", "report-figures.csv")


def write_results(run: RunFolder, results: Results, previous: Published | None = None) -> None:
    """Write card, reports, front page and, last, summary.json: its presence says that the run is complete.

    Args:
        run: its folder. results: of the study.
        previous: what the same coordinator published before, of images that may be the same ones.
    """
    make_private(run.card.parent)
    _write_json(run.card, model_card(results))
    figures = {}
    for site in (*results.data.sites, *((results.data.unseen,) if results.data.unseen else ())):
        make_private(run.site(site.name))
        report = site_report_of(results, site)
        figures[site.name] = site_figures(report)
        write_atomic(run.site(site.name) / "report.json", to_json(report))
    for name, calibrator in results.federated.calibrators.items():
        study, adapter = results.study.digest(), results.adapter_sha256
        write_site_calibration(run, name, calibrator, study_hash=study, adapter_sha256=adapter)
    dossier = dossier_of(results, figures)
    write_atomic(run.root / "dossier.json", to_json(dossier))
    if results.figures is not None and results.figures.summed is not None:
        facts = facts_of(dossier, results.study.evaluation, results.calibrator.abstain_below)
        publish_sums(run, results.figures.summed, facts, previous)
    build_pages(run, figures)
    _write_json(run.summary, summary(results))
    erase_sums(run)


def build_pages(run: RunFolder, figures: Mapping[str, SiteFigures] | None = None) -> list[Path]:
    """(Re)build every page and twin from report.json and dossier.json; the same files give the same bytes.

    Args:
        run: its folder. figures: by site, of the very reports that lie there, where they are computed already.

    Raises:
        RunFolderError: the run is not complete, or one of the files is missing.
        EvaluationError: one of the files is damaged.
    """
    source = run.root / "dossier.json"
    reports = sorted(run.root.glob("sites/*/report.json"))
    if not source.is_file() or not reports:
        raise RunFolderError(
            "the run has no results to build pages from",
            where=str(run.root),
            remedy="Finish it first: wardround run STUDY.toml --out RUN --resume",
        )
    dossier = dossier_from_json(source.read_bytes())
    for row in dossier.sites:
        if run.site(row.site) / "report.json" not in reports:
            raise RunFolderError(
                f"the report of site '{row.site}' is missing",
                where=str(run.site(row.site) / "report.json"),
                remedy="Restore it from a backup, or run the study again",
            )
    # Everything is made before anything is written: a damaged file changes no page.
    statements = statements_of(run)
    built: list[tuple[Path, bytes]] = []
    for path in reports:
        known = (figures or {}).get(path.parent.name)
        built += site_files(path, statements.get(path.parent.name, ()), known)
    built += coordinator_files(run, statements.get(COORDINATOR, ()))
    together = run.coordinator / PAGE
    has_together = together.is_file() or any(target == together for target, _ in built)
    built.append((run.index, index_page(_with_links(run, dossier, together=has_together), statements).encode()))
    built += _audit_pages(run)
    for target, content in built:
        write_atomic(target, content)
    return [target for target, _ in built]


def build_pdfs(run: RunFolder) -> list[Path]:
    """Every report and the front page as PDF, beside its page; the same page gives the same bytes on one machine.

    Raises:
        RunFolderError: there is no page to make one from.
        PdfUnavailableError: WeasyPrint or Pango is missing.
    """
    pages = [run.index, run.coordinator / PAGE, *sorted(run.root.glob("sites/*/report.html"))]
    pages = [page for page in pages if page.is_file()]
    if not pages:
        raise RunFolderError(
            "the run has no pages", where=str(run.root), remedy=f"Build them: wardround report build {run.root}"
        )
    made = [(page.with_suffix(".pdf"), to_pdf(page.read_text(encoding="utf-8"))) for page in pages]
    for target, content in made:
        write_atomic(target, content)
    return [target for target, _ in made]


def site_files(path: Path, statements: Sequence[Statement], known: SiteFigures | None) -> Iterator[tuple[Path, bytes]]:
    """A site's page and its twins."""
    report: SiteReport = site_report_from_json(path.read_bytes())
    figures = known or site_figures(report)
    cases = CASES if (path.parent / CASES).is_file() else None
    yield path.with_suffix(".html"), site_report(report, statements, figures=figures, cases=cases).encode()
    as_json, as_csv = TWINS
    yield path.parent / as_json, figures_to_json(report, figures)
    yield path.parent / as_csv, to_csv(figures.sets).encode()


def _with_links(run: RunFolder, dossier: Dossier, *, together: bool) -> Dossier:
    """The dossier with links to what lies in the run beside the reports: case reviews, the coordinator's report."""
    links = list(dossier.links)
    if together:
        said = "all sites together, from sums alone, small counts suppressed"
        links.insert(0, Link("Coordinator's report", "coordinator/report.html", said))
    return replace(dossier, sites=tuple(_row_with_links(run, row) for row in dossier.sites), links=tuple(links))


def _row_with_links(run: RunFolder, row: SiteRow) -> SiteRow:
    folder = f"sites/{row.site}"
    cases = f"{folder}/{CASES}" if (run.site(row.site) / CASES).is_file() else None
    return replace(row, cases_link=cases, twin_links=tuple(f"{folder}/{name}" for name in TWINS))


def _audit_pages(run: RunFolder) -> list[tuple[Path, bytes]]:
    """The auditor's page and the annex, from the ledgers as they lie in the dossier now."""
    study, found = load_study(run.study, of_run=True), audit_run(run)
    return [
        (run.audit, audit_page(audit_page_of(run, study, found)).encode()),
        (run.annex, annex(study, found).encode()),
    ]


def _write_json(path: Path, content: object) -> None:
    write_atomic(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
