"""Studies on pictures full of canaries, carried by FLARE's own processes, with every frame of each of them captured.

What is shown: of ours nothing but sealed parcels passes FLARE, each as exactly its bytes; no canary, key, feature or
plain update is in any header or payload of any process, nor in what FLARE leaves on disk; and all else that it sends is
of few known kinds, small, and says nothing of the machine. With masks off the same eyes see every site's update.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nvflare")

from wardround.platform import federation
from wardround.platform.engines.nvflare.frames import KEY_BYTES, TO_CONTROLLER, TO_EXECUTOR, Answer, Codec, Hand
from wardround.privacy import messages as m
from wardround.privacy.egress import COORDINATOR
from wardround.privacy.envelopes import unpack

from ... import canary_messages as rules
from ...canaries import PLACES, Detector, Planted, plant
from ...canary_runs import Run, run_on
from .capture import reader
from .flare_machines import FACTS, FlareRun, Machines, machines_in

SITES = ("east", "north", "south")
KILLED, FAILING, WHOLE = SITES[0], SITES[2], SITES[1:]
EXCEPTION = "gallimaufriculum"
"""A word of an exception's text that a site's own code raises."""
FRAME = ("wardround", "frame")
HEADERS = 2048
"""Bytes of a frame's headers at most: names, job, token, signature of the token, times."""
_LINK = {("", "hello"): 256, ("", "ready"): 256, ("", "ping"): 256, ("", "pong"): 256, ("cellnet.channel", "bye"): 0}
_STREAM = {("sm__STREAM", "sm__ACK"): 0, ("sm__STREAM", "error"): 0}  # the latter: a job's process has ended
FROM_A_SITE = {  # all that may leave a hospital, and bytes of its payload at most; FRAME has rules of its own
    **_LINK,
    **_STREAM,
    ("task", "challenge"): 0,
    ("task", "register"): 4096,  # the certificate, and a signature that proves its key
    ("task", "heart_beat"): 1024,
    ("task", "report_job_failure"): 128,
    ("task", "quit"): 128,
    ("admin", "admin"): 1024,
    ("aux_communication", "__sync_runner__"): 1024,
    ("aux_communication", "__job_heartbeat__"): 1024,
    ("return_only", "aux_communication:__end_run__"): 1024,
    ("server_command", "get_task"): 1024,
    ("return_only", "wardround:frame"): 64,
}
TO_A_SITE = {
    **_LINK,
    **_STREAM,
    ("task", "challenge"): 4096,  # the server's certificate
    ("task", "register"): 2048,
    ("task", "heart_beat"): 1024,
    ("task", "report_job_failure"): 128,
    ("task", "quit"): 128,
    ("admin", "admin"): 16_384,  # the job, signed
    ("aux_communication", "__end_run__"): 1024,
    ("return_only", "aux_communication:__sync_runner__"): 1024,
    ("return_only", "aux_communication:__job_heartbeat__"): 1024,
    ("return_only", "server_command:get_task"): 1024,
    ("return_only", "wardround:frame"): 64,
}
INSIDE_A_SITE = {
    **_LINK,
    **_STREAM,
    ("admin", "train.notify_job_status"): 1024,
    ("client_command", "abort"): 1024,
    ("return_only", "client_command:abort"): 1024,
}
INSIDE_THE_COORDINATOR = {
    **FROM_A_SITE,
    **TO_A_SITE,
    ("server_parent_listener", "get_clients"): 4096,
    ("server_parent_listener", "heartbeat"): 128,
    ("server_parent_listener", "update_run_status"): 128,
    ("server_command", "abort"): 1024,
    ("return_only", "server_command:abort"): 1024,
    ("return_only", "hci_channel:command"): 65_536,  # to the coordinator's own administration
    ("return_only", "aux_communication:ObjectStreamer.Request"): 1024,
}


def machine(cell: str) -> str:
    """``east.JOB`` is a process of east."""
    return cell.split(".")[0]


