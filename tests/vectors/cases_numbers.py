"""Known answers for fixed point, packing and trees."""

from __future__ import annotations

import slow_reference as ref
import topics
from topics import Topic, block, flipped

# Entries of the reference tree of the Certificate Transparency project, and the roots of the first 1 to 8 of them.
TREE_ENTRIES = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
TREE_ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def fixed_point() -> dict:
    topic = Topic(
        "fixed-point",
        "docs/protocol.md, section Parameters. Floats are text, as Python prints them; words are numbers modulo 2^32. "
        "`bounds` checks blocks at set-up, `encode` is a site's, `decode` the coordinator's.",
    )

    def encode_input(
        blocks: list[dict], values: dict[str, list[str]], weight: str, rounding: bytes = b"", dtype: str = "float64"
    ) -> dict:
        return {
            "operation": "encode-vector",
            "blocks": blocks,
            "values": values,
            "dtype": dtype,
            "weight": weight,
            "rounding": rounding.hex(),
        }

    def encode(
        name: str, comment: str, blocks: list[dict], values: dict, weight: str = "1.0", rounding: bytes = b""
    ) -> None:
        words, clipped = [], {}
        for entry in blocks:
            numbers = [float(value) for value in values[entry["name"]]]
            factor = float(weight) if entry["weighted"] else 1.0
            encoded, clipped[entry["name"]] = ref.encode_block(entry, numbers, factor, rounding)
            words += encoded
        topic.accept(
            name, comment, encode_input(blocks, values, weight, rounding), {"words": words, "clipped": clipped}
        )

    unit = block("update", 4, "1.0", 2)
    encode(
        "halves-to-even",
        "0.5, 1.5, 2.5 and -0.5 steps of 1/4.",
        [unit],
        {"update": ["0.125", "0.375", "0.625", "-0.125"]},
    )
    encode("signs", "Two's complement; minus zero is zero.", [unit], {"update": ["1.0", "-1.0", "-0.0", "-0.25"]})
    encode("clipped", "Cut at the clip and counted.", [unit], {"update": ["1.5", "-7.0", "1.0", "1.0000000000000002"]})
    fine = block("update", 4)
    encode("default-step", "2^-20.", [fine], {"update": ["0.1", "-0.1", "1e-07", "0.9999999"]})
    encode(
        "weighted",
        "Clip first, then the weight.",
        [fine],
        {"update": ["0.1", "-2.0", "0.3", "1.0"]},
        "1.7857142857142858",
    )
    encode("weight-zero", "Nothing of this site.", [fine], {"update": ["0.1", "-2.0", "0.3", "1.0"]}, "0.0")
    counts = block("counts", 2, "100.0", 0, False)
    both = {"update": ["0.5", "-0.5", "0.25", "0.0"], "counts": ["17.0", "99.5"]}
    encode("unweighted-block", "Counts are multiplied by 1.", [fine, counts], both, "0.5")
    encode("tiny", "The smallest float64 is no step.", [fine], {"update": ["5e-324", "-5e-324", "1e-300", "0.0"]})
    single = {"update": ["0.10000000149011612", "-0.25", "1.0", "0.3333333432674408"]}
    words, clipped = ref.encode_block(fine, [float(value) for value in single["update"]], 0.75, None)
    topic.accept(
        "from-float32",
        "The same numbers in float32 are widened before anything else.",
        encode_input([fine], single, "0.75", dtype="float32"),
        {"words": words, "clipped": {"update": clipped}},
    )
    packed = block("update", 4, "0.5", 6, bits=8)
    key = ref.digest("rounding", ref.session_bytes(topics.session(attempt=0)), b"alpha")
    values = {"update": ["0.3", "-0.3", "0.499", "-0.001"]}
    encode("packed", "Rounded up or down by the key's stream.", [packed], values, "1.0", key)
    encode("packed-other-key", "Another site, another rounding.", [packed], values, "1.0", ref.sha256(b"another"))
    sharp = block("update", 5, "1.99", 6, bits=8)
    encode(
        "packed-at-most",
        "127.36 steps: 127 is the most that 8 bits hold, however it is rounded.",
        [sharp],
        {"update": ["-2.0", "2.0", "-2.0", "1.98", "-2.0"]},
        "1.0",
        key,
    )
    other = {**packed, "name": "other", "size": 2}
    two = {"other": ["0.3", "-0.3"], **values}
    encode("packed-two-blocks", "Each block has its own stream.", [other, packed], two, "1.0", key)

    def decode_input(blocks: list[dict], total: list[int], weights: list[str], sites: int) -> dict:
        return {"operation": "decode-sum", "blocks": blocks, "total": total, "weights": weights, "sites": sites}

    def decode(name: str, comment: str, blocks: list[dict], total: list[int], weights: list[str], sites: int) -> None:
        decoded, start = {}, 0
        for entry in blocks:
            ring = ref.ring_of(entry, sites)
            part = [ref.signed(word, ring) for word in total[start : start + entry["size"]]]
            most = sum(ref.limit(entry, float(w) if entry["weighted"] else 1.0) for w in weights)
            assert all(abs(value) <= most for value in part)
            decoded[entry["name"]] = [repr(value / 2 ** entry["fraction_bits"]) for value in part]
            start += entry["size"]
        topic.accept(name, comment, decode_input(blocks, total, weights, sites), {"values": decoded})

    decode("decode", "Signed numbers times 2^-2.", [unit], [1, 2**32 - 1, 0, 6], ["1.0"] * 3, 3)
    decode("decode-at-bound", "Three times floor(1 * 2^2) + 1.", [unit], [15, 2**32 - 15, 0, 0], ["1.0"] * 3, 3)
    decode("decode-weights", "The survivors' own weights.", [unit], [13, 2**32 - 13, 0, 0], ["0.5", "1.0", "1.25"], 4)
    decode(
        "decode-packed", "Reduced modulo 2^10 first.", [packed], [2**10 + 5, 2**10 - 5, 3, 2**32 - 1], ["1.0"] * 3, 3
    )
    most = 3 * ref.limit(packed, 1.0)
    decode("decode-packed-at-bound", "99 = 3 * (32 + 1).", [packed], [most, 2**10 - most, 0, 0], ["1.0"] * 3, 3)

    def bounds_input(blocks: list[dict], sites: int, w_max: str) -> dict:
        return {"operation": "bounds", "blocks": blocks, "sites": sites, "w_max": w_max}

    def bounds(name: str, comment: str, blocks: list[dict], sites: int, w_max: str) -> None:
        factors = [float(w_max) if entry["weighted"] else 1.0 for entry in blocks]
        output = {
            "limits": [ref.limit(entry, factor) for entry, factor in zip(blocks, factors, strict=True)],
            "rings": [ref.ring_of(entry, sites) for entry in blocks],
        }
        topic.accept(name, comment, bounds_input(blocks, sites, w_max), output)

    fits, over = block("update", 1, "536870909.0", 0), block("update", 1, "536870911.0", 0)
    assert 4 * ref.limit(fits, 1.0) < 2**31 == 4 * ref.limit(over, 1.0)
    bounds("ring-just-fits", "4 * (536870909 + 1) < 2^31.", [fits], 4, "1.0")
    bounds("usual", "Clip 1 at 2^-20, 100 sites, weights up to 4.", [fine, counts], 100, "4.0")
    eight = block("update", 1, "127.0", 0, bits=8)
    bounds("packed-just-fits", "127 in 8 bits; 17 sites need 5 bits more.", [eight], 17, "1.0")
    bounds("packed-sixteen-sites", "16 sites need 4 bits more.", [eight], 16, "1.0")

    plain = {"update": ["0.1", "0.2", "0.3", "0.4"]}
    refused = "EncodingError"
    for name, bad in (("nan", "nan"), ("infinity", "inf"), ("minus-infinity", "-inf")):
        topic.reject(name, "Not finite.", encode_input([fine], {"update": ["0.1", bad, "0.3", "0.4"]}, "1.0"), refused)
    late = encode_input([fine, counts], {**plain, "counts": ["1.0", "nan"]}, "1.0")
    topic.reject("nan-in-unweighted-block", "In the last place.", late, refused)
    for name, weight in (("negative", "-0.5"), ("nan", "nan"), ("infinite", "inf"), ("overflowing", "2048.0")):
        comment = (
            "2048 * 2^20 = 2^31 leaves the ring." if name == "overflowing" else "A weight is 0 or more and finite."
        )
        topic.reject(f"weight-{name}", comment, encode_input([fine], plain, weight), refused)
    topic.reject("block-missing", "No counts.", encode_input([fine, counts], plain, "1.0"), refused)
    extra = {**plain, "counts": ["1.0", "1.0"]}
    topic.reject("block-unknown", "Counts are not described.", encode_input([fine], extra, "1.0"), refused)
    topic.reject(
        "wrong-size",
        "Three coordinates of four.",
        encode_input([fine], {"update": plain["update"][:3]}, "1.0"),
        refused,
    )
    whole = encode_input([fine], {"update": ["1.0"] * 4}, "1.0", dtype="int64")
    topic.reject("not-floats", "Whole numbers are not scaled in silence.", whole, refused)
    topic.reject("packed-without-key", "No rounding key.", encode_input([packed], values, "1.0"), refused)
    for name, comment, blocks, total in (
        ("sum-above-bound", "16 > 15.", [unit], [16, 0, 0, 0]),
        ("sum-below-bound", "-16 < -15.", [unit], [0, 0, 0, 2**32 - 16]),
        ("sum-most-negative", "-2^31 has no positive counterpart.", [unit], [0, 2**31, 0, 0]),
        ("packed-sum-above-bound", "100 > 99.", [packed], [most + 1, 0, 0, 0]),
        ("sum-too-short", "Three words of four.", [unit], [1, 2, 3]),
        ("sum-too-long", "Five words of four.", [unit], [1, 2, 3, 4, 5]),
    ):
        topic.reject(name, comment, decode_input(blocks, total, ["1.0"] * 3, 3), refused)
    fewer = decode_input([unit], [11, 0, 0, 0], ["1.0"] * 2, 3)
    topic.reject("sum-of-fewer", "11 fits three survivors, not two.", fewer, refused)
    wide = block("update", 1, "0.1", 6, bits=24)
    for name, comment, blocks, sites, w_max in (
        ("ring-overflow", "4 * (536870911 + 1) = 2^31.", [over], 4, "1.0"),
        ("ring-overflow-by-weight", "Fits at weight 1, not at 1.5.", [fits], 4, "1.5"),
        ("packed-overflow", "128 in 8 bits.", [{**eight, "clip": "128.0"}], 3, "1.0"),
        ("packed-ring-full", "24 bits and 8 for 129 sites are 32.", [wide], 129, "1.0"),
        ("bits-too-few", "7 value bits.", [{**eight, "bits": 7}], 3, "1.0"),
        ("clip-nan", "No bound at all.", [{**fine, "clip": "nan"}], 3, "1.0"),
        ("clip-zero", "Nothing could be sent.", [{**fine, "clip": "0.0"}], 3, "1.0"),
    ):
        topic.reject(name, comment, bounds_input(blocks, sites, w_max), "ParameterError")
    return topic.file()


