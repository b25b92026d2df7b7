"""Known answers for the roster, every message's bytes, and the exact bytes that are signed."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import slow_reference as ref
import topics
from cases_secrets import ALICE_PUBLIC, BOB_PUBLIC, LOW_ORDER
from slow_reference import Raw
from topics import COORDINATOR_PUBLIC, IDENTITIES, SEEDS, SITES, STUDY, Topic, block, flipped, roster_block

FOURTH, LEADER = "zeta-2.b_c", COORDINATOR_PUBLIC.hex()


def roster() -> dict:
    topic = Topic(
        "roster",
        "docs/protocol.md, section Roster: canonical JSON (RFC 8785), its SHA-256, signed under wardround/v1/roster "
        "with a zero roster hash and an empty session. What signs or pins names its roster by the case above.",
    )
    plain = topics.roster()

    def size_of(entry: dict, sites: int) -> int:
        ring = ref.ring_of(entry, sites)
        return 4 * entry["size"] if ring == 32 else 4 * ring * math.ceil(entry["size"] / 32)

    def accept(name: str, comment: str, value: dict) -> None:
        sites, samples = len(value["sites"]), [site["samples"] for site in value["sites"]]
        weights = [1.0] * sites
        if value["weighting"] == "weighted":
            weights = [min(float(Fraction(k * sites, sum(samples))), float(value["w_max"])) for k in samples]
        least = max(value["threshold"], value["cohort"])
        terms = [value["threshold"] - 1, least - 2]
        terms += [2 * value["threshold"] - sites - 1] if least < sites else []
        rows = {
            purpose: [{**row, "size": int(row["size"]), "bits": int(row["bits"])} for row in blocks]
            for purpose, blocks in value["vectors"].items()
        }
        output = {
            "digest": ref.sha256(ref.canonical(value)).hex(),
            "weights": [repr(weight) for weight in weights],
            "least": least,
            "colluding": min(terms),
            "wire_bytes": {purpose: sum(size_of(row, sites) for row in blocks) for purpose, blocks in rows.items()},
        }
        topic.accept(name, comment, {"operation": "roster", "json": ref.canonical(value).decode()}, output)

    four = [*plain["sites"], {"name": FOURTH, "public_key": ref.ed25519_public(STUDY).hex(), "samples": 1}]
    packed = block("update", 40, "0.125", 9, bits=8)
    ones = {"update": plain["vectors"]["update"], "evaluation": [roster_block(block("counts", 2, "100.0", 0, False))]}
    names4 = [*SITES, FOURTH]
    accept("three-sites", "Weighted, one block.", plain)
    counts = roster_block(block("counts", 1, "100.0", 0, False))
    accept(
        "two-blocks",
        "One of them unweighted.",
        topics.roster(vectors={"update": [*plain["vectors"]["update"], counts]}),
    )
    accept("uniform", "Every weight is 1.", topics.roster(weighting="uniform"))
    accept("capped", "Beta's weight of 1.79 is cut.", topics.roster(w_max="1.5"))
    accept("four-sites", "t = 3.", topics.roster(sites=four, threshold=3, evaluation_cohort=names4))
    accept("smaller-cohort", "Evaluation over three of four.", topics.roster(sites=four, threshold=3))
    accept("all-must-stay", "t = m = n.", topics.roster(threshold=3))
    accept(
        "packed", "A ring of 10 bits.", topics.roster(weighting="uniform", vectors={"update": [roster_block(packed)]})
    )
    accept("three-rings", "Blocks in rings of 10, 32 and 14 bits.", topics.three_rings())
    accept("two-vectors", "Keys in ascending order.", topics.roster(vectors=ones))
    accept(
        "largest-numbers",
        "2^53 - 1 samples.",
        topics.roster(sites=[{**site, "samples": 2**53 - 1} for site in plain["sites"]]),
    )
    accept("with-coordinator", "Its key is there only where it has one.", topics.roster(coordinator=LEADER))
    private = topics.roster(differential_privacy=True, cohort=2)
    accept("private", "With noise at every site, sums over two.", private)

    def signed(value: dict, site: str) -> str:
        return ref.ed25519_sign(SEEDS[site], ref.roster_statement(value, site)).hex()

    text = ref.canonical(plain).decode()
    for site in SITES:
        given = {
            "operation": "roster-signature",
            "roster": "three-sites",
            "seed": SEEDS[site].hex(),
            "site": site,
            "private": False,
        }
        output = {"statement": ref.roster_statement(plain, site).hex(), "signature": signed(plain, site)}
        topic.accept(f"signed-by-{site}", "The exact bytes and their signature.", given, output)
    noisy = {"operation": "roster-signature", "roster": "private", "seed": SEEDS["alpha"].hex(), "site": "alpha"}
    statement = ref.roster_statement(private, "alpha")
    output = {"statement": statement.hex(), "signature": ref.ed25519_sign(SEEDS["alpha"], statement).hex()}
    topic.accept("signed-private", "By a site that adds noise.", {**noisy, "private": True}, output)
    signatures = {site: signed(plain, site) for site in SITES}
    pin = {"operation": "roster-pin", "roster": "three-sites", "signatures": signatures, "confirmed": list(SITES)}
    topic.accept("pinned", "All three signed, all three confirmed.", pin, {"confirmed": list(SITES)})
    topic.accept(
        "pinned-one-unconfirmed",
        "Gamma counts for nothing.",
        {**pin, "confirmed": ["alpha", "beta"]},
        {"confirmed": ["alpha", "beta"]},
    )

    def reject(name: str, comment: str, data: str, refusal: str = "RosterError") -> None:
        assert data != text
        topic.reject(name, comment, {"operation": "roster", "json": data}, refusal)

    def changed(**changes: object) -> str:
        return ref.canonical(topics.roster(**changes)).decode()

    def site_changed(index: int, **changes: object) -> str:
        sites = [dict(site) for site in plain["sites"]]
        sites[index].update(changes)
        return changed(sites=sites, evaluation_cohort=[site["name"] for site in sites])

    def block_changed(**changes: object) -> str:
        return changed(vectors={"update": [{**plain["vectors"]["update"][0], **changes}]})

    reject("spaces", "Another form of the same content.", json.dumps(plain, sort_keys=True))
    reject("key-order", "Keys are not sorted.", json.dumps(plain, separators=(",", ":")))
    reject("trailing-newline", "One byte more.", text + "\n")
    reject("unknown-key", "No key besides the listed ones.", changed(note="hello"))
    reject(
        "missing-key", "Every key is there.", ref.canonical({k: v for k, v in plain.items() if k != "cohort"}).decode()
    )
    reject("repeated-key", "The second one would win.", text.replace('"version":1', '"version":2,"version":1'))
    reject("version", "Another version.", changed(version=2))
    reject("coordinator-empty", "Left out where there is none.", changed(coordinator=""))
    reject("coordinator-a-site", "Alpha's key.", changed(coordinator=IDENTITIES["alpha"].hex()))
    reject("coordinator-short", "31 bytes.", changed(coordinator=LEADER[:62]))
    reject("coordinator-upper-case", "Lower-case only.", changed(coordinator=LEADER.upper()))
    reject("threshold-half", "t must be more than n/2.", changed(threshold=1), "ParameterError")
    reject("cohort-of-two", "Sums over two need noise.", changed(cohort=2), "ParameterError")
    reject("duplicate-name", "One name twice.", site_changed(1, name="alpha"))
    reject("unordered", "Sites ascend by name.", changed(sites=plain["sites"][::-1]))
    reject("name-upper-case", "Lower-case only.", site_changed(0, name="Alpha"))
    reject(
        "name-reserved",
        "The coordinator's.",
        site_changed(2, name="coordinator"),
    )
    reject("duplicate-key", "Two sites with one key.", site_changed(1, public_key=IDENTITIES["alpha"].hex()))
    reject("no-samples", "A weight of zero.", site_changed(1, samples=0))
    reject("w-max-form", "4.0 has one form.", changed(w_max="4"))
    reject("clip-form", "1.0 has one form.", block_changed(clip="1"))
    reject("block-overflow", "3 * 4 * 1000 * 2^20 > 2^31.", block_changed(clip="1000.0"), "ParameterError")
    reject("purpose-unknown", "No such sum.", changed(vectors={"gossip": plain["vectors"]["update"]}))
    topic.reject(
        "signed-without-noise",
        "A site does not claim noise that it does not add.",
        {**noisy, "private": False},
        "RosterError",
    )
    topic.reject(
        "not-signed", "Gamma's is missing.", {**pin, "signatures": {k: signatures[k] for k in SITES[:2]}}, "RosterError"
    )
    other = {**pin, "signatures": {**signatures, "gamma": signed(topics.roster(w_max="1.5"), "gamma")}}
    topic.reject("signed-another", "Gamma signed another w_max.", other, "RosterError")
    swapped = {
        **pin,
        "signatures": {
            **signatures,
            "gamma": ref.ed25519_sign(SEEDS["beta"], ref.roster_statement(plain, "gamma")).hex(),
        },
    }
    topic.reject("signed-by-another", "Beta's key under gamma's name.", swapped, "RosterError")
    return topic.file()


# --- messages ------------------------------------------------------------------------------------------------------

DIGEST, OTHER, SIGNATURE = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 128))
SESSION = [STUDY, 7, "evaluation", 1, 2]
UPDATE = [STUDY, 0, "update", 0, 0]
ADVERT = ["advert", SESSION, "alpha", DIGEST, OTHER, DIGEST[::-1], OTHER[::-1], SIGNATURE]
BOX = bytes(range(18))
SIGNED = [300, DIGEST, "alpha", 1_700_000_000, SIGNATURE]

# One message of each type: the way it goes and its fields; the session of RoundStart has the smallest numbers.
MESSAGES: dict[str, tuple[str, list]] = {
    "round-start": ("to-site", [UPDATE, b"adapter", b'{"round":0}']),
    "advert-list": ("to-site", [SESSION, [[*ADVERT[:2], "beta", *ADVERT[3:]]]]),
    "share-delivery": ("to-site", [SESSION, [["beta", BOX, DIGEST, OTHER, DIGEST + OTHER, SIGNATURE]]]),
    "survivor-set": ("to-site", [SESSION, ["alpha", "beta", "gamma"]]),
    "unmask-request": ("to-site", [SESSION, ["alpha", "beta"], [["alpha", SIGNATURE], ["beta", SIGNATURE[::-1]]]]),
    "round-end": ("to-site", [SESSION, "released", DIGEST]),
    "study-end": ("to-site", [STUDY, "completed", b"adapter"]),
    "advert": ("to-coordinator", ADVERT[1:]),
    "sealed-shares": (
        "to-coordinator",
        [SESSION, "alpha", [["alpha", b"", DIGEST, OTHER], ["beta", BOX, OTHER, DIGEST]], SIGNATURE],
    ),
    "masked-vector": ("to-coordinator", [SESSION, "alpha", bytes(range(12)), bytes(range(16)), SIGNATURE]),
    "agreement": ("to-coordinator", [SESSION, "alpha", SIGNATURE]),
    "unmask-answer": (
        "to-coordinator",
        [SESSION, "alpha", [["alpha", "b", bytes(33)], ["beta", "s", b"\x01" * 33]], SIGNATURE],
    ),
    "refusal": ("to-coordinator", [SESSION, "alpha", "dishonest-share", "mask", "beta"]),
    "receipt": (
        "to-coordinator",
        [STUDY, 7, True, "alpha", 300, DIGEST, SIGNATURE, OTHER, 70, DIGEST + OTHER, 5, [OTHER], SIGNATURE[::-1]],
    ),
    "batch": (
        "to-site",
        [
            STUDY,
            7,
            False,
            300,
            DIGEST,
            SIGNATURE,
            OTHER,
            [DIGEST, OTHER, SIGNATURE],
            OTHER,
            70,
            DIGEST,
            [OTHER],
            SIGNATURE,
        ],
    ),
    "cosignature": ("to-coordinator", [STUDY, 7, False, 300, DIGEST, "alpha", 1_700_000_000, SIGNATURE]),
    "cosigned": ("to-site", [STUDY, 7, True, 300, DIGEST, DIGEST + OTHER, [["alpha", 1_700_000_000, SIGNATURE]]]),
}


def readable(value: object) -> object:
    """Fields in JSON: bytes as {"hex": ...}, everything else as it is."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    return [readable(item) for item in value] if isinstance(value, list) else value


