"""Verifying ledgers together: each by itself, then side by side, against keys that the auditor knows from elsewhere."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
        whole: whether all ledgers of a complete run should be here.
    """

    sources: Sequence[Source]
    ledgers: Sequence[Verified]
    between: Sequence[str]
    anchored: frozenset[str]
    parties: Mapping[str, Sequence[str]]
    missing: Sequence[str]
    whole: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.between and all(ledger.ok for ledger in self.ledgers)

    def label(self, index: int) -> str:
        """The name of a ledger in messages."""
        return label(self.sources[index], self.sources)


def audit(sources: Sequence[Source], keys: Mapping[str, str], *, whole: bool = False) -> Audit:
    """Verify ledgers.

    Args:
        sources: where they lie.
        keys: by party, the words or the fingerprint (hexadecimal) of its identity, as the auditor got them from it.
            Each is compared with the ledger of that party, and with every roster that a ledger was opened under.
        whole: whether these should be all ledgers of a run that is complete: one that is missing is then a problem.

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
    for ledger, source in zip(ledgers, sources, strict=True):
        _check_beside(ledger, source)
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
    between = compare(ledgers)
    if whole and missing:
        between.append(f"the run is complete, and the ledger of {', '.join(missing)} is not here: it was removed")
    return Audit(sources, ledgers, between, frozenset(keys), parties, missing, whole)


def _check_beside(ledger: Verified, source: Source) -> None:
    """Policy and budget beside a ledger are those that its entries name."""
    policy, budget = _sha256(source.policy), _sha256(source.budget)
    if policy and ledger.policy and policy != ledger.policy:
        text = (
            f"policy.toml, SHA-256 {policy[:12]}, is not the policy of the last message, {ledger.policy[:12]}: it was "
            "changed since"
        )
        (ledger.problems if _copied(source) else ledger.notes).append(text)
    elif ledger.policy and not policy:
        ledger.notes.append(f"the policy {ledger.policy[:12]} that entries name is not here")
    named = str((ledger.chain.budget or {}).get("sha256", ""))
    if _complete(source) and named and budget != named and not ledger.broken:
        what = "is missing" if not budget else f"has SHA-256 {budget[:12]}"
        ledger.problems.append(f"budget.json {what}, and the ledger's last entry about it names {named[:12]}")


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


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
        key = "-".join(key.lower().split())  # words as they are read out
        if not party.strip() or not (_HEX.fullmatch(key) or _WORDS.fullmatch(key)):
            raise LedgerError(
                "a key of another form than PARTY=KEY",
                where="--key",
                remedy="KEY is the party's eight words, or the SHA-256 of its identity key in 64 hexadecimal digits",
            )
        if found.setdefault(party.strip(), key) != key:
            raise LedgerError(f"two keys for '{party.strip()}'", where="--key", remedy="Give one for each party")
    return found


def _copied(source: Source) -> bool:
    """Whether it is part of a complete run's dossier, and not a home, whose policy may change for the next study."""
    return _complete(source) and source.folder.absolute().parent.name != "homes"


def _complete(source: Source) -> bool:
    """Whether a ledger lies in the folder of a run that is complete: each of its studies must then be closed."""
    folder = source.folder.absolute()
    return any((above / "summary.json").is_file() for above in (folder.parent, folder.parent.parent))
