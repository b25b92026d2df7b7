"""The coordinator in the cosigning of ledgers: it collects checkpoints, has one root over all of them signed, hands out
the signatures. It does nothing that a site could not check; a site that is away is an absent leaf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ..atomic import canonical_json, write_atomic
from ..errors import LedgerError, ProtocolError, Refusal
from ..identity import Identity, SigningContext, verifies
from ..merkle import consistent
from ..messages import MAX_RECEIVED, Batch, Cosignature, Cosigned, LogHead, Receipt, SiteCosignature, encode
from ..secure_aggregation.roster import PinnedRoster
from . import batches as b
from .checkpoints import Checkpoint, add_cosignature, signed
from .evidence import Evidence, EvidenceStore
from .key_entries import origin_of
from .keys import LedgerKey, sign_latest
from .log import Ledger
from .notes import SignedNote

STAGE = "witness"
STATE_FILE = "witness.json"
PATIENT_FOR = 3
MOST_SHOWN = 16
"""Checkpoints of a site that are remembered although it cosigned no batch with them."""


class _Seen(msgspec.Struct, forbid_unknown_fields=True):
    """One site's ledger as it was shown: size and root that the site cosigned, and every one that was shown since."""

    cosigned: int = 0
    shown: dict[str, str] = {}


@dataclass
class _Round:
    """An exchange under way."""

    round: int
    closing: bool
    receipts: dict[str, Receipt] = field(default_factory=dict)
    leaves: b.Leaves | None = None
    note: SignedNote | None = None
    log: SignedNote | None = None
    number: int = 0
    root: bytes = b""
    cosignatures: dict[str, Cosignature] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)

    def round_of(self, site: str) -> int:
        """The round that a site's messages of this exchange name."""
        return self.receipts[site].round if self.closing and site in self.receipts else self.round


