"""Verifying ledgers together: each by itself, then side by side, against keys that the auditor knows from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...privacy.errors import LedgerError
from ...privacy.identity import fingerprint, fingerprint_hex
from ...privacy.ledger.batches import COORDINATOR, identity_of
from ...privacy.ledger.comparing import compare
from ...privacy.ledger.verifying import Verified, verify
from .sources import Source, label

_HEX = re.compile(r"[0-9a-f]{64}")
_WORDS = re.compile(r"([a-z]{5}-){7}[a-z]{5}")


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found.

    Attributes:
        sources, ledgers: where they lie, and what is to be said of each; in the same order.
        between: problems that show only between ledgers.
        anchored: parties whose identity was compared with one that the auditor gave.
        parties: words of every identity that the verdict rests on: of owners, and of all in their rosters.
        missing: parties of these rosters whose ledgers are not here.
    """

    sources: Sequence[Source]
    ledgers: Sequence[Verified]
    between: Sequence[str]
    anchored: frozenset[str]
    parties: Mapping[str, Sequence[str]]
    missing: Sequence[str]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.between and all(ledger.ok for ledger in self.ledgers)

    def label(self, index: int) -> str:
        """The name of a ledger in messages."""
        return label(self.sources[index], self.sources)


def audit(sources: Sequence[Source], keys: Mapping[str, str]) -> Audit:
    """Verify ledgers.

    Args:
        sources: where they lie.
        keys: by party, the words or the fingerprint (hexadecimal) of its identity, as the auditor got them from it.
            Each is compared with the ledger of that party, and with every roster that a ledger was opened under.

    Raises:
        LedgerError: a ledger cannot be read, or a key is given for a party that nothing here knows.
    """
    ledgers = [verify(source.ledger, source.folder, complete=_complete(source)) for source in sources]
    identities = [_identities(ledger) for ledger in ledgers]
    known = {name for one in identities for name, _ in one} | {source.owner for source in sources}
    unknown = sorted(set(keys) - known)
    if unknown:
        raise LedgerError(
            f"a key for '{unknown[0]}', whom no ledger and no roster here knows",
            where="--key",
            remedy=f"Parties here are: {', '.join(sorted(known))}",
        )
    for ledger, source, one in zip(ledgers, sources, identities, strict=True):
        wrong = sorted(name for name, identity in one if name in keys and not _is_key(keys[name], identity))
        ledger.problems[:0] = [
            f"the ledger is of another identity than the key given for {name}: a wrong key"
            if name == source.owner
            else f"the ledger's roster has another identity for {name} than the key given: cosigners may be invented"
            for name in dict.fromkeys(wrong)
        ]
        if source.owner in keys and not ledger.chain.keys.identity:
            ledger.problems.insert(0, f"no entry names a key of {source.owner}: the key given cannot be compared")
    parties: dict[str, list[str]] = {}
    for name, identity in sorted({pair for one in identities for pair in one}):
        parties.setdefault(name, []).append(fingerprint(identity))
    missing = sorted(set(parties) - {source.owner for source in sources})
    return Audit(sources, ledgers, compare(ledgers), frozenset(keys), parties, missing)


def _identities(ledger: Verified) -> set[tuple[str, bytes]]:
    """Who is who by a ledger: its owner by its key entries, everybody by the rosters that it was opened under."""
    found = {(ledger.owner, ledger.chain.keys.identity)} if ledger.chain.keys.identity else set()
    for roster in ledger.named.values():
        names = (*([COORDINATOR] if roster.coordinator_key else []), *roster.names)
        found |= {(name, identity_of(roster, name)) for name in names}
    return found


def _is_key(given: str, identity: bytes) -> bool:
    return given in (fingerprint(identity), fingerprint_hex(identity))


def parse_keys(given: Sequence[str]) -> dict[str, str]:
    """Keys as they are given on the command line, ``PARTY=WORDS`` or ``PARTY=FINGERPRINT``.

    Raises:
        LedgerError: one has another form.
    """
    found: dict[str, str] = {}
    for text in given:
        party, _, key = text.partition("=")
        key = key.strip().lower()
        if not party.strip() or not (_HEX.fullmatch(key) or _WORDS.fullmatch(key)):
            raise LedgerError(
                "a key of another form than PARTY=KEY",
                where="--key",
                remedy="KEY is the party's eight words, or the SHA-256 of its identity key in 64 hexadecimal digits",
            )
        if found.setdefault(party.strip(), key) != key:
            raise LedgerError(f"two keys for '{party.strip()}'", where="--key", remedy="Give one for each party")
    return found


def _complete(source: Source) -> bool:
    """Whether a ledger lies in the folder of a run that is complete: each of its studies must then be closed."""
    folder = source.folder.absolute()
    return any((above / "summary.json").is_file() for above in (folder.parent, folder.parent.parent))