@dataclass
class Carried:
    """A study that FLARE carried.

    Attributes:
        run: what travelled by the parties' own account, and what must not. flare: what became of its sites.
        frames: of all of FLARE's processes.
    """

    run: Run
    flare: FlareRun
    frames: list[reader.Frame]

    @cached_property
    def crossing(self) -> list[reader.Frame]:
        """Frames from machine to machine, among hospitals and coordinator."""
        ends = {"server", *SITES}
        return [
            frame
            for frame in self.frames
            if (sender := machine(frame.sender)) != (peer := machine(frame.peer)) and {sender, peer} <= ends
        ]

    @cached_property
    def parcels(self) -> list[tuple[str, str, bytes]]:
        """(sender, receiver, exact bytes) of what of ours crossed between machines, out of its envelope."""
        found = []
        for sender, receiver, payload in streams(frame for frame in self.crossing if frame.kind == FRAME):
            codec = Codec(TO_EXECUTOR if machine(sender) == "server" else TO_CONTROLLER)
            frame = codec.decode(payload[KEY_BYTES:])
            if isinstance(frame, Hand):
                found.append((COORDINATOR, machine(receiver), unpack(frame.wire, self.run.roster, machine(receiver))))
            elif isinstance(frame, Answer):
                found += [(machine(sender), COORDINATOR, wire) for wire in frame.wires]
            else:
                assert len(payload) <= 64, "a sign of life, or of a site that is gone"
        return found

    @cached_property
    def everything(self) -> bytes:
        """Each payload and each header's value once, of all processes."""
        parts = {frame.payload for frame in self.frames}
        parts |= {json.dumps(value).encode() for frame in self.frames for value in frame.headers.values()}
        return b"\n\x00\xff\n".join(sorted(parts))


def streams(frames: Iterable[reader.Frame]) -> Iterator[tuple[str, str, bytes]]:
    """(sender, destination, payload) of each stream, its chunks put together."""
    parts: dict[tuple[str, int], list[reader.Frame]] = {}
    for frame in frames:
        parts.setdefault((frame.headers["cn__origin"], frame.headers["sm__id"]), []).append(frame)
    for (origin, _), chunks in parts.items():
        headers = chunks[0].headers
        chunks.sort(key=lambda chunk: int(chunk.headers["sm__os"]))
        payload = b"".join(chunk.payload for chunk in chunks)
        assert len(payload) == headers["sm__sz"]
        yield origin, headers["cn__destination"], payload


# --- studies --------------------------------------------------------------------------------------------------------


class Faults:
    """Once in a study a site's own code fails, and once a whole machine is cut off and comes back."""

    def __init__(self, secret: Path) -> None:
        self._secret, self._done = secret, set[str]()

    def __call__(self, flare: FlareRun, site: str, message: m.Message) -> None:
        tag, number = m.tag_of(message), getattr(getattr(message, "session", None), "round", 0)
        if (site, tag, number) == (FAILING, "survivor-set", 1) and "failed" not in self._done:
            self._done.add("failed")
            raise RuntimeError(f"{EXCEPTION} in {self._secret}: {PLACES['patient']}")
        if (site, tag, number) == (KILLED, "share-delivery", 2) and "killed" not in self._done:
            self._done.add("killed")
            flare.kill(site)


THREE = {"sites": {"partition": "column", "unseen": "west"}}
PRIVATE = {"privacy": {"epsilon": 8.0, "delta": 0.05, "class_noise": 2.0}, "facmic": {"normalisation": "layer"}}
STUDIES: dict[str, dict[str, Any]] = {
    "class means, with faults": {
        "method": "faa-clip",
        "reference": {"source": "class-means"},
        "faa_clip": {},
        "retries": 3,
    },
    "private": PRIVATE,
}
SLOW: dict[str, dict[str, Any]] = {
    "fedclip": {"method": "fedclip"},
    "lora": {"method": "lora"},
    "packed": {"secure_aggregation": {"bits": 12, "clip": 0.0, "weighting": "uniform"}},
    "embedded": {"small": False, "rounds": 1, "training": {"local_epochs": 1}},
    "private, with faults": {**PRIVATE, "retries": 3},
}
ALL = [*STUDIES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
Carry = Callable[..., Carried]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("canaries"))


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with tempfile.TemporaryDirectory(prefix="wr-") as name, machines_in(Path(name) / "r", SITES) as made:
        yield made


@pytest.fixture(scope="module")
def carried(planted: Planted, machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Carry]:
    """``carried(name, masked=True)``: a study of `STUDIES` or `SLOW`, carried once."""
    studies: dict[tuple[str, bool], Carried] = {}
    root = tmp_path_factory.mktemp("homes")

    def carry(name: str, *, masked: bool = True) -> Carried:
        key = (name, masked)
        if key not in studies:
            folder = root / str(len(studies))
            flare = FlareRun(machines, folder / "coordinator")
            if masked and name.endswith("faults"):
                flare.fault = Faults(folder / "homes" / FAILING / "identity.pem")
            changes = {**STUDIES, **SLOW}[name]
            short = {} if masked else {"rounds": 1, "retries": 0}
            try:
                run = run_on(
                    planted,
                    folder,
                    root / "cache",
                    masked=masked,
                    change=lambda patch: patch.setattr(federation, "SimulatedLine", flare.line),
                    **{**THREE, **changes, **short},
                )
            finally:
                flare.close()
            studies[key] = Carried(run, flare, machines.take())
        return studies[key]

    yield carry
    studies.clear()


