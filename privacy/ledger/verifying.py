"""Whether a ledger can be believed: its entries one by one, then against what others cosigned. Offline.

A ledger shows by itself that an entry was changed, removed, inserted or swapped. That it was cut, or written anew with
its owner's keys, only other parties' signatures show: every checkpoint that they cosigned must be of this very ledger,
and of a study that is closed all that left must be under one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ..errors import LedgerError, RosterError
from ..identity import fingerprint
from ..secure_aggregation.roster import Roster
from .batches import COORDINATOR, identity_of
from .chain import Chain, Study
from .checkpoints import Checkpoint, is_signed_by
from .evidence import FOLDER, Evidence, EvidenceStore
from .evidence_checks import Judged, judge
from .key_entries import origin_of
from .rosters import load_rosters

TOLERANCE = 600.0
"""Seconds by which an entry's time may contradict the times of those who cosigned around it."""


@dataclass
class Verified:
    """What `verify` found.

    Attributes:
        path: the ledger's file. owner: as its entries have it; empty without any.
        problems: what is wrong, worst first; empty when the ledger holds.
        notes: what a reader should know although nothing is wrong.
        entries: good entries from the start. head, root: hash of the last one, and of the tree over them, hexadecimal.
        identity: words of the owner's identity key, to be compared with the owner by telephone; empty without a key.
        studies: state of every study, by hash.
        cosigned: how many entries, from the start, are under a checkpoint that enough others cosigned.
        acknowledged: how many messages that left were acknowledged by a signed receipt. sent: how many left.
        evidence: the checkpoints that others cosigned, in order of size, with who did.
        rosters: those beside the ledger, by hash.
        shown: sizes at which the ledger was shown to others: before each receipt that left, and at each batch.
        chain: the ledger as it was read, for comparisons.
    """

    path: Path
    owner: str = ""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    entries: int = 0
    head: str = ""
    root: str = ""
    identity: str = ""
    studies: dict[str, Study] = field(default_factory=dict)
    cosigned: int = 0
    acknowledged: int = 0
    sent: int = 0
    evidence: list[Judged] = field(default_factory=list)
    rosters: dict[str, Roster] = field(default_factory=dict)
    shown: set[int] = field(default_factory=set)
    chain: Chain = field(default_factory=Chain)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def trailing(self) -> int:
        """Entries after the last one that enough others cosigned."""
        return self.entries - self.cosigned


@dataclass
class Scan:
    """What is noted while a ledger is read, for what comes after.

    Attributes:
        times: time of the entries whose numbers are asked for.
        sent: (peer, wire hash) of what left. shown: number and ``facts`` of every receipt that left.
        torn: bytes of a last line that a crash cut off.
    """

    times: dict[int, str] = field(default_factory=dict)
    sent: set[tuple[str, bytes]] = field(default_factory=set)
    shown: list[tuple[int, dict[str, str | int]]] = field(default_factory=list)
    torn: int = 0


def verify(ledger: Path, folder: Path | None = None, *, complete: bool = False) -> Verified:
    """Check a ledger with all that lies beside it; nothing is raised for what is wrong in it.

    Args:
        ledger: the file.
        folder: where ``checkpoints/`` and ``rosters/`` are; the ledger's own folder by default.
        complete: whether every study in it must be closed, as in a run that is complete.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    folder = folder or ledger.parent
    found = Verified(ledger)
    try:
        found.rosters = load_rosters(folder)
    except RosterError as error:
        found.problems.append(f"{error.what} ({error.where})")
    evidence = _load_evidence(folder, found)
    wanted = {number for each in evidence for number in (each.log.size - 1, each.log.size)}
    scan = _follow(found, wanted)
    _check_keys(found)
    _check_shown(found, scan)
    _check_evidence(found, evidence, scan)
    _check_latest(found, folder)
    _check_coverage(found, complete)
    found.notes += _clock(found.chain)
    return found


def _load_evidence(folder: Path, found: Verified) -> list[Evidence]:
    loaded = []
    for path in EvidenceStore(folder / FOLDER).paths():
        try:
            loaded.append(Evidence.parse(path.read_bytes(), where=str(path)))
        except LedgerError as error:
            found.problems.append(f"{error.what} ({path.name})")
        except OSError as error:
            found.problems.append(f"{path.name} cannot be read: {error.strerror}")
    return sorted(loaded, key=lambda each: each.log.size)


def _follow(found: Verified, wanted: set[int]) -> Scan:
    """Read the ledger up to its first bad entry."""
    chain, scan = found.chain, Scan()
    try:
        with found.path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.endswith(b"\n"):
                    scan.torn = len(line)
                    break
                wrong = chain.take(line[:-1])
                if wrong:
                    found.problems.append(f"entry {number - 1} (line {number}) {wrong}")
                    break
                entry = chain.last
                if entry is None:
                    continue
                if entry.sequence in wanted:
                    scan.times[entry.sequence] = entry.time
                if entry.kind == "message" and entry.direction == "out" and entry.outcome in ("sent", "retried"):
                    scan.sent.add((entry.peer, bytes.fromhex(entry.wire_sha256)))
                    if entry.message_type == "receipt" and entry.facts is not None:
                        scan.shown.append((entry.sequence, entry.facts))
                        found.shown.add(entry.sequence)
                    elif entry.message_type == "batch":
                        found.shown.add(entry.number)
    except OSError as error:
        raise LedgerError(f"the ledger cannot be read: {error.strerror}", where=str(found.path)) from None
    found.owner, found.entries, found.head = chain.owner, chain.sequence, chain.head
    found.root, found.studies = chain.tree.root().hex(), chain.studies
    if scan.torn:
        found.notes.append(f"the last {scan.torn} bytes are half an entry: a write was cut off")
    found.notes += [f"entry {number} tells of a torn line that was set aside" for number in chain.notes]
    found.notes += [f"entry {number} replaces a ledger key that was lost" for number in chain.keys.recovered]
    if chain.keys.identity:
        found.identity = fingerprint(chain.keys.identity)
    return scan


def _check_keys(found: Verified) -> None:
    """The identity that vouches for the ledger's keys is the one that rosters name for its owner."""
    for digest, roster in found.rosters.items():
        if digest not in {study.roster for study in found.studies.values()}:
            continue
        if found.owner != COORDINATOR and found.owner not in roster.index:
            found.problems.append(f"the roster {digest[:12]} does not know {found.owner!r}")
        elif not found.chain.keys.identity:
            found.problems.append("no key signs this ledger")
        elif identity_of(roster, found.owner) != found.chain.keys.identity:
            found.problems.append(
                f"the ledger's identity is not the one that the roster {digest[:12]} has for its owner"
            )


