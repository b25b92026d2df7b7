"""A ledger of a million entries: that it holds is asserted, what it costs is printed (`pytest -m slow -s`)."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from wardround.privacy.ledger.entries import Record
from wardround.privacy.ledger.log import Ledger, verify

ENTRIES, PARTS = 1_000_000, 10
STUDY = hashlib.sha256(b"a study").hexdigest()
FIELDS = ("session", "site", "channel_key", "mask_key", "commitment", "binding", "signature")


def advert(number: int) -> Record:
    """What a site writes down of an advert; every sixth has fractions in it, as a masked vector's entry has."""
    return Record(
        kind="message",
        study=STUDY,
        outcome="sent",
        round=number // 6,
        stage="advertise",
        direction="out",
        peer="coordinator",
        peer_key=hashlib.sha256(b"key").hexdigest(),
        message_id=f"{STUDY[:12]}/{number}/update/0/0/advert/site-001/coordinator",
        message_type="advert",
        codec="msgpack/1",
        schema=[{"name": name, "dtype": "bytes", "shape": [32], "nbytes": 32} for name in FIELDS],
        wire_bytes=261,
        wire_sha256=hashlib.sha256(str(number).encode()).hexdigest(),
        purpose="federated training of an image adapter",
        policy_sha256=hashlib.sha256(b"policy").hexdigest(),
        retention_days=2190,
        software="wardround 0.1",
        model=hashlib.sha256(b"model").hexdigest(),
        clip={"update": 0.0315} if number % 6 == 2 else None,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_entries_hold(tmp_path: Path) -> None:
    path, spent = tmp_path / "ledger.jsonl", [time.process_time()]
    with Ledger.open(path, owner="site-001", clock=lambda: datetime.now(UTC)) as ledger:
        ledger.open_study(STUDY)
        for number in range(ENTRIES):
            ledger.append([advert(number)], sync=False)
            if (number + 1) % (ENTRIES // PARTS) == 0:
                spent.append(time.process_time())
        root = ledger.chain.tree.root()
    each = [1e6 * (end - begun) / (ENTRIES // PARTS) for begun, end in itertools.pairwise(spent)]
    began = time.perf_counter()
    report = verify(path)
    seconds = time.perf_counter() - began
    assert (report.ok, report.entries) == (True, ENTRIES + 1)
    assert len(root) == 32
    print(
        json.dumps(
            {
                "append_us_by_tenth": [round(value, 1) for value in each],
                "last_over_first": round(each[-1] / each[0], 3),
                "verify_s": round(seconds, 1),
                "gigabytes": round(path.stat().st_size / 1e9, 2),
            }
        )
    )