def messages() -> dict:
    topic = Topic(
        "messages",
        'docs/protocol.md, section Messages: msgpack arrays in the shortest encoding. Bytes are {"hex": ...}. The '
        "limits are those of 3 sites, with vector, adapter and settings of at most 64 bytes each.",
    )

    def decode(wire: bytes, way: str) -> dict:
        return {"operation": "decode", "way": way, "bytes": wire.hex()}

    def accept(name: str, comment: str, tag: str, fields: list, encode: bool = False) -> None:
        wire, shown = ref.msgpack([tag, *fields]), readable(fields)
        topic.accept(name, comment, decode(wire, MESSAGES[tag][0]), {"tag": tag, "fields": shown})
        if encode:
            given = {"operation": "encode", "tag": tag, "fields": shown}
            topic.accept(f"{name}-encoded", "The same bytes from the fields.", given, {"bytes": wire.hex()})

    def reject(name: str, comment: str, wire: bytes, way: str) -> None:
        topic.reject(name, comment, decode(wire, way), "DecodeError")

    for tag, (_, fields) in MESSAGES.items():
        accept(tag, "Its fields from the bytes.", tag, fields, encode=True)
    largest = [STUDY, 2**32 - 1, "class-means", 65_535, 255]
    nothing = [STUDY, 128, "temperature", 65_536, 256]
    accept("largest-numbers", "4, 2 and 1 bytes.", "agreement", [largest, "alpha", SIGNATURE])
    accept("numbers-at-borders", "The smallest of 1, 4 and 2 bytes.", "agreement", [nothing, "alpha", SIGNATURE])
    accept("longest-name", "64 characters, a str 8.", "agreement", [SESSION, "a" * 64, SIGNATURE])
    accept("all-of-a-name", "Digits, dot, underscore, hyphen.", "agreement", [SESSION, "0.b_c-d", SIGNATURE])
    accept("no-survivors", "An empty list is a message; the protocol refuses it.", "survivor-set", [SESSION, []])
    accept("sixteen-survivors", "An array 16.", "survivor-set", [SESSION, [f"s{i:02d}" for i in range(16)]])
    accept("refusal-without-peer", "About no site.", "refusal", [SESSION, "alpha", "too-few", "share", ""])
    accept("long-vector", "300 bytes, a bin 16.", "masked-vector", [SESSION, "alpha", bytes(300), bytes(16), SIGNATURE])
    accept("long-settings", "40 bytes, no adapter.", "round-start", [SESSION, b"", b"x" * 40])
    accept("two-adverts", "In roster order.", "advert-list", [SESSION, [ADVERT, [*ADVERT[:2], "beta", *ADVERT[3:]]]])
    accept("no-signatures", "The protocol refuses it.", "unmask-request", [SESSION, ["alpha"], []])
    accept("aborted", "No new adapter: zeros.", "round-end", [UPDATE, "aborted", bytes(32)])
    accept("study-aborted", "No adapter.", "study-end", [STUDY, "aborted", b""])
    accept("nobody-signed", "An empty list.", "cosigned", [STUDY, 7, False, 300, DIGEST, b"", []])
    accept("latest-time", "2^40 - 1 seconds.", "cosignature", [STUDY, 7, True, *SIGNED[:3], 2**40 - 1, SIGNATURE])

    for tag, (way, fields) in MESSAGES.items():
        wire = ref.msgpack([tag, *fields])
        reject(f"{tag}-truncated", "The last byte is missing.", wire[:-1], way)
        reject(f"{tag}-trailing", "One byte after the end.", wire + b"\x00", way)
    back = "to-coordinator"

    def agreement(
        session: object = SESSION, site: object = "alpha", signature: object = SIGNATURE, *more: object
    ) -> bytes:
        return ref.msgpack(["agreement", session, site, signature, *more])

    def number(raw: bytes) -> list:
        return [STUDY, Raw(raw), *SESSION[2:]]

    for name, comment, wire in (
        ("number-in-two-bytes", "7 as cc 07.", agreement(number(b"\xcc\x07"))),
        ("number-in-nine-bytes", "7 as cf 00 ... 07.", agreement(number(b"\xcf" + bytes(7) + b"\x07"))),
        ("number-as-float", "7.0.", agreement(number(b"\xcb\x40\x1c" + bytes(6)))),
        ("number-negative", "-1.", agreement(number(b"\xff"))),
        ("number-too-large", "2^32.", agreement([STUDY, 2**32, *SESSION[2:]])),
        ("text-for-bytes", "A signature as str.", agreement(signature="s" * 64)),
        ("bytes-for-text", "A name as bin.", agreement(site=b"alpha")),
        ("bytes-in-bin-16", "c5 where c4 is enough.", agreement(signature=Raw(b"\xc5\x00\x40" + SIGNATURE))),
        ("text-in-str-8", "d9 where five bits are enough.", agreement(site=Raw(b"\xd9\x05alpha"))),
        (
            "session-in-array-16",
            "dc where four bits are enough.",
            agreement(Raw(b"\xdc\x00\x05" + ref.msgpack(SESSION)[1:])),
        ),
        ("session-as-map", "Fields by name.", agreement(Raw(b"\x80"))),
        ("extra-field", "One field too many.", agreement(SESSION, "alpha", SIGNATURE, 0)),
        ("missing-field", "One field too few.", ref.msgpack(["agreement", SESSION, "alpha"])),
        ("name-empty", "No name.", agreement(site="")),
        ("name-upper-case", "Lower-case only.", agreement(site="Alpha")),
        ("name-with-newline", "It would match up to its end.", agreement(site="alpha\n")),
        ("name-too-long", "65 characters.", agreement(site="a" * 65)),
        ("name-with-slash", "It could become a path.", agreement(site="../alpha")),
        ("signature-long", "65 bytes.", agreement(signature=SIGNATURE + b"\x00")),
        ("study-short", "31 bytes.", agreement([STUDY[:31], *SESSION[1:]])),
        ("purpose-unknown", "No such sum.", agreement([STUDY, 7, "gossip", 1, 2])),
        ("tag-unknown", "No such message.", ref.msgpack(["agreements", SESSION, "alpha", SIGNATURE])),
        (
            "tag-of-another",
            "An agreement's fields as a refusal.",
            ref.msgpack(["refusal", SESSION, "alpha", SIGNATURE]),
        ),
        ("message-in-array-16", "dc where four bits are enough.", b"\xdc\x00\x04" + agreement()[1:]),
        ("wrong-way", "A survivor set from a site.", ref.msgpack(["survivor-set", *MESSAGES["survivor-set"][1]])),
        (
            "vector-too-long",
            "500 bytes where 64 are expected.",
            ref.msgpack(["masked-vector", SESSION, "alpha", bytes(500), bytes(16), SIGNATURE]),
        ),
        (
            "refusal-free-text",
            "A code, never text.",
            ref.msgpack(["refusal", SESSION, "alpha", "a patient", "mask", ""]),
        ),
        ("flag-as-number", "1 where true or false is expected.", ref.msgpack(["cosignature", STUDY, 7, 1, *SIGNED])),
        (
            "time-too-large",
            "2^40 seconds.",
            ref.msgpack(["cosignature", STUDY, 7, False, *SIGNED[:3], 2**40, SIGNATURE]),
        ),
        ("empty", "No bytes.", b""),
    ):
        reject(name, comment, wire, back)
    reject("wrong-way-to-site", "An agreement from the coordinator.", agreement(), "to-site")
    crowd = ref.msgpack(["survivor-set", SESSION, [f"s{i:03d}" for i in range(200)]])
    reject("survivors-too-many", "1000 bytes from a study of three.", crowd, "to-site")
    untagged = ref.msgpack(["advert-list", SESSION, [ADVERT[1:]]])
    reject("advert-without-tag", "Adverts in a list are whole messages.", untagged, "to-site")
    return topic.file()


