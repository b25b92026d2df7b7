"""What a party keeps of a cosigned batch: one C2SP proof a file, with all that an auditor needs beside the ledger.

``checkpoints/<size>.tlog-proof`` proves that the checkpoint of the party's own ledger of that size was in a batch that
others signed. Its ``extra`` is canonical JSON: that checkpoint as its signed note, the hashes of all parties' leaves,
and the signed messages by which the other side acknowledged what had arrived. ``checkpoints/latest.txt`` is the last
checkpoint that the owner signed with nobody to cosign it: at a study's end, and after what it notes between studies.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..atomic import canonical_json, make_private, write_atomic
from ..errors import LedgerError
from .batches import Leaves
from .checkpoints import Checkpoint
from .notes import SignedNote
from .proofs import EXTENSION, Proof

FOLDER, LATEST = "checkpoints", "latest.txt"


class _Extra(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    checkpoint: str
    leaves: str
    messages: dict[str, str]


@dataclass(frozen=True)
class Evidence:
    """A cosigned batch as one party keeps it.

    Attributes:
        proof: of the party's leaf in the batch, with the batch's note and all signatures.
        checkpoint: signed note of the party's own ledger; its text is the leaf.
        leaves: hashes of all parties' leaves, joined.
        messages: acknowledgements, as they came: at a site the ``batch`` under its own name, at the coordinator every
            site's ``receipt`` under the site's.
    """

    proof: Proof
    checkpoint: SignedNote
    leaves: bytes
    messages: Mapping[str, bytes]

    @property
    def log(self) -> Checkpoint:
        """Size and root of the party's own ledger."""
        return Checkpoint.parse(self.checkpoint.text)

    @property
    def batch(self) -> Checkpoint:
        """Origin and root of the batch."""
        return self.proof.tree

    @property
    def number(self) -> int:
        """The batch's number."""
        return int(self.batch.origin.rpartition("/")[2])

    def to_bytes(self) -> bytes:
        """The file's bytes."""
        return self.proof.to_bytes()

    @classmethod
    def make(
        cls, index: int, leaves: Leaves, batch: SignedNote, checkpoint: SignedNote, messages: Mapping[str, bytes]
    ) -> Evidence:
        """Put together what `parse` reads.

        Args:
            index: of the party's leaf. leaves: of all parties.
            batch: note of the batch with all signatures. checkpoint: of the party's own ledger.
            messages: acknowledgements.
        """
        joined = leaves.to_bytes()
        extra = {
            "checkpoint": checkpoint.to_bytes().decode(),
            "leaves": base64.b64encode(joined).decode(),
            "messages": {name: base64.b64encode(wire).decode() for name, wire in messages.items()},
        }
        proof = Proof(index, leaves.tree.path(index), batch, canonical_json(extra))
        return cls(proof, checkpoint, joined, dict(messages))

    @classmethod
    def parse(cls, data: bytes, *, where: str) -> Evidence:
        """Read a proof file; whether it is true, `verifying` says.

        Raises:
            LedgerError: it is no such file.
        """
        try:
            proof = Proof.parse(data)
            extra = msgspec.json.decode(proof.extra, type=_Extra)
            found = cls(
                proof,
                SignedNote.parse(extra.checkpoint.encode()),
                base64.b64decode(extra.leaves, validate=True),
                {name: base64.b64decode(wire, validate=True) for name, wire in extra.messages.items()},
            )
            _ = (found.log, found.number)
        except LedgerError as error:
            raise LedgerError(f"the proof cannot be read: {error.what}", where=where, remedy=error.remedy) from None
        except (msgspec.MsgspecError, ValueError, binascii.Error):
            raise LedgerError("the proof is not of a ledger's checkpoint", where=where) from None
        return found


class EvidenceStore:
    """A party's ``checkpoints/`` folder.

    Args:
        folder: made, mode 0700, when the first file is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, evidence: Evidence) -> Path:
        """Keep a cosigned batch, synced."""
        make_private(self.folder)
        path = self.folder / f"{evidence.log.size:012d}{EXTENSION}"
        write_atomic(path, evidence.to_bytes())
        return path

    def save_latest(self, checkpoint: SignedNote) -> None:
        """Keep the newest checkpoint, synced."""
        make_private(self.folder)
        write_atomic(self.folder / LATEST, checkpoint.to_bytes())

    def paths(self) -> list[Path]:
        """Proof files in order of size."""
        return sorted(self.folder.glob(f"*{EXTENSION}"))

    def latest(self) -> SignedNote | None:
        """The newest checkpoint that the owner signed; None without one.

        Raises:
            LedgerError: it is damaged.
        """
        path = self.folder / LATEST
        if not path.is_file():
            return None
        try:
            note = SignedNote.parse(path.read_bytes())
            Checkpoint.parse(note.text)
        except LedgerError as error:
            raise LedgerError(error.what, where=str(path), remedy=error.remedy) from None
        return note
