"""From an :class:`AuditPage` to the auditor's page: words, tables and drawings, and the ledgers to check again.

What is computed here needs no script; what the page's script checks is packed beside it, byte for byte.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from markupsafe import Markup

from .audit_model import AuditPage, Count, counts_of
from .audit_tables import PolicyView, budget, checkpoints, identities, policies, reconciled, reconciliation
from .audit_timeline import timeline
from .page_parts import Cell, HeadlineFigure, Table, byte_size, plural
from .rendering import environment, style

_TEMPLATES = Path(__file__).parent / "templates"
_FEW = 60
"""Rows of a table above which it is folded away on screen."""
_SENT, _NOT_SENT = ("sent", "retried"), ("refused", "retried", "failed")


@dataclass(frozen=True, slots=True)
class BarRow:
    """A row with a bar: its cells, and the bar's length as a share of the longest, 0 to 1."""

    cells: tuple[str, ...]
    share: float


@dataclass(frozen=True, slots=True)
class AuditView:
    """All that the template prints, in order."""

    page: AuditPage
    headline: HeadlineFigure
    side: tuple[HeadlineFigure, ...]
    reading: str
    parties: Table
    problems: tuple[tuple[str, str], ...]
    notes: tuple[tuple[str, str], ...]
    whose: str
    identities: tuple[tuple[str, str], ...]
    lanes: tuple[tuple[str, str], ...]
    by_type: tuple[BarRow, ...]
    by_round: tuple[BarRow, ...]
    policies: tuple[PolicyView, ...]
    budget: Table | None
    checkpoints: tuple[tuple[str, Table], ...]
    checkpoint_rows: int
    reconciled: str
    reconciliation: Table | None
    left_out: int
    few: int
    facts: str
    ledgers: tuple[str, ...]


def audit_page(page: AuditPage) -> str:
    """The auditor's page, as HTML. It loads nothing; its one script is named by its hash and checks what it holds."""
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Style and script are the package's own; nothing of a study is in them.
    extra = Markup((_TEMPLATES / "audit.css").read_text(encoding="utf-8"))  # noqa: S704
    return (
        environment()
        .get_template("audit.html.j2")
        .render(
            view=audit_view(page),
            style=style() + extra,
            script=Markup(script),  # noqa: S704
            script_hash=digest,
            svg=Markup,
        )
    )


def _script() -> str:
    """The script's files as one, with names of their own: a page's policy then names one hash."""
    files = ("audit_formats.js", "audit_checks.js", "audit.js")
    body = "\n".join((_TEMPLATES / file).read_text(encoding="utf-8") for file in files)
    return f'"use strict";\n(() => {{\n{body}}})();\n'


def audit_view(page: AuditPage) -> AuditView:
    """Compute the page."""
    counts = [party.counts or counts_of(party.entries, page.study_sha256) for party in page.parties]
    sites = [found for party, found in zip(page.parties, counts, strict=True) if party.role == "site"]
    shown = [count for found in (sites or counts) for count in found if count.kind == "message"]
    return AuditView(
        page=page,
        headline=_headline(shown, whose="sites" if sites else "coordinator"),
        side=_side(page, counts),
        reading=_reading(page, shown, whose="the sites" if sites else "the coordinator"),
        parties=_parties(page, counts),
        problems=tuple((p.owner, p.verification.problem) for p in page.parties if p.verification.problem),
        notes=tuple((p.owner, note) for p in page.parties for note in p.verification.notes),
        whose="the sites" if sites else "the coordinator",
        identities=identities(page),
        lanes=tuple(
            (party.owner, timeline(f"lane-{i}", party.owner, found))
            for i, (party, found) in enumerate(zip(page.parties, counts, strict=True))
        ),
        by_type=_by_type(shown),
        by_round=_by_round(shown),
        policies=policies(page),
        budget=budget(page),
        checkpoints=tuple((p.owner, checkpoints(page, p)) for p in page.parties if p.checkpoints),
        checkpoint_rows=sum(len(party.checkpoints) for party in page.parties),
        reconciled=reconciled(page),
        reconciliation=reconciliation(page),
        left_out=sum(party.left_out for party in page.parties),
        few=_FEW,
        facts=_packed(_for_script(page)),
        ledgers=tuple(_packed("\n".join(p.entries).encode()) for p in page.parties),
    )


def _packed(data: bytes) -> str:
    # Base64 has no "<": nothing in a ledger can end the element it is put in.
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def _for_script(page: AuditPage) -> bytes:
    """The page without what only people read, and without the entries, which are packed apart."""
    kept = msgspec.to_builtins(page)
    for party, given in zip(kept["parties"], page.parties, strict=True):
        for name in ("entries", "counts", "policy", "budget"):
            del party[name]
        party["length"] = given.length
    del kept["reconciliation"], kept["marks"]
    return msgspec.json.encode(kept)


