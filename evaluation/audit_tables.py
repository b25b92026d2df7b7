"""Tables of the auditor's page that need no figures of the entries: policies, budgets, checkpoints, two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from .audit_model import AuditCheckpoint, AuditPage, Party
from .page_parts import Cell, Table, byte_size, lower, number, plural, scientific, sentence_list, upper


@dataclass(frozen=True, slots=True)
class PolicyView:
    """One policy text and whose it is; ``named``: what ledgers say about it."""

    owners: str
    sha256: str
    text: str
    named: str


def identities(page: AuditPage) -> tuple[tuple[str, str], ...]:
    """Term and description: every party's words and key, then the other keys that signatures are checked against."""
    rows = []
    for party in page.parties:
        rows += [(f"{party.owner}: words", party.words), (f"{party.owner}: identity", party.public_key)]
    known = {(party.owner, party.public_key) for party in page.parties}
    for key in page.keys:
        if (key.owner, key.public_key) not in known:
            rows += [(f"{key.owner}: words", key.words)] if key.words else []
            rows.append((f"{key.owner}: {'identity' if key.use == 'identity' else 'ledger key'}", key.public_key))
    return tuple(rows)


def policies(page: AuditPage) -> tuple[PolicyView, ...]:
    """Every policy text once, with whose it is."""
    groups: dict[tuple[str, str], list[Party]] = {}
    for party in page.parties:
        if party.policy is not None:
            groups.setdefault((party.policy.sha256, party.policy.text), []).append(party)
    return tuple(
        PolicyView(sentence_list([p.owner for p in parties]), sha256, text, _named(parties, sha256))
        for (sha256, text), parties in groups.items()
    )


def _named(parties: Sequence[Party], sha256: str) -> str:
    """How many entries name this policy, and how many another."""
    lines = [line for party in parties for line in party.entries if '"policy_sha256":""' not in line]
    if not lines:
        return "The page holds no entry that names a policy."
    same = sum(f'"policy_sha256":"{sha256}"' in line for line in lines)
    if same == len(lines):
        return f"All {plural(same, 'entry')} that name a policy name this one."
    return f"{plural(same, 'entry')} name this policy and {len(lines) - same:,} another, in force before."


def budget(page: AuditPage) -> Table | None:
    """What sites spent; None where none has a budget."""
    rows = tuple(
        (
            Cell(party.owner),
            Cell("this study" if row.study == page.study_sha256 else row.study),
            Cell(upper(row.epsilon), strong=True),
            Cell(number(row.limit)),
            Cell(lower(row.limit - row.epsilon)),
            Cell(scientific(row.delta)),
        )
        for party in page.parties
        for row in party.budget
    )
    columns = ("Site", "Study", "Epsilon spent", "Limit", "Left", "Delta")
    return Table("Privacy budget of each site, an upper bound of what was spent.", columns, rows) if rows else None


def _lines(note: str) -> list[str]:
    """Origin, size and root of a checkpoint; question marks for what is none, which the script then names."""
    lines = note.split("\n")[:3]
    return lines + ["?"] * (3 - len(lines))


def _batch(checkpoint: AuditCheckpoint) -> str:
    """The number at the end of the batch's origin."""
    if checkpoint.proof is None:
        return "in none"
    return _lines(checkpoint.proof.partition("\n\n")[2])[0].rpartition("/")[2]


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "no time"


def checkpoints(page: AuditPage, party: Party) -> Table:
    """One party's checkpoints, in order of size."""
    owner_of = {key.name: key.owner for key in page.keys}
    rows = tuple(
        (
            Cell(f"{checkpoint.size:,}"),
            Cell(_lines(checkpoint.note)[2]),
            Cell(_batch(checkpoint)),
            _cosigners(checkpoint, owner_of),
        )
        for checkpoint in party.checkpoints
    )
    caption = f"Checkpoints of {party.owner}: what its ledger was, and who has signed that it saw it. Times are UTC."
    return Table(caption, ("Entries", "Merkle root", "Batch", "Cosigned by"), rows)


def _cosigners(checkpoint: AuditCheckpoint, owner_of: dict[str, str]) -> Cell:
    names = [owner_of.get(cosigner.name, cosigner.name) for cosigner in checkpoint.cosigners]
    if not names:
        return Cell("nobody")
    times = [cosigner.time for cosigner in checkpoint.cosigners]
    few = sentence_list(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5:,} others"
    between = _time(min(times)) if min(times) == max(times) else f"{_time(min(times))} to {_time(max(times))}"
    return Cell(few, between)


def reconciled(page: AuditPage) -> str:
    """One sentence about what two ledgers say of the same messages."""
    if not page.reconciliation:
        return "No two ledgers were laid side by side: what was sent cannot be compared with what was received."
    off = [row for row in page.reconciliation if row.lost or row.unsent]
    compared = f"{plural(sum(row.sent for row in page.reconciliation), 'message')} in two ledgers were compared"
    if not off:
        return f"{compared}, byte for byte: what one ledger says it sent is what the other says it received."
    lost, unsent = sum(row.lost for row in off), sum(row.unsent for row in off)
    return f"{compared}. {lost:,} did not arrive as they were sent, and {unsent:,} arrived that no ledger says it sent."


def reconciliation(page: AuditPage) -> Table | None:
    """Sent and received by type, rows that differ first; None where nothing was compared."""
    rows = tuple(
        (
            Cell(f"{row.sender} → {row.receiver}", row.message_type),
            Cell(f"{row.sent:,}", byte_size(row.sent_bytes)),
            Cell(f"{row.received:,}", byte_size(row.received_bytes)),
            Cell(f"{row.lost:,}"),
            Cell(f"{row.unsent:,}"),
            Cell("DIFFERS", strong=True) if row.lost or row.unsent else Cell("equal"),
        )
        for row in sorted(page.reconciliation, key=lambda row: not (row.lost or row.unsent))
    )
    columns = ("From and to", "Sent", "Received", "Lost", "Not sent", "Bytes")
    caption = "Sent and received, by message type; rows that differ come first."
    return Table(caption, columns, rows) if rows else None
