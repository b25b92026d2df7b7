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
from .config import Study
from .errors import RunFolderError, StudyFileError
from .evaluation_section import EvaluationSection
from .run_folder import RunFolder

REPORT, PAGE, TABLE = "report.json", "report.html", "report.csv"


def facts_of(dossier: Dossier, settings: EvaluationSection | None = None, abstain_below: float | None = None) -> Facts:
    """What of a study may stand in the coordinator's report: nothing that is computed from test images.

    Args:
        dossier: the study's front page. settings: the study's, for its thresholds and the risk it names.
        abstain_below: the threshold of the model card.
    """
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
        thresholds=tuple(settings.thresholds) if settings is not None else (),
        abstain_below=abstain_below,
        wanted_risk=(settings.abstain_risk or None) if settings is not None else None,
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


def check_earlier(published: Published, study: Study, classes: Sequence[str], dataset: str, folder: Path) -> None:
    """Refuse an earlier report that nothing of a study could be subtracted from, before anything is trained.

    Raises:
        StudyFileError: it is of another study, data set, or of other classes.
    """
    facts = published.facts
    names = tuple(label.name for label in facts.classes)
    for what, before, now in (
        ("study", facts.study, study.name),
        ("data set", facts.dataset, dataset),
        ("classes", ", ".join(names), ", ".join(classes)),
    ):
        if before != now:
            raise StudyFileError(
                f"the earlier run is of other {what}: {before}; this one of {now}",
                where=str(folder),
                remedy="Nothing of it can be subtracted: leave --previous out",
            )


def publish_sums(run: RunFolder, summed: SummedFigures, facts: Facts, previous: Published | None = None) -> Published:
    """Decide what of the sums may be published, and write it.

    Args:
        run: its folder. summed: exact. facts: of :func:`facts_of`.
        previous: the report with counts that this coordinator published last, of images that may be the same ones.

    Raises:
        InvalidReportError: nothing can be subtracted from ``previous``: it is of another study, data set or classes.
    """
    published = publish(summed, facts, previous)
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
