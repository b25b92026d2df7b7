"""Whether a ledger can be believed: its entries one by one, then against what others cosigned. Offline.

A ledger shows by itself that an entry was changed, removed, inserted or swapped. That it was cut, or written anew with
its owner's keys, only other parties' signatures show: every checkpoint that they cosigned must be of this very ledger,
and of a study that is closed all that left must be under one of them.

Whose signatures these are, a roster says that lies beside the ledger, and an owner who writes everything anew can
invent a roster too. So the verdict is worth what its keys are: see `platform.audit.verification`, which compares them.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime
from pathlib import Path

from ..errors import LedgerError
from ..secure_aggregation.roster import Roster
from .batches import COORDINATOR, identity_of
from .checkpoints import Checkpoint, is_signed_by
from .evidence import FOLDER, LATEST, Evidence, EvidenceStore
from .evidence_checks import Judged, judge
from .key_entries import origin_of
from .rosters import read_rosters
from .verified import Scan, Verified, scan

__all__ = ["TOLERANCE", "Verified", "verify"]
TOLERANCE = 600.0
"""Seconds by which an entry's time may contradict the times of those who cosigned around it."""


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
    evidence = _load_evidence(folder, found)
    besides, found.problems = found.problems, []
    read = scan(found, (each.log.size for each in evidence))
    found.problems += besides
    found.rosters, problems = read_rosters(folder)
    found.problems += problems
    _note_reading(found, read)
    if not found.entries:
        if not found.broken:
            found.problems.append("the ledger is empty: nothing was written down, or all of it was removed")
        return found
    _check_rosters(found)
    _check_receipts(found, read)
    _check_evidence(found, evidence, read)
    _check_times(found, read)
    _check_latest(found, folder)
    _check_coverage(found, complete)
    return found


def _load_evidence(folder: Path, found: Verified) -> list[Evidence]:
    loaded = []
    for path in EvidenceStore(folder / FOLDER).paths():
        try:
            loaded.append(Evidence.parse(_read(path), where=str(path)))
        except LedgerError as error:
            found.problems.append(f"{FOLDER}/{path.name}: {error.what}")
        except (OSError, RecursionError) as error:
            found.problems.append(f"{FOLDER}/{path.name} cannot be read: {_reason(error)}")
    return sorted(loaded, key=lambda each: (each.log.size, each.number))


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise OSError(0, "it is no file")
    return path.read_bytes()


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "it is damaged"


def _note_reading(found: Verified, read: Scan) -> None:
    chain = found.chain
    if read.torn:
        found.notes.append(f"after entry {found.entries - 1} there are {read.torn} bytes of half an entry: cut off")
    found.notes += [f"entry {number} tells of a torn line that was set aside" for number in chain.notes]
    found.notes += [f"entry {number} replaces a ledger key that was lost" for number in chain.keys.recovered]
    found.notes += [
        f"entry {number} is dated before the one before it: a clock was set back" for number in chain.set_back
    ]


def _check_rosters(found: Verified) -> None:
    """Every study was opened under a roster that is here and has the identity that vouches for the ledger's keys."""
    for number, study, digest in found.opened:
        roster = found.rosters.get(digest)
        if not digest:
            found.problems.append(f"entry {number} opens study {study[:12]} without a roster: nobody can vouch for it")
        elif roster is None:
            found.problems.append(
                f"the roster {digest[:12]} that entry {number} names is not here: nobody's signature can be checked"
            )
        elif roster.study.hex() != study:
            found.problems.append(f"entry {number} opens study {study[:12]} under the roster of another study")
        else:
            found.problems += _wrong_identity(found, number, roster)


def _wrong_identity(found: Verified, number: int, roster: Roster) -> list[str]:
    name, keys = f"the roster {roster.digest.hex()[:12]} that entry {number} names", found.chain.keys
    if not roster.coordinator_key:
        return [f"{name} has no coordinator's key: nobody can vouch for this ledger"]
    if found.owner != COORDINATOR and found.owner not in roster.index:
        return [f"{name} does not know {found.owner!r}"]
    if not keys.identity:
        return ["no entry names a key that signs this ledger"]
    if identity_of(roster, found.owner) != keys.identity:
        return [f"{name} has another identity for {found.owner} than entry {keys.keys[0][0]}: a wrong key"]
    return []


def _check_receipts(found: Verified, read: Scan) -> None:
    """A receipt states the checkpoint of the ledger as it stood; a ledger written anew would have to state another."""
    tree = found.chain.tree
    for number, again, facts in read.receipts:
        size = facts.get("size")
        right = isinstance(size, int) and (size == number or (again and size in found.shown))
        if not right or not isinstance(size, int) or facts.get("root") != tree.root(size).hex():
            found.problems.append(f"entry {number} states another checkpoint than this ledger had there")
        else:
            found.shown.add(size)


