"""The auditor's page of a run: its ledgers, what proves them, and what verification finds in them now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ...evaluation.audit_model import (
    MOST_ENTRIES,
    AuditCheckpoint,
    AuditKey,
    AuditPage,
    BudgetRow,
    Cosigner,
    Party,
    PolicyText,
    Reconciliation,
    Verification,
    counts_of,
    policy_of,
)
from ...privacy.errors import LedgerError
from ...privacy.identity import fingerprint, fingerprint_hex
from ...privacy.ledger.batches import COORDINATOR, COORDINATOR_KEY, identity_of, site_key_name
from ...privacy.ledger.entries import Entry
from ...privacy.ledger.evidence import EvidenceStore
from ...privacy.ledger.evidence_checks import Judged
from ...privacy.ledger.key_entries import origin_of
from ...privacy.ledger.reading import read_good
from ...privacy.ledger.reconciling import reconcile
from ...privacy.ledger.verifying import Verified
from ...privacy.secure_aggregation.roster import Roster
from ..config import Study
from ..run_folder import RunFolder
from .sources import Source, find_sources
from .verification import Audit, audit


def audit_run(run: RunFolder, *, whole: bool = True) -> Audit:
    """Verify all ledgers of a run, as they lie in its dossier.

    Args:
        run: its folder. whole: whether the sites' ledgers should be there; those of hospitals are not.

    Raises:
        LedgerError: there is none, or one cannot be read.
    """
    return audit(find_sources([run.root]), {}, whole=whole)


def audit_page_of(run: RunFolder, study: Study, found: Audit) -> AuditPage:
    """What the page shows of a complete run.

    Args:
        run: the run's folder. study: the study.
        found: by `audit_run`.

    Raises:
        LedgerError: a ledger cannot be read.
    """
    digest = study.digest()
    pairs = list(zip(found.sources, found.ledgers, strict=True))
    left_out = sum(ledger.entries for _, ledger in pairs) > MOST_ENTRIES
    return AuditPage(
        study=study.name,
        study_sha256=digest,
        method=study.method,
        synthetic=study.data.source == "phantoms",
        complete=True,
        parties=tuple(_party(source, ledger, found, study, left_out=left_out) for source, ledger in pairs),
        reconciliation=tuple(_reconciliation([source for source, _ in pairs])),
        keys=tuple(_keys(pairs, digest, left_out=left_out)),
    )


def _party(source: Source, ledger: Verified, found: Audit, study: Study, *, left_out: bool) -> Party:
    digest, identity = study.digest(), ledger.chain.keys.identity
    problems = [*ledger.problems, *found.between]
    lines = [line.decode(errors="replace") for line in _raw_lines(source.ledger)]
    return Party(
        owner=ledger.owner,
        role="coordinator" if ledger.owner == COORDINATOR else "site",
        words=ledger.identity,
        public_key=identity.hex() if identity else "0" * 64,
        verification=Verification(
            ok=not problems,
            problem=problems[0] if problems else "",
            notes=tuple(ledger.notes),
            cosigned_entries=ledger.cosigned,
            trailing_entries=ledger.trailing,
        ),
        entries=() if left_out else tuple(lines),
        left_out=len(lines) if left_out else 0,
        counts=counts_of(lines, digest) if left_out else (),
        checkpoints=_checkpoints(source, ledger),
        policy=_policy(source),
        budget=_budget(source, study),
    )


def _raw_lines(path: Path) -> list[bytes]:
    """The file's lines as they are, also what is no entry: the page shows a reader that it was changed."""
    try:
        return path.read_bytes().removesuffix(b"\n").split(b"\n")
    except OSError as error:
        raise LedgerError(f"the ledger cannot be read: {error.strerror}", where=str(path)) from None


def _checkpoints(source: Source, ledger: Verified) -> tuple[AuditCheckpoint, ...]:
    rows = [_checkpoint(judged) for judged in ledger.evidence]
    try:
        latest = EvidenceStore(source.checkpoints).latest()
    except LedgerError:
        latest = None  # verification has named it already
    if latest is not None:
        size = int(latest.text.split("\n")[1])
        if size not in {row.size for row in rows}:
            rows.append(AuditCheckpoint(size, latest.to_bytes().decode()))
    return tuple(sorted(rows, key=lambda row: row.size))


def _checkpoint(judged: Judged) -> AuditCheckpoint:
    evidence = judged.evidence
    cosigners = tuple(Cosigner(site_key_name(site), time) for site, time in judged.cosigners.items())
    return AuditCheckpoint(
        judged.size, evidence.checkpoint.to_bytes().decode(), evidence.to_bytes().decode(), cosigners
    )