def _total(counts: Sequence[Count], direction: str, outcomes: tuple[str, ...]) -> tuple[int, int]:
    """Entries and bytes of messages in one direction with one of these outcomes."""
    fits = [c for c in counts if c.kind == "message" and c.direction == direction and c.outcome in outcomes]
    return sum(c.entries for c in fits), sum(c.wire_bytes for c in fits)


def _headline(shown: Sequence[Count], *, whose: str) -> HeadlineFigure:
    messages, size = _total(shown, "out", _SENT)
    rounds = len({count.round for count in shown if count.round >= 1})
    sub = f"in {plural(messages, 'message')}" + (f" over {plural(rounds, 'round')}" if rounds else "")
    return HeadlineFigure(f"Left the {whose}", byte_size(size), sub)


def _side(page: AuditPage, counts: Sequence[Sequence[Count]]) -> tuple[HeadlineFigure, ...]:
    good = sum(party.verification.ok for party in page.parties)
    length = sum(party.length for party in page.parties)
    cosigned = sum(party.verification.cosigned_entries for party in page.parties)
    bad: Counter[str] = Counter()
    for found in counts:
        for count in found:
            if count.kind == "message" and count.outcome in _NOT_SENT:
                bad[count.outcome] += count.entries
    said = ", ".join(f"{bad[outcome]:,} {outcome}" for outcome in _NOT_SENT if bad[outcome])
    return (
        HeadlineFigure("Ledgers in order", f"{good} of {len(page.parties)}", "found offline, when the page was made"),
        HeadlineFigure("Entries cosigned", f"{cosigned:,}", f"of {length:,}; the rest has its owner's word only"),
        HeadlineFigure("Not sent at once", f"{sum(bad.values()):,}", said or "nothing refused, retried or failed"),
    )


def _reading(page: AuditPage, shown: Sequence[Count], *, whose: str) -> str:
    biggest: Counter[str] = Counter()
    for count in shown:
        if count.direction == "out" and count.outcome in _SENT:
            biggest[count.message_type] += count.wire_bytes
    total = sum(biggest.values())
    state = "This study is closed." if page.complete else "This study is NOT closed: more may follow."
    if not total:
        return f"{state} The ledgers name no message that left {whose}."
    name, size = max(biggest.items(), key=lambda pair: (pair[1], pair[0]))
    share = "All" if size == total else f"{min(99, round(100 * size / total))}\N{NO-BREAK SPACE}%"
    return f"{state} {share} of the bytes that left {whose} were {name} messages."


def _parties(page: AuditPage, counts: Sequence[Sequence[Count]]) -> Table:
    rows = []
    for party, found in zip(page.parties, counts, strict=True):
        sent, received = _total(found, "out", _SENT), _total(found, "in", ("received",))
        bad = [sum(c.entries for c in found if c.kind == "message" and c.outcome == outcome) for outcome in _NOT_SENT]
        rows.append(
            (
                Cell(party.owner, party.role),
                Cell("in order") if party.verification.ok else Cell("PROBLEM", "named above", strong=True),
                Cell(f"{party.length:,}"),
                Cell(f"{party.verification.cosigned_entries:,}", f"{party.verification.trailing_entries:,} after them"),
                Cell(byte_size(sent[1]), plural(sent[0], "message")),
                Cell(byte_size(received[1]), plural(received[0], "message")),
                *(Cell(f"{count:,}") for count in bad),
            )
        )
    return Table(
        "Every ledger as offline verification found it. Entries: of all studies; bytes and messages: of this one.",
        ("Ledger of", "Verdict", "Entries", "Cosigned", "Sent", "Received", "Refused", "Retried", "Failed"),
        tuple(rows),
    )


def _bar_rows(of: dict[str, list[Count]]) -> tuple[BarRow, ...]:
    """Rows of messages and bytes in both directions; the bar is of the bytes that left."""
    found = [
        (name, _total(c, "out", _SENT), _total(c, "in", ("received",)), [x for x in c if x.outcome in _NOT_SENT])
        for name, c in of.items()
    ]
    longest = max([out[1] for _, out, _, _ in found] + [1])
    return tuple(
        BarRow(
            (
                name,
                f"{out[0]:,}",
                byte_size(out[1]),
                f"{into[0]:,}",
                byte_size(into[1]),
                f"{sum(c.entries for c in bad):,}",
            ),
            out[1] / longest,
        )
        for name, out, into, bad in found
    )


def _by_type(shown: Sequence[Count]) -> tuple[BarRow, ...]:
    groups: dict[str, list[Count]] = {}
    for count in shown:
        groups.setdefault(count.message_type, []).append(count)
    return _bar_rows({name: groups[name] for name in sorted(groups)})


def _by_round(shown: Sequence[Count]) -> tuple[BarRow, ...]:
    groups: dict[int, list[Count]] = {}
    for count in shown:
        groups.setdefault(count.round, []).append(count)
    return _bar_rows({str(n) if n >= 0 else "outside rounds": groups[n] for n in sorted(groups)})
