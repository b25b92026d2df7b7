"""Three pages: a site's report, a study's dossier, a comparison. Each is one HTML file without network or script.

The page forbids itself everything but its own style and figures (Content-Security-Policy), all text is escaped, links
are relative and checked, and the same input gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .comparison import Comparison
from .comparison_tables import DAGGER
from .comparison_view import comparison_view
from .dossier_view import dossier_view
from .report_model import Dossier, SiteReport
from .site_view import site_view

_TEMPLATES = Path(__file__).parent / "templates"

NOT_COMPUTED = (
    ("Decision curve", "net benefit against treat-all and treat-none at thresholds named beforehand"),
    ("Risk and coverage", "how error falls when the model may abstain, and the threshold for it"),
    ("Subgroups", "figures by age, sex, skin type or scanner"),
    ("Calibration slope and intercept", "how far probabilities are too extreme or shifted, class by class"),
    ("Failure cases", "the images that were called wrongly with the highest confidence"),
    ("Checklist crosswalk", "where each item of TRIPOD+AI, CLAIM and STARD-AI is answered"),
)


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _style() -> Markup:
    # The style sheet and the figures are the package's own output and hold no text of a study that is not escaped.
    return Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8"))  # noqa: S704


def site_report(report: SiteReport) -> str:
    """The page of one site, as HTML. Deterministic: intervals are drawn from ``report.seed``."""
    view = site_view(report)
    return (
        _environment()
        .get_template("site.html.j2")
        .render(view=view, report=report, style=_style(), svg=Markup, not_computed=NOT_COMPUTED)
    )


def index_page(dossier: Dossier) -> str:
    """The front page of a study, as HTML; its links are relative to the run folder."""
    view = dossier_view(dossier)
    return _environment().get_template("index.html.j2").render(view=view, dossier=dossier, style=_style(), svg=Markup)


def comparison_page(comparison: Comparison) -> str:
    """The page that puts methods side by side, as HTML; its links are relative to the comparison's folder."""
    view = comparison_view(comparison)
    template = _environment().get_template("comparison.html.j2")
    return template.render(view=view, style=_style(), svg=Markup, dagger=DAGGER)
