"""Pages as PDF: the same bytes, nothing fetched, and a clear word where WeasyPrint or Pango is missing."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from wardround.evaluation import pdf
from wardround.evaluation.pdf import PdfFetchError, PdfUnavailableError, to_pdf

PAGE = "<!doctype html><html lang='en'><head><title>Page</title></head><body><h1>Hello</h1><p>{}</p></body></html>"


@pytest.fixture
def weasyprint() -> Any:
    try:
        return pdf._weasyprint()
    except PdfUnavailableError as error:
        pytest.skip(f"WeasyPrint is not here: {error}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_same_page_same_bytes(weasyprint: Any) -> None:
    first = to_pdf(PAGE.format("one"))
    assert first.startswith(b"%PDF")
    assert to_pdf(PAGE.format("one")) == first
    assert to_pdf(PAGE.format("two")) != first
    assert b"CreationDate" not in first


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "asked",
    [
        '<img src="http://127.0.0.1:9/x.png">',
        '<img src="file:///etc/hostname">',
        '<link rel="stylesheet" href="https://example.org/a.css">',
        "<style>@import url(ftp://example.org/a.css);</style>",
    ],
)
def test_nothing_outside_the_page_is_read(weasyprint: Any, asked: str) -> None:
    with pytest.raises(PdfFetchError, match="outside the page"):
        to_pdf(PAGE.format(asked))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_data_addresses_are_part_of_the_page(weasyprint: Any) -> None:
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    assert to_pdf(PAGE.format(f'<img alt="dot" src="data:image/png;base64,{dot}">')).startswith(b"%PDF")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(PdfUnavailableError, match=r"wardround\[pdf\]"):
        to_pdf(PAGE.format(""))


def test_without_pango_the_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> Any:
        raise OSError("cannot load library 'libpango-1.0-0'\nmore lines")

    monkeypatch.setattr(pdf.importlib, "import_module", fails)
    with pytest.raises(PdfUnavailableError, match="cannot load library") as caught:
        to_pdf(PAGE.format(""))
    assert "libpango-1.0-0" in caught.value.what
    assert "more lines" not in caught.value.what
    assert "apt-get" in caught.value.remedy


def test_cut_off_pictures_are_still_refused_afterwards(weasyprint: Any) -> None:
    from PIL import ImageFile

    to_pdf("<p>one page</p>")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
