"""The coordinator's report: all sites together, from sums alone, small cells suppressed; and its twins.

``coordinator/report.json`` is what is published, page and CSV are made from it. The exact sums are in neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..evaluation.disclosure.coordinator_view import coordinator_page
from ..evaluation.disclosure.published import Facts, Published
from ..evaluation.disclosure.publishing import publish
from ..evaluation.disclosure.twins import from_json, to_csv, to_json
from ..evaluation.errors import InvalidReportError
from ..evaluation.report_model import Dossier
from ..evaluation.statements import Statement
from ..evaluation.sums.summed import SummedFigures
from ..privacy.atomic import write_atomic
from .errors import RunFolderError, StudyFileError
from .run_folder import RunFolder

REPORT, PAGE, TABLE = "report.json", "report.html", "report.csv"


def facts_of(dossier: Dossier) -> Facts:
    """What of a study's front page may stand in the coordinator's report: nothing that is computed from test images."""
    return Facts(
        study=dossier.study,
        method=dossier.method,
        dataset=dossier.dataset,
        rounds=len(dossier.rounds),
        classes=dossier.classes,
        privacy=dossier.privacy,
        provenance=dossier.provenance,
        synthetic=dossier.synthetic,
        simulation=dossier.simulation,
        ledger_root=dossier.privacy.ledger_head,
        marks=dossier.marks,
    )


def earlier_report(folder: Path) -> Published:
    """The report that a coordinator published before, from its run folder; a new one must not be subtractable from it.

    Raises:
        RunFolderError: there is none, it is damaged, or it has no counts.
    """
    source = folder / "coordinator" / REPORT
    problem, found = "has no coordinator's report", None
    if source.is_file():
        try:
            found = from_json(source.read_bytes())
            problem = "" if found.confusion is not None else "has a coordinator's report without counts"
        except InvalidReportError:
            problem = "has a damaged coordinator's report"
    if problem or found is None:
        raise RunFolderError(
            f"the earlier run {problem}",
            where=str(source),
            remedy="Give the folder of the last run that published counts, or leave --previous out",
        )
    return found


def check_classes(published: Published, classes: Sequence[str], folder: Path) -> None:
    """Refuse an earlier report that is of other classes than a study's.

    Raises:
        StudyFileError: names them.
    """
    names = tuple(label.name for label in published.facts.classes)
    if names != tuple(classes):
        raise StudyFileError(
            f"the earlier run is of other classes ({', '.join(names)}; this study has {', '.join(classes)})",
            where=str(folder),
            remedy="Nothing can be subtracted from it: leave --previous out",
        )


def publish_sums(
    run: RunFolder, summed: SummedFigures, dossier: Dossier, previous: Published | None = None
) -> Published:
    """Decide what of the sums may be published, and write it.

    Args:
        run: its folder. summed: exact. dossier: of the study.
        previous: the report with counts that this coordinator published last, of images that may be the same ones.
    """
    published = publish(summed, facts_of(dossier), previous)
    write_atomic(run.coordinator / REPORT, to_json(published))
    return published


def coordinator_files(run: RunFolder, statements: Sequence[Statement] = ()) -> Iterator[tuple[Path, bytes]]:
    """Page and CSV of the report that lies in the run; nothing where there is none.

    Raises:
        InvalidReportError: the report is damaged.
    """
    source = run.coordinator / REPORT
    if source.is_file():
        try:
            published = from_json(source.read_bytes())
        except InvalidReportError as error:
            raise InvalidReportError(error.what, where=str(source), remedy=error.remedy) from None
        yield run.coordinator / PAGE, coordinator_page(published, statements).encode()
        yield run.coordinator / TABLE, to_csv(published).encode()
