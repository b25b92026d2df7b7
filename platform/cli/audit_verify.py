"""``wardround audit verify`` and ``reconcile``: whether ledgers can be believed, and fit together."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .console import ERR, OUT, one_line, print_json, print_table, size

if TYPE_CHECKING:
    from ...privacy.ledger.reconciling import Direction, Message
    from ..audit.verification import Audit

Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="PARTY=KEY",
        help="The eight words, or the fingerprint, of a party's identity, as it told you; repeat for several.",
    ),
]
MOST = 20


def verify(
    paths: Annotated[
        list[Path], typer.Argument(metavar="RUN|LEDGER…", help="Run folders, folders with a ledger, or ledger files.")
    ],
    key: Keys = None,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Check ledgers offline: every entry, what others cosigned, and, where several are given, that they fit together.

    Exit code 1 where anything is wrong; the first bad entry is named. Example: wardround audit verify runs/brain
    """
    from ..audit.sources import find_sources, holds_all
    from ..audit.verification import audit, parse_keys

    known = parse_keys(key or [])
    each_once = {source.ledger.resolve(): source for source in find_sources(paths, every=True)}
    sources = list(each_once.values())
    with ERR.status("verifying"):
        found = audit(sources, known, whole=any(holds_all(path) for path in paths))
    if json_:
        print_json(_as_dict(found))
    else:
        _print(found)
    if not found.ok:
        raise typer.Exit(1)


