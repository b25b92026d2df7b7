"""Steps before a study is begun, as entries of a site's ledger: what it gave to people to be carried, and its consent.

Such an entry names the study in its facts and not as its study: a ledger that knows a study has sent messages of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from .entries import Entry, Record

Step = Literal["request", "approval", "confirmation", "left", "other-patients", "count-again", "sum-again"]
"""``request``: a request to take part was made, which states how much the site trains on. ``approval``: the roster was
signed. ``confirmation``: whose fingerprints a person compared. ``left``: the site takes no further part. The others are
what a person answered when warned: that another home on this machine is of other patients; that these images were
counted for a coordinator before; that a sum over them was given in an earlier study."""


def enrolment(step: Step, study: str, *, document: str = "", roster: str = "", samples: int | None = None) -> Record:
    """The entry of one step.

    Args:
        step: which. study: its SHA-256, hexadecimal.
        document: SHA-256 of the file that was made; empty where none was.
        roster: SHA-256 of the roster that it is about; empty before there is one.
        samples: what a request states; None where nothing is stated.
    """
    facts: dict[str, str | int] = {"study": study}
    facts |= {name: value for name, value in (("document", document), ("roster", roster)) if value}
    if samples is not None:
        facts["samples"] = samples
    return Record(kind="enrol", study="", outcome="noted", rule=step, facts=facts)


def steps_of(entries: Iterable[Entry], study: str = "") -> list[Entry]:
    """Entries of enrolment in order, of one study or of all."""
    known = get_args(Step)
    return [
        entry
        for entry in entries
        if entry.kind == "enrol" and entry.rule in known and (not study or (entry.facts or {}).get("study") == study)
    ]
