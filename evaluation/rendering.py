"""The one template environment of all pages, and the package's own style sheets and figures as finished HTML."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment() -> Environment:
    """Templates of this package: all text is escaped, and a name that a template asks for has to be there."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def style(*names: str) -> Markup:
    """The named files of the template folder in one, for a page's ``<style>``; ``report.css`` alone without names."""
    # Style sheets are the package's own and hold nothing of a study.
    return Markup("\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names or ("report.css",)))  # noqa: S704
