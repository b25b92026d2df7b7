"""The case review page: one HTML file with its pictures inside, for people of the site alone.

It loads nothing and sends nothing. Its one script, named by its hash in the page's policy, filters and sorts; without
it everything is there, in the order of review. The same review gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib

from markupsafe import Markup

from ..rendering import TEMPLATES, environment, style
from .model import CaseReview
from .view import STRONGEST_TINT, page_view

LOCAL_ONLY = "This page holds pictures of patients. It must not leave this site."


def cases_page(review: CaseReview) -> str:
    """The page, as HTML."""
    code = (TEMPLATES / "cases.js").read_text(encoding="utf-8")
    script = f'"use strict";\n(() => {{\n{code}}})();\n'
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Style and script are the package's own; nothing of a study is in them.
    return (
        environment()
        .get_template("cases.html.j2")
        .render(
            view=page_view(review),
            review=review,
            local_only=LOCAL_ONLY,
            strongest=STRONGEST_TINT,
            style=style("report.css", "cases.css"),
            script=Markup(script),  # noqa: S704
            script_hash=digest,
        )
    )
