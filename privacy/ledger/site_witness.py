"""A site in the cosigning of ledgers: it shows its own checkpoint, and signs one root over everybody's."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ..errors import LedgerError, ProtocolError, Refusal
from ..identity import Identity, SigningContext, verifies
from ..merkle import consistent, root_from_path
from ..messages import MAX_RECEIVED, Batch, Cosignature, Cosigned, Receipt, encode
from ..secure_aggregation.roster import PinnedRoster
from . import batches as b
from .chain import CLOSING, Study
from .checkpoints import (
    Checkpoint,
    add_cosignature,
    cosignature_message,
    is_signed_by,
    signed,
)
from .evidence import Evidence, EvidenceStore
from .key_entries import origin_of
from .keys import LedgerKey, sign_latest
from .log import Ledger
from .notes import ED25519, NoteSignature, SignedNote, key_id

STAGE = "witness"
_UNSIGNED = bytes(64)


class SiteWitness:
    """One site's side, in one study. What it must not forget is in its ledger's entries, so a restart loses nothing.

    Args:
        site: its name.
        identity: cosigns batches.
        key: signs its own checkpoints.
        ledger: its own, open.
        roster: pinned; with a coordinator's key.
        store: where evidence is kept.
        clock: seconds since 1970.

    Attributes:
        facts: what the entry of the last cosignature must state, so that a restart knows it.
    """

    def __init__(
        self,
        site: str,
        identity: Identity,
        key: LedgerKey,
        ledger: Ledger,
        roster: PinnedRoster,
        store: EvidenceStore,
        clock: Callable[[], float],
    ) -> None:
        self._site, self._identity, self._key, self._ledger = site, identity, key, ledger
        self._roster, self._store, self._clock = roster, store, clock
        self._context = SigningContext(roster.roster.study, roster.roster.digest)
        self._pending: Batch | None = None
        self.facts: dict[str, str | int] = {}

    def receipt(self, number: int, *, closing: bool) -> Receipt:
        """The ledger as it stands, signed; the next entry must be of this message.

        After the study's close there is one receipt: asked again, the same bytes.

        Args:
            number: the round that ended. closing: whether the study did.

        Raises:
            ProtocolError: the study is over, and was cosigned; or it is over and the receipt would be of a round.
            LedgerError: the disk refuses.
        """
        chain, study = self._ledger.chain, self._study
        if self.over and (not closing or "cosignature" in study.closing):
            raise _refused("a receipt of a study that is over", Refusal.OUT_OF_ORDER)
        size = self._own_checkpoint()[0] if self._was_given(number, closing) else chain.sequence
        root, since = chain.tree.root(size), _number(study, "size")
        note = self._note(size, root)
        if closing:
            self._ledger.sync()  # else a power cut could leave a signed checkpoint of more entries than there are
            self._store.save_latest(note)
        unsigned = Receipt(
            study=self._context.study,
            round=number,
            closing=closing,
            site=self._site,
            size=size,
            root=root,
            log_signature=note.signatures[0].signature,
            log_key=self._key.public_key,
            since=since,
            consistency=chain.tree.consistency(since, size),
            known=_number(study, "coordinator_size"),
            received=study.unacknowledged(b.COORDINATOR, size, MAX_RECEIVED),
            signature=_UNSIGNED,
        )
        return _signed_receipt(unsigned, self._identity, self._context)

    def _was_given(self, number: int, closing: bool) -> bool:
        """Whether the receipt that is asked for left before and waits for its batch: it is given again.

        Raises:
            ProtocolError: one of a later round, or of another end of the study, has left.
        """
        last, cosignature = self._study.receipt, self._study.cosignature
        if last is None or last.sequence < self._study.opened:
            return False
        if (last.stage == CLOSING) != closing:
            return False  # the study ended after its last round
        if number < last.round or (closing and number != last.round):
            raise _refused("a receipt of an earlier round, or of another end", Refusal.CHANGED_REQUEST)
        return number == last.round and (cosignature is None or cosignature.sequence < last.sequence)

    def close_study(self) -> None:
        """Write the study's ``close``, where it is open: the checkpoint of the closing receipt covers it.

        Raises:
            LedgerError: the ledger cannot be written.
        """
        if self._study.open:
            self._ledger.close_study(self._context.study.hex())

    @property
    def over(self) -> bool:
        """Whether the study is closed in the ledger: nothing of it leaves any more but the closing exchange."""
        return not self._study.open

    @property
    def may_refuse(self) -> bool:
        """Whether a refusal can still leave: after the study's close only one."""
        return self._study.open or "refusal" not in self._study.closing

    def cosign(self, batch: Batch) -> Cosignature:
        """Check a batch and sign it; asked again for the same, the same answer. `facts` is what its entry must state.

        Raises:
            ProtocolError: it is not what this site's ledger is in, or another than was cosigned under this number.
        """
        text, own = self._check(batch), self._own_checkpoint()
        self._check_occasion(batch)
        before = self._study.cosignature
        time = int(self._clock())
        if before is not None and before.facts is not None and batch.number == before.number:
            asked = (batch.root.hex(), batch.round, batch.closing)
            if asked != (before.facts.get("root"), before.round, before.stage == CLOSING):
                raise _refused("another batch under a number that was cosigned", Refusal.CHANGED_REQUEST)
            time = int(before.facts["time"])
        elif self.over and (not batch.closing or "cosignature" in self._study.closing):
            raise _refused("a batch of a study that is over", Refusal.OUT_OF_ORDER)
        signature = self._identity.sign_note(cosignature_message(time, text))
        answer = Cosignature(
            study=batch.study,
            round=batch.round,
            closing=batch.closing,
            number=batch.number,
            root=batch.root,
            site=self._site,
            time=time,
            signature=signature,
        )
        self.facts = {
            "root": batch.root.hex(),
            "time": time,
            "size": own[0],
            "coordinator_size": batch.number,
            "coordinator_root": batch.log.root.hex(),
        }
        self._pending = batch
        return answer

    def keep(self, message: Cosigned) -> bool:
        """Check who cosigned, and keep it as evidence.

        Returns:
            Whether there was something to keep: after a restart the batch is not known any more, and the next one
            covers what this one did.

        Raises:
            ProtocolError: it is about another root, or a signature in it is wrong.
        """
        batch = self._pending
        if batch is None or batch.number != message.number:
            return False
        roster = self._roster.roster
        if (message.root, message.round, message.closing) != (batch.root, batch.round, batch.closing):
            raise _refused("signatures of another batch", Refusal.CHANGED_REQUEST)
        size, root = self._own_checkpoint()
        place = b.index_of(roster, self._site)
        if len(message.leaves) != 32 * (len(roster.sites) + 1):
            raise _refused("not one leaf for each party", Refusal.WRONG_LENGTH)
        leaves = b.Leaves.joined(message.leaves)
        if leaves.tree.root != batch.root or leaves.hashes[place] != b.ledger_leaf(self._key_of(), size, root):
            raise _refused("leaves of another batch", Refusal.CHANGED_REQUEST)
        note = self._batch_note(batch)
        for each in message.cosignatures:
            if each.site not in roster.index:
                raise _refused("a cosignature of a site that is not in the roster", Refusal.UNKNOWN_SITE)
            note = _add(note, each.site, b.identity_of(roster, each.site), each.time, each.signature)
        self._store.save(Evidence.make(place, leaves, note, self._note(size, root), {b.COORDINATOR: encode(batch)}))
        self._pending = None
        if message.closing:
            sign_latest(self._ledger, self._key, self._store)  # what the exchange itself wrote, nobody else signs
        return True

    # --- checks ----------------------------------------------------------------------------------------------------

    @property
    def _study(self) -> Study:
        return self._ledger.chain.studies[self._context.study.hex()]

    def _key_of(self) -> bytes:
        return self._identity.public_key

    def _note(self, size: int, root: bytes) -> SignedNote:
        checkpoint = Checkpoint(self._key.origin, size, root)
        return signed(checkpoint, self._key.origin, self._key.sign, self._key.public_key)

    def _own_checkpoint(self) -> tuple[int, bytes]:
        """Size and root in the receipt that left last."""
        receipt = self._study.receipt
        if receipt is None:
            raise _refused("no receipt was sent", Refusal.OUT_OF_ORDER)
        facts = receipt.facts or {}
        return int(facts["size"]), bytes.fromhex(str(facts["root"]))

    def _check_occasion(self, batch: Batch) -> None:
        """A batch is about the round, or the end, that the last receipt was about."""
        last = self._study.receipt
        if last is None or (batch.round, batch.closing) != (last.round, last.stage == CLOSING):
            raise _refused("a batch of another round than this site's receipt", Refusal.CHANGED_REQUEST)

    def _batch_note(self, batch: Batch) -> SignedNote:
        roster = self._roster.roster
        checkpoint = b.batch_checkpoint(roster, batch.number, batch.root)
        identifier = key_id(b.COORDINATOR_KEY, ED25519, b.identity_of(roster, b.COORDINATOR))
        return SignedNote(checkpoint.text(), (NoteSignature(b.COORDINATOR_KEY, identifier, batch.signature),))

    def _check(self, batch: Batch) -> str:
        """The text of a batch's note, if all of it holds."""
        roster = self._roster.roster
        coordinator = b.identity_of(roster, b.COORDINATOR)
        public = Ed25519PublicKey.from_public_bytes(coordinator)
        parts = b.batch_parts(batch, self._site)
        if not verifies(public, batch.statement, b.LABEL_BATCH, self._context, b.COORDINATOR, *parts):
            raise _refused("a batch that the coordinator did not sign for this site", Refusal.BAD_SIGNATURE)
        note = self._batch_note(batch)
        if not is_signed_by(note, b.COORDINATOR_KEY, coordinator):
            raise _refused("a root that the coordinator did not sign", Refusal.BAD_SIGNATURE)
        size, root = self._own_checkpoint()
        parties = len(roster.sites) + 1
        own = b.ledger_leaf(self._key_of(), size, root)
        if root_from_path(own, b.index_of(roster, self._site), parties, batch.path) != batch.root:
            raise _refused("this site's checkpoint is not in the batch", Refusal.SELF_MISSING)
        self._check_coordinator(batch, coordinator, parties)
        return note.text

    def _check_coordinator(self, batch: Batch, coordinator: bytes, parties: int) -> None:
        """The coordinator's own ledger is in the batch too, and only grew since this site cosigned it last."""
        log = Checkpoint(origin_of(coordinator), batch.number, batch.log.root)
        identifier = key_id(log.origin, ED25519, batch.log.key)
        note = SignedNote(log.text(), (NoteSignature(log.origin, identifier, batch.log.signature),))
        if not is_signed_by(note, log.origin, batch.log.key):
            raise _refused("a checkpoint that the coordinator's ledger key did not sign", Refusal.BAD_SIGNATURE)
        leaf = b.ledger_leaf(coordinator, batch.number, batch.log.root)
        if root_from_path(leaf, 0, parties, batch.log_path) != batch.root:
            raise _refused("the coordinator's checkpoint is not in the batch", Refusal.SELF_MISSING)
        study = self._study
        known, root = _number(study, "coordinator_size"), ""
        if study.cosignature is not None and study.cosignature.facts is not None:
            root = str(study.cosignature.facts["coordinator_root"])
        if batch.number < known or (batch.since != known and batch.number != known):
            raise _refused("the coordinator's ledger is shorter, or compared to another than was cosigned", _ORDER)
        if batch.number == known and known:
            if batch.log.root.hex() != root:
                raise _refused("the coordinator's ledger is another one", Refusal.CHANGED_REQUEST)
        elif known and not consistent(known, bytes.fromhex(root), batch.number, batch.log.root, batch.consistency):
            raise _refused("the coordinator's ledger was rewritten", Refusal.CHANGED_REQUEST)


_ORDER = Refusal.OUT_OF_ORDER


def _number(study: Study, name: str) -> int:
    """A number in the facts of the last cosignature; 0 before the first."""
    return int((study.cosignature.facts or {}).get(name, 0)) if study.cosignature is not None else 0


def _signed_receipt(unsigned: Receipt, identity: Identity, context: SigningContext) -> Receipt:
    values = {name: getattr(unsigned, name) for name in unsigned.__struct_fields__}
    values["signature"] = identity.sign(b.LABEL_RECEIPT, context, unsigned.site, *b.receipt_parts(unsigned))
    return Receipt(**values)


def _add(note: SignedNote, site: str, key: bytes, time: int, signature: bytes) -> SignedNote:
    try:
        return add_cosignature(note, b.site_key_name(site), key, time, signature)
    except LedgerError:
        raise _refused("a cosignature that does not verify", Refusal.BAD_SIGNATURE, site) from None


def _refused(what: str, code: Refusal, site: str | None = None) -> ProtocolError:
    return ProtocolError(what, code=code, stage=STAGE, site=site)