# --- statements ----------------------------------------------------------------------------------------------------


def statements() -> dict:
    topic = Topic(
        "statements",
        "docs/protocol.md, section Signatures and labels: Ed25519 over T(label, study hash, roster hash, session, "
        "signer, content). Bytes are hexadecimal; a `check` is what the other side does with the signature. A roster "
        "is named by its case in roster.json.",
    )
    given, one, retry = topics.roster(), topics.session(), topics.session(attempt=2)
    b, both = bytes(range(32)), (ref.sha256(b"adapter"), ref.sha256(b"{}"))
    binding, s = ref.digest("binding", *both), ref.session_bytes(one)
    frame = {"roster": "three-sites", "session": one, "site": "alpha"}
    seed = {"seed": SEEDS["alpha"].hex()}

    def sign(
        label: str, *content: bytes, site: str = "alpha", row: dict = one, roster: dict = given, key: str = ""
    ) -> dict:
        exact = ref.statement(label, roster, row, site, *content)
        return {"statement": exact.hex(), "signature": ref.ed25519_sign(SEEDS[key or site], exact).hex()}

    def signature(label: str, *content: bytes, **where: object) -> dict:
        return {"signature": sign(label, *content, **where)["signature"]}

    # advert
    parts = {
        "channel_key": ALICE_PUBLIC,
        "mask_key": BOB_PUBLIC,
        "commitment": ref.digest("commit-b", s, b"alpha", b).hex(),
        "binding": binding.hex(),
    }

    def content(row: dict) -> tuple[bytes, ...]:
        return tuple(bytes.fromhex(row[key]) for key in ("channel_key", "mask_key", "commitment", "binding"))

    def advert(name: str, comment: str, refusal: str, signed: dict, change: dict | None = None) -> None:
        case = {"operation": "advert-check", **frame, **parts, **(change or {}), **signed, "expected": binding.hex()}
        if refusal:
            topic.reject(f"advert-{name}", comment, case, refusal)
        else:
            topic.accept(f"advert-{name}", comment, case, {})

    def resigned(**change: str) -> tuple[dict, dict]:
        return signature("advert", *content({**parts, **change})), change

    good = signature("advert", *content(parts))
    topic.accept(
        "advert",
        "Both keys, commitment, binding.",
        {"operation": "advert", **frame, **seed, **parts},
        sign("advert", *content(parts)),
    )
    advert("checked", "The same, checked.", "", good)
    high = bytes.fromhex(BOB_PUBLIC)[:31] + bytes([bytes.fromhex(BOB_PUBLIC)[31] | 0x80])
    by_beta = {**parts, "commitment": ref.digest("commit-b", s, b"beta", b).hex()}
    advert(
        "by-beta",
        "Another site's.",
        "",
        signature("advert", *content(by_beta), site="beta"),
        {**by_beta, "site": "beta"},
    )
    in_retry = {"session": retry, "advert_session": retry}
    advert("in-retry", "The retry's own.", "", signature("advert", *content(parts), row=retry), in_retry)
    advert("top-bit", "A key with its masked bit set is not of small order.", "", *resigned(mask_key=high.hex()))
    bad = "bad-signature"
    advert(
        "keys-swapped", "The channel key is first.", bad, good, {"channel_key": BOB_PUBLIC, "mask_key": ALICE_PUBLIC}
    )
    advert("other-session", "Signed for the retry.", bad, signature("advert", *content(parts), row=retry))
    advert(
        "other-roster",
        "Signed under another w_max.",
        bad,
        signature("advert", *content(parts), roster=topics.roster(w_max="1.5")),
    )
    advert(
        "other-key", "Signed with beta's key in alpha's name.", bad, signature("advert", *content(parts), key="beta")
    )
    advert("other-label", "Signed as an agreement.", bad, signature("agree", *content(parts)))
    advert(
        "other-binding",
        "Another adapter, properly signed.",
        "other-adapter",
        *resigned(binding=ref.digest("binding", *both[::-1]).hex()),
    )
    advert(
        "low-order-channel", "Properly signed.", "low-order-key", *resigned(channel_key=LOW_ORDER["order-eight"].hex())
    )
    advert("low-order-mask", "Properly signed.", "low-order-key", *resigned(mask_key=LOW_ORDER["p"].hex()))
    advert("stranger", "A site that is not in the roster.", "unknown-site", good, {"site": "delta"})
    advert("of-the-retry", "An advert of another session.", "wrong-session", good, {"advert_session": retry})

    # shares
    rows = [
        {"site": "alpha", "box": "", "b_hash": ref.sha256(b"ab").hex(), "s_hash": ref.sha256(b"as").hex()},
        {
            "site": "beta",
            "box": bytes(range(82)).hex(),
            "b_hash": ref.sha256(b"bb").hex(),
            "s_hash": ref.sha256(b"bs").hex(),
        },
        {
            "site": "gamma",
            "box": bytes(range(82, 164)).hex(),
            "b_hash": ref.sha256(b"gb").hex(),
            "s_hash": ref.sha256(b"gs").hex(),
        },
    ]
    adverts = ref.sha256(b"all adverts")

    def root(shares: list[dict]) -> bytes:
        fields = ("box", "b_hash", "s_hash")
        return ref.tree_root(
            [ref.share_leaf(r["site"], *(bytes.fromhex(r[field]) for field in fields)) for r in shares]
        )

    shares = {**frame, "adverts_digest": adverts.hex(), "shares": rows}
    signed = sign("shares", adverts, root(rows))
    topic.accept(
        "shares",
        "All adverts and the tree's root.",
        {"operation": "shares", **shares, **seed},
        {"root": root(rows).hex(), **signed},
    )
    fewer = sign("shares", adverts, root(rows[:2]))
    two = {**shares, "shares": rows[:2]}
    topic.accept(
        "shares-two",
        "A tree of two leaves.",
        {"operation": "shares", **two, **seed},
        {"root": root(rows[:2]).hex(), **fewer},
    )
    check = {"operation": "shares-check", **shares}
    good = signature("shares", adverts, root(rows))
    topic.accept("shares-checked", "The same, checked.", {**check, **good}, {})
    by_gamma = {**check, "site": "gamma", **signature("shares", adverts, root(rows), site="gamma")}
    topic.accept("shares-by-gamma", "The same by another dealer.", by_gamma, {})
    for name, comment, change in (
        (
            "hashes-swapped",
            "b's hash is first.",
            {"shares": [rows[0], {**rows[1], "b_hash": rows[1]["s_hash"], "s_hash": rows[1]["b_hash"]}, rows[2]]},
        ),
        ("one-missing", "A recipient less.", {"shares": rows[:2]}),
        ("other-adverts", "Another list of adverts.", {"adverts_digest": ref.sha256(b"other adverts").hex()}),
        ("other-dealer", "Read as beta's.", {"site": "beta"}),
        (
            "all-leaves",
            "Signed over all leaves, not their root.",
            signature("shares", b"".join(root([row]) for row in rows)),
        ),
        ("other-session", "Signed for the retry.", signature("shares", adverts, root(rows), row=retry)),
    ):
        topic.reject(f"shares-{name}", comment, {**check, **good, **change}, bad)

    # vector
    data = bytes(range(12))
    total = ref.checksum(one, "alpha", data)
    vector = {**frame, "vector": data.hex()}
    signed = sign("masked-vector", total)
    topic.accept(
        "vector",
        "The checksum.",
        {"operation": "vector-statement", **vector, **seed},
        {"checksum": total.hex(), **signed},
    )
    check = {"operation": "vector", **vector, "checksum": total.hex(), **signature("masked-vector", total)}
    topic.accept("vector-checked", "The same, checked.", check, {})
    of_beta = ref.checksum(one, "beta", data)
    theirs = {**check, "site": "beta", "checksum": of_beta.hex(), **signature("masked-vector", of_beta, site="beta")}
    topic.accept("vector-by-beta", "Another site's checksum differs.", theirs, {})
    of_retry = ref.checksum(retry, "alpha", data)
    for name, comment, change, refusal in (
        ("damaged", "A bit of a word.", {"vector": flipped(data).hex()}, "corrupted"),
        (
            "checksum-of-retry",
            "Another session's checksum.",
            {"checksum": of_retry.hex(), **signature("masked-vector", of_retry)},
            "corrupted",
        ),
        ("unsigned", "A zero signature.", {"signature": "00" * 64}, bad),
        ("other-session", "Signed for the retry.", signature("masked-vector", total, row=retry), bad),
    ):
        topic.reject(f"vector-{name}", comment, {**check, **change}, refusal)

    # agree
    sharers, survivors = list(SITES), ["alpha", "gamma"]

    def agreed(shared: list[str], stayed: list[str], over: bytes = adverts) -> tuple[bytes, bytes, bytes]:
        return ref.names_digest("sharers", shared), ref.names_digest("survivors", stayed), over

    frame_of_set = {**frame, "sharers": sharers, "survivors": survivors, "adverts_digest": adverts.hex()}
    agree = {"operation": "agree", **frame_of_set, **seed}
    topic.accept("agree", "Sharers, survivors, adverts.", agree, sign("agree", *agreed(sharers, survivors)))
    topic.accept(
        "agree-all", "Nobody dropped.", {**agree, "survivors": sharers}, sign("agree", *agreed(sharers, sharers))
    )
    check = {"operation": "agree-check", **frame_of_set, **signature("agree", *agreed(sharers, survivors))}
    topic.accept("agree-checked", "The same, checked.", check, {})
    by_beta = {**check, "site": "beta", **signature("agree", *agreed(sharers, survivors), site="beta")}
    topic.accept("agree-by-beta", "A sharer's signature; whether it survived is asked elsewhere.", by_beta, {})
    for name, comment, change in (
        ("other-survivors", "Another set.", {"survivors": ["alpha", "beta"]}),
        ("other-sharers", "Beta had not shared.", {"sharers": survivors}),
        ("other-adverts", "Another list of adverts.", {"adverts_digest": ref.sha256(b"other adverts").hex()}),
        ("swapped", "Survivors' hash first.", signature("agree", *agreed(sharers, survivors)[1::-1], adverts)),
        ("other-session", "Signed for the retry.", signature("agree", *agreed(sharers, survivors), row=retry)),
        ("as-answer", "Another label.", signature("unmask-answer", *agreed(sharers, survivors))),
    ):
        topic.reject(f"agree-{name}", comment, {**check, **change}, bad)

    # answer
    opened = [
        {"site": name, "kind": kind, "share": ref.share_bytes(value).hex()}
        for name, kind, value in (("alpha", "b", 1), ("beta", "s", 2**256 + 296), ("gamma", "b", 3))
    ]

    def answered(rows: list[dict]) -> list[bytes]:
        return [ref.transcript(r["site"].encode(), r["kind"].encode(), bytes.fromhex(r["share"])) for r in rows]

    answer = {"operation": "answer", **frame, **seed, "shares": opened}
    topic.accept("answer", "One share per sharer.", answer, sign("unmask-answer", *answered(opened)))
    topic.accept("answer-none", "No shares.", {**answer, "shares": []}, sign("unmask-answer"))
    check = {"operation": "answer-check", **frame, "shares": opened, **signature("unmask-answer", *answered(opened))}
    topic.accept("answer-checked", "The same, checked.", check, {})
    by_gamma = {**check, "site": "gamma", **signature("unmask-answer", *answered(opened), site="gamma")}
    topic.accept("answer-by-gamma", "Another site's answer.", by_gamma, {})
    for name, comment, change in (
        ("other-kind", "A share of b as one of s.", {"shares": [{**opened[0], "kind": "s"}, *opened[1:]]}),
        (
            "other-share",
            "A bit of a share.",
            {"shares": [{**opened[0], "share": ref.share_bytes(0).hex()}, *opened[1:]]},
        ),
        ("one-less", "A share less.", {"shares": opened[:2]}),
        ("joined", "Signed over the shares as one part.", signature("unmask-answer", b"".join(answered(opened)))),
        ("other-signer", "Beta's answer in alpha's name.", signature("unmask-answer", *answered(opened), key="beta")),
    ):
        topic.reject(f"answer-{name}", comment, {**check, **change}, bad)

    # sets of sites
    wide = {"roster": "three-sites", "session": one, "confirmed": list(SITES)}
    evaluation = topics.session(purpose="evaluation")
    for name, comment, change in (
        ("all", "Three of three.", {"names": sharers}),
        ("evaluation", "The whole cohort.", {"names": sharers, "session": evaluation}),
    ):
        topic.accept(f"sites-{name}", comment, {"operation": "sites", **wide, **change}, {})
    everyone = [*SITES, FOURTH]
    bigger = {"roster": "four-sites", "confirmed": everyone}
    topic.accept(
        "sites-three-of-four", "max(t, m) = 3.", {"operation": "sites", **wide, **bigger, "names": sharers}, {}
    )
    all_but = {**bigger, "names": everyone, "confirmed": sharers}
    topic.accept("sites-unconfirmed-too", "Three confirmed of four.", {"operation": "sites", **wide, **all_but}, {})
    for name, comment, change, refusal in (
        ("unknown", "Not in the roster.", {"names": ["alpha", "beta", "delta"]}, "unknown-site"),
        ("twice", "One site twice.", {"names": ["alpha", "alpha", "beta"]}, "duplicate-site"),
        ("unordered", "Not in roster order.", {"names": ["beta", "alpha", "gamma"]}, "malformed"),
        ("too-few", "Two of three.", {"names": ["alpha", "beta"]}, "too-few"),
        ("unconfirmed", "Gamma does not count.", {"names": sharers, "confirmed": ["alpha", "beta"]}, "too-few"),
        (
            "cohort",
            "An evaluation over three of four.",
            {**bigger, "names": sharers, "session": evaluation},
            "wrong-cohort",
        ),
    ):
        topic.reject(f"sites-{name}", comment, {"operation": "sites", **wide, **change}, refusal)

    # the bare context
    empty = {
        "operation": "statement",
        "label": "advert",
        "study": STUDY.hex(),
        "roster": bytes(32).hex(),
        "signer": "alpha",
    }
    bare = ref.transcript(b"wardround/v1/advert", STUDY, bytes(32), b"", b"alpha")
    topic.accept(
        "statement",
        "Outside a session, without content.",
        {**empty, "session": "", "parts": []},
        {"statement": bare.hex()},
    )
    within = ref.transcript(b"wardround/v1/advert", STUDY, bytes(32), s, b"alpha", b"x", b"")
    row = {**empty, "session": s.hex(), "parts": [b"x".hex(), ""]}
    topic.accept("statement-with-parts", "Empty parts count.", row, {"statement": within.hex()})
    topic.claim(
        "statement-joined-parts",
        "Parts are not joined.",
        {**row, "parts": [b"xy".hex()]},
        ref.transcript(b"wardround/v1/advert", STUDY, bytes(32), s, b"alpha", b"x", b"y"),
    )
    topic.claim(
        "statement-without-roster",
        "An absent hash is not left out.",
        {**empty, "session": "", "parts": []},
        ref.transcript(b"wardround/v1/advert", STUDY, b"", b"alpha"),
    )
    return topic.file()
