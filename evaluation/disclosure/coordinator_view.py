"""From a :class:`Published` to the coordinator's page: the sections of every report, as far as sums carry them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from ..page_parts import HeadlineFigure, plural
from ..rendering import environment, style
from ..sections.blocks import Section
from ..statements import Statement
from . import page_figures, page_use, page_words
from .published import Facts, Published


@dataclass(frozen=True, slots=True)
class PageView:
    """All that the template prints, in order: of the report, or of a deployed coordinator's front page.

    Attributes:
        facts: see there. title: of the window. kicker: small words above the heading. lede: a line under it.
        figure, side: the card. reading: sentences for a reader in a hurry. sections: numbered ones stand in the table
            of contents.
    """

    facts: Facts
    title: str
    kicker: str
    lede: str
    figure: HeadlineFigure
    side: tuple[HeadlineFigure, ...]
    reading: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def contents(self) -> tuple[Section, ...]:
        """The numbered sections."""
        return tuple(section for section in self.sections if section.number is not None)


def coordinator_view(published: Published, statements: Sequence[Statement] = ()) -> PageView:
    """Everything on the page; a function of published material and of statements alone."""
    facts = published.facts
    sections = (
        page_words.intended_use(published, statements),
        page_figures.data(published),
        page_words.partition(published),
        page_figures.headline(published),
        page_figures.classes(published),
        page_figures.calibration(published),
        page_use.decision(published),
        page_use.abstention(published),
        page_figures.subgroups(published),
        page_words.shift(published),
        page_words.failures(published),
        page_words.privacy(published),
        page_words.limits(published),
    )
    card = page_figures.big(published)
    return PageView(
        facts,
        f"All sites · {facts.study} · Wardround coordinator's report",
        "Coordinator's report",
        f"{lede(facts)} · sums of {plural(published.sites, 'site')}"
        + (", simulated on one machine" if facts.simulation else ""),
        card.figure,
        card.side,
        page_figures.reading(published),
        tuple(replace(section, number=at) for at, section in enumerate(sections, start=1)),
    )


def lede(facts: Facts) -> str:
    """ "Brain MRI · facmic, 10 rounds"."""
    return f"{facts.dataset} · {facts.method}, {plural(facts.rounds, 'round')}"


def coordinator_page(published: Published, statements: Sequence[Statement] = ()) -> str:
    """The report of a deployed coordinator, as HTML: one file, no script, the same bytes for the same input.

    Args:
        published: what it is made from. statements: signed about it, in order of time.
    """
    return rendered(coordinator_view(published, statements))


def rendered(view: PageView) -> str:
    """A page, as HTML."""
    template = environment().get_template("coordinator.html.j2")
    # Figures are the package's own output and hold no text of a study that is not escaped.
    return template.render(view=view, style=style("report.css", "coordinator.css"), svg=Markup)
