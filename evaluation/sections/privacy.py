"""Section 12: what left the site, what protected it, and which figures others get to see."""

from __future__ import annotations

from ..page_parts import privacy_facts, scientific, upper
from ..privacy_view import SitePrivacyView, site_privacy_view, with_spent
from ..report_model import SiteReport
from .blocks import Bullets, Facts, Heading, Section


def privacy(report: SiteReport) -> Section:
    """Facts of this site's own ledger and budget."""
    sends = report.role == "training"
    facts = with_spent(report.privacy, [report.private] if report.private else [])
    if not sends:
        reading = (
            "Nothing of this site's images left it: it was tested on, took no part in training and sent no update."
        )
    elif facts.epsilon is None:
        reading = (
            "No picture left this site. What left it is masked updates of the model, each written down in its ledger; "
            "noise that would bound what the model itself reveals was off."
        )
    else:
        delta = "" if facts.delta is None else f" and delta {scientific(facts.delta)}"
        reading = (
            "No picture left this site. Its updates were masked and noisy: epsilon is at most "
            f"{upper(facts.epsilon)}{delta} per {facts.unit or 'record'}."
        )
    return Section(
        "privacy",
        "What left this site",
        (reading,),
        (
            Facts(
                (
                    *privacy_facts(facts, sends=sends),
                    (
                        "This report",
                        (
                            "Local and complete. Its figures are exact, and it stays at the site unless a person hands "
                            "it on."
                        ),
                    ),
                    ("Suppression", _suppression(report)),
                )
            ),
        ),
    )


def _suppression(report: SiteReport) -> str:
    if report.not_summed:
        said = f"No figures of all sites together are here: {report.not_summed.rstrip('.')}."
    else:
        said = "What others see is made from sums over sites: no count of 1 to 10 is printed or derivable there."
    return f"{said} This page is not suppressed: do not publish it."


def differential(report: SiteReport) -> Section | None:
    """What this site spent; None where differential privacy was off."""
    view: SitePrivacyView | None = site_privacy_view(report.private)
    if view is None:
        return None
    return Section(
        "differential",
        "Differential privacy",
        (view.reading,),
        (Facts(view.facts), Heading("What it does not protect"), Bullets(view.uncovered)),
    )
