"""Section 13: what the figures do not say, what to watch, and where checklists are answered."""

from __future__ import annotations

from ..figures.figure_set import FigureSet
from ..page_parts import sentence_list
from ..report_model import SiteReport
from .blocks import Bullets, Grid, Heading, Section
from .crosswalk import crosswalk
from .monitoring import plan


def limits(report: SiteReport, figures: FigureSet) -> Section:
    """Sentences, a plan and a crosswalk."""
    several = f"{report.flow.group_key}s"
    said = [
        "Research use, not for diagnosis: the model must not decide about a patient.",
        (
            "The figures hold for images like those counted above; another scanner, camera or patient group needs its "
            "own test."
        ),
        (
            f"Intervals show chance among {several} of this site. They do not cover wrong labels, or a change of "
            "equipment."
        ),
        "The labels of the data set are taken as truth. How they were made is described by the data set's own source.",
        "An image that shows none of the classes still gets probabilities over them.",
    ]
    absent = [name for name, count in zip(figures.classes, figures.counts, strict=True) if not count]
    if absent and figures.n:
        said.append(f"Nothing is known here about {sentence_list(absent)}: the test part has no such image.")
    if report.synthetic:
        said.append("The pictures are synthetic phantoms: the page shows that the software works, and nothing else.")
    return Section(
        "limits",
        "Limits, monitoring and checklists",
        (
            (
                "A good figure on this page is a reason to study the model further at this site, not to use it. If it "
                "is ever used, the plan below says what to watch and when to stop."
            ),
        ),
        (
            Bullets(tuple(said)),
            Heading("What to watch"),
            Grid(plan(figures), "Monitoring plan"),
            Heading("Checklist crosswalk"),
            Grid(crosswalk(), "Checklist crosswalk"),
        ),
    )
