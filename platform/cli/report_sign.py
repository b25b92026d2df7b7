"""``wardround report sign``: a clinician's statement about a report, written into the ledger of whose report it is."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from .console import ERR, OUT, one_line

if TYPE_CHECKING:
    from ..signing import Declaration, Desk

WORTH = (
    "Signed by the ledger's key, over the whole ledger. This is no personal and no qualified electronic signature: it "
    "shows that whoever held this home wrote the statement, and that nobody changed it since. Who typed the name, the "
    "hospital must know."
)


class Decision(StrEnum):
    """What a clinician can decide about a report."""

    ACCEPTED = "accepted"
    WITH_REMARKS = "accepted-with-remarks"
    REJECTED = "rejected"


def sign(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    site: Annotated[
        str, typer.Option("--site", metavar="SITE", help="Whose report is signed: a site, or coordinator.")
    ],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Who signs.")],
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="In which role.")],
    decision: Annotated[Decision, typer.Option("--decision", help="What was decided.")],
    remarks: Annotated[
        str, typer.Option("--remarks", metavar="TEXT", help="Why, and under which conditions; up to 2,000 characters.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Sign a report: name, role, decision and remarks become an entry of the party's own ledger, and are shown.

    The entry cannot be removed; name no patient in it.
    Example: wardround report sign runs/brain --site amber --name "Dr. A. Lind" --role radiologist --decision accepted
    """
    from ..dossier import build_pages
    from ..errors import PlatformError
    from ..run_folder import RunFolder
    from ..signing import Declaration, open_desk, sign_report

    declaration = Declaration(name, role, decision.value, remarks)
    folder, study = RunFolder.open(run)
    with open_desk(folder, study.digest(), site) as desk:
        earlier = desk.earlier(declaration)
        if earlier is None:
            desk.check_page()
            if not yes and not _can_ask():
                raise PlatformError(
                    "nobody can be asked whether this shall be signed: standard input is no terminal",
                    where="--yes",
                    remedy="Call it at a terminal, or add --yes",
                )
            _show(desk, declaration)
            if not yes and not typer.confirm("Sign this?", err=True):
                ERR.print("Nothing was signed.")
                raise typer.Exit(1)
        with ERR.status("signing, and building the pages"):
            sign_report(desk, declaration, build_pages)
        entry = desk.earlier(declaration)
    if earlier is not None:
        OUT.print(f"This was signed already, at {earlier.time}: entry {earlier.sequence} of the ledger.")
        OUT.print("Nothing was added; checkpoint, copies and pages are up to date.")
    elif entry is not None:
        OUT.print(f"Signed at {entry.time}: entry {entry.sequence} of the ledger, shown on the report's page.")
    OUT.print(WORTH)
    OUT.print(Text(one_line(f"Check it: wardround audit verify {run}")))


def _can_ask() -> bool:
    return os.isatty(0)


def _show(desk: Desk, declaration: Declaration) -> None:
    """What will be written down, word by word, and for how long it stays."""
    rows = (
        ("report", f"{desk.report}, SHA-256 {desk.sha256}"),
        ("read it as", str(desk.page)),
        ("ledger", f"{desk.held.home.ledger}, entry {desk.ledger.sequence}"),
        ("name", declaration.name),
        ("role", declaration.role),
        ("decision", declaration.decision),
    )
    OUT.print("This statement goes into the ledger:")
    for title, text in rows:
        OUT.print(Text(f"  {title:<10}  {one_line(text)}"))
    for number, line in enumerate(declaration.remarks.split("\n")):
        OUT.print(Text(f"  {'' if number else 'remarks':<10}  {one_line(line) or ('' if number else 'none')}"))
    OUT.print(
        "It cannot be changed or removed. Name, role and remarks stay readable to every auditor, for as long as the "
        "ledger exists, and are on the report's page. A later statement does not replace it; both are shown."
    )
