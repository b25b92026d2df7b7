"""From a :class:`SiteReport` and its figures to the sections of its page, in the order of the reporting checklists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .figures.figure_set import FigureSet
from .page_parts import percent
from .report_model import SiteReport
from .sections.abstention import abstention
from .sections.blocks import Big, Section
from .sections.calibration import calibration
from .sections.classes import classes
from .sections.data import data
from .sections.decision import decision
from .sections.failures import failures
from .sections.headline import glance, headline, reading
from .sections.intended_use import intended_use
from .sections.limits import limits
from .sections.partition import partition
from .sections.privacy import differential, privacy
from .sections.shift import shift
from .sections.subgroups import subgroups
from .site_figures import SiteFigures, calibrator_of
from .statements import Statement


@dataclass(frozen=True, slots=True)
class SectionsView:
    """All that the template of a report prints: a card, sentences, and sections in order."""

    glance: Big
    reading: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def contents(self) -> tuple[Section, ...]:
        """The numbered sections, for the table of contents."""
        return tuple(section for section in self.sections if section.number is not None)


def site_view(
    report: SiteReport, figures: SiteFigures, statements: Sequence[Statement] = (), cases: str | None = None
) -> SectionsView:
    """The page of one site; ``cases`` is a link to the case review, where there is one."""
    federated = figures.federated
    sections = [
        intended_use(report, federated.calibration.label, statements),
        data(report, federated.missingness),
        partition(report),
        *_figures(federated, _remarks(report), "federated model", _before(report), _risk_remark(report)),
        shift(report, federated, figures.others, figures.gains),
        failures(
            figures.sample,
            cases=cases,
            answers_from=None if federated.risk.chosen is None else federated.risk.chosen.threshold,
        ),
        privacy(report),
        limits(report, federated),
    ]
    numbered = _number(sections)
    spent = differential(report)
    if spent is not None:
        at = next(place for place, section in enumerate(numbered) if section.key == "privacy")
        numbered.insert(at + 1, spent)
    said = [reading(federated)]
    if report.role == "unseen":
        said.append("This site took no part in training: the figures show how the model carries over to a new site.")
    return SectionsView(glance(federated), tuple(said), tuple(numbered))


def figures_view(figures: FigureSet) -> SectionsView:
    """The page of any model's predictions: the sections about figures alone."""
    sections = _number(
        list(_figures(figures, (), "model", figures.before.label[:1].upper() + figures.before.label[1:]))
    )
    return SectionsView(glance(figures), (reading(figures),), tuple(sections))


def _figures(figures: FigureSet, remarks: Sequence[str], who: str, before: str, risk: str = "") -> tuple[Section, ...]:
    return (
        headline(figures),
        classes(figures, who),
        calibration(figures, remarks, before=before),
        decision(figures),
        abstention(figures, risk),
        subgroups(figures),
    )


def _number(sections: Sequence[Section]) -> list[Section]:
    return [replace(section, number=at) for at, section in enumerate(sections, start=1)]


def _before(report: SiteReport) -> str:
    carried = report.federated.temperature_source == "model"
    return "As trained (temperature carried by the model)" if carried else "As trained (temperature 1)"


def _remarks(report: SiteReport) -> tuple[str, ...]:
    """How the calibration came about, where a reader would otherwise wonder."""
    given = report.federated
    if given.temperature_source == "model":
        return (
            (
                "The temperature is carried by the model: it was learnt in training, on validation images, and none "
                "was fitted afterwards."
            ),
        )
    calibrator = calibrator_of(report)
    if calibrator is not None and calibrator.wanted != calibrator.kind and calibrator.kind != "none":
        return (
            (
                f"The study asks for the calibration '{calibrator.wanted}'; there were too few validation images for "
                "it, so a temperature is applied."
            ),
        )
    if calibrator is not None and calibrator.wanted == "none" and not calibrator.calibrated:
        return ("No calibration is applied: the study asks for none.",)
    fitted = given.temperature is not None if calibrator is None else calibrator.calibrated
    if not fitted:
        return ("No temperature could be fitted: there were too few validation images, or the fit had no optimum.",)
    return ()


def _risk_remark(report: SiteReport) -> str:
    """That the risk which the study names was not reached, where it was not."""
    calibrator = calibrator_of(report)
    wanted = report.wanted_risk if calibrator is None else calibrator.abstain_risk
    if wanted is None or calibrator is None or calibrator.risk_reached:
        return ""
    return (
        f"The study wants a risk of {percent(wanted)} at most. No threshold could be shown to reach it on the "
        "validation images, so the study's fixed one is in use."
    )
