"""Clinicians' statements about reports: what one may say, and what the ledgers of a dossier have of them."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..evaluation.statements import Statement
from ..privacy.ledger.batches import COORDINATOR
from ..privacy.ledger.entries import Entry
from ..privacy.ledger.reading import read_lines
from ..privacy.ledger.verifying import Verified, verify
from .audit.sources import LEDGER
from .errors import PlatformError
from .run_folder import RunFolder

DECISIONS = ("accepted", "accepted-with-remarks", "rejected")
REPORT, PAGE = "report.json", "report.html"
MOST_LINE, MOST_REMARKS = 200, 2000
"""Characters of a name or role, and of remarks, at most."""
_MARK = b'"kind":"sign"'  # in canonical JSON nothing else has these bytes: inside a string the quotes are escaped
_REORDERS = re.compile("[\u202a-\u202e\u2066-\u2069]")  # what follows is read in another order than it is written
_decoder = msgspec.json.Decoder(Entry)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a person states about a report.

    Attributes:
        name, role: one line each, 1 to `MOST_LINE` characters, with a letter or digit.
        decision: one of `DECISIONS`.
        remarks: one line or several, at most `MOST_REMARKS` characters; not empty with ``accepted-with-remarks``.

    Texts are kept in Unicode's composed form (NFC), without white space around them, and with plain line ends.

    Raises:
        PlatformError: a text is empty or too long, or has control characters or characters that reorder it.
    """

    name: str
    role: str
    decision: str
    remarks: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", _checked(self.name, "--name", MOST_LINE))
        object.__setattr__(self, "role", _checked(self.role, "--role", MOST_LINE))
        object.__setattr__(self, "remarks", _checked(self.remarks, "--remarks", MOST_REMARKS))
        if self.decision not in DECISIONS:
            raise PlatformError(
                f"{self.decision!r} is no decision", where="--decision", remedy=f"Choose one of: {', '.join(DECISIONS)}"
            )
        if self.decision == "accepted-with-remarks" and not self.remarks:
            raise PlatformError(
                "a report is accepted with remarks, and there are none",
                where="--remarks",
                remedy="Give the remarks, or choose the decision 'accepted'",
            )

    def facts(self, report: str) -> dict[str, str | int]:
        """What its entry states, with the SHA-256 of the report, hexadecimal."""
        return {
            "report": report,
            "name": self.name,
            "role": self.role,
            "decision": self.decision,
            "remarks": self.remarks,
        }


def statements_of(run: RunFolder) -> Mapping[str, tuple[Statement, ...]]:
    """All statements about a run's reports, from the ledgers in its dossier: by party, in the ledger's order.

    Sites come in order of name, then the coordinator; a party that nobody signed for has an empty tuple. A ledger that
    does not hold gives its statements too, each marked as not verified, and no error: the pages are where a reader sees
    that something is wrong, so they must still be built. Statements about other studies are left out.

    Raises:
        RunFolderError: there is no run here.
        LedgerError: a ledger cannot be read.
    """
    study = RunFolder.open(run.root)[1].digest()
    return {party: _statements(run, party, study) for party in parties_of(run)}


def report_folder(run: RunFolder, party: str) -> Path:
    """Where a party's report and its ledger's copy lie in the dossier; the coordinator's ledger itself lies there."""
    return run.coordinator if party == COORDINATOR else run.site(party)


def _statements(run: RunFolder, party: str, study: str) -> tuple[Statement, ...]:
    folder = report_folder(run, party)
    ledger, report = folder / LEDGER, folder / REPORT
    found = list(sign_entries(ledger, study)) if ledger.is_file() else []
    if not found:
        return ()
    verified = verify(ledger, folder, complete=run.summary.is_file())
    current = hashlib.sha256(report.read_bytes()).hexdigest() if report.is_file() else None
    statements = []
    for place, entry in found:
        told = {name: str(value) for name, value in (entry.facts or {}).items()}
        statements.append(
            Statement(
                party=party,
                name=told.get("name", ""),
                role=told.get("role", ""),
                decision=told.get("decision", ""),
                remarks=told.get("remarks", ""),
                time=entry.time,
                report_matches=told.get("report") == current,
                verified=_verdict(party, place, verified),
            )
        )
    return tuple(statements)


def _verdict(party: str, place: int, found: Verified) -> str:
    """What checking the ledger says of one entry in it, in words."""
    if not found.ok:
        return f"NOT VERIFIED: the ledger does not hold: {found.problems[0]}"
    if found.owner != party:
        return f"NOT VERIFIED: this is the ledger of {found.owner}"
    if place < found.cosigned:
        return "the ledger holds; its owner's key signed this entry, and other parties cosigned it"
    if place < found.signed:
        return "the ledger holds; its owner's key signed this entry"
    return "NOT VERIFIED: the ledger holds, but no signature covers this entry yet"


def sign_entries(ledger: Path, study: str) -> Iterator[tuple[int, Entry]]:
    """Place, from 0, and content of every statement about a study; lines that are no entry are left to verification.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    for place, line in enumerate(read_lines(ledger)):
        if _MARK not in line:
            continue
        try:
            entry = _decoder.decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        if entry.kind == "sign" and entry.study == study:
            yield place, entry


def _checked(text: str, where: str, most: int) -> str:
    plain = unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip()
    lines = where == "--remarks"
    for place, character in enumerate(plain, start=1):
        bad = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or _REORDERS.match(character)
        if bad and not (lines and character == "\n"):
            raise PlatformError(
                f"character {place} is U+{ord(character):04X}, a control character",
                where=where,
                remedy="Leave it out" if lines else "Give one line of plain text",
            )
    if len(plain) > most:
        raise PlatformError(
            f"{len(plain):,} characters; {most:,} are allowed",
            where=where,
            remedy="Shorten it; a longer text belongs into the patient's or the study's file, which it can name",
        )
    if not lines and not any(map(str.isalnum, plain)):
        raise PlatformError("no letter and no digit in it", where=where, remedy="Say who signs, and in which role")
    return plain


def parties_of(run: RunFolder) -> list[str]:
    """Who has a report or, as the coordinator, a ledger in the dossier: sites in order, the coordinator last."""
    sites = sorted(path.parent.name for path in run.root.glob(f"sites/*/{REPORT}"))
    return [*sites, COORDINATOR] if (run.coordinator / LEDGER).is_file() else sites