class CoordinatorWitness:
    """The coordinator's side, in one study.

    Args:
        identity: signs batches.
        key: signs checkpoints of its own ledger.
        ledger: its own, open.
        roster: pinned; its coordinator's key is this identity's.
        folder: of ``witness.json``, where it keeps what each site showed.
        store: where evidence is kept.

    Raises:
        LedgerError: what it kept is damaged.
    """

    def __init__(
        self,
        identity: Identity,
        key: LedgerKey,
        ledger: Ledger,
        roster: PinnedRoster,
        folder: Path,
        store: EvidenceStore,
    ) -> None:
        self._identity, self._key, self._ledger, self._roster, self._store = identity, key, ledger, roster, store
        self._path = folder / STATE_FILE
        self._context = SigningContext(roster.roster.study, roster.roster.digest)
        self._seen = self._load()
        self._now: _Round | None = None

    # --- the exchange ----------------------------------------------------------------------------------------------

    def begin(self, number: int, *, closing: bool) -> None:
        """Wait for receipts after a round, or after the study; what was under way before is given up."""
        self._now = _Round(number, closing)

    @property
    def closing(self) -> bool:
        """Whether the exchange under way is the one at the end of the study."""
        return self._now is not None and self._now.closing

    @property
    def collecting(self) -> bool:
        """Whether receipts are awaited, and no batch was made yet."""
        return self._now is not None and self._now.leaves is None

    @property
    def receipts(self) -> int:
        """How many sites have shown their checkpoint."""
        return len(self._now.receipts) if self._now is not None else 0

    def silent(self) -> tuple[str, ...]:
        """Sites that showed several checkpoints and have cosigned nothing with them.

        Whether such a ledger only grew meanwhile is not known here; what others keep of the batches shows it.
        """
        return tuple(
            site
            for site, seen in self._seen.items()
            if sum(int(size) > seen.cosigned for size in seen.shown) >= PATIENT_FOR
        )

    def waiting(self) -> frozenset[str]:
        """Sites that are still to answer; none where nothing is under way."""
        now = self._now
        if now is None:
            return frozenset()
        asked = self._roster.roster.names if now.leaves is None else tuple(now.receipts)
        heard = now.receipts if now.leaves is None else now.cosignatures
        return frozenset(asked) - heard.keys() - now.given_up

    def give_up(self, site: str) -> None:
        """Go on without a site that is silent, or refuses."""
        if self._now is not None:
            self._now.given_up.add(site)

    def abandon(self) -> None:
        """End the exchange as it is; the next one covers it."""
        self._now = None

    def take(self, sender: str, message: Receipt | Cosignature) -> None:
        """Take one site's answer; a repetition changes nothing.

        Raises:
            ProtocolError: it is wrong, or nobody waits for it; the site is given up by the caller.
        """
        now = self._now
        if now is None or message.closing != now.closing or message.site != sender:
            raise _refused("an answer that nobody waits for", Refusal.OUT_OF_ORDER, sender)
        # At the end of a study each site names the last round that it knows: an aborted one ends at different places.
        free = now.closing and isinstance(message, Receipt)
        if not free and message.round != now.round_of(sender):
            raise _refused("an answer about another round", Refusal.OUT_OF_ORDER, sender)
        if sender not in self.waiting():
            return
        if isinstance(message, Receipt):
            if now.leaves is not None:
                raise _refused("a receipt after the batch was made", Refusal.OUT_OF_ORDER, sender)
            self._check_receipt(sender, message)
            now.receipts[sender] = message
        else:
            self._take_cosignature(now, sender, message)

    def batch(self) -> Mapping[str, Batch]:
        """Make the batch over all receipts, and over this side's own ledger; one message for each site that gave one.

        What every site showed is on disk before.

        Raises:
            LedgerError: the ledger or the disk refuses.
        """
        now = self._going_on()
        roster, identity = self._roster.roster, self._identity.public_key
        number = self._ledger.sequence  # on disk before the batch leaves: its own entries are synced after these
        root = self._ledger.chain.tree.root(number)
        shown = {site: (receipt.size, receipt.root) for site, receipt in now.receipts.items()}
        leaves = b.Leaves.of(roster, {**shown, b.COORDINATOR: (number, root)})
        checkpoint = b.batch_checkpoint(roster, number, leaves.tree.root)
        now.note = signed(checkpoint, b.COORDINATOR_KEY, self._identity.sign_note, identity)
        now.log = signed(
            Checkpoint(origin_of(identity), number, root), self._key.origin, self._key.sign, self._key.public_key
        )
        now.leaves, now.number, now.root, now.given_up = leaves, number, leaves.tree.root, set()
        if now.closing:
            self._ledger.sync()  # else a power cut could leave a signed checkpoint of more entries than there are
            self._store.save_latest(now.log)
        for site, (size, own) in shown.items():
            seen = self._seen.setdefault(site, _Seen())
            seen.shown[str(size)] = own.hex()
            for old in sorted(map(int, seen.shown))[:-MOST_SHOWN]:  # what it cosigned stays; of the rest, the newest
                if old != seen.cosigned:
                    del seen.shown[str(old)]
        self._save()
        return {site: self._batch_for(now, site, root) for site in now.receipts}

    def cosigned(self) -> Mapping[str, Cosigned]:
        """End the exchange: who signed, for each site that did; this side's evidence is on disk before.

        Raises:
            LedgerError: the disk refuses.
        """
        now = self._going_on()
        if now.leaves is None or now.note is None or now.log is None:
            raise LedgerError("signatures were asked for before a batch was made")
        roster, note = self._roster.roster, now.note
        for site in (name for name in roster.names if name in now.cosignatures):
            each = now.cosignatures[site]
            note = add_cosignature(note, b.site_key_name(site), b.identity_of(roster, site), each.time, each.signature)
            receipt = now.receipts[site]
            kept = {size: own for size, own in self._seen[site].shown.items() if int(size) >= receipt.size}
            self._seen[site] = _Seen(receipt.size, kept)
        receipts = {site: encode(receipt) for site, receipt in now.receipts.items()}
        self._store.save(Evidence.make(0, now.leaves, note, now.log, receipts))
        # What was cosigned is written with the next batch: lost, a site is compared from an earlier checkpoint on.
        message = Cosigned(
            study=self._context.study,
            round=now.round,
            closing=now.closing,
            number=now.number,
            root=now.root,
            leaves=now.leaves.to_bytes(),
            cosignatures=tuple(
                SiteCosignature(name, now.cosignatures[name].time, now.cosignatures[name].signature)
                for name in roster.names
                if name in now.cosignatures
            ),
        )
        self._now = None
        return {site: msgspec.structs.replace(message, round=now.round_of(site)) for site in now.cosignatures}

    def sign_end(self) -> None:
        """Sign the ledger with the end of the study in it, which nobody else signs.

        Raises:
            LedgerError, OSError: the ledger or the disk refuses.
        """
        sign_latest(self._ledger, self._key, self._store)

    # --- parts -----------------------------------------------------------------------------------------------------

    def _going_on(self) -> _Round:
        if self._now is None:
            raise LedgerError("no exchange of checkpoints is under way")
        return self._now

    def _batch_for(self, now: _Round, site: str, log_root: bytes) -> Batch:
        if now.leaves is None or now.note is None or now.log is None:
            raise LedgerError("a batch was asked for before it was made")
        tree, chain = now.leaves.tree, self._ledger.chain
        study = chain.studies[self._context.study.hex()]
        since = min(now.receipts[site].known, now.number)
        unsigned = Batch(
            study=self._context.study,
            round=now.round_of(site),
            closing=now.closing,
            number=now.number,
            root=now.root,
            signature=now.note.signatures[0].signature,
            path=tree.path(b.index_of(self._roster.roster, site)),
            log=LogHead(log_root, self._key.public_key, now.log.signatures[0].signature),
            log_path=tree.path(0),
            since=since,
            consistency=chain.tree.consistency(since, now.number),
            received=study.unacknowledged(site, now.number, MAX_RECEIVED),
            statement=bytes(64),
        )
        values = {name: getattr(unsigned, name) for name in unsigned.__struct_fields__}
        parts = b.batch_parts(unsigned, site)
        values["statement"] = self._identity.sign(b.LABEL_BATCH, self._context, b.COORDINATOR, *parts)
        return Batch(**values)

    def _check_receipt(self, site: str, receipt: Receipt) -> None:
        identity = b.identity_of(self._roster.roster, site)
        parts = b.receipt_parts(receipt)
        if not verifies(self._roster.keys[site], receipt.signature, b.LABEL_RECEIPT, self._context, site, *parts):
            raise _refused("a receipt that its site did not sign", Refusal.BAD_SIGNATURE, site)
        text = Checkpoint(origin_of(identity), receipt.size, receipt.root).text().encode()
        try:
            Ed25519PublicKey.from_public_bytes(receipt.log_key).verify(receipt.log_signature, text)
        except (InvalidSignature, ValueError):
            raise _refused("a checkpoint that its ledger key did not sign", Refusal.BAD_SIGNATURE, site) from None
        seen = self._seen.get(site, _Seen())
        if not seen.cosigned:
            return  # the first of this site, or what it showed before is lost here: its evidence has it
        known = seen.shown.get(str(receipt.since))
        if known is None or receipt.since < seen.cosigned or receipt.size < receipt.since:
            raise _refused("a ledger that is shorter, or compared to another, than was cosigned", _REWRITTEN, site)
        if not consistent(receipt.since, bytes.fromhex(known), receipt.size, receipt.root, receipt.consistency):
            raise _refused("a ledger that was rewritten since it was cosigned", _REWRITTEN, site)

    def _take_cosignature(self, now: _Round, site: str, message: Cosignature) -> None:
        if now.note is None or (message.number, message.root) != (now.number, now.root):
            raise _refused("a cosignature of another batch", Refusal.CHANGED_REQUEST, site)
        try:
            identity = b.identity_of(self._roster.roster, site)
            add_cosignature(now.note, b.site_key_name(site), identity, message.time, message.signature)
        except LedgerError:
            raise _refused("a cosignature that does not verify", Refusal.BAD_SIGNATURE, site) from None
        now.cosignatures[site] = message

    def _load(self) -> dict[str, _Seen]:
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=dict[str, dict[str, _Seen]])
        except FileNotFoundError:
            return {}
        except (msgspec.MsgspecError, ValueError):
            raise LedgerError(
                "what sites showed of their ledgers is damaged",
                where=str(self._path),
                remedy="Restore it from a backup; without it, a site's next checkpoint is believed as its first",
            ) from None
        return kept.get(self._roster.roster.digest.hex(), {})

    def _save(self) -> None:
        rows = {site: msgspec.to_builtins(seen) for site, seen in self._seen.items()}
        try:
            write_atomic(self._path, canonical_json({self._roster.roster.digest.hex(): rows}))
        except OSError as error:
            raise LedgerError(f"the checkpoints cannot be kept: {error.strerror}", where=str(self._path)) from None


_REWRITTEN = Refusal.CHANGED_REQUEST


def _refused(what: str, code: Refusal, site: str) -> ProtocolError:
    return ProtocolError(what, code=code, stage=STAGE, site=site)
