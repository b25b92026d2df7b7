"""What the auditor's page is made from: ledgers as they lie on disk, what proves them, and what verification found.

Everything is given, nothing is judged here: whoever makes an :class:`AuditPage` has verified the ledgers offline, and
the page lets its reader do it again. Lines of a ledger are kept byte for byte, so that their hashes can be checked.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from .errors import InvalidReportError

SCHEMA = 1
MOST_ENTRIES = 20_000
"""Entries of all parties together that a page holds at most; above it the caller leaves all of them out."""

PartyRole = Literal["site", "coordinator"]
KeyUse = Literal["identity", "ledger"]
_HEX64 = re.compile("[0-9a-f]{64}")
_KEY_NAME = re.compile(r"[^\s+\x00-\x1f]+")


@dataclass(frozen=True, slots=True)
class Count:
    """How many entries are alike, and the bytes on the wire of all of them.

    Attributes:
        kind, message_type, direction, outcome, round: as in the ledger's entries; round -1 outside rounds.
        entries: how many. wire_bytes: together; 0 for what was refused.
    """

    kind: str
    message_type: str
    direction: str
    outcome: str
    round: int
    entries: int
    wire_bytes: int


@dataclass(frozen=True, slots=True)
class Cosigner:
    """A cosignature that offline verification found good: the signer's key name, and its time in seconds since 1970."""

    name: str
    time: int


@dataclass(frozen=True, slots=True)
class AuditCheckpoint:
    """A signed size and root of one ledger.

    Attributes:
        size: entries that it covers. note: the signed note (C2SP tlog-checkpoint), exactly.
        proof: that this note is a leaf of a batch that others signed (C2SP tlog-proof), exactly; None where no other
            party has signed yet.
        cosigners: of that batch, without its own signer.
    """

    size: int
    note: str
    proof: str | None = None
    cosigners: tuple[Cosigner, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0:
            raise InvalidReportError(f"a checkpoint of {self.size} entries")
        if self.cosigners and self.proof is None:
            raise InvalidReportError("a checkpoint has cosigners and no proof", remedy="Give the proof file's text")


@dataclass(frozen=True, slots=True)
class Verification:
    """What offline verification found.

    Attributes:
        ok: whether everything fits. problem: the first thing that does not; empty when ok. notes: what a reader should
            know beside.
        cosigned_entries: entries from the start that the newest cosigned checkpoint covers.
        trailing_entries: entries after those.
    """

    ok: bool
    problem: str = ""
    notes: tuple[str, ...] = ()
    cosigned_entries: int = 0
    trailing_entries: int = 0

    def __post_init__(self) -> None:
        if self.ok != (not self.problem):
            raise InvalidReportError("a verification is good with a problem, or bad without one")


@dataclass(frozen=True, slots=True)
class PolicyText:
    """An egress policy file: its text, and the SHA-256 of its bytes, hexadecimal, as entries name it."""

    text: str
    sha256: str

    def __post_init__(self) -> None:
        _hash("policy", self.sha256)


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """Epsilon that a study has spent at one site, of what limit, at which delta."""

    study: str
    epsilon: float
    limit: float
    delta: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (self.epsilon, self.limit, self.delta)):
            raise InvalidReportError("a figure of a privacy budget is not finite", where=self.study)


@dataclass(frozen=True, slots=True)
class Party:
    """One ledger and what belongs to it.

    Attributes:
        owner: as entries name it. role: ``site`` or ``coordinator``.
        words: fingerprint of the identity, in words. public_key: the identity's raw Ed25519 key, hexadecimal.
        verification: what was found offline.
        entries: the ledger's lines without newlines, in order, exactly as in the file. Bytes that are no UTF-8 are to
            be decoded with ``errors="replace"``: the page then finds the line changed, as it was.
        left_out: entries that the page does not hold; ``entries`` is empty then. counts: of those, by `counts_of`.
        checkpoints: in order of size. policy: in force at the end, or None. budget: a row a study, or none.
    """

    owner: str
    role: PartyRole
    words: str
    public_key: str
    verification: Verification
    entries: tuple[str, ...] = ()
    left_out: int = 0
    counts: tuple[Count, ...] = ()
    checkpoints: tuple[AuditCheckpoint, ...] = ()
    policy: PolicyText | None = None
    budget: tuple[BudgetRow, ...] = ()

    def __post_init__(self) -> None:
        _hash(f"public key of {self.owner}", self.public_key)
        if self.left_out < 0 or (self.left_out and self.entries):
            raise InvalidReportError("entries are either given or left out, all of them", where=self.owner)
        if self.counts and not self.left_out:
            raise InvalidReportError(
                "counts are given beside the entries", where=self.owner, remedy="Give them only for entries left out"
            )
        if any("\n" in line for line in self.entries):
            raise InvalidReportError("an entry has a newline in it", where=self.owner)
        sizes = [checkpoint.size for checkpoint in self.checkpoints]
        if sizes != sorted(sizes):
            raise InvalidReportError("checkpoints are not in order of size", where=self.owner)

    @property
    def length(self) -> int:
        """Entries of the ledger, here or left out."""
        return len(self.entries) + self.left_out


