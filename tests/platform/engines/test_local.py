"""The in-process engine: it carries the gate's parcels and nothing else, masked and written down."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from wardround.platform import site_machine as site_module
from wardround.platform.consortium import Consortium, open_consortium
from wardround.platform.engines.local import carry
from wardround.privacy.egress import COORDINATOR, Sealed
from wardround.privacy.errors import LedgerError
from wardround.privacy.ledger.log import verify
from wardround.privacy.secure_aggregation import primitives

ROUNDS = 2
PARCELS = 3 * (15 * ROUNDS + 5)  # a round has eleven messages of each site, and four by which ledgers are cosigned
Parcel = tuple[str, str, bytes]


@pytest.fixture
def consortium(toy: Callable[..., Any], tmp_path: Path, BACKBONE: str) -> Iterator[Consortium]:
    made = toy(tmp_path / "run", rounds=ROUNDS)
    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as opened:
        yield opened


def study(consortium: Consortium, tap: Callable[[str, str, bytes], None] | None = None) -> None:
    """A whole study of ``ROUNDS`` rounds."""
    coordinator = consortium.coordinator
    for _ in range(ROUNDS):
        carry(coordinator, consortium.sites, coordinator.begin(), tap)
        carry(coordinator, consortium.sites, coordinator.commit(), tap)
    carry(coordinator, consortium.sites, coordinator.finish(), tap)
    consortium.close_ledgers(consortium.roster.roster.study.hex())


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


# --- nothing else can travel ---------------------------------------------------------------------------------------


def parcel_of(consortium: Consortium) -> Sealed:
    return consortium.coordinator.begin()[0]


LOOK_ALIKES: dict[str, Callable[[Sealed], Any]] = {
    "bytes": lambda parcel: parcel.wire,
    "nothing": lambda parcel: None,
    "a tuple": lambda parcel: (parcel.peer, parcel.wire),
    "a namespace with the same fields": lambda parcel: SimpleNamespace(
        wire=parcel.wire, peer=parcel.peer, tag=parcel.tag, sha256=parcel.sha256, sequence=parcel.sequence
    ),
    "a class that says it is one": lambda parcel: type(
        "Sealed", (), {"__class__": Sealed, "wire": parcel.wire, "peer": parcel.peer, "tag": parcel.tag}
    )(),
}


@pytest.mark.parametrize("kind", sorted(LOOK_ALIKES))
def test_only_sealed_parcels_are_carried(consortium: Consortium, kind: str) -> None:
    fake = LOOK_ALIKES[kind](parcel_of(consortium))
    delivered: list[Parcel] = []
    with pytest.raises(TypeError, match="sealed parcels only"):
        carry(consortium.coordinator, consortium.sites, [fake], lambda *parcel: delivered.append(parcel))
    assert delivered == []
    received = [entry for entry in entries(consortium.ledgers["site-1"].path) if entry["direction"] == "in"]
    assert received == []


def test_a_site_that_answers_with_bytes_is_stopped(consortium: Consortium) -> None:
    parcels = consortium.coordinator.begin()
    rogue = SimpleNamespace(handle=lambda wire: (b"features of a patient",))
    delivered: list[Parcel] = []
    with pytest.raises(TypeError):
        carry(
            consortium.coordinator,
            {**consortium.sites, "site-1": rogue},  # type: ignore[dict-item]
            parcels,
            lambda *parcel: delivered.append(parcel),
        )
    assert all(b"patient" not in wire for _, _, wire in delivered)


def test_a_parcel_cannot_be_subclassed_made_copied_or_changed(consortium: Consortium) -> None:
    parcel = parcel_of(consortium)
    with pytest.raises(TypeError):
        type("Mine", (Sealed,), {})
    for token in (object(), None, "_TOKEN"):
        with pytest.raises(TypeError):
            Sealed(token, wire=b"", peer="site-1", tag="advert", sha256="", sequence=0)
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            duplicate(parcel)  # type: ignore[operator]
    for name in ("wire", "peer"):
        with pytest.raises(AttributeError):
            setattr(parcel, name, b"other")
        with pytest.raises(AttributeError):
            delattr(parcel, name)


def test_a_parcel_for_nobody_is_an_error(consortium: Consortium) -> None:
    parcels = consortium.coordinator.begin()
    sites = {name: site for name, site in consortium.sites.items() if name != "site-1"}
    with pytest.raises(KeyError):
        carry(consortium.coordinator, sites, parcels)


# --- what an eavesdropper finds ------------------------------------------------------------------------------------


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, NDArray[np.float32]], NDArray[np.uint32], float]]:
    """Every update of every site before masking: its blocks, its encoding, its weight."""
    seen: list[tuple[dict[str, NDArray[np.float32]], NDArray[np.uint32], float]] = []
    honest = site_module.encode

    def spy(parts: Any, blocks: Any, weight: float, rounding: bytes | None) -> Any:
        result = honest(parts, blocks, weight, rounding)
        seen.append(({name: values.copy() for name, values in parts.items()}, result.words.copy(), weight))
        return result

    monkeypatch.setattr(site_module, "encode", spy)
    return seen


def needles(plain: list[tuple[dict[str, NDArray[np.float32]], NDArray[np.uint32], float]]) -> set[bytes]:
    """Sixteen bytes each of what must not be seen: four coordinates of an update, in every form it ever has."""
    found: set[bytes] = set()
    for blocks, words, weight in plain:
        forms: list[NDArray[Any]] = [words.astype("<u4"), words.astype(">u4")]
        for name in ("adapter", "buffers"):
            values = blocks[name]
            forms += [values.astype("<f4"), values.astype(">f4"), values.astype("<f8"), (weight * values).astype("<f8")]
        for form in forms:
            for start in range(0, len(form) - 4, 7):
                if len(set(form[start : start + 4].tolist())) == 4:
                    found.add(form[start : start + 4].tobytes()[:16])
    return found


def sightings(parcels: list[Parcel], wanted: set[bytes]) -> int:
    """How many parcels from sites hold one of the needles, at any offset."""
    count = 0
    for sender, _, wire in parcels:
        if sender != COORDINATOR:
            windows = {wire[i : i + 16] for i in range(len(wire) - 15)}
            count += bool(windows & wanted)
    return count


def test_captured_traffic_holds_no_update(
    consortium: Consortium, plain: list[tuple[dict[str, NDArray[np.float32]], NDArray[np.uint32], float]]
) -> None:
    parcels: list[Parcel] = []
    study(consortium, lambda *parcel: parcels.append(parcel))
    wanted = needles(plain)
    assert len(plain) == 3 * ROUNDS
    assert len(wanted) > 500
    assert sightings(parcels, wanted) == 0


def test_without_masks_the_same_search_finds_every_update(
    consortium: Consortium,
    plain: list[tuple[dict[str, NDArray[np.float32]], NDArray[np.uint32], float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(primitives, "apply_masks", lambda total, add, subtract: None)
    parcels: list[Parcel] = []
    study(consortium, lambda *parcel: parcels.append(parcel))
    assert sightings(parcels, needles(plain)) == 3 * ROUNDS


# --- ledgers -------------------------------------------------------------------------------------------------------


def test_ledgers_of_both_ends_verify_and_agree_byte_for_byte(consortium: Consortium) -> None:
    parcels: list[Parcel] = []
    study(consortium, lambda *parcel: parcels.append(parcel))
    for ledger in consortium.ledgers.values():
        report = verify(ledger.path)
        assert report.ok
        assert report.open_studies == ()
    rows = {
        owner: [entry for entry in entries(ledger.path) if entry["kind"] == "message"]
        for owner, ledger in consortium.ledgers.items()
    }

    def hashes(owner: str, direction: str, peer: str) -> list[tuple[str, int, str]]:
        return [
            (entry["wire_sha256"], entry["wire_bytes"], entry["message_type"])
            for entry in rows[owner]
            if entry["direction"] == direction and entry["peer"] == peer
        ]

    for site in consortium.sites:
        up, down = hashes(site, "out", COORDINATOR), hashes(COORDINATOR, "out", site)
        assert up == hashes(COORDINATOR, "in", site)
        assert down == hashes(site, "in", COORDINATOR)
        travelled = [hashlib.sha256(wire).hexdigest() for sender, to, wire in parcels if sender == site]
        assert [digest for digest, _, _ in up] == travelled
        assert len(up) == (5 + 2) * ROUNDS + 2  # each round, and the end, have a receipt and a cosignature
        assert len(down) == (6 + 2) * ROUNDS + 3
    assert len(parcels) == PARCELS
    assert {entry["outcome"] for owner in rows for entry in rows[owner]} == {"sent", "received"}


def test_every_entry_is_in_the_file_before_its_parcel_travels(consortium: Consortium) -> None:
    checked = 0

    def tap(sender: str, to: str, wire: bytes) -> None:
        nonlocal checked
        digest = hashlib.sha256(wire).hexdigest()
        rows = entries(consortium.ledgers[sender].path)
        assert any(
            row["wire_sha256"] == digest and (row["direction"], row["peer"], row["outcome"]) == ("out", to, "sent")
            for row in rows
        )
        checked += 1

    study(consortium, tap)
    assert checked == PARCELS


class CrashError(Exception):
    """The engine dies between the gate and the wire."""


@pytest.mark.parametrize("at", [0, 3, 7, 13, 20, 28, 30, 33])
def test_the_entry_of_a_parcel_that_a_crash_kept_back_is_there(
    toy: Callable[..., Any], tmp_path: Path, BACKBONE: str, at: int
) -> None:
    made = toy(tmp_path / "run")
    kept: list[Parcel] = []
    count = 0

    def tap(*parcel: Any) -> None:
        nonlocal count
        if count == at:
            kept.append(parcel)
            raise CrashError
        count += 1

    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as consortium:
        paths = {name: ledger.path for name, ledger in consortium.ledgers.items()}
        with pytest.raises(CrashError):
            study(consortium, tap)
    sender, to, wire = kept[0]
    assert verify(paths[sender]).ok
    row = next(row for row in entries(paths[sender]) if row["wire_sha256"] == hashlib.sha256(wire).hexdigest())
    assert (row["direction"], row["outcome"], row["wire_bytes"]) == ("out", "sent", len(wire))
    assert any(entry["peer"] == to for entry in entries(paths[sender]))


@pytest.mark.parametrize("owner", ["site-2", COORDINATOR])
@pytest.mark.parametrize("call", ["fsync", "write"])
def test_when_the_ledger_cannot_be_written_nothing_is_delivered(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch, owner: str, call: str
) -> None:
    delivered: list[Parcel] = []
    coordinator, ledger = consortium.coordinator, consortium.ledgers[owner]
    carry(coordinator, consortium.sites, coordinator.begin())
    carry(coordinator, consortium.sites, coordinator.commit())
    honest = getattr(os, call)
    target = os.path.realpath(ledger.path)

    def full(descriptor: int, *arguments: Any) -> Any:
        if os.path.realpath(f"/proc/self/fd/{descriptor}") == target:
            raise OSError(errno.ENOSPC, "No space left on device")
        return honest(descriptor, *arguments)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(LedgerError):
        carry(coordinator, consortium.sites, coordinator.begin(), lambda *parcel: delivered.append(parcel))
    assert [parcel for parcel in delivered if parcel[0] == owner] == []
    monkeypatch.undo()
    # A ledger whose content is not known takes nothing more, even when the disk is well again.
    with pytest.raises(LedgerError):
        carry(coordinator, consortium.sites, coordinator.begin(), lambda *parcel: delivered.append(parcel))
    assert [parcel for parcel in delivered if parcel[0] == owner] == []


def test_the_tap_sees_exactly_what_arrives(consortium: Consortium) -> None:
    seen: list[bytes] = []
    arrived: list[bytes] = []
    honest = consortium.coordinator.handle

    def handle(sender: str, wire: bytes) -> list[Sealed]:
        arrived.append(wire)
        return honest(sender, wire)

    consortium.coordinator.handle = handle  # type: ignore[method-assign]
    carry(
        consortium.coordinator,
        consortium.sites,
        consortium.coordinator.begin(),
        lambda sender, to, wire: seen.append(wire) if to == COORDINATOR else None,
    )
    assert seen == arrived
    assert len(seen) == 15
