"""``wardround audit export``: ledgers for other programs, as FHIR, as a table, or as they are."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from .console import ERR, one_line


class Format(StrEnum):
    """What `export` can write."""

    FHIR = "fhir"
    CSV = "csv"
    JSONL = "jsonl"


def export(
    paths: Annotated[
        list[Path], typer.Argument(metavar="RUN|LEDGER…", help="Run folders, folders with a ledger, or ledger files.")
    ],
    format_: Annotated[
        Format,
        typer.Option(
            "--format", help="fhir: a Bundle of R4 AuditEvents; csv: a row an entry; jsonl: the entries as they are."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A new file, instead of standard output.")
    ] = None,
) -> None:
    """Write every entry of ledgers for other programs. Nothing is judged: wardround audit verify does that.

    Example: wardround audit export runs/brain --format fhir --out brain.json
    """
    from ..audit.exporting import check_new, export_chunks, write_new
    from ..audit.showing import distinct_sources

    if out is not None:
        check_new(out)
    sources = distinct_sources(paths)
    if out is not None:
        with ERR.status("writing"):
            write_new(out, export_chunks(sources, format_))
        ERR.print(Text(one_line(f"{out}: {len(sources)} ledger{'s' if len(sources) > 1 else ''} as {format_}")))
        return
    for _ in export_chunks(sources, format_):
        pass  # a broken ledger must not leave half a document in a pipe, so it is found first
    for chunk in export_chunks(sources, format_):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
