"""What a person signed about a report, as a page shows it. The signature itself is checked where the ledger is read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Statement:
    """One signed statement; every text is a person's own and is shown as text.

    Attributes:
        party: site or coordinator whose ledger holds it.
        name, role: of the person, as they gave them.
        decision: what they decided, e.g. ``"approved"``.
        remarks: free text; may be empty.
        time: when, as the ledger has it (ISO 8601, UTC).
        report_matches: whether it is about the very report that the page is made from; False for an earlier one.
        verified: what checking it against the ledger gave, in words.
    """

    party: str
    name: str
    role: str
    decision: str
    remarks: str
    time: str
    report_matches: bool
    verified: str
