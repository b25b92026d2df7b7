"""Known answers for the primitives, everything derived under a label, the masks and Shamir's shares."""

from __future__ import annotations

import slow_reference as ref
import topics
from topics import SEEDS, STUDY, Topic, flipped

# RFC 7748, section 5.2: scalar, u-coordinate, result.
X25519_SINGLE = (
    (
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ),
    (
        "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
        "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
        "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    ),
)
X25519_ITERATED = {
    1: "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
    1000: "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51",
}
# RFC 7748, section 6.1: Alice's and Bob's private and public keys, and their secret.
ALICE, ALICE_PUBLIC, BOB, BOB_PUBLIC, SHARED = (
    "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
    "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
    "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
    "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
)
# RFC 8032, section 7.1, tests 1 to 3: seed, public key, message, signature.
ED25519 = (
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
)
# RFC 5869, appendix A.3; the output there has 42 bytes, of which the first 32 are used here.
HKDF_SECRET, HKDF_OUTPUT = (
    "0b" * 22,
    "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
)
# The GCM specification of McGrew and Viega, appendix B, test case 14: zero key, zero nonce, one block of zeros.
GCM_ZERO_BLOCK, GCM_ZERO_TAG = "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"


def u_bytes(value: int) -> bytes:
    return value.to_bytes(32, "little")


LOW_ORDER = {
    "zero": u_bytes(0),
    "one": u_bytes(1),
    "order-eight": bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    "order-eight-other": bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    "p-minus-one": u_bytes(ref.CURVE_PRIME - 1),
    "p": u_bytes(ref.CURVE_PRIME),
    "p-plus-one": u_bytes(ref.CURVE_PRIME + 1),
}


def primitives() -> dict:
    topic = Topic(
        "primitives",
        "RFC 7748 sections 5.2 and 6.1; RFC 8032 section 7.1 tests 1 to 3; RFC 5869 appendix A.3; small-order points "
        "of Curve25519 by the ladder of RFC 7748. Bytes are hexadecimal.",
    )
    for i, (private, public, shared) in enumerate(X25519_SINGLE, 1):
        assert ref.x25519(bytes.fromhex(private), bytes.fromhex(public)).hex() == shared
        given = {"operation": "x25519", "private": private, "public": public}
        topic.accept(f"x25519-rfc7748-5.2-{i}", f"Section 5.2, vector {i}.", given, {"shared": shared})
    for count, result in X25519_ITERATED.items():
        given = {"operation": "x25519-iterated", "iterations": count}
        topic.accept(f"x25519-rfc7748-iterated-{count}", "Section 5.2, k and u start as 9.", given, {"result": result})
    for who, private, public in (("alice", ALICE, ALICE_PUBLIC), ("bob", BOB, BOB_PUBLIC)):
        assert ref.x25519_public(bytes.fromhex(private)).hex() == public
        given = {"operation": "x25519-public", "private": private}
        topic.accept(f"x25519-rfc7748-6.1-{who}-public", "Section 6.1.", given, {"public": public})
    for who, private, public in (("alice", ALICE, BOB_PUBLIC), ("bob", BOB, ALICE_PUBLIC)):
        assert ref.x25519(bytes.fromhex(private), bytes.fromhex(public)).hex() == SHARED
        given = {"operation": "x25519", "private": private, "public": public}
        topic.accept(f"x25519-rfc7748-6.1-{who}-shared", "Section 6.1.", given, {"shared": SHARED})
    high = u_bytes(int.from_bytes(bytes.fromhex(BOB_PUBLIC), "little") | 2**255)
    topic.accept(
        "x25519-top-bit-ignored",
        "RFC 7748 masks the highest bit of a public key: the same secret as without it.",
        {"operation": "x25519", "private": ALICE, "public": high.hex()},
        {"shared": ref.x25519(bytes.fromhex(ALICE), high).hex()},
    )
    wide = u_bytes(ref.CURVE_PRIME + 9)
    topic.accept(
        "x25519-not-reduced",
        "The encoding p + 9 of the base point 9 is reduced, not refused; it is not of small order.",
        {"operation": "x25519", "private": ALICE, "public": wide.hex()},
        {"shared": ALICE_PUBLIC},
    )
    for name, public in LOW_ORDER.items():
        for extra, comment in (
            ("", "Every shared secret would be zero."),
            ("-top-bit", "The same, the masked bit set."),
        ):
            key = u_bytes(int.from_bytes(public, "little") | (2**255 if extra else 0))
            assert ref.x25519(bytes.fromhex(ALICE), key) == bytes(32)
            if not extra or name in ("zero", "order-eight"):
                given = {"operation": "x25519", "private": ALICE, "public": key.hex()}
                topic.reject(f"x25519-low-order-{name}{extra}", comment, given, "ValueError")
    given = {"operation": "x25519", "private": ALICE, "public": BOB_PUBLIC[:-2]}
    topic.reject("x25519-short-key", "A public key of 31 bytes.", given, "ValueError")

    for i, (seed, public, message, signature) in enumerate(ED25519, 1):
        assert ref.ed25519_public(bytes.fromhex(seed)).hex() == public
        assert ref.ed25519_sign(bytes.fromhex(seed), bytes.fromhex(message)).hex() == signature
        given = {"operation": "ed25519-sign", "seed": seed, "message": message}
        output = {"public": public, "signature": signature}
        topic.accept(f"ed25519-rfc8032-test-{i}-sign", f"Section 7.1, test {i}.", given, output)
        given = {"operation": "ed25519-verify", "public": public, "message": message, "signature": signature}
        topic.accept(f"ed25519-rfc8032-test-{i}-verify", f"Section 7.1, test {i}.", given, {})
    _, public, message, signature = ED25519[2]
    s = int.from_bytes(bytes.fromhex(signature)[32:], "little")
    bad = {
        "r-bit": ("A bit of R flipped.", public, message, flipped(bytes.fromhex(signature)).hex()),
        "s-bit": ("A bit of S flipped.", public, message, flipped(bytes.fromhex(signature), 256).hex()),
        "s-plus-order": (
            "S + L satisfies the equation too; RFC 8032 section 5.1.7 demands S < L.",
            public,
            message,
            signature[:64] + u_bytes(s + ref.ED25519_ORDER).hex(),
        ),
        "other-message": ("The message of test 2.", public, "72", signature),
        "other-key": ("The public key of test 1.", ED25519[0][1], message, signature),
        "zero": ("All zero.", public, message, "00" * 64),
        "short": ("A signature of 63 bytes.", public, message, signature[:-2]),
        "long": ("A signature of 65 bytes.", public, message, signature + "00"),
        "swapped-halves": ("S before R.", public, message, signature[64:] + signature[:64]),
    }
    for name, (comment, key, text, signed) in bad.items():
        assert not ref.ed25519_holds(bytes.fromhex(key), bytes.fromhex(signed), bytes.fromhex(text))
        given = {"operation": "ed25519-verify", "public": key, "message": text, "signature": signed}
        topic.reject(f"ed25519-{name}", comment, given, "bad-signature")
    given = {"operation": "ed25519-sign", "seed": "00" * 31, "message": ""}
    topic.reject("ed25519-short-seed", "A seed of 31 bytes.", given, "KeyStoreError")

    secret = bytes.fromhex(HKDF_SECRET)
    assert ref.hkdf(secret, b"", 42).hex() == HKDF_OUTPUT
    given = {"operation": "hkdf", "secret": HKDF_SECRET, "info": ""}
    topic.accept("hkdf-rfc5869-case-3", "Appendix A.3, its first 32 bytes.", given, {"key": HKDF_OUTPUT[:64]})
    given = {**given, "info": b"info".hex()}
    topic.accept("hkdf-with-info", "The same secret with an info.", given, {"key": ref.hkdf(secret, b"info").hex()})
    topic.claim("hkdf-without-info", "The key of an empty info.", given, bytes.fromhex(HKDF_OUTPUT[:64]))
    topic.claim(
        "hkdf-second-block", "Bytes 33 to 64 in place of the first 32.", given, ref.hkdf(secret, b"info", 64)[32:]
    )
    return topic.file()


def kdf_labels() -> dict:
    topic = Topic(
        "kdf-labels",
        "docs/protocol.md, sections Words and Labels. Names as text, bytes hexadecimal. A rejected case claims a value "
        "that belongs to another session, order, name, label or kind.",
    )
    one, retry, other = topics.session(), topics.session(attempt=2), topics.session(purpose="evaluation")
    s = ref.session_bytes(one)
    b = bytes(range(32))

    parts = ["ab", "", "c"]
    given = {"operation": "transcript", "parts": [part.encode().hex() for part in parts]}
    joined = ref.transcript(*(part.encode() for part in parts))
    topic.accept("transcript", "Each part after its length, 4 bytes big-endian.", given, {"bytes": joined.hex()})
    moved = ref.transcript(b"a", b"", b"bc")
    topic.claim("transcript-other-cut", "The same bytes, cut at another place.", given, moved)
    topic.claim("transcript-dropped-empty", "An empty part counts.", given, ref.transcript(b"ab", b"c"))
    large = topics.session(2**32 - 1, "class-means", 2**32 - 1, 0)
    for name, row in (("session", one), ("session-largest-numbers", large)):
        output = {"bytes": ref.session_bytes(row).hex()}
        topic.accept(
            name, "Study, round, purpose, sequence, attempt.", {"operation": "session", "session": row}, output
        )
    given = {"operation": "session", "session": one}
    topic.claim("session-other-attempt", "A retry is another session.", given, ref.session_bytes(retry))

    def self_mask(row: dict, site: str, secret: bytes = b, label: bytes = b"self-mask") -> bytes:
        info = ref.transcript(ref.LABEL + label, ref.session_bytes(row), site.encode(), row["purpose"].encode())
        return ref.hkdf(secret, info)

    given = {"operation": "self-mask-key", "b": b.hex(), "session": one, "site": "alpha"}
    topic.accept("self-mask", "Key of PRG(b).", given, {"key": self_mask(one, "alpha").hex()})
    again = {**given, "session": retry}
    for_beta = {**given, "site": "beta", "session": other}
    topic.accept(
        "self-mask-evaluation", "Of beta, in an evaluation.", for_beta, {"key": self_mask(other, "beta").hex()}
    )
    topic.accept("self-mask-retry", "The same b in a retry.", again, {"key": self_mask(retry, "alpha").hex()})
    topic.claim("self-mask-other-session", "The retry's key.", given, self_mask(retry, "alpha"))
    topic.claim("self-mask-other-purpose", "Another purpose's key.", given, self_mask(other, "alpha"))
    topic.claim("self-mask-other-site", "Another site's key.", given, self_mask(one, "beta"))
    topic.claim("self-mask-other-label", "Another label.", given, self_mask(one, "alpha", label=b"pair-mask"))

    keys = {"alpha": bytes.fromhex(ALICE), "beta": bytes.fromhex(BOB)}
    public = {name: ref.x25519_public(key) for name, key in keys.items()}

    def pair_mask(row: dict, first: str, second: str) -> bytes:
        rest = (first.encode(), second.encode(), row["purpose"].encode())
        info = ref.transcript(ref.LABEL + b"pair-mask", ref.session_bytes(row), *rest)
        return ref.hkdf(bytes.fromhex(SHARED), info)

    pair = {"operation": "pair-mask-key", "private": ALICE, "public": BOB_PUBLIC, "session": one}
    given = {**pair, "one": "alpha", "other": "beta"}
    right = pair_mask(one, "alpha", "beta")
    topic.accept("pair-mask", "Key of PRG(s_uv), from alpha's side.", given, {"key": right.hex()})
    mirrored = {**pair, "private": BOB, "public": ALICE_PUBLIC, "one": "beta", "other": "alpha"}
    topic.accept("pair-mask-other-side", "The same from beta's side.", mirrored, {"key": right.hex()})
    topic.claim("pair-mask-other-session", "The retry's key.", given, pair_mask(retry, "alpha", "beta"))
    topic.claim("pair-mask-names-not-sorted", "The higher name first.", given, pair_mask(one, "beta", "alpha"))
    topic.claim("pair-mask-other-peer", "Another pair's key.", given, pair_mask(one, "alpha", "gamma"))
    low = {**given, "public": LOW_ORDER["order-eight"].hex()}
    topic.reject("pair-mask-low-order", "Every secret with this key is zero.", low, "ValueError")

    def seal(row: dict, sender: str, to: str, plain: bytes, order: tuple[str, str]) -> bytes:
        names = (ref.session_bytes(row), sender.encode(), to.encode())
        info = ref.transcript(ref.LABEL + b"seal-shares", *names, public[order[0]], public[order[1]])
        return ref.gcm_seal(
            ref.hkdf(bytes.fromhex(SHARED), info), plain, ref.transcript(ref.LABEL + b"seal-shares", *names)
        )

    plain = bytes(range(66))
    box = seal(one, "alpha", "beta", plain, ("alpha", "beta"))
    there = {
        "shared": SHARED,
        "session": one,
        "sender": "alpha",
        "to": "beta",
        "sender_key": ALICE_PUBLIC,
        "recipient_key": BOB_PUBLIC,
    }
    sealing, opening = {"operation": "seal", **there, "plain": plain.hex()}, {"operation": "open", **there}
    topic.accept("seal", "Two shares, one after the other, from alpha to beta.", sealing, {"box": box.hex()})
    topic.accept("open", "Beta reads them.", {**opening, "box": box.hex()}, {"plain": plain.hex()})
    topic.accept(
        "seal-nothing",
        "The tag alone.",
        {**sealing, "plain": ""},
        {"box": seal(one, "alpha", "beta", b"", ("alpha", "beta")).hex()},
    )
    back = seal(one, "beta", "alpha", plain, ("beta", "alpha"))
    topic.claim("seal-other-direction", "Each direction has a key of its own.", sealing, back)
    keys_swapped = seal(one, "alpha", "beta", plain, ("beta", "alpha"))
    topic.claim("seal-keys-swapped", "The sender's channel key stands first.", sealing, keys_swapped)
    for name, comment, wrong in (
        ("other-session", "Sealed in the retry.", seal(retry, "alpha", "beta", plain, ("alpha", "beta"))),
        ("other-direction", "Sealed by beta for alpha.", back),
        ("other-name", "Sealed for gamma under beta's key.", seal(one, "alpha", "gamma", plain, ("alpha", "beta"))),
        ("flipped-bit", "A bit of the content flipped.", flipped(box, 9)),
        ("flipped-tag", "The tag's last bit flipped.", flipped(box, 8 * len(box) - 1)),
        ("cut", "The last byte is missing.", box[:-1]),
        ("empty", "No bytes at all.", b""),
    ):
        topic.reject(f"open-{name}", comment, {**opening, "box": wrong.hex()}, "DecryptionError")

    given = {"operation": "commitment", "session": one, "site": "alpha", "b": b.hex()}
    topic.accept("commitment", "To b.", given, {"commitment": ref.digest("commit-b", s, b"alpha", b).hex()})
    theirs = {**given, "site": "beta"}
    topic.accept("commitment-beta", "Beta's.", theirs, {"commitment": ref.digest("commit-b", s, b"beta", b).hex()})
    topic.claim("commitment-other-site", "Beta's to the same b.", given, ref.digest("commit-b", s, b"beta", b))
    retried = ref.digest("commit-b", ref.session_bytes(retry), b"alpha", b)
    topic.claim("commitment-other-session", "The retry's.", given, retried)
    topic.claim(
        "commitment-without-label", "Hashed without its label.", given, ref.sha256(ref.transcript(s, b"alpha", b))
    )

    share = ref.share_bytes(2**256 + 5)

    def share_hash(dealer: str, to: str, kind: str, row: dict = one) -> bytes:
        names = (dealer.encode(), to.encode(), kind.encode())
        return ref.digest("share-hash", ref.session_bytes(row), *names, share)

    given = {
        "operation": "share-hash",
        "session": one,
        "dealer": "alpha",
        "to": "beta",
        "kind": "b",
        "share": share.hex(),
    }
    topic.accept("share-hash-b", "Of a share of b.", given, {"hash": share_hash("alpha", "beta", "b").hex()})
    of_s = {**given, "kind": "s"}
    topic.accept("share-hash-s", "Of a share of s.", of_s, {"hash": share_hash("alpha", "beta", "s").hex()})
    topic.claim("share-hash-other-kind", "A share of b is none of s.", given, share_hash("alpha", "beta", "s"))
    topic.claim("share-hash-names-swapped", "Dealer and recipient swapped.", given, share_hash("beta", "alpha", "b"))
    topic.claim("share-hash-other-session", "The retry's.", given, share_hash("alpha", "beta", "b", retry))

    hashes = (share_hash("alpha", "beta", "b"), share_hash("alpha", "beta", "s"))
    given = {
        "operation": "share-leaf",
        "to": "beta",
        "box": box.hex(),
        "b_hash": hashes[0].hex(),
        "s_hash": hashes[1].hex(),
    }
    topic.accept("share-leaf", "Leaf of one recipient.", given, {"leaf": ref.share_leaf("beta", box, *hashes).hex()})
    own = {**given, "to": "alpha", "box": ""}
    topic.accept(
        "share-leaf-own", "The dealer's own, no box.", own, {"leaf": ref.share_leaf("alpha", b"", *hashes).hex()}
    )
    topic.claim("share-leaf-hashes-swapped", "b's hash is first.", given, ref.share_leaf("beta", box, *hashes[::-1]))
    topic.claim("share-leaf-other-recipient", "Gamma's leaf.", given, ref.share_leaf("gamma", box, *hashes))
    bare = ref.digest("share-leaf", b"beta", box, *hashes)
    topic.claim("share-leaf-no-prefix", "A leaf is hashed after a zero byte.", given, bare)

    vector = bytes(range(20))
    given = {"operation": "checksum", "session": one, "site": "alpha", "vector": vector.hex()}
    topic.accept("checksum", "GHASH of a vector.", given, {"checksum": ref.checksum(one, "alpha", vector).hex()})
    nothing = {**given, "vector": ""}
    topic.accept("checksum-empty", "Of no words.", nothing, {"checksum": ref.checksum(one, "alpha", b"").hex()})
    topic.claim("checksum-other-site", "Beta's.", given, ref.checksum(one, "beta", vector))
    topic.claim("checksum-padded", "Zeros at the end count.", given, ref.checksum(one, "alpha", vector + bytes(4)))

    given = {"operation": "binding", "adapter": b"adapter".hex(), "settings": b"{}".hex()}
    both = ref.sha256(b"adapter"), ref.sha256(b"{}")
    topic.accept("binding", "Of adapter and settings.", given, {"binding": ref.digest("binding", *both).hex()})
    topic.claim("binding-swapped", "Settings first.", given, ref.digest("binding", *both[::-1]))
    topic.claim(
        "binding-not-hashed", "The bytes in place of their hashes.", given, ref.digest("binding", b"adapter", b"{}")
    )

    first = ref.digest("rounding", ref.session_bytes(topics.session(attempt=0)), b"alpha")
    given = {"operation": "rounding-key", "session": one, "site": "alpha"}
    for name, row in (("rounding-key", one), ("rounding-key-retry", retry)):
        topic.accept(
            name, "The same in every attempt: that of attempt 0.", {**given, "session": row}, {"key": first.hex()}
        )
    topic.claim(
        "rounding-key-of-attempt", "It does not depend on the attempt.", given, ref.digest("rounding", s, b"alpha")
    )

    given = {"operation": "names-digest", "label": "sharers", "names": ["alpha", "beta"]}
    pair_of = ["alpha", "beta"]
    for label in ("sharers", "survivors"):
        output = {"digest": ref.names_digest(label, pair_of).hex()}
        topic.accept(label, "Hash of an ordered list of names.", {**given, "label": label}, output)
    topic.claim("sharers-as-survivors", "Another label.", given, ref.names_digest("survivors", pair_of))
    topic.claim("sharers-other-order", "Another order.", given, ref.names_digest("sharers", pair_of[::-1]))

    adverts = [
        {
            "site": name,
            "channel_key": public[name].hex(),
            "mask_key": public[name][::-1].hex(),
            "commitment": ref.digest("commit-b", s, name.encode(), b).hex(),
            "binding": ref.digest("binding", *both).hex(),
            "signature": (SEEDS[name] * 2).hex(),
        }
        for name in ("alpha", "beta")
    ]
    given = {"operation": "adverts-digest", "session": one, "adverts": adverts}
    topic.accept("adverts", "Hash over two adverts.", given, {"digest": ref.adverts_digest(adverts).hex()})
    topic.claim("adverts-other-order", "Another order.", given, ref.adverts_digest(adverts[::-1]))
    resigned = [{**adverts[0], "signature": "00" * 64}, adverts[1]]
    topic.claim("adverts-other-signature", "Signatures count.", given, ref.adverts_digest(resigned))

    header, nonce = ref.transcript(ref.LABEL + b"session-store", STUDY), bytes(range(12))
    store = ref.LABEL + b"session-store"
    key = ref.hkdf(SEEDS["alpha"], ref.transcript(store, ref.ed25519_public(SEEDS["alpha"])))
    sealed = nonce + ref.gcm_seal(key, b"kept", header, nonce)
    where = {"seed": SEEDS["alpha"].hex(), "label": store.decode(), "header": header.hex()}
    given = {"operation": "store-seal", **where, "plain": b"kept".hex(), "nonce": nonce.hex()}
    topic.accept("store-seal", "A file of a site, under its identity.", given, {"sealed": sealed.hex()})
    given = {"operation": "store-open", **where, "sealed": sealed.hex()}
    topic.accept("store-open", "The same site reads it.", given, {"plain": b"kept".hex()})
    thief = {**given, "seed": SEEDS["beta"].hex()}
    topic.reject("store-other-identity", "Another site's identity.", thief, "DecryptionError")
    elsewhere = {**given, "header": ref.transcript(store, bytes(32)).hex()}
    topic.reject("store-other-study", "Another study's header.", elsewhere, "DecryptionError")
    return topic.file()


def prg() -> dict:
    topic = Topic(
        "prg",
        "docs/protocol.md: AES-256-GCM over zeros, nonce zero, tag dropped = AES-256-CTR from nonce || 00000002, read "
        "as little-endian 32-bit words; case 14 of the GCM specification (McGrew and Viega). Output: the words at the "
        "asked places, and SHA-256 of all words, little-endian. A claim is such a hash.",
    )
    one, two, three = (ref.sha256(bytes([i])) for i in range(3))
    zero = bytes(32)
    assert ref.gcm_seal(zero, bytes(16), b"").hex() == GCM_ZERO_BLOCK + GCM_ZERO_TAG
    stretch = 32_768

    def given(size: int, add: list[bytes], subtract: list[bytes], initial: int = 0) -> dict:
        places = sorted({place for place in (0, 1, stretch - 1, stretch, size - 2, size - 1) if 0 <= place < size})
        keys = {"add": [key.hex() for key in add], "subtract": [key.hex() for key in subtract]}
        return {"operation": "masks", "size": size, "initial": initial, **keys, "at": places}

    def wire(words: list[int]) -> bytes:
        return b"".join(word.to_bytes(4, "little") for word in words)

    def accept(name: str, comment: str, size: int, add: list[bytes], subtract: list[bytes], initial: int = 0) -> None:
        asked, words = given(size, add, subtract, initial), ref.masked(initial, size, add, subtract)
        output = {"words": [words[place] for place in asked["at"]], "sha256": ref.sha256(wire(words)).hex()}
        topic.accept(name, comment, asked, output)

    block = bytes.fromhex(GCM_ZERO_BLOCK)
    asked = {**given(4, [zero], []), "at": [0, 1, 2, 3]}
    output = {
        "words": [int.from_bytes(block[i : i + 4], "little") for i in range(0, 16, 4)],
        "sha256": ref.sha256(block).hex(),
    }
    topic.accept("gcm-test-case-14", "Key zero, one block.", asked, output)
    accept("one-word", "A quarter of a block.", 1, [one], [])
    accept("five-words", "A block and a word.", 5, [one], [])
    accept("other-key", "Another key.", 5, [two], [])
    accept("one-stretch", "As many words as are masked at a time.", stretch, [one], [])
    accept("stretch-and-a-word", "The stream goes on into the next stretch.", stretch + 1, [one], [])
    accept("subtracted", "Two's complement.", 5, [], [one])
    accept("three-masks", "y = x + PRG(b) + PRG(higher) - PRG(lower).", 5, [one, two], [three], 7)
    accept("wraps", "Addition modulo 2^32.", 5, [one], [], 2**32 - 1)
    accept("added-and-subtracted", "Two sites' pair masks cancel.", 5, [one], [one], 7)
    accept("no-masks", "No keys.", 5, [], [], 7)
    accept("long-three-masks", "All masks over two stretches.", stretch + 5, [one], [two, three], 7)

    for length in (0, 16, 24, 31, 33, 64):
        key = (one * 2)[:length]
        topic.reject(f"key-of-{length}-bytes", "A key has 32 bytes.", given(5, [key], []), "ValueError")
    asked = given(5, [one], [])
    stream = ref.key_stream(one, 20)
    from_one, from_zero = ref.key_stream(one, 20, 1), ref.key_stream(one, 20, 0)
    swapped = b"".join(stream[i : i + 4][::-1] for i in range(0, 20, 4))
    for name, comment, wrong in (
        ("counter-one", "Counter 1 encrypts the tag.", from_one),
        ("counter-zero", "Plain CTR from zero.", from_zero),
        ("other-nonce", "The nonce is zero.", ref.key_stream(one, 20, 2, bytes(11) + b"\x01")),
        ("big-endian", "Words are little-endian.", swapped),
        ("subtracted-for-added", "Another sign.", wire(ref.masked(0, 5, [], [one]))),
    ):
        topic.claim(name, comment, asked, ref.sha256(wrong))
    long = given(stretch + 1, [one], [])
    restarted = ref.key_stream(one, 4 * stretch) + ref.key_stream(one, 4)
    topic.claim("restarted", "The second stretch would repeat the first.", long, ref.sha256(restarted))
    return topic.file()


def shamir() -> dict:
    topic = Topic(
        "shamir",
        "Shamir 1979 modulo 2^256 + 297. A share is its point and 33 bytes, big-endian. `split` reads its coefficients "
        "from `random`, 48 bytes each, big-endian, modulo the prime, the highest power first.",
    )
    prime = ref.SHAMIR_PRIME

    def row(points: list[tuple[int, int]]) -> list[dict]:
        return [{"point": x, "share": ref.share_bytes(y).hex()} for x, y in points]

    def shares(coefficients: list[int], xs: list[int]) -> list[tuple[int, int]]:
        return [(x, ref.polynomial(coefficients, x)) for x in xs]

    def combine(name: str, comment: str, coefficients: list[int], xs: list[int]) -> None:
        points = shares(coefficients, xs)
        assert ref.interpolate(points) == coefficients[0]
        given = {"operation": "combine", "shares": row(points)}
        topic.accept(name, comment, given, {"secret": coefficients[0].to_bytes(32, "big").hex()})

    secret = int.from_bytes(ref.sha256(b"secret"), "big")
    a, b = (int.from_bytes(ref.sha256(text) + b"\x01", "big") % prime for text in (b"first", b"second"))
    line, curve = [secret, a], [secret, a, b]
    combine(
        "small-numbers",
        "1234 + 166 x + 94 x^2 at 1, 2, 3; Shamir's polynomial as often shown.",
        [1234, 166, 94],
        [1, 2, 3],
    )
    combine("two-of-three", "Points 1 and 3.", line, [1, 3])
    combine("order-does-not-matter", "Points 3 and 1.", line, [3, 1])
    combine("three-of-five", "Points 2, 4, 5.", curve, [2, 4, 5])
    combine("more-than-threshold", "Four shares of a polynomial of degree 2.", curve, [1, 2, 3, 4])
    combine("far-points", "The last sites of the largest roster.", curve, [998, 999, 1000])
    combine("threshold-one", "A constant.", [secret], [7])
    combine("secret-zero", "The smallest secret.", [0, a], [1, 2])
    combine("secret-largest", "2^256 - 1.", [2**256 - 1, a], [1, 2])
    combine("coefficient-largest", "prime - 1.", [secret, prime - 1], [1, 2])

    def random_of(threshold: int) -> bytes:
        return b"".join(ref.sha256(bytes([i])) + ref.sha256(bytes([i]))[:16] for i in range(threshold - 1))

    def split(name: str, comment: str, value: int, threshold: int, xs: list[int], random: bytes) -> None:
        drawn = [int.from_bytes(random[i : i + 48], "big") % prime for i in range(0, len(random), 48)]
        points = shares([value, *drawn[::-1]], xs)
        given = {
            "operation": "split",
            "secret": value.to_bytes(32, "big").hex(),
            "threshold": threshold,
            "points": xs,
            "random": random.hex(),
        }
        topic.accept(
            name, comment, given, {"shares": [ref.share_bytes(y).hex() for _, y in points], "drawn": len(random)}
        )

    split("split-two-of-three", "A line.", secret, 2, [1, 2, 3], random_of(2))
    split("split-three-of-four", "Not all sites take part: points 1, 2, 4, 5.", secret, 3, [1, 2, 4, 5], random_of(3))
    split("split-one-of-two", "Every share is the secret; nothing is drawn.", secret, 1, [1, 2], b"")
    split("split-zero-random", "A zero coefficient is as good as another.", secret, 2, [1, 2], bytes(48))
    split("split-largest-random", "48 bytes of ff, reduced.", 2**256 - 1, 2, [1, 2], b"\xff" * 48)

    def refuse(name: str, comment: str, rows: list[dict], refusal: str, claimed: int | None = None) -> None:
        given = {"operation": "combine", "shares": rows}
        if claimed is None:
            topic.reject(name, comment, given, refusal)
        else:
            topic.claim(name, comment, given, claimed.to_bytes(32, "big"))

    good = row(shares(line, [1, 3]))
    large = "SecretTooLargeError"
    refuse("short-share", "32 bytes.", [good[0], {**good[1], "share": good[1]["share"][2:]}], large)
    refuse("long-share", "34 bytes.", [good[0], {**good[1], "share": "00" + good[1]["share"]}], large)
    refuse("empty-share", "No bytes.", [good[0], {**good[1], "share": ""}], large)
    refuse("share-is-the-prime", "No field element.", [good[0], *row([(3, prime)])], large)
    refuse("share-all-ones", "33 bytes of ff.", [good[0], {**good[1], "share": "ff" * 33}], large)
    for extra in (2**256, prime - 1):
        points = shares([extra, a], [1, 2])
        comment = "The smallest value that is no 32-byte secret." if extra == 2**256 else "The largest field element."
        refuse(f"rebuilds-{'2-to-256' if extra == 2**256 else 'prime-minus-one'}", comment, row(points), large)
    refuse("too-few-shares", "Two shares of three rebuild another value.", row(shares(curve, [1, 2])), "", secret)
    refuse(
        "wrong-share", "One share plus 1.", row([(1, shares(line, [1])[0][1] + 1), shares(line, [3])[0]]), "", secret
    )
    swapped = [{**good[0], "share": good[1]["share"]}, {**good[1], "share": good[0]["share"]}]
    refuse("swapped-shares", "Each share at the other's point.", swapped, "", secret)
    refuse(
        "of-two-dealings",
        "One share each of two polynomials.",
        row([*shares(line, [1]), *shares(curve, [3])]),
        "",
        secret,
    )
    refuse("repeated-point", "One point twice.", [good[0], good[0]], "ParameterError")
    refuse("point-zero", "Point 0 is the secret itself.", row([(0, secret), *shares(line, [1])]), "ParameterError")
    refuse("no-shares", "Nothing to rebuild from.", [], "ParameterError")
    fine = {
        "operation": "split",
        "secret": secret.to_bytes(32, "big").hex(),
        "threshold": 2,
        "points": [1, 2, 3],
        "random": random_of(2).hex(),
    }
    for name, comment, change in (
        ("split-short-secret", "31 bytes.", {"secret": "00" * 31}),
        ("split-long-secret", "33 bytes.", {"secret": "00" * 33}),
        ("split-threshold-zero", "Nobody would be needed.", {"threshold": 0, "random": ""}),
        ("split-threshold-above-points", "Nobody could rebuild it.", {"threshold": 4, "random": random_of(4).hex()}),
        ("split-repeated-point", "Two sites with one share.", {"points": [1, 2, 2]}),
        ("split-short-random", "A polynomial of lower degree.", {"random": random_of(2).hex()[2:]}),
    ):
        topic.reject(name, comment, {**fine, **change}, "ParameterError")
    return topic.file()