@dataclass(frozen=True, slots=True)
class AuditKey:
    """A key that signatures are checked against.

    Attributes:
        name: under which it signs notes; no spaces, no plus. owner: the party, also one without a ledger here; the
            coordinator without one is called ``coordinator``.
        use: ``identity`` signs batches and cosignatures, ``ledger`` the owner's checkpoints. Entries announce ledger
            keys, so only those of ledgers that are left out need to be given, under the ledger's origin as name.
        public_key: raw Ed25519 key, hexadecimal. words: its fingerprint; empty where nobody will compare it.
    """

    name: str
    owner: str
    use: KeyUse
    public_key: str
    words: str = ""

    def __post_init__(self) -> None:
        _hash(f"public key {self.name}", self.public_key)
        if not _KEY_NAME.fullmatch(self.name):
            raise InvalidReportError("the name of a key is empty or has a space or a plus", where=self.name)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Messages of one type between two ledgers: what one says it sent, and what the other says it received.

    Attributes:
        sent, sent_bytes: by the sender's ledger. received, received_bytes: by the receiver's.
        lost: sent, and not received with the same bytes. unsent: received, and not sent by the sender's ledger.
    """

    sender: str
    receiver: str
    message_type: str
    sent: int
    sent_bytes: int
    received: int
    received_bytes: int
    lost: int = 0
    unsent: int = 0


@dataclass(frozen=True, slots=True)
class AuditPage:
    """The whole page.

    Attributes:
        study: its name. study_sha256: as entries name it. method: its name.
        synthetic: True for phantoms; the page then says so on top. complete: whether the study was closed; every
            ledger must then have its ``close``.
        parties: in the order they are shown. reconciliation, keys: see there; each may be empty.
        marks: sentences that must be read before anything else. schema: version of this layout.
    """

    study: str
    study_sha256: str
    method: str
    synthetic: bool
    complete: bool
    parties: tuple[Party, ...]
    reconciliation: tuple[Reconciliation, ...] = ()
    keys: tuple[AuditKey, ...] = ()
    marks: tuple[str, ...] = ()
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise InvalidReportError(f"layout version {self.schema}; this version reads {SCHEMA}")
        _hash("study", self.study_sha256)
        if not self.parties:
            raise InvalidReportError("no ledger to show")
        owners = [party.owner for party in self.parties]
        if len(set(owners)) < len(owners):
            raise InvalidReportError("two parties have one name", remedy="Give each ledger once")
        identities = {party.owner: party.public_key for party in self.parties}
        for key in self.keys:
            if key.use == "identity" and identities.get(key.owner, key.public_key) != key.public_key:
                raise InvalidReportError("an identity key is not the one of its owner's ledger", where=key.name)


def counts_of(lines: Iterable[str], study_sha256: str) -> tuple[Count, ...]:
    """How often each sort of entry stands in a ledger, for one study and for what belongs to none.

    Args:
        lines: a ledger's lines; one that is no entry is passed over, since verification names it.
        study_sha256: entries of other studies are not counted.
    """
    found: dict[tuple[str, str, str, str, int], list[int]] = {}
    for line in lines:
        try:
            entry = json.loads(line)
            if entry["study"] not in ("", study_sha256):
                continue
            texts = (entry["kind"], entry["message_type"], entry["direction"], entry["outcome"])
            numbers = (entry["round"], entry["wire_bytes"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        if all(isinstance(text, str) for text in texts) and all(type(number) is int for number in numbers):
            total = found.setdefault((*texts, numbers[0]), [0, 0])
            total[0] += 1
            total[1] += numbers[1]
    return tuple(Count(*key, *found[key]) for key in sorted(found))


def audit_page_to_json(page: AuditPage) -> bytes:
    """UTF-8 JSON, indented; the same value gives the same bytes, and `audit_page_from_json` gives the value back."""
    return msgspec.json.format(msgspec.json.encode(page), indent=1) + b"\n"


def audit_page_from_json(data: bytes) -> AuditPage:
    """Read back what `audit_page_to_json` wrote.

    Raises:
        InvalidReportError: for anything else, also for a field too many or another layout of the same values.
    """
    try:
        page = msgspec.json.decode(data, type=AuditPage)
    except msgspec.MsgspecError as error:
        raise InvalidReportError(
            f"this is not the JSON of an auditor's page: {error}", remedy="Make the page again from the ledgers"
        ) from error
    if audit_page_to_json(page) != data:
        raise InvalidReportError(
            "this JSON of an auditor's page was changed by hand", remedy="Make the page again from the ledgers"
        )
    return page


def policy_of(data: bytes) -> PolicyText:
    """The text and hash of a policy file's bytes."""
    return PolicyText(data.decode("utf-8", errors="replace"), hashlib.sha256(data).hexdigest())


def _hash(what: str, value: str) -> None:
    if not _HEX64.fullmatch(value):
        raise InvalidReportError(f"{what} is not 64 hexadecimal digits", where=value[:80])
