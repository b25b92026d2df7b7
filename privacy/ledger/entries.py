"""Entries of the transmission ledger: one a message, at both ends."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .canonical import canonical

VERSION = 2
GENESIS = "0" * 64
Outcome = Literal["sent", "retried", "refused", "received", "failed", "noted"]
Kind = Literal["open", "close", "message", "budget", "key", "sign", "forget", "purge", "note", "enrol"]
FACTS: dict[Kind, frozenset[str]] = {
    "open": frozenset({"roster", "identity", "coordinator", "split"}),
    "message": frozenset({"size", "root", "time", "coordinator_size", "coordinator_root", "signatures"}),
    "key": frozenset({"public_key", "identity", "signature", "previous_signature"}),
    "sign": frozenset({"report", "name", "role", "decision", "remarks"}),
    "forget": frozenset({"records", "files"}),
    "purge": frozenset({"files", "bytes"}),
    "enrol": frozenset({"study", "document", "samples", "roster"}),
}
"""What an entry of a kind may state in ``facts``: hexadecimal hashes, keys and signatures, and numbers.

``open``: SHA-256 of the roster and, at a site, of its split; fingerprints of the owner's and the coordinator's
identities. ``message``: of a
receipt, size and root of the checkpoint in it; of a cosignature, root and time of the batch, and the coordinator's
checkpoint that was found in it; of what was cosigned, the root and how many signatures it has. ``key``: the ledger key
that signs checkpoints from here on, the owner's identity, and who vouches for it. ``forget``, ``purge``: how much was
removed. ``enrol``: the study, the SHA-256 of the file that the site gave to a person to be carried to the coordinator,
the roster that it is about, and the number of training images or units that it states. ``sign`` alone has words of a
person (a name, a decision), who wrote them to be read by auditors.
"""


NUMBERS = frozenset({"size", "time", "coordinator_size", "signatures", "records", "files", "bytes", "samples"})
"""Facts that are numbers; the others are strings."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one entry says, beside its place in the chain. Never a patient identifier, a path or an exception text.

    Attributes:
        kind: ``open`` and ``close`` of a study, ``message``, ``budget`` (a new version of the site's privacy budget
            was written), ``key`` (a ledger key takes over), ``sign`` (a report was signed), ``forget`` and ``purge``
            (data were removed), ``enrol`` (a step before a study is begun), or ``note`` (what the ledger says about
            itself).
        study: the study's SHA-256, hexadecimal; empty in what is about no study, and before it is begun.
        round, stage, message_type: of a message; -1 and empty where there is none. The stage of a budget entry is
            ``charge`` or ``seal``.
        number: of the batch of checkpoints that a message is about; -1 where it is about none.
        direction: ``out``, ``in``, or ``none``.
        peer, peer_key: the other side's name and the SHA-256 of its identity key, hexadecimal or empty.
        message_id: names the message; a retry has the same.
        schema: name, dtype, shape and bytes of each field.
        wire_bytes, wire_sha256: of the exact bytes given to or taken from the transport; 0 and empty when refused.
        commitment: HMAC-SHA256, under a key that only its site has, of the SHA-256 of the vector behind a masked one;
            hexadecimal, empty where nothing is masked.
        masking: scheme, threshold and key set of a masked vector, else None.
        clip: clip of each block of a masked vector, else None.
        dp: differential privacy of the content; None without. Of a budget entry: ``sequence`` and ``sha256`` of the
            budget file, and what the study has spent.
        purpose, legal_basis, policy_sha256, retention_days: from the policy in force; 0 days where none is.
        software, model: version of this software; fingerprint of the frozen model.
        outcome: what became of the message.
        rule: the policy rule that refused it, what a note or a step of enrolment is about, or the release that was
            charged; else empty.
        facts: what entries of other kinds than ``message`` state; see `FACTS`.
    """

    kind: Kind
    study: str
    outcome: Outcome
    round: int = -1
    stage: str = ""
    number: int = -1
    direction: Literal["out", "in", "none"] = "none"
    peer: str = ""
    peer_key: str = ""
    message_id: str = ""
    message_type: str = ""
    codec: str = ""
    schema: list[dict[str, Any]] = msgspec.field(default_factory=list)
    wire_bytes: int = 0
    wire_sha256: str = ""
    commitment: str = ""
    masking: dict[str, Any] | None = None
    clip: dict[str, float] | None = None
    dp: dict[str, Any] | None = None
    purpose: str = ""
    legal_basis: str = ""
    policy_sha256: str = ""
    retention_days: int = 0
    software: str = ""
    model: str = ""
    rule: str = ""
    facts: dict[str, str | int] | None = None


class Entry(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record in its place: version, sequence from 0, hash of the entry before, UTC time, owner of the ledger.

    ``salt`` is 16 random bytes, hexadecimal: a proof shows hashes of single entries, and nobody shall find by trying
    what an entry says.
    """

    version: int
    sequence: int
    previous: str
    time: str
    owner: str
    salt: str

    def line(self) -> bytes:
        """The canonical bytes of this entry, without the newline."""
        return canonical(self, plain=self.clip is None and self.dp is None)
