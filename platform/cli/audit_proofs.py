"""``wardround audit prove`` and ``verify-proof``: one entry, proven to somebody who does not get the ledger."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from .audit_verify import Keys
from .console import ERR, OUT, one_line, print_json

if TYPE_CHECKING:
    from ..audit.proving import Proven


def prove(
    ledger: Annotated[Path, typer.Argument(metavar="LEDGER", help="A folder with a ledger, or its file.")],
    entry: Annotated[int, typer.Argument(metavar="ENTRY", min=0, help="Number of the entry, from 0.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A new file, instead of standard output.")
    ] = None,
) -> None:
    """Write a proof that an entry is in a ledger that others cosigned. It shows this entry and no other.

    Example: wardround audit prove runs/brain/sites/amber 7 --out entry-7.tlog-proof
    """
    from ...privacy.errors import LedgerError
    from ..audit.exporting import check_new, write_new
    from ..audit.proving import prove as make
    from ..audit.sources import find_sources

    if out is not None:
        check_new(out)
    sources = find_sources([ledger])
    if len(sources) != 1:
        raise LedgerError(
            f"{len(sources)} ledgers are here",
            where=str(ledger),
            remedy="Give the folder of one, such as RUN/sites/NAME",
        )
    proof = make(sources[0], entry)
    if out is not None:
        write_new(out, [proof])
        ERR.print(Text(one_line(f"{out}: entry {entry} of {sources[0].owner}")))
        return
    sys.stdout.buffer.write(proof)
    sys.stdout.buffer.flush()


def verify_proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What wardround audit prove wrote.")],
    key: Keys = None,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Check a proof of one entry, offline; exit code 1 where it proves nothing.

    Example: wardround audit verify-proof entry-7.tlog-proof
    """
    from ...privacy.errors import LedgerError
    from ..audit.proving import check_proof
    from ..audit.verification import parse_keys

    known = parse_keys(key or [])
    proven = check_proof(file)
    for party, given in known.items():
        if party not in proven.identities:
            raise LedgerError(
                f"a key for '{party}', whom the proof's roster does not know",
                where="--key",
                remedy=f"Parties in it are: {', '.join(proven.identities)}",
            )
        if given not in (proven.identities.get(party), proven.fingerprints.get(party)):
            raise LedgerError(
                f"the proof has another key of '{party}' than the one that was given",
                where=str(file),
                remedy="Compare the words once more; if they differ, somebody made this proof with keys of his own",
            )
    if json_:
        print_json(asdict(proven))
        return
    shown = proven.entry
    OUT.print(
        Text(
            one_line(f"Entry {shown['sequence']} of the ledger of {proven.owner}, dated {shown['time']}:"), style="bold"
        )
    )
    told = shown["kind"]
    if told == "message":
        told = f"{shown['message_type'] or 'no message'} {shown['outcome']}, {shown['direction']}, peer {shown['peer']}"
        OUT.print(Text(one_line(f"  {told}")))
        told = f"{shown['wire_bytes']} bytes, SHA-256 {shown['wire_sha256']}"
    OUT.print(Text(one_line(f"  {told}")))
    OUT.print(
        Text(
            f"It was in that ledger when {len(proven.cosigners)} sites cosigned it ({', '.join(proven.cosigners)}; "
            f"{proven.threshold} are needed), about {_when(proven)}."
        )
    )
    OUT.print(Text(f"Roster {proven.roster}"))
    open_ = {party: words for party, words in proven.identities.items() if party not in known}
    if open_:
        OUT.print(Text("This rests on these keys. Compare their words with the parties, or give them with --key:"))
        for party, words in open_.items():
            OUT.print(Text(f"  {party}: {words}"))


def _when(proven: Proven) -> str:
    times = sorted(proven.cosigners.values())
    middle = times[len(times) // 2]
    try:
        return datetime.fromtimestamp(middle, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"{middle} seconds after 1970"
