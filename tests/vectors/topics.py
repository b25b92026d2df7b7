"""How a file of known answers is put together, and the sites, keys and sessions that several of them use."""

from __future__ import annotations

import slow_reference as ref

STUDY = ref.sha256(b"a study")
SITES = ("alpha", "beta", "gamma")
SEEDS = {name: ref.sha256(b"identity of " + name.encode()) for name in SITES}
IDENTITIES = {name: ref.ed25519_public(seed) for name, seed in SEEDS.items()}
COORDINATOR_SEED = ref.sha256(b"identity of coordinator")
COORDINATOR_PUBLIC = ref.ed25519_public(COORDINATOR_SEED)


class Topic:
    """The cases of one file; an accepted one has an output, a rejected one the name of its refusal."""

    def __init__(self, topic: str, source: str) -> None:
        self.topic, self.source = topic, source
        self.cases: list[dict] = []

    def accept(self, name: str, comment: str, given: dict, output: dict) -> None:
        self._add(name, comment, "accept", given, "output", output)

    def reject(self, name: str, comment: str, given: dict, refusal: str) -> None:
        self._add(name, comment, "reject", given, "refusal", refusal)

    def claim(self, name: str, comment: str, given: dict, claimed: bytes) -> None:
        """A value that must not come out: it belongs to another input, or to another way of computing it."""
        self.reject(name, comment, {**given, "claimed": claimed.hex()}, "mismatch")

    def _add(self, name: str, comment: str, expect: str, given: dict, key: str, result: object) -> None:
        case = {"name": name, "comment": comment, "expect": expect, "input": given, key: result}
        self.cases.append(case)

    def file(self) -> dict:
        return {"topic": self.topic, "source": self.source, "cases": self.cases}


def session(
    round_: int = 3, purpose: str = "update", sequence: int = 0, attempt: int = 1, study: bytes = STUDY
) -> dict:
    return {"study": study.hex(), "round": round_, "purpose": purpose, "sequence": sequence, "attempt": attempt}


def flipped(data: bytes, bit: int = 0) -> bytes:
    """The same bytes with one bit changed, counted from the first byte's lowest."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def block(
    name: str, size: int, clip: str = "1.0", fraction_bits: int = 20, weighted: bool = True, bits: int = 32
) -> dict:
    return {
        "name": name,
        "size": size,
        "clip": clip,
        "fraction_bits": fraction_bits,
        "weighted": weighted,
        "bits": bits,
    }


def roster_block(given: dict) -> dict:
    """A block as it stands in a roster: all values as text."""
    return {
        **{key: str(given[key]) for key in ("name", "size", "clip", "fraction_bits", "bits")},
        "weighted": "yes" if given["weighted"] else "no",
    }


def roster(**changes: object) -> dict:
    """Three sites, one block of three coordinates; ``changes`` replace whole entries."""
    return {
        "version": 1,
        "study": STUDY.hex(),
        "threshold": 2,
        "cohort": 3,
        "differential_privacy": False,
        "weighting": "weighted",
        "w_max": "4.0",
        "sites": [
            {"name": name, "public_key": IDENTITIES[name].hex(), "samples": samples}
            for name, samples in zip(SITES, (100, 250, 70), strict=True)
        ],
        "vectors": {"update": [roster_block(block("update", 3))]},
        "evaluation_cohort": list(SITES),
        **changes,
    }


def three_rings() -> dict:
    """The roster `three-rings`: two packed blocks, one of the full ring between them."""
    blocks = [
        block("update", 3, "0.125", 9, bits=8),
        block("moments", 2, "4.0"),
        block("tail", 33, "1.0", 9, bits=12),
    ]
    assert [ref.ring_of(entry, 3) for entry in blocks] == [10, 32, 14]
    return roster(weighting="uniform", vectors={"update": [roster_block(entry) for entry in blocks]})
