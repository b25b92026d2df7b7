"""``wardround audit show``: what ledgers say was transmitted, in sums and entry by entry."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from .audit_tables import entry_line, headline, tables, widths_of
from .console import ERR, OUT, print_table

if TYPE_CHECKING:
    from ...privacy.ledger.entries import Entry
    from ..audit.filters import Filters
    from ..audit.showing import Survey

ONLY_SHOWN = "This only shows what the ledgers say; whether they can be believed: wardround audit verify"
BOTH_ENDS = "A message between two of these ledgers is in both: it left one and arrived at the other."


def show(
    paths: Annotated[
        list[Path], typer.Argument(metavar="RUN|LEDGER…", help="Run folders, folders with a ledger, or ledger files.")
    ],
    study: Annotated[
        str | None, typer.Option("--study", metavar="HASHPREFIX", help="Only studies whose hash begins so.")
    ] = None,
    round_: Annotated[int | None, typer.Option("--round", metavar="N", min=0, help="Only this round.")] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="S", help="Only this stage of a round, such as mask.")
    ] = None,
    type_: Annotated[
        str | None,
        typer.Option("--type", metavar="T", help="Only this message type, such as masked-vector, or kind of entry."),
    ] = None,
    peer: Annotated[str | None, typer.Option("--peer", metavar="P", help="Only messages to or from it.")] = None,
    owner: Annotated[str | None, typer.Option("--owner", metavar="O", help="Only the ledger of this party.")] = None,
    direction: Annotated[str | None, typer.Option("--direction", metavar="out|in", help="Only this way.")] = None,
    outcome: Annotated[
        str | None,
        typer.Option("--outcome", metavar="O", help="Only sent, retried, refused, received, failed or noted."),
    ] = None,
    day: Annotated[str | None, typer.Option("--day", metavar="YYYY-MM-DD", help="Only this day, in UTC.")] = None,
    entries: Annotated[bool, typer.Option("--entries", help="A line an entry instead of sums.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="For scripts; with --entries all fields of each.")] = False,
) -> None:
    """Show what left, to whom, when, how many bytes, under which policy and which privacy budget.

    Refusals are listed one by one. It only shows; wardround audit verify says whether ledgers can be believed.
    Example: wardround audit show runs/brain --direction out --type masked-vector
    """
    from ..audit.filters import Filters
    from ..audit.showing import distinct_sources, survey

    filters = Filters(
        study=study,
        round=round_,
        stage=stage,
        type=type_,
        peer=peer,
        owner=owner,
        direction=direction,
        outcome=outcome,
        day=day,
    )
    with ERR.status("reading"):
        found = survey(distinct_sources(paths), filters)
    if json_:
        _print_json(found, filters, entries)
    elif not found.matching:
        near = filters.nearest_day(found.known) if day is not None else ""
        OUT.print(Text("Nothing: no entry is what was asked for." + (f" The nearest day is {near}." if near else "")))
        OUT.print(Text(ONLY_SHOWN))
    elif entries:
        _print_lines(found, filters)
    else:
        _print_sums(found, filters)


def _print_sums(found: Survey, filters: Filters) -> None:
    for line in headline(found):
        OUT.print(Text(line, style="bold"))
    OUT.print()
    if found.stopped:
        from ..audit.showing import matching

        OUT.print(Text("refused and failed, one by one", style="italic"))
        widths = widths_of(found)
        for entry in matching(found, filters, stopped=True):
            OUT.print(Text(entry_line(entry, widths), style="red"))
        OUT.print()
    for table in tables(found):
        print_table(table)
    if len(found.owners) > 1:
        OUT.print(Text(BOTH_ENDS))
    OUT.print(Text(ONLY_SHOWN))


def _print_lines(found: Survey, filters: Filters) -> None:
    from ..audit.showing import matching

    widths = widths_of(found)
    for entry in matching(found, filters):
        sys.stdout.write(entry_line(entry, widths) + "\n")
    for line in (*headline(found), ONLY_SHOWN):
        ERR.print(Text(line))


def _print_json(found: Survey, filters: Filters, entries: bool) -> None:
    """One object; its lists of refusals and of entries are written as they are read."""
    from ..audit.showing import matching

    write = sys.stdout.write
    for number, (name, value) in enumerate(_sums(found, filters).items()):
        write(f"{',' if number else '{'}\n  {json.dumps(name)}: {json.dumps(value, allow_nan=False)}")
    lists: list[tuple[str, Iterable[Entry]]] = [("stopped", matching(found, filters, stopped=True))]
    if entries:
        lists.append(("entries", matching(found, filters)))
    for name, rows in lists:
        write(f",\n  {json.dumps(name)}: [")
        empty = True
        for entry in rows:
            write(f"{'' if empty else ','}\n    {json.dumps(_fields(entry), allow_nan=False)}")
            empty = False
        write("]" if empty else "\n  ]")
    write("\n}\n")


def _fields(entry: Entry) -> Any:
    import msgspec

    return msgspec.to_builtins(entry)


def _sums(found: Survey, filters: Filters) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "only_shown": ONLY_SHOWN,
        "filters": filters.given(),
        "matching": found.matching,
        "ledgers": [{**asdict(part), "path": str(part.path)} for part in found.ledgers],
        "owners": [{"owner": owner, **asdict(tally)} for owner, tally in found.owners.items()],
        "studies": [
            {"study": study, "rounds": found.rounds.get(study), **asdict(tally)}
            for study, tally in found.studies.items()
        ],
        "days": [{"day": day, **asdict(tally)} for day, tally in sorted(found.days.items())],
        "parties": [
            {"owner": owner, "direction": direction, "peer": peer, "peer_key": key, **asdict(tally)}
            for (owner, direction, peer, key), tally in found.parties.items()
        ],
        "types": [
            {"type": kind, "direction": direction, "outcome": outcome, **asdict(count)}
            for (kind, direction, outcome), count in sorted(found.types.items())
        ],
        "policies": [
            {
                "policy_sha256": digest,
                "purpose": purpose,
                "legal_basis": basis,
                "retention_days": days,
                "owners": sorted(use.owners),
                **asdict(use.messages),
            }
            for (digest, purpose, basis, days), use in found.policies.items()
        ],
        "budgets": [{"owner": owner, "study": study, **asdict(use)} for (owner, study), use in found.budgets.items()],
        "events": [{"owner": owner, "kind": kind, **asdict(count)} for (owner, kind), count in found.events.items()],
    }