def packing() -> dict:
    topic = Topic(
        "packing",
        "Packed blocks: coordinates in 32 rows of G = ceil(d / 32), padded with zeros; a column's 32 values are one "
        "number, the first row lowest; its word w stands at w * G + column, little-endian. `vector` is the check of a "
        "masked vector by the coordinator. A roster is named by its case in roster.json.",
    )

    def words_of(size: int, seed: str) -> list[int]:
        stream = ref.key_stream(ref.sha256(seed.encode()), 4 * size)
        return [int.from_bytes(stream[4 * i : 4 * i + 4], "big") for i in range(size)]

    def given(words: list[int], ring: int) -> dict:
        return {"operation": "pack", "words": words, "ring": ring}

    def accept(name: str, comment: str, words: list[int], ring: int) -> None:
        topic.accept(name, comment, given(words, ring), {"bytes": ref.pack(words, ring).hex()})

    def back(name: str, comment: str, words: list[int], ring: int) -> None:
        packed = {"operation": "unpack", "bytes": ref.pack(words, ring).hex(), "size": len(words), "ring": ring}
        topic.accept(name, comment, packed, {"values": [ref.signed(word, ring) for word in words]})

    accept("full-ring", "32 bits are 32-bit words.", [1, 2**32 - 1, 0x01020304], 32)
    accept("one-value", "Three values in ring 10.", [1, 2, 3], 10)
    accept("negative", "Two's complement, cut to the ring.", [2**32 - 1, 2**32 - 2, 5], 10)
    accept("straddling", "Values lie across two words.", words_of(8, "straddling"), 17)
    accept("thirty-two", "One full column.", words_of(32, "column"), 9)
    accept("thirty-three", "Two columns; row 16 is half full.", words_of(33, "two columns"), 14)
    accept("ring-16", "Two values a word.", words_of(4, "half"), 16)
    accept("ring-31", "The widest packed ring.", words_of(4, "widest"), 31)
    back("unpack", "Signed numbers come back.", [5, 2**32 - 5, 511, 2**32 - 512], 10)
    back("unpack-full-ring", "All 32 bits.", [1, 2**31, 2**32 - 1], 32)
    back("unpack-two-columns", "35 values in ring 14.", words_of(35, "back"), 14)
    back("unpack-straddling", "Values across two words.", words_of(5, "straddling"), 25)

    some, pairs = [1, 2, 3], words_of(33, "two columns")
    naive = sum(word << 10 * i for i, word in enumerate([513, 2, 3])).to_bytes(40, "little")
    assert naive == ref.pack([513, 2, 3], 10)  # with one column both orders are the same
    side_by_side = sum(word % 2**14 << 14 * i for i, word in enumerate(pairs)).to_bytes(112, "little")
    topic.claim(
        "side-by-side", "Neighbours do not share a word where there are two columns.", given(pairs, 14), side_by_side
    )
    big_endian = b"".join(ref.pack(some, 10)[i : i + 4][::-1] for i in range(0, 40, 4))
    topic.claim("big-endian-words", "Words are little-endian.", given(some, 10), big_endian)
    topic.claim("no-padding", "Rows are filled up to 32.", given(some, 10), ref.pack(some, 10)[:4])
    topic.claim("other-ring", "Ring 11 in place of 10.", given(some, 10), ref.pack(some, 11))
    topic.claim("not-packed", "4 bytes a value only in the full ring.", given(some, 10), ref.pack(some, 32))

    roster, one, signer = topics.three_rings(), topics.session(), "alpha"

    def vector(parts: list[list[int]], rings: tuple[int, ...] = (10, 32, 14)) -> bytes:
        return b"".join(ref.pack(part, ring) for part, ring in zip(parts, rings, strict=True))

    def checked(data: bytes) -> dict:
        check = ref.checksum(one, signer, data)
        signature = ref.ed25519_sign(topics.SEEDS[signer], ref.statement("masked-vector", roster, one, signer, check))
        return {
            "operation": "vector",
            "roster": "three-rings",
            "session": one,
            "site": signer,
            "vector": data.hex(),
            "checksum": check.hex(),
            "signature": signature.hex(),
        }

    parts = [[1, 2, 3], [7, 2**32 - 1], words_of(33, "tail")]
    right = vector(parts)
    topic.accept("vector", "Three blocks in rings of 10, 32 and 14 bits.", checked(right), {})
    topic.accept(
        "vector-all-ones", "Every bit of every coordinate.", checked(vector([[2**32 - 1] * n for n in (3, 2, 33)])), {}
    )
    topic.accept("vector-zeros", "A masked vector may be anything.", checked(bytes(len(right))), {})
    for name, comment, filled in (
        ("padding-after-first", "Row 3 of the first block.", [[1, 2, 3, 1], parts[1], parts[2]]),
        ("padding-last-row", "Row 31 of the first block, its highest bit.", [[0] * 31 + [512], parts[1], parts[2]]),
        ("padding-half-row", "The second half of row 16 of the last block.", [parts[0], parts[1], [*parts[2], 1]]),
        ("padding-row-of-its-own", "Row 20 of the last block.", [parts[0], parts[1], parts[2] + [0] * 7 + [1 << 13]]),
        ("padding-very-last", "The very last bit.", [parts[0], parts[1], parts[2] + [0] * 30 + [1 << 13]]),
    ):
        assert len(vector(filled)) == len(right)
        topic.reject(name, comment, checked(vector(filled)), "malformed")
    for name, comment, data in (
        ("vector-short", "One byte is missing.", right[:-1]),
        ("vector-word-short", "One word is missing.", right[:-4]),
        ("vector-long", "One word too many.", right + bytes(4)),
        ("vector-empty", "No bytes.", b""),
        ("vector-unpacked", "4 bytes a coordinate.", vector(parts, (32, 32, 32))),
        ("vector-without-last-block", "Two blocks of three.", right[:48]),
    ):
        topic.reject(name, comment, checked(data), "wrong-length")
    damaged = {**checked(right), "vector": flipped(right, 3).hex()}
    topic.reject("vector-damaged", "A bit of a coordinate flipped on the way.", damaged, "corrupted")
    return topic.file()


