"""Offline proofs that an entry is in a log: its place, its path to the root, and the checkpoint with its signatures.

Kept in files that end in ``.tlog-proof``. Two questions are separate: `proves` says whether the entry is under the
checkpoint's root; whose checkpoint that is, `checkpoints.is_signed_by` and `checkpoints.cosigned_at` say. Nothing
vouches for `Proof.extra`: its reader must check what is in it.

Source: https://c2sp.org/tlog-proof.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import LedgerError
from ..merkle import HASH_BYTES, leaf_hash, root_from_path
from .checkpoints import MAXIMUM_NUMBER, Checkpoint, parse_number
from .notes import SignedNote, from_base64, to_base64

EXTENSION = ".tlog-proof"

_HEADER = "c2sp.org/tlog-proof@v1"
_MAXIMUM_STEPS = 63  # levels of a tree of 2^63 - 1 leaves
_REMEDY = "Get the file again from whoever holds it; a changed one proves nothing."


@dataclass(frozen=True, slots=True)
class Proof:
    """What a proof file holds. Having one says nothing about whether it proves anything.

    Attributes:
        index: place of the entry, from 0.
        path: of RFC 9162, from the leaf's sibling up, 32 bytes a step, joined.
        checkpoint: signed note whose text is a checkpoint.
        extra: anything else that a reader may need; not covered by any signature.

    Raises:
        LedgerError: for values that have no such form.
    """

    index: int
    path: bytes
    checkpoint: SignedNote
    extra: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.index <= MAXIMUM_NUMBER:
            raise LedgerError("the index of a proof is out of range", remedy=_REMEDY)
        if len(self.path) % HASH_BYTES or len(self.path) > _MAXIMUM_STEPS * HASH_BYTES:
            raise LedgerError(f"a proof with a path of {len(self.path)} bytes", remedy=_REMEDY)
        Checkpoint.parse(self.checkpoint.text)

    @property
    def tree(self) -> Checkpoint:
        """Origin, size and root of the log that the proof is about."""
        return Checkpoint.parse(self.checkpoint.text)

    def to_bytes(self) -> bytes:
        """The file's bytes; `parse` gives the same proof back."""
        steps = [self.path[i : i + HASH_BYTES] for i in range(0, len(self.path), HASH_BYTES)]
        extra = [f"extra {to_base64(self.extra)}"] if self.extra else []
        lines = [_HEADER, *extra, f"index {self.index}", *map(to_base64, steps), ""]
        return "".join(f"{line}\n" for line in lines).encode() + self.checkpoint.to_bytes()

    @classmethod
    def parse(cls, data: bytes) -> Proof:
        """Read a proof file's bytes; `to_bytes` gives the same bytes back.

        Raises:
            LedgerError: for anything that is not exactly a proof. The message names the place, not what stood there.
        """
        head, _, note = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise LedgerError("a proof's head is not ASCII", where=f"byte {error.start}", remedy=_REMEDY) from None
        if lines[0] != _HEADER:
            raise LedgerError("this is no proof that is read here", where="line 1", remedy=_REMEDY)
        at, extra = 1, b""
        if lines[at:] and lines[at].startswith("extra "):
            extra = from_base64(lines[at].removeprefix("extra ")) or b""
            if not extra:
                raise LedgerError("the extra data of a proof is empty or no base64", where="line 2", remedy=_REMEDY)
            at += 1
        index = parse_number(lines[at].removeprefix("index ")) if lines[at:] else None
        if index is None or not lines[at].startswith("index "):
            raise LedgerError("the index of a proof is missing or no decimal", where=f"line {at + 1}", remedy=_REMEDY)
        steps = []
        for number, line in enumerate(lines[at + 1 :], start=at + 2):
            step = from_base64(line)
            if step is None or len(step) != HASH_BYTES:
                raise LedgerError("a step of a proof is no hash in base64", where=f"line {number}", remedy=_REMEDY)
            steps.append(step)
        return cls(index, b"".join(steps), SignedNote.parse(note), extra)


def proves(proof: Proof, entry: bytes) -> bool:
    """Whether the entry stands at the proof's index in the tree of its checkpoint; no signature is looked at.

    Args:
        proof: from anyone.
        entry: the exact bytes, from which the leaf hash SHA-256(0x00 || entry) is made.
    """
    tree = proof.tree
    return root_from_path(leaf_hash(entry), proof.index, tree.size, proof.path) == tree.root