def _check_shown(found: Verified, scan: Scan) -> None:
    """A receipt states the checkpoint of the ledger as it stood; a ledger written anew would have to state another."""
    tree = found.chain.tree
    for number, facts in scan.shown:
        if facts.get("size") != number or facts.get("root") != tree.root(number).hex():
            found.problems.append(f"entry {number} states another checkpoint than this ledger had there")


def _check_evidence(found: Verified, evidence: list[Evidence], scan: Scan) -> None:
    newest: dict[str, int] = {}
    acknowledged: set[tuple[str, bytes]] = set()
    for each in evidence:
        judged = judge(each, found.owner, found.chain, found.rosters)
        found.evidence.append(judged)
        found.problems += judged.problems
        found.notes += judged.notes
        found.problems += _contradicted(judged, scan)
        unknown = judged.acknowledged - scan.sent
        if unknown and judged.fits:
            found.problems.append(
                f"{len(unknown)} messages that were acknowledged with checkpoint {each.log.size} are not in this "
                "ledger: transmissions were omitted"
            )
        acknowledged |= judged.acknowledged
        if judged.number <= newest.get(judged.roster, -1):
            found.problems.append(f"batch {judged.number} is under a larger checkpoint than a later one")
        newest[judged.roster] = judged.number
        if judged.fits and judged.enough:
            found.cosigned = max(found.cosigned, each.log.size)
    found.acknowledged, found.sent = len(acknowledged & scan.sent), len(scan.sent)


def _contradicted(judged: Judged, scan: Scan) -> list[str]:
    """Times of the entries around a checkpoint that those who cosigned it contradict."""
    witnessed = judged.time
    if witnessed is None:
        return []
    found = []
    for number, sign in ((judged.size - 1, 1), (judged.size, -1)):
        stated = scan.times.get(number)
        if stated is not None and sign * (datetime.fromisoformat(stated).timestamp() - witnessed) > TOLERANCE:
            found.append(
                f"entry {number} is dated {stated}, but others cosigned what is {'after' if sign > 0 else 'before'} it "
                f"at {datetime.fromtimestamp(witnessed, UTC).isoformat()}: a clock was set back, or forward"
            )
    return found


def _check_latest(found: Verified, folder: Path) -> None:
    try:
        note = EvidenceStore(folder / FOLDER).latest()
    except LedgerError as error:
        found.problems.append(f"the newest checkpoint is damaged: {error.what}")
        return
    if note is None or not found.chain.keys.identity:
        return
    checkpoint, origin = Checkpoint.parse(note.text), origin_of(found.chain.keys.identity)
    key = found.chain.keys.at(checkpoint.size)
    if checkpoint.origin != origin or key is None or not is_signed_by(note, origin, key):
        found.problems.append("the newest checkpoint is not signed by this ledger's key")
    elif checkpoint.size > found.entries:
        found.problems.append(
            f"the newest checkpoint is of {checkpoint.size} entries, the ledger has {found.entries}: "
            "its end was cut off"
        )
    elif checkpoint.root != found.chain.tree.root(checkpoint.size):
        found.problems.append(f"the newest checkpoint, of {checkpoint.size} entries, is of another ledger")


def _check_coverage(found: Verified, complete: bool) -> None:
    """What left must be under a checkpoint that enough others cosigned, but for what comes after the last exchange."""
    for name, study in found.studies.items():
        roster = found.rosters.get(study.roster)
        if study.roster and roster is None:
            found.problems.append(f"the roster of study {name[:12]} is not here: nobody's signature can be checked")
        if roster is None or not roster.coordinator_key:
            if study.last_out >= 0:
                found.notes.append(f"study {name[:12]} has no coordinator's key: nothing of it is cosigned")
            continue
        if study.open:
            if complete:
                found.problems.append(f"study {name[:12]} is complete, and its close is missing")
            elif study.last_out >= found.cosigned:
                found.notes.append(
                    f"study {name[:12]} is open; what left after entry {found.cosigned} is not cosigned yet"
                )
        elif study.closed >= found.cosigned and study.last_out >= 0:
            found.problems.append(
                f"study {name[:12]} is closed, and its close (entry {study.closed}) is under no checkpoint that enough "
                "others cosigned: the ledger may have been written anew"
            )
    exchange = sum(1 for study in found.studies.values() if not study.open and study.closing)
    if found.trailing and exchange:
        found.notes.append(
            f"the last {found.trailing} entries are not cosigned: the exchange at the end, and what follows it"
        )


def _clock(chain: Chain) -> list[str]:
    return [f"entry {number} is dated before the one before it: a clock was set back" for number in chain.set_back]
