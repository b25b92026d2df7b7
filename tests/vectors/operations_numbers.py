"""Inputs about fixed point, packing and trees, each put to the product."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
from operations import Operation, RefusedError, Strict, raw
from wardround.privacy import merkle
from wardround.privacy.secure_aggregation import encoding, packing
from wardround.privacy.secure_aggregation.parameters import Block, check_blocks

# --- numbers -------------------------------------------------------------------------------------------------------


class BlockRow(Strict, frozen=True):
    name: str
    size: int
    clip: str
    fraction_bits: int
    weighted: bool
    bits: int

    @property
    def block(self) -> Block:
        return Block(self.name, self.size, float(self.clip), self.fraction_bits, self.weighted, self.bits)


class Encode(Operation, frozen=True, tag="encode-vector"):
    blocks: list[BlockRow]
    values: dict[str, list[str]]
    dtype: Literal["float32", "float64", "int64"]
    weight: str
    rounding: str
    gives = ("words", "clipped")

    def run(self) -> dict[str, Any]:
        parts = {name: np.array(list(map(float, row))).astype(self.dtype) for name, row in self.values.items()}
        blocks, key = [row.block for row in self.blocks], raw(self.rounding) or None
        encoded = encoding.encode(parts, blocks, float(self.weight), key)
        return {"words": encoded.words.tolist(), "clipped": dict(encoded.clipped)}


class Decode(Operation, frozen=True, tag="decode-sum"):
    blocks: list[BlockRow]
    total: list[int]
    weights: list[str]
    sites: int
    gives = ("values",)

    def run(self) -> dict[str, Any]:
        total, blocks = np.array(self.total, dtype="<u4"), [row.block for row in self.blocks]
        values = encoding.decode_sum(total, blocks, list(map(float, self.weights)), self.sites)
        return {"values": {name: [repr(float(x)) for x in part] for name, part in values.items()}}


class Bounds(Operation, frozen=True, tag="bounds"):
    blocks: list[BlockRow]
    sites: int
    w_max: str
    gives = ("limits", "rings")

    def run(self) -> dict[str, Any]:
        blocks, w_max = [row.block for row in self.blocks], float(self.w_max)
        check_blocks(blocks, self.sites, w_max)
        limits = [block.limit(w_max if block.weighted else 1.0) for block in blocks]
        return {"limits": limits, "rings": [block.ring(self.sites) for block in blocks]}


class Pack(Operation, frozen=True, tag="pack"):
    words: list[int]
    ring: int
    gives = ("bytes",)

    def run(self) -> dict[str, Any]:
        packed = packing.pack(np.array(self.words, dtype="<u4"), self.ring)
        assert len(packed) == packing.packed_bytes(len(self.words), self.ring)
        return self.one(packed)


class Unpack(Operation, frozen=True, tag="unpack"):
    bytes_: str = msgspec.field(name="bytes")
    size: int
    ring: int
    gives = ("values",)

    def run(self) -> dict[str, Any]:
        total = np.zeros(self.size, dtype="<u4")
        packing.add_packed(memoryview(raw(self.bytes_)), self.ring, total)
        packing.reduce_signed(total, self.ring)
        return {"values": total.view(np.int32).tolist()}


class LeafHash(Operation, frozen=True, tag="leaf-hash"):
    entry: str
    gives = ("hash",)

    def run(self) -> dict[str, Any]:
        return self.one(merkle.leaf_hash(raw(self.entry)))


class Root(Operation, frozen=True, tag="root"):
    leaves: list[str]
    gives = ("root",)

    def run(self) -> dict[str, Any]:
        return self.one(merkle.Tree(list(map(raw, self.leaves))).root)


class InclusionPath(Operation, frozen=True, tag="path"):
    leaves: list[str]
    index: int
    gives = ("path",)

    def run(self) -> dict[str, Any]:
        return self.one(merkle.Tree(list(map(raw, self.leaves))).path(self.index))


class Inclusion(Operation, frozen=True, tag="inclusion"):
    leaf: str
    index: int
    size: int
    path: str
    root: str

    def run(self) -> dict[str, Any]:
        if merkle.root_from_path(raw(self.leaf), self.index, self.size, raw(self.path)) != raw(self.root):
            raise RefusedError("mismatch")
        return {}