def reconcile(
    site: Annotated[Path, typer.Argument(metavar="SITE", help="A site's folder or ledger, or a run folder.")],
    coordinator: Annotated[
        Path | None, typer.Argument(metavar="[COORDINATOR]", help="The coordinator's; not needed with a run folder.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Compare what sites sent with what the coordinator received, and the other way, byte for byte.

    Exit code 1 where something was received that was never sent, or a side omitted what it had signed to have received.
    Example: wardround audit reconcile runs/brain/sites/amber runs/brain/coordinator
    """
    from ..audit.reconciliation import reconcile_sources, unsound, verify_each
    from ..audit.sources import find_sources

    with ERR.status("comparing"):
        sources = find_sources([site] if coordinator is None else [site, coordinator])
        verified = verify_each(sources)
        rows, broken = reconcile_sources(sources, verified), unsound(verified)
    if json_:
        print_json([{**asdict(row), "ok": row.ok} for row in rows])
    else:
        _print_directions(rows)
    for text in broken:
        ERR.print(Text("problem: ", style="bold red").append(one_line(text), style="default"))
    if broken or not all(row.ok for row in rows):
        raise typer.Exit(1)


def _as_dict(found: Audit) -> dict[str, Any]:
    return {
        "ok": found.ok,
        "between": list(found.between),
        "missing": list(found.missing),
        "ledgers": [
            {
                "owner": source.owner,
                "path": str(ledger.path),
                "ok": ledger.ok,
                "problems": ledger.problems,
                "notes": ledger.notes,
                "entries": ledger.entries,
                "head": ledger.head,
                "root": ledger.root,
                "identity": ledger.identity,
                "anchored": source.owner in found.anchored,
                "cosigned": ledger.cosigned,
                "sent": ledger.sent,
                "acknowledged": ledger.acknowledged,
                "studies": {
                    name: {"open": study.open, "roster": study.roster} for name, study in ledger.studies.items()
                },
                "checkpoints": [
                    {
                        "size": each.size,
                        "number": each.number,
                        "round": each.round,
                        "ok": not each.problems,
                        "enough": each.enough,
                        "cosigners": each.cosigners,
                    }
                    for each in ledger.evidence
                ],
            }
            for source, ledger in zip(found.sources, found.ledgers, strict=True)
        ],
    }


def _print(found: Audit) -> None:
    table = Table(box=SIMPLE_HEAD)
    for title, right in (
        ("ledger", False),
        ("entries", True),
        ("cosigned", True),
        ("checkpoints", True),
        ("messages sent", True),
        ("acknowledged", True),
        ("verdict", False),
    ):
        table.add_column(title, justify="right" if right else "left")
    for index, ledger in enumerate(found.ledgers):
        verdict = Text("holds", style="green") if ledger.ok else Text("DOES NOT HOLD", style="bold red")
        counts = (ledger.entries, ledger.cosigned, sum(each.enough for each in ledger.evidence), ledger.sent)
        table.add_row(one_line(found.label(index)), *map(str, counts), str(ledger.acknowledged), verdict)
    print_table(table)
    for index, ledger in enumerate(found.ledgers):
        name = one_line(found.label(index))
        _list(name, "problem", "bold red", ledger.problems)
        _list(name, "note", "bold yellow", ledger.notes)
    _list("between ledgers", "problem", "bold red", found.between)
    if len(found.ledgers) > 1 and found.missing and not found.whole:
        some = ", ".join(found.missing[:MOST]) + (" and others" if len(found.missing) > MOST else "")
        _list("between ledgers", "note", "bold yellow", [f"no ledger is here of: {some}"])
    _print_anchors(found)
    if not found.ok:
        OUT.print(Text("Keep all files as they are: they are evidence.", style="bold"))
    elif all(ledger.cosigned for ledger in found.ledgers):
        cosigned, entries = (sum(getattr(each, name) for each in found.ledgers) for name in ("cosigned", "entries"))
        OUT.print(
            Text(
                f"{cosigned} of {entries} entries are as others signed them: nothing changed, removed, inserted or "
                "cut, as far as keys and cosigners can be believed."
            )
        )
    else:
        OUT.print(Text("Nothing is wrong with the entries, but not all ledgers were cosigned by others yet."))


def _list(name: str, kind: str, style: str, texts: Any) -> None:
    for text in list(texts)[:MOST]:
        OUT.print(Text(f"{kind}: ", style=style).append(one_line(f"{name}: {text}"), style="default"))
    if len(texts) > MOST:
        OUT.print(Text(f"{len(texts) - MOST} more {kind}s of {name}; --json has all"))


def _print_anchors(found: Audit) -> None:
    """Whose keys the verdict rests on."""
    open_ = [(name, words) for name, every in found.parties.items() if name not in found.anchored for words in every]
    if not open_:
        return
    OUT.print(Text("The verdict rests on these keys. Compare their words with the parties, or give them with --key:"))
    for name, words in open_[:MOST]:
        OUT.print(Text(one_line(f"  {name}: {words}")))
    if len(open_) > MOST:
        OUT.print(Text(f"  and {len(open_) - MOST} more, in the rosters"))


def _print_directions(rows: list[Direction]) -> None:
    table = Table(box=SIMPLE_HEAD)
    for title, right in (
        ("from", False),
        ("to", False),
        ("sent", True),
        ("received", True),
        ("again", True),
        ("refused", True),
        ("lost", True),
        ("verdict", False),
    ):
        table.add_column(title, justify="right" if right else "left")
    for row in rows:
        equal = "equal, byte for byte" if not row.lost else "equal, but for what was lost"
        verdict = Text(equal, style="green") if row.ok else Text("DOES NOT FIT", style="bold red")
        table.add_row(
            row.sender,
            row.receiver,
            f"{row.sent} ({size(row.sent_bytes)})",
            f"{row.received} ({size(row.received_bytes)})",
            str(row.retried),
            str(row.refused),
            str(sum(message.count for message in row.lost)),
            verdict,
        )
    print_table(table)
    for row in rows:
        way = f"{row.sender} to {row.receiver}"
        found = [
            *(f"received, but never sent: {_words(message)}" for message in row.unrecorded),
            *(f"one side calls it something else: {_words(message)}" for message in row.mislabelled),
            *(f"its receiver signed for it and has no entry: {_words(message)}" for message in row.denied),
        ]
        lost = [f"sent, and not received: {_words(message)}" for message in row.lost if message not in row.denied]
        _list(way, "problem", "bold red", found)
        _list(way, "note", "bold yellow", lost)


def _words(message: Message) -> str:
    about = f" of round {message.round}" if message.round >= 0 else ""
    times = f", {message.count} times" if message.count > 1 else ""
    kind = message.message_type or "what is no message"
    return f"{kind}{about}, {message.wire_bytes} bytes, SHA-256 {message.wire_sha256[:16]}{times}"
