"""Small ledgers of two sites and a coordinator, made with the real `Ledger`; and hostile ones, written line by line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from wardround.privacy.ledger.entries import GENESIS, VERSION, Entry, Record
from wardround.privacy.ledger.log import Ledger

STUDY, OTHER = "ab" * 32, "cd" * 32
POLICY, WIRE, KEY = "12" * 32, "34" * 32, "56" * 32
WHY = {"purpose": "federated training", "legal_basis": "GDPR 9(2)(j)", "policy_sha256": POLICY, "retention_days": 2190}
DP = {"epsilon": 1.25, "delta": 1e-5, "limit": 8.0, "unit": "patient", "sequence": 2, "sha256": "78" * 32, "rdp": 2.5}
MASKING = {"scheme": "double-mask", "threshold": 2, "cohort": 3, "key_set": "9a" * 16, "ring_bits": {"update": 32}}
HOSTILE = (
    '=HYPERLINK("http://evil.example","x")',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "  =1+1",
    "\t=1",
    "\r\n=1",
    "＝1+1",
    "'quoted",
    'a"b,c;d',
    "line\r\nbreak",
    "\x1b[31mred\x1b[0m",
    "[bold]markup[/bold]",
    "\x9b2J",
    "\u202eright-to-left",
    "nul\x00l",
    " ",
    "名前 é",
    "</script><b>",
)


def ticking(day: int = 1):
    state = {"now": datetime(2026, 1, day, tzinfo=UTC)}

    def clock() -> datetime:
        state["now"] += timedelta(seconds=1)
        return state["now"]

    return clock


def message(**fields: Any) -> Record:
    """A masked vector that amber sent; any field can be another."""
    values: dict[str, Any] = {
        "kind": "message",
        "study": STUDY,
        "outcome": "sent",
        "round": 1,
        "stage": "mask",
        "direction": "out",
        "peer": "coordinator",
        "peer_key": KEY,
        "message_type": "masked-vector",
        "message_id": "abababababab/1/update/0/0/masked-vector/amber/coordinator",
        "codec": "msgpack/1",
        "schema": [{"name": "vector", "dtype": "uint32", "shape": [250], "nbytes": 1000}],
        "wire_bytes": 1000,
        "wire_sha256": WIRE,
        "software": "wardround 0.1.0",
        "model": "bc" * 32,
        **WHY,
    }
    return Record(**{**values, **fields})


def refused(**fields: Any) -> Record:
    """A message that the policy stopped."""
    stopped = {"outcome": "refused", "rule": "messages.masked-vector", "wire_bytes": 0, "wire_sha256": ""}
    return message(**{**stopped, **fields})


AMBER = (
    message(message_type="round-start", stage="start", direction="in", outcome="received", wire_bytes=50),
    Record(kind="budget", study=STUDY, outcome="noted", stage="charge", rule="round-1", dp={**DP, "epsilon": 1.0}),
    message(masking=MASKING, clip={"update": 0.5}, dp=DP, commitment="de" * 32),
    message(masking=MASKING, outcome="retried"),
    refused(round=2),
    message(direction="in", outcome="failed", rule="decode", message_type="", round=-1, stage="", wire_bytes=7),
)
AFTER = (
    Record(kind="forget", study="", outcome="noted", facts={"records": 3, "files": 9}),
    Record(kind="purge", study="", outcome="noted", facts={"files": 2, "bytes": 12}),
    Record(
        kind="sign",
        study=STUDY,
        outcome="noted",
        facts={
            "report": "ef" * 32,
            "name": "Dr. Ada Example",
            "role": "radiologist",
            "decision": "accepted",
            "remarks": "Mr. Patient Surname looked odd",
        },
    ),
    Record(kind="note", study="", outcome="noted", rule="torn-line", wire_bytes=5, wire_sha256="aa" * 32),
)
COORDINATOR = (
    message(
        message_type="round-start", stage="start", peer="amber", wire_bytes=50, policy_sha256="fe" * 32, legal_basis=""
    ),
    message(peer="amber", direction="in", outcome="received", policy_sha256="fe" * 32, legal_basis=""),
)


def write_ledger(
    folder: Path, owner: str = "amber", records: Sequence[Record] = AMBER, after: Sequence[Record] = (), *, day: int = 1
) -> Path:
    """A ledger of one study, opened and closed, with entries after that; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ledger.jsonl"
    with Ledger.open(path, owner=owner, clock=ticking(day)) as ledger:
        ledger.open_study(STUDY)
        ledger.append(list(records))
        ledger.close_study(STUDY)
        if after:
            ledger.append(list(after))
    return path


def whole(root: Path) -> Path:
    """A folder with the ledgers of amber, birch (another day) and the coordinator."""
    write_ledger(root / "amber", after=AFTER)
    write_ledger(root / "birch", "birch", [message(wire_bytes=500)], day=3)
    write_ledger(root / "coordinator", "coordinator", COORDINATOR)
    return root


def entry(**fields: Any) -> Entry:
    """An entry that no ledger would write: its place and its words are whatever they are given."""
    place = {"version": VERSION, "sequence": 0, "previous": GENESIS, "salt": "00" * 16, "owner": "amber"}
    record = message()
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    return Entry(**{**values, **place, "time": "2026-01-01T00:00:01.000000Z", **fields})


def write_raw(path: Path, *entries: Entry) -> Path:
    """Lines without a chain."""
    path.write_bytes(b"".join(each.line() + b"\n" for each in entries))
    return path