def merkle() -> dict:
    topic = Topic(
        "merkle",
        "RFC 9162 section 2.1 over leaf hashes; entries and roots of the reference tree of the Certificate "
        "Transparency project. Index and size are the verifier's own knowledge.",
    )
    leaves = [ref.leaf_hash(bytes.fromhex(entry)) for entry in TREE_ENTRIES]
    topic.accept(
        "leaf-hash",
        "SHA-256 of a zero byte and the entry.",
        {"operation": "leaf-hash", "entry": "2021"},
        {"hash": leaves[3].hex()},
    )
    for size, root in enumerate(TREE_ROOTS, 1):
        assert ref.tree_root(leaves[:size]).hex() == root
        given = {"operation": "root", "leaves": [leaf.hex() for leaf in leaves[:size]]}
        topic.accept(f"root-{size}", f"The first {size} entries.", given, {"root": root})

    def path(index: int, size: int) -> list[bytes]:
        return ref.tree_path(leaves[:size], index)

    for index, size in ((0, 8), (5, 8), (2, 3), (1, 5)):
        given = {"operation": "path", "leaves": [leaf.hex() for leaf in leaves[:size]], "index": index}
        joined = b"".join(path(index, size)).hex()
        topic.accept(f"path-{index}-of-{size}", "From the leaf's sibling up.", given, {"path": joined})

    def verify(index: int, size: int, steps: list[bytes], leaf: bytes, root: str) -> dict:
        return {
            "operation": "inclusion",
            "leaf": leaf.hex(),
            "index": index,
            "size": size,
            "path": b"".join(steps).hex(),
            "root": root,
        }

    for index, size in ((0, 1), (5, 8), (2, 3), (4, 5), (6, 7)):
        steps = path(index, size)
        assert ref.tree_holds(leaves[index], index, size, steps, bytes.fromhex(TREE_ROOTS[size - 1]))
        given = verify(index, size, steps, leaves[index], TREE_ROOTS[size - 1])
        topic.accept(f"inclusion-{index}-of-{size}", "At its place.", given, {})
    assert ref.tree_holds(leaves[0], 0, 7, path(0, 8), bytes.fromhex(TREE_ROOTS[7]))
    topic.accept(
        "inclusion-size-is-not-proved",
        "Entry 0 of 8 has the same steps as entry 0 of 7: a path proves a place, not a size, which the verifier knows.",
        verify(0, 7, path(0, 8), leaves[0], TREE_ROOTS[7]),
        {},
    )

    five, three, root8 = path(5, 8), path(2, 3), TREE_ROOTS[7]
    inner = ref.node_hash(leaves[4], leaves[5])
    wrong = {
        "wrong-index": ("Entry 5 at place 4.", verify(4, 8, five, leaves[5], root8)),
        "wrong-index-far": ("Entry 5 at place 1.", verify(1, 8, five, leaves[5], root8)),
        "wrong-leaf": ("Entry 4 at place 5.", verify(5, 8, five, leaves[4], root8)),
        "wrong-root": ("The root of seven entries.", verify(5, 8, five, leaves[5], TREE_ROOTS[6])),
        "size-too-large": ("Nine entries need a fourth step.", verify(5, 9, five, leaves[5], root8)),
        "size-too-small": ("Of six entries, entry 5 has two steps.", verify(5, 6, five, leaves[5], root8)),
        "index-is-size": ("Places count from 0.", verify(8, 8, five, leaves[5], root8)),
        "index-negative": ("No place.", verify(-1, 8, five, leaves[5], root8)),
        "size-zero": ("An empty tree holds nothing.", verify(0, 0, [], leaves[0], TREE_ROOTS[0])),
        "path-empty": ("No steps.", verify(5, 8, [], leaves[5], root8)),
        "path-step-missing": ("Two steps of three.", verify(5, 8, five[:2], leaves[5], root8)),
        "path-step-too-many": ("A fourth step.", verify(5, 8, [*five, five[0]], leaves[5], root8)),
        "path-half-step": ("The last step has 16 bytes.", verify(5, 8, [*five[:2], five[2][:16]], leaves[5], root8)),
        "path-bit": ("A bit of the second step.", verify(5, 8, [five[0], flipped(five[1]), five[2]], leaves[5], root8)),
        "path-reversed": ("From the root down.", verify(5, 8, five[::-1], leaves[5], root8)),
        "path-for-one": ("A single entry has no steps.", verify(0, 1, [leaves[1]], leaves[0], TREE_ROOTS[0])),
        "last-as-pair": ("Entry 2 of 3 rises alone.", verify(2, 3, [leaves[2], *three], leaves[2], TREE_ROOTS[2])),
        "inner-node-as-leaf": ("A node's hash in place of a leaf's.", verify(2, 8, five[1:], inner, root8)),
        "inner-node-at-its-level": ("A node of a smaller tree.", verify(2, 4, five[1:], ref.leaf_hash(inner), root8)),
    }
    for name, (comment, given) in wrong.items():
        steps = [bytes.fromhex(given["path"])[i : i + 32] for i in range(0, len(given["path"]) // 2, 32)]
        place = given["index"], given["size"]
        assert not ref.tree_holds(bytes.fromhex(given["leaf"]), *place, steps, bytes.fromhex(given["root"]))
        topic.reject(name, comment, given, "mismatch")
    topic.reject("empty-tree", "A tree needs a leaf.", {"operation": "root", "leaves": []}, "ValueError")
    first_two = bytes.fromhex(TREE_ROOTS[1])
    doubled = ref.node_hash(first_two, ref.node_hash(leaves[2], leaves[2]))
    given = {"operation": "root", "leaves": [leaf.hex() for leaf in leaves[:3]]}
    topic.claim("last-leaf-doubled", "An odd last leaf is not paired with itself.", given, doubled)
    topic.claim("no-node-prefix", "Nodes are hashed after a one byte.", given, ref.sha256(first_two + leaves[2]))
    return topic.file()
