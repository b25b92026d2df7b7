"""The case review page: one HTML file with its pictures inside, for people of the site alone.

It loads nothing and sends nothing. Its one script, named by its hash in the page's policy, filters and sorts; without
it everything is there, in the order of review. The same review gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .model import CaseReview
from .view import STRONGEST_TINT, page_view

_TEMPLATES = Path(__file__).parents[1] / "templates"
LOCAL_ONLY = "This page holds pictures of patients. It must not leave this site."


def cases_page(review: CaseReview) -> str:
    """The page, as HTML."""
    script = f'"use strict";\n(() => {{\n{_text("cases.js")}}})();\n'
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Style and script are the package's own; nothing of a study is in them.
    style = Markup(_text("report.css") + _text("cases.css"))  # noqa: S704
    return environment.get_template("cases.html.j2").render(
        view=page_view(review),
        review=review,
        local_only=LOCAL_ONLY,
        strongest=STRONGEST_TINT,
        style=style,
        script=Markup(script),  # noqa: S704
        script_hash=digest,
    )


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
