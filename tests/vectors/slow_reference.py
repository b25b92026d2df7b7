"""A second, slow implementation of docs/protocol.md for the known answers: plain integers, one obvious step at a time.

It takes nothing from the product and no shortcut of it, so that the two check each other. From ``cryptography`` come
one AES block and Ed25519; X25519, HKDF, GCM, Shamir, fixed point, packing, trees and msgpack are written out here.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from fractions import Fraction

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

LABEL = b"wardround/v1/"
CURVE_PRIME = 2**255 - 19
SHAMIR_PRIME = 2**256 + 297
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def transcript(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def digest(label: str, *parts: bytes) -> bytes:
    return sha256(transcript(LABEL + label.encode(), *parts))


def session_bytes(session: dict) -> bytes:
    return transcript(
        bytes.fromhex(session["study"]),
        session["round"].to_bytes(4, "big"),
        session["purpose"].encode(),
        session["sequence"].to_bytes(4, "big"),
        session["attempt"].to_bytes(4, "big"),
    )


# --- keys ----------------------------------------------------------------------------------------------------------


def hkdf(secret: bytes, info: bytes, length: int = 32, salt: bytes = bytes(32)) -> bytes:
    """RFC 5869 with SHA-256; no salt means 32 zero bytes."""
    key, block, out, counter = hmac.new(salt, secret, hashlib.sha256).digest(), b"", b"", 1
    while len(out) < length:
        block = hmac.new(key, block + info + bytes([counter]), hashlib.sha256).digest()
        out, counter = out + block, counter + 1
    return out[:length]


def x25519(private: bytes, public: bytes) -> bytes:
    """RFC 7748, section 5: the Montgomery ladder. All zero for a low-order key."""
    p = CURVE_PRIME
    k = int.from_bytes(private, "little") & ~7 & (2**255 - 1) | 2**254
    u = (int.from_bytes(public, "little") & (2**255 - 1)) % p
    x2, z2, x3, z3 = 1, 0, u, 1
    for bit in range(254, -1, -1):
        if k >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
        plus, minus = (x2 + z2) % p, (x2 - z2) % p
        one, other = (x3 - z3) * plus % p, (x3 + z3) * minus % p
        x3, z3 = (one + other) ** 2 % p, u * (one - other) ** 2 % p
        gap = (plus**2 - minus**2) % p
        x2, z2 = plus**2 * minus**2 % p, gap * (plus**2 + 121665 * gap) % p
        if k >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, p - 2, p) % p).to_bytes(32, "little")


def x25519_public(private: bytes) -> bytes:
    return x25519(private, (9).to_bytes(32, "little"))


def ed25519_public(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def ed25519_sign(seed: bytes, message: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def ed25519_holds(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


# --- AES-256-GCM ---------------------------------------------------------------------------------------------------


def key_stream(key: bytes, length: int, counter: int = 2, nonce: bytes = bytes(12)) -> bytes:
    """AES-256 of nonce || counter, nonce || counter + 1, ..., cut to ``length`` bytes."""
    blocks = b"".join(nonce + (counter + i).to_bytes(4, "big") for i in range(-(-length // 16)))
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(blocks)[:length]  # noqa: S305


def _times(x: int, y: int) -> int:
    """Product in GF(2^128) as SP 800-38D, section 6.3: the first bit is the highest."""
    z = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            z ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return z


def gcm_seal(key: bytes, plain: bytes, header: bytes, nonce: bytes = bytes(12)) -> bytes:
    """SP 800-38D, algorithm 4: the encrypted bytes and a 16-byte tag."""
    box = bytes(a ^ b for a, b in zip(plain, key_stream(key, len(plain), 2, nonce), strict=True))
    point = int.from_bytes(Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(bytes(16)), "big")  # noqa: S305
    padded = b"".join(part + bytes(-len(part) % 16) for part in (header, box))
    padded += (8 * len(header)).to_bytes(8, "big") + (8 * len(box)).to_bytes(8, "big")
    y = 0
    for i in range(0, len(padded), 16):
        y = _times(y ^ int.from_bytes(padded[i : i + 16], "big"), point)
    tag = y ^ int.from_bytes(key_stream(key, 16, 1, nonce), "big")
    return box + tag.to_bytes(16, "big")


def mask_words(key: bytes, size: int) -> list[int]:
    stream = key_stream(key, 4 * size)
    return [int.from_bytes(stream[4 * i : 4 * i + 4], "little") for i in range(size)]


def masked(initial: int, size: int, add: list[bytes], subtract: list[bytes]) -> list[int]:
    words = [initial] * size
    for keys, sign in ((add, 1), (subtract, -1)):
        for key in keys:
            words = [(word + sign * mask) % 2**32 for word, mask in zip(words, mask_words(key, size), strict=True)]
    return words


# --- Shamir --------------------------------------------------------------------------------------------------------


def polynomial(coefficients: list[int], x: int) -> int:
    """Value at x; the constant is first."""
    return sum(c * x**power for power, c in enumerate(coefficients)) % SHAMIR_PRIME


def share_bytes(value: int) -> bytes:
    return value.to_bytes(33, "big")


def interpolate(points: list[tuple[int, int]]) -> int:
    """Value at zero of the polynomial through all points (Lagrange)."""
    total = 0
    for x, y in points:
        top = bottom = 1
        for other, _ in points:
            if other != x:
                top, bottom = top * -other, bottom * (x - other)
        total += y * top * pow(bottom, -1, SHAMIR_PRIME)
    return total % SHAMIR_PRIME


# --- fixed point and packing ---------------------------------------------------------------------------------------


def product(*factors: float) -> float:
    """Product of the factors from left to right, each step exact and then rounded once to float64."""
    result = factors[0]
    for factor in factors[1:]:
        result = float(Fraction(result) * Fraction(factor))
    return result


def limit(block: dict, weight: float) -> int:
    wide = math.floor(Fraction(product(weight, float(block["clip"]))) * 2 ** block["fraction_bits"]) + 1
    return min(wide, 2 ** (block["bits"] - 1) - 1)


def ring_of(block: dict, sites: int) -> int:
    return 32 if block["bits"] == 32 else block["bits"] + math.ceil(math.log2(sites))


def encode_block(block: dict, values: list[float], weight: float, rounding: bytes | None) -> tuple[list[int], int]:
    """Ring elements modulo 2^32, and how many coordinates were clipped."""
    clip, scale = float(block["clip"]), 2 ** block["fraction_bits"]
    words, clipped = [], 0
    ups = mask_words(digest("rounding", rounding, block["name"].encode()), len(values)) if rounding else []
    for i, value in enumerate(values):
        clipped += abs(value) > clip
        q = float(Fraction(min(max(value, -clip), clip)) * Fraction(weight) * scale)
        if block["bits"] == 32:
            whole = round(Fraction(q))  # half to even
        else:
            most = 2 ** (block["bits"] - 1) - 1
            whole = min(max(math.floor(float(Fraction(q) + Fraction(ups[i], 2**32))), -most), most)
        words.append(whole % 2**32)
    return words, clipped


def signed(word: int, ring: int) -> int:
    word %= 2**ring
    return word - 2**ring if word >= 2 ** (ring - 1) else word


def pack(words: list[int], ring: int) -> bytes:
    """32 rows of G values; the 32 values of a column are one number of 32 * ring bits, the first row lowest."""
    if ring == 32:
        return b"".join(word.to_bytes(4, "little") for word in words)
    width = -(-len(words) // 32)
    padded = [word % 2**ring for word in words] + [0] * (32 * width - len(words))
    columns = [sum(padded[k * width + j] << k * ring for k in range(32)) for j in range(width)]
    return b"".join(
        (columns[j] >> 32 * w & 0xFFFFFFFF).to_bytes(4, "little") for w in range(ring) for j in range(width)
    )


# --- trees ---------------------------------------------------------------------------------------------------------


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry)


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right)


def _left_size(size: int) -> int:
    return 2 ** ((size - 1).bit_length() - 1)


def tree_root(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, over leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    k = _left_size(len(leaves))
    return node_hash(tree_root(leaves[:k]), tree_root(leaves[k:]))


def tree_path(leaves: list[bytes], index: int) -> list[bytes]:
    """RFC 9162, section 2.1.3.1, over leaf hashes."""
    if len(leaves) == 1:
        return []
    k = _left_size(len(leaves))
    if index < k:
        return [*tree_path(leaves[:k], index), tree_root(leaves[k:])]
    return [*tree_path(leaves[k:], index - k), tree_root(leaves[:k])]


def tree_holds(leaf: bytes, index: int, size: int, path: list[bytes], root: bytes) -> bool:
    """RFC 9162, section 2.1.3.2."""
    if not 0 <= index < size:
        return False
    place, last, node = index, size - 1, leaf
    for step in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            node = node_hash(step, node)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = node_hash(node, step)
        place, last = place >> 1, last >> 1
    return last == 0 and node == root


# --- what is signed ------------------------------------------------------------------------------------------------


def statement(label: str, roster: dict, session: dict, signer: str, *content: bytes) -> bytes:
    fixed = (LABEL + label.encode(), bytes.fromhex(roster["study"]), sha256(canonical(roster)), session_bytes(session))
    return transcript(*fixed, signer.encode(), *content)


def roster_statement(roster: dict, signer: str) -> bytes:
    fixed = (LABEL + b"roster", bytes.fromhex(roster["study"]), bytes(32), b"")
    return transcript(*fixed, signer.encode(), sha256(canonical(roster)))


def canonical(value: object) -> bytes:
    """RFC 8785 for what occurs in a roster: ASCII text, whole numbers, lists, objects with ASCII keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def share_leaf(to: str, box: bytes, b_hash: bytes, s_hash: bytes) -> bytes:
    return leaf_hash(transcript(LABEL + b"share-leaf", to.encode(), box, b_hash, s_hash))


