"""A page as PDF, through WeasyPrint: an extra, because it needs Pango from the operating system.

The page is a file that needs nothing, so nothing is fetched: every address but ``data:`` is refused. The same page
gives the same bytes on one machine: the identifier is made from the page, and no date is written.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
from typing import Any

from PIL import ImageFile

from .errors import EvaluationError

_KEPT_BYTES = 16


class PdfUnavailableError(EvaluationError):
    """WeasyPrint, or a library of the operating system that it needs, is not here."""


class PdfFetchError(EvaluationError):
    """A page asked for something outside itself."""


def to_pdf(html: str) -> bytes:
    """A page as PDF, A4, from the HTML that this package made.

    Args:
        html: a whole document.

    Raises:
        PdfUnavailableError: WeasyPrint or Pango is missing.
        PdfFetchError: the page refers to something outside itself; nothing was fetched.
    """
    weasyprint = _weasyprint()
    refused: list[str] = []
    fetcher = weasyprint.urls.URLFetcher(allowed_protocols=("data",))
    within = fetcher.fetch

    def fetch(url: str, headers: Any = None) -> Any:
        # WeasyPrint only logs what its fetcher refuses; a page that asks for more is an error here.
        if not url.lower().startswith("data:"):
            refused.append(url)
        return within(url, headers)

    fetcher.fetch = fetch
    identifier = hashlib.sha256(html.encode()).digest()[:_KEPT_BYTES]
    made: bytes = weasyprint.HTML(string=html, url_fetcher=fetcher).write_pdf(
        pdf_identifier=identifier, pdf_variant=None, full_fonts=False, presentational_hints=False
    )
    if refused:
        raise PdfFetchError(
            f"the page refers to {refused[0]!r}, which is outside the page",
            remedy="Give a page that this package made",
        )
    return made


def _weasyprint() -> Any:
    try:
        module = importlib.import_module("weasyprint")
    except ImportError as error:
        raise PdfUnavailableError(
            "a PDF needs the package WeasyPrint, which is not installed",
            remedy="pip install 'wardround[pdf]', or print the page from a browser",
        ) from error
    except OSError as error:
        # WeasyPrint opens Pango when it is imported, and says which file was not found.
        raise PdfUnavailableError(
            f"WeasyPrint is installed, but a library that it needs is not: {str(error).splitlines()[0]}",
            remedy="Install Pango (Debian: apt-get install libpango-1.0-0 libpangoft2-1.0-0), or print from a browser",
        ) from error
    finally:
        # Importing it makes Pillow accept cut-off pictures in the whole process; they must not pass as whole elsewhere.
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    # It warns of style rules that it does not know; the pages keep to what looks right without them.
    logging.getLogger("weasyprint").setLevel(logging.CRITICAL)
    return module
