"""Verifying ledgers together: each by itself, then side by side, against keys that the auditor knows from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...privacy.errors import LedgerError
from ...privacy.identity import fingerprint_hex
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
        anchored: owners whose identity was compared with one that the auditor gave.
    """

    sources: Sequence[Source]
    ledgers: Sequence[Verified]
    between: Sequence[str]
    anchored: frozenset[str]

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

    Raises:
        LedgerError: a ledger cannot be read, or a key is given for a party without a ledger here.
    """
    unknown = sorted(set(keys) - {source.owner for source in sources})
    if unknown:
        raise LedgerError(
            f"a key for '{unknown[0]}', whose ledger is not here",
            where="--key",
            remedy=f"Ledgers here are of: {', '.join(sorted({source.owner for source in sources}))}",
        )
    ledgers = [verify(source.ledger, source.folder, complete=_complete(source)) for source in sources]
    for ledger in ledgers:
        known = keys.get(ledger.owner)
        if known is None:
            continue
        identity = ledger.chain.keys.identity
        if not identity or known not in (ledger.identity, fingerprint_hex(identity)):
            ledger.problems.insert(0, "the ledger is of another identity than the one that was given: a wrong key")
    return Audit(sources, ledgers, compare(ledgers), frozenset(keys))


def parse_keys(given: Sequence[str]) -> dict[str, str]:
    """Keys as they are given on the command line, ``PARTY=WORDS`` or ``PARTY=FINGERPRINT``.

    Raises:
        LedgerError: one has another form.
    """
    found = {}
    for text in given:
        party, _, key = text.partition("=")
        key = key.strip().lower()
        if not party or not (_HEX.fullmatch(key) or _WORDS.fullmatch(key)):
            raise LedgerError(
                "a key of another form than PARTY=KEY",
                where="--key",
                remedy="KEY is the party's eight words, or the SHA-256 of its identity key in 64 hexadecimal digits",
            )
        found[party.strip()] = key
    return found


def _complete(source: Source) -> bool:
    """Whether a ledger lies in the dossier of a run that is complete: each of its studies must then be closed."""
    folders: tuple[Path, ...] = (source.folder.parent, source.folder.parent.parent)
    return source.folder.parent.name != "homes" and any((folder / "summary.json").is_file() for folder in folders)
