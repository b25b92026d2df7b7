"""Inputs of pages to JSON and back, so that ``report build`` can make every page again from the files of a run."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from .comparison import Comparison
from .errors import InvalidReportError
from .figures import twins
from .report_model import Dossier, SiteReport
from .site_figures import SiteFigures

_Page = TypeVar("_Page", SiteReport, Dossier, Comparison)


def to_json(page: SiteReport | Dossier | Comparison) -> bytes:
    """UTF-8 JSON, indented, same value -> same bytes; floats are written so that they read back exactly."""
    return msgspec.json.format(msgspec.json.encode(page), indent=1) + b"\n"


def _read(data: bytes, kind: type[_Page], name: str) -> _Page:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise InvalidReportError(
            f"this is not the JSON of a {name}: {error}",
            remedy="Restore the file from the run, or run the study again",
        ) from error


def site_report_from_json(data: bytes) -> SiteReport:
    """Read back what :func:`to_json` wrote. Raises InvalidReportError for anything else."""
    return _read(data, SiteReport, "site report")


def dossier_from_json(data: bytes) -> Dossier:
    """Read back what :func:`to_json` wrote. Raises InvalidReportError for anything else."""
    return _read(data, Dossier, "dossier")


def comparison_from_json(data: bytes) -> Comparison:
    """Read back what :func:`to_json` wrote. Raises InvalidReportError for anything else."""
    return _read(data, Comparison, "comparison")


def figures_to_json(report: SiteReport, figures: SiteFigures) -> bytes:
    """Twin of a site's page: every figure of every model on it, and the paired differences; same value, same bytes.

    Each entry of ``models`` reads back with :func:`.figures.twins.from_json`. Unlike ``report.json`` it has no logits.
    """
    content = {
        "study": report.study,
        "site": report.site,
        "role": report.role,
        "synthetic": report.synthetic,
        "models": [msgspec.Raw(twins.to_json(each)) for each in figures.sets],
        "federated_minus": figures.gains,
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"
