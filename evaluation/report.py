"""Pages: a site's report, a study's dossier, any model's predictions, a comparison. Each is one HTML file.

A page needs no network and no script. It forbids itself everything but its own style and figures
(Content-Security-Policy), all text is escaped, links are relative and checked, and the same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from markupsafe import Markup

from .comparison import Comparison
from .comparison_tables import DAGGER
from .comparison_view import comparison_view
from .dossier_view import dossier_view
from .figures.figure_set import FigureSet
from .rendering import environment, style
from .report_model import Dossier, SiteReport, check_link
from .sections.headline import reading
from .site_figures import SiteFigures, site_figures
from .site_view import figures_view, site_view
from .statements import Statement


def site_report(
    report: SiteReport,
    statements: Sequence[Statement] = (),
    *,
    figures: SiteFigures | None = None,
    cases: str | None = None,
) -> str:
    """The page of one site, as HTML. Deterministic: intervals are drawn from ``report.seed``.

    Args:
        report: what the page is made from. statements: signed about it, in order of time.
        figures: of this very report, where they are computed already.
        cases: relative link to the case review beside the page; None where there is none.
    """
    if cases is not None:
        check_link(cases)
    view = site_view(report, figures or site_figures(report), statements, cases)
    return environment().get_template("site.html.j2").render(view=view, report=report, style=style(), svg=Markup)


def evaluation_page(
    figures: FigureSet,
    *,
    title: str,
    source: str,
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
    digest: str = "",
) -> str:
    """The page of any model's predictions, as HTML: headline, classes, calibration, decision, abstention, subgroups.

    Args:
        figures: of the predictions. title: heading of the page. source: where they come from, e.g. a file's name.
        notes: what was passed over or changed; a list at the end of the page. One that is a warning is not repeated.
        warnings: sentences that must be read before any figure; banners on top.
        digest: SHA-256 of the source, hex; empty without.
    """
    # Whether these images trained the model is not known from predictions alone.
    view = replace(figures_view(figures), reading=(reading(figures, kept_out=False),))
    template = environment().get_template("evaluation.html.j2")
    return template.render(
        view=view,
        figures=figures,
        title=title,
        source=source,
        notes=tuple(note for note in notes if note not in warnings),
        warnings=tuple(warnings),
        digest=digest,
        style=style(),
        svg=Markup,
    )


def index_page(dossier: Dossier, statements: Mapping[str, Sequence[Statement]] | Sequence[Statement] = ()) -> str:
    """The front page of a study, as HTML; its links are relative to the run folder.

    Args:
        dossier: what the page is made from. statements: signed about reports, by party or in one row.
    """
    if isinstance(statements, Mapping):
        statements = [each for party in statements.values() for each in party]
    view = dossier_view(dossier, tuple(statements))
    return environment().get_template("index.html.j2").render(view=view, dossier=dossier, style=style(), svg=Markup)


def comparison_page(comparison: Comparison) -> str:
    """The page that puts methods side by side, as HTML; its links are relative to the comparison's folder."""
    view = comparison_view(comparison)
    template = environment().get_template("comparison.html.j2")
    return template.render(view=view, style=style(), svg=Markup, dagger=DAGGER)