def checksum(session: dict, site: str, vector: bytes) -> bytes:
    return gcm_seal(digest("checksum", session_bytes(session), site.encode()), b"", vector)


def adverts_digest(adverts: list[dict]) -> bytes:
    fields = ("channel_key", "mask_key", "commitment", "binding", "signature")
    rows = [transcript(a["site"].encode(), *(bytes.fromhex(a[field]) for field in fields)) for a in adverts]
    return digest("adverts", *rows)


def names_digest(label: str, names: list[str]) -> bytes:
    return digest(label, *(name.encode() for name in names))


# --- msgpack -------------------------------------------------------------------------------------------------------


class Raw(bytes):
    """Bytes that go on the wire as they are: for encodings that must be refused."""


def msgpack(value: object) -> bytes:
    """The shortest encoding of lists, text, bytes, whole numbers, true and false."""
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        if value < 128:
            return bytes([value])
        for code, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
            if value < 256**size:
                return bytes([code]) + value.to_bytes(size, "big")
    if isinstance(value, bytes):
        for code, size in ((0xC4, 1), (0xC5, 2)):
            if len(value) < 256**size:
                return bytes([code]) + len(value).to_bytes(size, "big") + value
    if isinstance(value, str):
        text = value.encode()
        if len(text) < 32:
            return bytes([0xA0 | len(text)]) + text
        return bytes([0xD9, len(text)]) + text
    if isinstance(value, list):
        head = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdc" + len(value).to_bytes(2, "big")
        return head + b"".join(msgpack(item) for item in value)
    raise TypeError(f"no encoding for {value!r}")