def _check_evidence(found: Verified, evidence: list[Evidence], read: Scan) -> None:
    newest: dict[str, Judged] = {}
    acknowledged: set[tuple[str, bytes]] = set()
    beyond = [each for each in evidence if found.broken and each.log.size > found.entries]
    if beyond:
        found.notes.append(
            f"{len(beyond)} cosigned checkpoints, of {beyond[0].log.size} entries and more, cannot be checked: the "
            f"ledger cannot be read from entry {found.entries} on"
        )
    for each in evidence[: len(evidence) - len(beyond)]:
        judged = judge(each, found)
        found.evidence.append(judged)
        found.problems += judged.problems
        found.notes += judged.notes
        unknown = sorted(judged.acknowledged - read.sent)
        if unknown and judged.fits and not found.broken:
            peer, sha = unknown[0]
            found.problems.append(
                f"{peer} signed, with the checkpoint of {each.log.size} entries, to have received {len(unknown)} "
                f"messages that this ledger does not have, the first of SHA-256 {sha.hex()[:16]}: transmissions were "
                "omitted"
            )
        acknowledged |= judged.acknowledged
        before = newest.setdefault(judged.roster, judged)
        if before is not judged and judged.number <= before.number:
            found.problems.append(
                f"the checkpoint of {judged.size} entries is in batch {judged.number}, one of {before.size} entries in "
                f"batch {before.number}: numbers must rise"
            )
        newest[judged.roster] = judged
        if judged.holds:
            found.cosigned = max(found.cosigned, judged.size)
    found.acknowledged, found.sent = len(acknowledged & read.sent), len(read.sent)


def _check_times(found: Verified, read: Scan) -> None:
    """Entries that the times of those who cosigned around them contradict; one is named between two checkpoints."""
    timed = [(each.size, each.time) for each in found.evidence if each.fits and each.time is not None]
    sizes = [size for size, _ in timed]
    for span in read.spans:
        place = bisect_right(sizes, span.start)
        before, after = timed[max(place - 1, 0) : place], timed[place : place + 1]
        stated, number = span.earliest
        if before and before[0][1] - _seconds(stated) > TOLERANCE:
            found.problems.append(_contradicted(number, stated, *before[0], "before"))
        stated, number = span.latest
        if after and _seconds(stated) - after[0][1] > TOLERANCE:
            found.problems.append(_contradicted(number, stated, *after[0], "after"))


def _contradicted(number: int, stated: str, size: int, witnessed: float, side: str) -> str:
    try:
        when = datetime.fromtimestamp(witnessed, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        when = f"{witnessed:.0f} seconds after 1970"
    return (
        f"entry {number} is dated {stated}, but others cosigned the checkpoint of {size} entries, which comes {side} "
        f"it, at {when}: a clock was set back, or forward"
    )


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _check_latest(found: Verified, folder: Path) -> None:
    """The newest checkpoint that the owner signed with nobody to cosign it."""
    name = f"the owner's newest checkpoint ({LATEST})"
    try:
        note = EvidenceStore(folder / FOLDER).latest()
    except LedgerError as error:
        found.problems.append(f"{name} is damaged: {error.what}")
        return
    except OSError as error:
        found.problems.append(f"{name} cannot be read: {_reason(error)}")
        return
    if note is None:
        return
    checkpoint = Checkpoint.parse(note.text)
    origin, key = origin_of(found.chain.keys.identity), found.chain.keys.at(checkpoint.size)
    if checkpoint.size > found.entries:
        if not found.broken:
            found.problems.append(
                f"{name} is of {checkpoint.size} entries, the ledger has {found.entries}: its end was cut off"
            )
    elif checkpoint.origin != origin or key is None or not is_signed_by(note, origin, key):
        found.problems.append(f"{name}, of {checkpoint.size} entries, is not signed by the key in force there")
    elif checkpoint != Checkpoint(origin, checkpoint.size, found.chain.tree.root(checkpoint.size)):
        found.problems.append(f"{name}, of {checkpoint.size} entries, is of another ledger")
    else:
        found.signed = checkpoint.size


def _check_coverage(found: Verified, complete: bool) -> None:
    """What left must be under a checkpoint that enough others cosigned, but for what comes after the last exchange."""
    if found.broken:
        return  # what comes after the bad entry is not known
    if complete and not found.opened:
        found.problems.append(f"the run is complete, and none of the {found.entries} entries here opens its study")
    opened = {name: study for name, study in found.studies.items() if study.opened >= 0}
    for name, study in opened.items():
        cosigned = max((each.size for each in found.evidence if each.holds and each.roster == study.roster), default=0)
        if study.open:
            if complete:
                found.problems.append(
                    f"study {name[:12]} is complete, and its close is missing after entry {found.entries - 1}: the "
                    "ledger's end was cut off"
                )
            elif study.last_out >= cosigned:
                found.notes.append(f"study {name[:12]} is open; from entry {cosigned} on nothing of it is cosigned yet")
        elif study.last_out < 0:
            found.notes.append(f"nothing of study {name[:12]} left, so nobody had anything to cosign")
        elif study.closed >= cosigned:
            found.problems.append(
                f"study {name[:12]} is closed, and its close (entry {study.closed}) is under no checkpoint that enough "
                f"others cosigned: {_why_not(found)}"
            )
    if found.trailing and any(not study.open and study.closing for study in found.studies.values()):
        unsigned = found.entries - max(found.signed, found.cosigned)
        whose = f"from {found.entries - unsigned} on nobody signed them" if unsigned else "their owner signed them"
        found.notes.append(
            f"the last {found.trailing} entries, from {found.cosigned} on, are not cosigned: the exchange at the end, "
            f"and what follows it; {whose}"
        )


def _why_not(found: Verified) -> str:
    if found.held_back:
        return f"its own policy kept {found.held_back} receipts and cosignatures back"
    return "the ledger may have been written anew"