# --- (a) what of ours passes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_every_sealed_parcel_passes_once_as_exactly_its_bytes_and_nothing_else_of_ours(
    carried: Carry, name: str
) -> None:
    study = carried(name)
    assert study.run.error is None
    senders = {frame.sender for frame in study.frames}
    assert {machine(sender) for sender in senders if "." in sender} == {"server", *SITES}  # their jobs' processes
    sealed, passed = Counter(study.run.parcels), Counter(study.parcels)
    assert set(passed) <= set(sealed)
    faulty = name.endswith("faults")
    away = {KILLED} if faulty else set()  # of what was for, or from, a site that died, some was lost or said twice

    def of_others(parcels: Counter[tuple[str, str, bytes]]) -> Counter[tuple[str, str, bytes]]:
        return Counter({parcel: count for parcel, count in parcels.items() if not away & set(parcel[:2])})

    assert of_others(passed) == of_others(sealed)
    assert sum(of_others(passed).values()) > 50
    assert KILLED in {receiver for _, receiver, _ in passed}
    assert (KILLED in study.flare.lost) == (FAILING in study.flare.lost) == faulty
    assert any("taken in again" in note for note in study.flare.notes) == faulty


@pytest.mark.parametrize("name", ALL)
def test_ledgers_tell_what_passed_to_the_byte(carried: Carry, name: str) -> None:
    study = carried(name)
    away = {KILLED} if name.endswith("faults") else set()
    for party in {COORDINATOR, *SITES} - away:
        entries = [json.loads(line) for line in study.run.ledger(party).read_bytes().splitlines()]
        told = Counter(
            (entry["peer"], entry["wire_bytes"], entry["wire_sha256"])
            for entry in entries
            if entry["direction"] == "out" and entry["outcome"] in ("sent", "retried") and entry["peer"] not in away
        )
        seen = Counter(
            (receiver, len(wire), hashlib.sha256(wire).hexdigest())
            for sender, receiver, wire in study.parcels
            if sender == party and receiver not in away
        )
        assert seen
        assert seen == told


@pytest.mark.parametrize("name", ALL)
def test_every_parcel_that_passes_holds_only_what_everybody_may_know(carried: Carry, name: str) -> None:
    study = carried(name)
    wrong = [
        (sender, receiver, found)
        for sender, receiver, wire in study.parcels
        if (found := rules.complaints(sender, receiver, wire, study.run.known))
    ]
    assert wrong == []


# --- (b) no canary, and the converse --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_no_canary_no_feature_no_update_and_no_key_is_in_any_frame(carried: Carry, name: str) -> None:
    study = carried(name)
    kinds = {what.split(" x ")[0] for what in study.run.secrets.keys.values()}
    assert {"the seed of an identity", "the seed of a ledger key", "a derived key", "a share"} <= kinds
    assert len(study.run.secrets.words) >= len(SITES)
    assert study.run.everything.search(study.everything) == []
    planted_in = study.everything + json.dumps({"cn__topic": PLACES["patient"]}).encode()
    assert study.run.everything.search(planted_in)


@pytest.mark.parametrize("name", ["class means, with faults", pytest.param("private", marks=pytest.mark.slow)])
def test_without_masks_the_update_of_every_site_is_found_in_flares_frames(carried: Carry, name: str) -> None:
    study = carried(name, masked=False)
    assert study.run.error is not None  # what the coordinator makes of it is no sum
    updates = study.run.updates()
    vectors = {machine(frame.sender) for frame in study.crossing if updates.search(frame.payload, deep=False)}
    assert vectors == set(SITES)
    assert study.run.everything.search(study.everything, deep=False)


# --- (c) FLARE's own messages ---------------------------------------------------------------------------------------


def where(frame: reader.Frame) -> tuple[str, dict[tuple[str, str], int]]:
    """Between which ends a frame went, and the kinds that may."""
    sender, peer = machine(frame.sender), machine(frame.peer)
    if sender in SITES:
        return ("inside a site", INSIDE_A_SITE) if peer == sender else ("from a site", FROM_A_SITE)
    if peer in SITES or not peer:
        return "to a site", TO_A_SITE
    return "inside the coordinator", INSIDE_THE_COORDINATOR