def _policy(source: Source) -> PolicyText | None:
    try:
        return policy_of(source.policy.read_bytes())
    except OSError:
        return None  # a copy need not have one; entries name its hash


def _budget(source: Source, study: Study) -> tuple[BudgetRow, ...]:
    """What the ledger's last budget entry of the study says that was spent."""
    last: Entry | None = None
    for entry in read_good(source.ledger):
        if entry.kind == "budget" and entry.study == study.digest():
            last = entry
    epsilon = (last.dp or {}).get("epsilon") if last is not None else None
    if not isinstance(epsilon, int | float):
        return ()
    return (BudgetRow(study.name, float(epsilon), study.privacy.epsilon, study.privacy.delta),)


def _keys(pairs: Sequence[tuple[Source, Verified]], digest: str, *, left_out: bool) -> list[AuditKey]:
    roster = _roster(pairs, digest)
    keys = []
    if roster is not None:
        for party in (COORDINATOR, *roster.names) if roster.coordinator_key else roster.names:
            public = identity_of(roster, party)
            name = COORDINATOR_KEY if party == COORDINATOR else site_key_name(party)
            keys.append(AuditKey(name, party, "identity", public.hex(), fingerprint(public)))
    if left_out:
        keys += [
            AuditKey(origin_of(ledger.chain.keys.identity), ledger.owner, "ledger", key.hex())
            for _, ledger in pairs
            for _, key in ledger.chain.keys.keys
        ]
    return [key for key in keys if key.use == "ledger" or _agrees(key, pairs)]


def _agrees(key: AuditKey, pairs: Sequence[tuple[Source, Verified]]) -> bool:
    """Whether a ledger here has this identity; where it has another, verification has said so."""
    own = {ledger.owner: ledger.chain.keys.identity for _, ledger in pairs}
    return fingerprint_hex(own.get(key.owner) or bytes.fromhex(key.public_key)) == fingerprint_hex(
        bytes.fromhex(key.public_key)
    )


def _roster(pairs: Sequence[tuple[Source, Verified]], digest: str) -> Roster | None:
    for _, ledger in pairs:
        study = ledger.studies.get(digest)
        if study is not None and study.roster in ledger.rosters:
            return ledger.rosters[study.roster]
    return None


def _reconciliation(sources: Sequence[Source]) -> list[Reconciliation]:
    """Each type of message each way between every site and the coordinator."""
    coordinator = next((source for source in sources if source.owner == COORDINATOR), None)
    if coordinator is None:
        return []
    read = {source.owner: list(read_good(source.ledger)) for source in sources}
    rows: list[Reconciliation] = []
    for site in (source for source in sources if source is not coordinator):
        for sender, receiver in ((site.owner, COORDINATOR), (COORDINATOR, site.owner)):
            rows += _by_type(read[sender], read[receiver], sender, receiver)
    return rows


def _by_type(sent: Sequence[Entry], received: Sequence[Entry], sender: str, receiver: str) -> Iterable[Reconciliation]:
    whole = reconcile(sent, received, (sender, receiver))
    rows: dict[str, Reconciliation] = {}

    def row(kind: str) -> Reconciliation:
        return rows.get(kind, Reconciliation(sender, receiver, kind or "no message", 0, 0, 0, 0))

    for entry in sent:
        if entry.kind == "message" and entry.peer == receiver and entry.outcome in ("sent", "retried"):
            before = row(entry.message_type)
            rows[entry.message_type] = replace(
                before, sent=before.sent + 1, sent_bytes=before.sent_bytes + entry.wire_bytes
            )
    known = {entry.wire_sha256: entry.message_type for entry in sent}
    for entry in received:
        if entry.kind == "message" and entry.peer == sender and entry.direction == "in":
            kind = entry.message_type or known.get(entry.wire_sha256, "")
            before = row(kind)
            rows[kind] = replace(
                before, received=before.received + 1, received_bytes=before.received_bytes + entry.wire_bytes
            )
    lost = Counter(dict.fromkeys(rows, 0))
    unsent = Counter(dict.fromkeys(rows, 0))
    for message in whole.lost:
        lost[message.message_type] += message.count
    for message in whole.unrecorded:
        unsent[message.message_type] += message.count
    return [replace(rows[kind], lost=lost[kind], unsent=unsent[kind]) for kind in sorted(rows)]
