"""A site that was written from docs/protocol.md alone takes part in rounds beside ours.

`second_site.py` imports nothing of this project (a test looks), encodes messages from plain lists and does everything
slowly. Whatever it understands otherwise than the product shows as a refusal or as another sum.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from wardround.privacy.errors import Refusal
from wardround.privacy.messages import TO_COORDINATOR, TO_SITE, RoundEnd, RoundStart, decode, encode
from wardround.privacy.secure_aggregation import encoding
from wardround.privacy.secure_aggregation.coordinator import CoordinatorSession
from wardround.privacy.secure_aggregation.parameters import Block
from wardround.privacy.secure_aggregation.primitives import rounding_key
from wardround.privacy.secure_aggregation.session import SessionId, bind

from ..conftest import STUDY, Consortium, randomness

SOURCE = Path(__file__).with_name("second_site.py")
ADAPTER = b"any bytes are an adapter to the protocol"
BLOCKS = (
    Block("update", 70, 0.24, 8, bits=9),
    Block("buffers", 6, 4.0, 20),
    Block("counts", 3, 100.0, 0, weighted=False),
)


@pytest.fixture(scope="module")
def second() -> ModuleType:
    spec = importlib.util.spec_from_file_location("second_site", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings_of(number: int) -> bytes:
    return b'{"round":%d,"study":"%s"}' % (number, STUDY.hex().encode())


class Mixed:
    """A consortium in which some sites are the second implementation and the others ours."""

    def __init__(
        self, second: ModuleType, n: int, foreign: set[int], *, weighting: str, number: int, attempt: int
    ) -> None:
        self.second, self.weighting = second, weighting
        self.consortium = Consortium(n, blocks=BLOCKS, weighting=weighting)
        roster = self.consortium.roster
        self.session = SessionId(STUDY, number, "update", 0, attempt)
        self.settings = settings_of(number)
        binding = bind(ADAPTER, self.settings)
        draw = np.random.default_rng(n)
        self.vectors = {
            name: {
                block.name: draw.uniform(-1.2 * block.clip, 1.2 * block.clip, block.size).astype(np.float32)
                for block in BLOCKS
            }
            for name in roster.names
        }
        self.encoded = {
            name: encoding.encode(
                self.vectors[name], roster.blocks("update"), roster.weight_of(name), rounding_key(self.session, name)
            ).words
            for name in roster.names
        }
        signatures = {name: roster.sign(identity, name) for name, identity in self.consortium.identities.items()}
        self.ours, self.foreign = {}, {}
        for i, name in enumerate(roster.names):
            if i in foreign:
                self.foreign[name] = self._foreign(name, signatures)
            else:
                self.ours[name] = self.consortium.site(name, session=self.session, binding=binding)
        self.coordinator = CoordinatorSession(self.consortium.pinned, self.session, binding)

    def _foreign(self, name: str, signatures: dict[str, bytes]) -> Any:

        roster = self.consortium.roster
        values = {block: vector.tolist() for block, vector in self.vectors[name].items()}
        seed = hashlib.sha256(name.encode()).digest()
        assert self.second.SecondSite.sign_roster(name, seed, roster.to_bytes()) == signatures[name]
        return self.second.SecondSite(
            name,
            seed,
            roster.to_bytes(),
            signatures,
            set(roster.names),
            lambda *_: values,
            randomness(f"second/{name}"),
        )

    def ask(self, name: str, request: Any, stage: str) -> Any:
        """A site's reply as it comes off the wire."""
        wire = encode(request)
        if name in self.foreign:
            reply = self.foreign[name].handle(wire)
            assert reply == self.foreign[name].handle(wire)  # asked again, the same bytes
        else:
            message = decode(wire, TO_SITE, self.consortium.limits)
            extra = (self.encoded[name].copy(),) if stage == "mask" else ()
            reply = encode(getattr(self.ours[name], stage)(message, *extra))
        return decode(reply, TO_COORDINATOR, self.consortium.limits)

    def run(self, **absent: set[int]) -> Any:
        names = self.consortium.roster.names
        gone: set[str] = set()

        def take(stage: str, requests: Any) -> None:
            gone.update(names[i] for i in absent.get(stage, ()))
            for name, request in dict(requests).items():
                if name not in gone:
                    self.coordinator.feed(name, self.ask(name, request, stage))

        start = RoundStart(self.session, ADAPTER, self.settings)
        for name in names:
            if names.index(name) in absent.get("advertise", ()):
                gone.add(name)
            elif name in self.foreign:
                self.coordinator.feed(name, self.ask(name, start, "advertise"))
            else:
                self.coordinator.feed(name, self.ours[name].advertise())
        take("share", self.coordinator.close_advertise())
        take("mask", self.coordinator.close_share())
        take("agree", self.coordinator.close_mask())
        take("unmask", self.coordinator.close_agree())
        return self.coordinator.finish()


CASES: dict[str, tuple[int, set[int], dict[str, set[int]]]] = {
    "one of three": (3, {1}, {}),
    "all of three": (3, {0, 1, 2}, {}),
    "first and last of five": (5, {0, 4}, {}),
    "one of ours drops before the mask": (5, {0, 2}, {"mask": {1}}),
    "one of theirs drops before the mask": (5, {0, 2}, {"mask": {2}}),
    "one drops at the start, one at the end": (7, {1, 3, 6}, {"advertise": {0}, "unmask": {4}}),
    "one signs no more": (7, {1, 3, 6}, {"share": {5}, "agree": {3}}),
}


@pytest.mark.parametrize("weighting", ["weighted", "uniform"])
@pytest.mark.parametrize("case", sorted(CASES))
def test_a_round_with_the_second_implementation_gives_the_plain_sum(
    second: ModuleType, case: str, weighting: str
) -> None:
    n, foreign, absent = CASES[case]
    mixed = Mixed(second, n, foreign, weighting=weighting, number=300, attempt=2)
    released = mixed.run(**absent)
    lost = {i for stage in ("advertise", "share", "mask") for i in absent.get(stage, ())}
    names = mixed.consortium.roster.names
    assert released.survivors == tuple(name for i, name in enumerate(names) if i not in lost)
    plain = np.sum([mixed.encoded[name] for name in released.survivors], axis=0, dtype=np.uint32)
    assert released.ring.tolist() == plain.tolist()


def test_it_refuses_what_ours_refuses_with_the_same_code(second: ModuleType) -> None:
    mixed = Mixed(second, 4, {0}, weighting="uniform", number=1, attempt=0)
    name = mixed.consortium.roster.names[0]
    start = RoundStart(mixed.session, ADAPTER, mixed.settings)
    other = RoundStart(mixed.session, ADAPTER, settings_of(2))
    for request, code in ((other, Refusal.OTHER_ADAPTER), (start, None)):
        reply = decode(mixed.foreign[name].handle(encode(request)), TO_COORDINATOR, mixed.consortium.limits)
        assert getattr(reply, "code", None) == code
        if code is not None:
            assert (reply.site, reply.stage, reply.peer) == (name, "start", "")  # type: ignore[union-attr]
    assert mixed.foreign[name].handle(encode(RoundEnd(mixed.session, "released", bytes(32)))) is None


def test_it_is_independent_of_this_project() -> None:
    for node in ast.walk(ast.parse(SOURCE.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert not (node.module or "").startswith("wardround")
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("wardround") for alias in node.names)