@pytest.mark.parametrize("name", ALL)
def test_flares_own_messages_are_of_known_kinds_and_small(carried: Carry, name: str) -> None:
    study = carried(name)
    unknown, large = Counter[Any](), []
    for frame in study.frames:
        place, known = where(frame)
        if frame.kind not in known and (frame.kind != FRAME or place == "inside a site"):
            unknown[place, frame.kind] += 1
        elif len(frame.payload) > known.get(frame.kind, sys.maxsize):
            large.append((place, frame.kind, len(frame.payload)))
        if len(json.dumps(frame.headers)) > HEADERS:
            large.append((place, frame.kind, "headers"))
    assert unknown == {}
    assert large == []


@pytest.mark.parametrize("name", ALL)
def test_nothing_says_anything_of_a_machine_its_user_its_files_or_its_patients(
    carried: Carry, machines: Machines, planted: Planted, name: str
) -> None:
    study = carried(name)
    groups = {group for own in study.run.secrets.data.sites for group in own.train.groups}
    assert groups
    words = {*FACTS.values(), "/home/", str(machines.folder), str(study.run.folder.root), str(planted.root)}
    words |= {sys.prefix, ".py", ".sock", ".jsonl", ".pem", "metadata.csv", *groups, *PLACES.values()}
    words |= {"Traceback", "Error(", "Exception", "RuntimeError", EXCEPTION}
    left = [frame for frame in study.frames if machine(frame.peer) != machine(frame.sender)]
    sent = [frame for frame in left if where(frame)[0] != "inside the coordinator"]
    parts = {json.dumps(frame.headers).encode() for frame in sent}
    text = b"\n".join(parts | {frame.payload for frame in sent if frame.kind != FRAME})  # those are parcels, in (a)
    assert sorted(word for word in words if word.encode() in text) == []
    registered = [frame.headers for frame in sent if frame.kind == ("task", "register") and frame.sender in SITES]
    assert {headers["client_ip"] for headers in registered} <= {""}


def test_the_machines_names_were_there_to_be_told_and_every_site_registered(carried: Carry, machines: Machines) -> None:
    study = carried("class means, with faults")
    registered = {frame.sender for frame in study.frames if frame.kind == ("task", "register")}
    assert set(SITES) <= registered
    assert {"server", *SITES} <= {frame.sender for frame in study.frames}
    pretended = [json.loads(path.read_text()) for path in sorted((machines.hook / "pretended").iterdir())]
    assert len(pretended) >= 2 + 2 * len(SITES)
    assert all(told == [*FACTS.values()] for told in pretended)


# --- (d) what FLARE leaves on disk ----------------------------------------------------------------------------------


def test_flares_files_hold_no_parcel_no_canary_and_no_exception(carried: Carry, machines: Machines) -> None:
    study = carried("class means, with faults")
    assert [type(error) for error in study.flare.raised] == [RuntimeError]
    assert EXCEPTION in str(study.flare.raised[0])
    files = machines.files()
    assert sum(path.name == "log.txt" for path in files) > 2 * (1 + len(SITES))
    assert {"process.log", "audit.log", "meta.json"} <= {path.name for path in files}
    text = b"\n\x00\xff\n".join(path.read_bytes() for path in files)
    homes = [str(study.run.folder.root), str(study.run.planted.root), "relay.sock", "identity.pem", "ledger.jsonl"]
    words = [EXCEPTION, "RuntimeError", *homes, *PLACES.values(), *FACTS.values()]
    assert [word for word in words if word.encode() in text] == []
    assert study.run.everything.search(text) == []
    eyes = parcel_eyes(study)
    found = [text[find.position : find.position + 16] for find in eyes.search(text, deep=False)]
    assert found == []
    assert eyes.search(text) == []
    wire = max((wire for _, _, wire in study.parcels), key=len)
    for spelt in (wire, wire.hex().encode(), repr(wire).encode()):
        assert eyes.search(b"INFO got " + spelt)


def parcel_eyes(study: Carried) -> Detector:
    """Knows every 16 bytes of each parcel, but for runs of few values, and the study's hash, which is no secret."""
    detector, known = Detector(), set[bytes]()
    public = study.run.roster.study + study.run.roster.study.hex().encode()
    for wire in study.run.different:
        for start in range(0, len(wire) - 16, 16):
            window = wire[start : start + 16]
            if len(set(window)) > 10 and window not in public and window not in known:
                known.add(window)
                detector.add("a parcel", window)
                detector.add("a parcel, as Python shows bytes", repr(window)[2:-1].encode())
    return detector
