"""Known answers for what is signed about ledgers: leaves, batches, receipts, cosignatures, and ledger keys."""

from __future__ import annotations

import base64

import slow_reference as ref
import topics
from topics import COORDINATOR_PUBLIC, COORDINATOR_SEED, IDENTITIES, SEEDS, SITES, STUDY, Topic

ROOT, OTHER, SIGNATURE = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 128))
ROSTER = "with-coordinator"


def origin(identity: bytes) -> str:
    return f"wardround/ledger/{ref.sha256(identity).hex()}"


def checkpoint(name: str, size: int, root: bytes) -> bytes:
    """The text of a C2SP tlog-checkpoint."""
    return f"{name}\n{size}\n{base64.b64encode(root).decode()}\n".encode()


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def batch_text(roster: dict, value: int, root: bytes) -> bytes:
    names = f"{roster['study']}/{ref.sha256(ref.canonical(roster)).hex()}"
    return checkpoint(f"wardround/batch/{names}/{value}", len(roster["sites"]) + 1, root)


def ledger() -> dict:
    topic = Topic(
        "ledger",
        "docs/protocol.md, section Cosigned ledgers: RFC 9162 leaves over C2SP tlog-checkpoints, cosignature/v1, and "
        "T(label, study hash, roster hash, no session, signer, content). Bytes are hexadecimal; a roster is named by "
        "its case.",
    )
    roster = topics.roster(coordinator=COORDINATOR_PUBLIC.hex())
    alpha = IDENTITIES["alpha"]

    # leaves
    given = {"operation": "ledger-leaf", "identity": alpha.hex(), "size": 300, "root": ROOT.hex()}
    leaf = ref.leaf_hash(checkpoint(origin(alpha), 300, ROOT))
    topic.accept("leaf", "Over the text of the checkpoint, with its last newline.", given, {"leaf": leaf.hex()})
    empty = ref.leaf_hash(checkpoint(origin(alpha), 0, ref.sha256(b"")))
    row = {**given, "size": 0, "root": ref.sha256(b"").hex()}
    topic.accept("leaf-of-nothing", "A ledger without entries.", row, {"leaf": empty.hex()})
    topic.claim("leaf-of-another-size", "One entry more.", {**given, "size": 301}, leaf)
    topic.claim("leaf-of-another-root", "One bit.", {**given, "root": topics.flipped(ROOT).hex()}, leaf)
    topic.claim("leaf-of-another-site", "Beta's ledger.", {**given, "identity": IDENTITIES["beta"].hex()}, leaf)
    away = {"operation": "absent-leaf", "party": "alpha"}
    absent = ref.leaf_hash(b"absent\nalpha\n")
    topic.accept("absent", "A site that showed nothing.", away, {"leaf": absent.hex()})
    topic.claim("absent-other", "Another site's absence.", {**away, "party": "beta"}, absent)

    # the tree over all parties
    shown = {"coordinator": (900, OTHER), "alpha": (300, ROOT), "gamma": (0, ref.sha256(b""))}
    keys = {"coordinator": COORDINATOR_PUBLIC, **IDENTITIES}
    leaves = [
        ref.leaf_hash(checkpoint(origin(keys[party]), *shown[party]))
        if party in shown
        else ref.leaf_hash(f"absent\n{party}\n".encode())
        for party in ("coordinator", *SITES)
    ]
    rows = {party: {"size": size, "root": root.hex()} for party, (size, root) in shown.items()}
    tree = {"operation": "batch-tree", "roster": ROSTER, "shown": rows}
    root = ref.tree_root(leaves)
    output = {"root": root.hex(), "leaves": b"".join(leaves).hex()}
    topic.accept("tree", "Coordinator first, then in roster order; beta is absent.", tree, output)
    without = {party: row for party, row in rows.items() if party != "gamma"}
    topic.claim("tree-without-one", "Gamma left out.", {**tree, "shown": without}, root)

    # the batch's note
    text = batch_text(roster, 900, root)
    note = {"operation": "batch-text", "roster": ROSTER, "number": 900, "root": root.hex()}
    topic.accept("batch-text", "Study, roster and number are its name.", note, {"text": text.hex()})
    topic.claim("batch-text-number", "Another number.", {**note, "number": 901}, text)
    topic.claim("batch-text-roster", "Another roster of the study.", {**note, "roster": "three-sites"}, text)

    # cosignatures
    def cosigned(time: int) -> dict:
        exact = f"cosignature/v1\ntime {time}\n".encode() + text
        return {"statement": exact.hex(), "signature": ref.ed25519_sign(SEEDS["alpha"], exact).hex()}

    sign = {**note, "operation": "cosign", "seed": SEEDS["alpha"].hex(), "time": 1_700_000_000}
    topic.accept("cosigned", "Time, then the note's text.", sign, cosigned(1_700_000_000))
    topic.accept("cosigned-earliest", "Second 0.", {**sign, "time": 0}, cosigned(0))
    topic.claim(
        "cosigned-later",
        "Another time.",
        {**sign, "time": 1_700_000_001},
        bytes.fromhex(cosigned(1_700_000_000)["statement"]),
    )

    # receipts
    fields = {
        "round": 7,
        "closing": False,
        "site": "alpha",
        "size": 300,
        "root": ROOT.hex(),
        "log_signature": SIGNATURE.hex(),
        "log_key": OTHER.hex(),
        "since": 70,
        "consistency": (ROOT + OTHER).hex(),
        "known": 5,
        "received": [OTHER.hex(), ROOT.hex()],
    }

    def receipt(row: dict) -> bytes:
        raw = {key: bytes.fromhex(row[key]) for key in ("root", "log_signature", "log_key", "consistency")}
        received = [bytes.fromhex(each) for each in row["received"]]
        return ref.transcript(
            b"wardround/v1/receipt",
            STUDY,
            ref.sha256(ref.canonical(roster)),
            b"",
            row["site"].encode(),
            number(row["round"]),
            b"\x01" if row["closing"] else b"\x00",
            number(row["size"]),
            raw["root"],
            raw["log_signature"],
            raw["log_key"],
            number(row["since"]),
            raw["consistency"],
            number(row["known"]),
            ref.transcript(*received) if received else b"",
        )

    base = {"operation": "receipt", "roster": ROSTER, "seed": SEEDS["alpha"].hex(), **fields}
    for name, comment, change in (
        ("receipt", "Two hashes received.", {}),
        ("receipt-closing", "At the end of a study, nothing received.", {"closing": True, "received": []}),
        ("receipt-first", "Nothing cosigned before.", {"since": 0, "consistency": "", "known": 0}),
    ):
        row = {**base, **change}
        exact = receipt(row)
        output = {"statement": exact.hex(), "signature": ref.ed25519_sign(SEEDS["alpha"], exact).hex()}
        topic.accept(name, comment, row, output)
    for name, comment, change in (
        ("receipt-round", "Another round.", {"round": 8}),
        ("receipt-end", "The end of a study instead of a round.", {"closing": True}),
        ("receipt-since", "Another size before.", {"since": 71}),
        ("receipt-received", "The hashes in another order.", {"received": fields["received"][::-1]}),
    ):
        topic.claim(name, comment, {**base, **change}, receipt(base))

    # the coordinator's batch message
    parts = {
        "site": "alpha",
        "round": 7,
        "closing": False,
        "number": 900,
        "root": root.hex(),
        "signature": ref.ed25519_sign(COORDINATOR_SEED, text).hex(),
        "path": b"".join(ref.tree_path(leaves, 1)).hex(),
        "log_root": OTHER.hex(),
        "log_key": ROOT.hex(),
        "log_signature": SIGNATURE.hex(),
        "log_path": b"".join(ref.tree_path(leaves, 0)).hex(),
        "since": 5,
        "consistency": ROOT.hex(),
        "received": [OTHER.hex()],
    }

    def stated(row: dict) -> bytes:
        raw = [
            bytes.fromhex(row[key])
            for key in ("root", "signature", "path", "log_root", "log_key", "log_signature", "log_path")
        ]
        received = [bytes.fromhex(each) for each in row["received"]]
        return ref.transcript(
            b"wardround/v1/batch",
            STUDY,
            ref.sha256(ref.canonical(roster)),
            b"",
            b"coordinator",
            row["site"].encode(),
            number(row["round"]),
            b"\x01" if row["closing"] else b"\x00",
            number(row["number"]),
            *raw,
            number(row["since"]),
            bytes.fromhex(row["consistency"]),
            ref.transcript(*received) if received else b"",
        )

    base = {"operation": "batch", "roster": ROSTER, "seed": COORDINATOR_SEED.hex(), **parts}
    exact = stated(base)
    output = {"statement": exact.hex(), "signature": ref.ed25519_sign(COORDINATOR_SEED, exact).hex()}
    topic.accept("batch", "The site that it is for is signed too.", base, output)
    topic.claim("batch-for-another", "Beta's.", {**base, "site": "beta"}, exact)
    topic.claim("batch-number", "Another number.", {**base, "number": 901}, exact)

    # ledger keys
    def certificate(row: dict) -> bytes:
        raw = [bytes.fromhex(row[key]) for key in ("previous", "before", "key")]
        name = origin(bytes.fromhex(row["identity"])).encode()
        return ref.transcript(b"wardround/v1/ledger-key", name, number(row["sequence"]), *raw)

    first = {
        "operation": "ledger-key",
        "identity": alpha.hex(),
        "sequence": 0,
        "previous": bytes(32).hex(),
        "before": "",
        "key": IDENTITIES["beta"].hex(),
    }
    later = {**first, "sequence": 12, "previous": ROOT.hex(), "before": IDENTITIES["gamma"].hex()}
    topic.accept("key-first", "The first of a ledger.", first, {"statement": certificate(first).hex()})
    topic.accept("key-later", "It names the one before.", later, {"statement": certificate(later).hex()})
    topic.claim("key-place", "Another place.", {**later, "sequence": 13}, certificate(later))
    topic.claim("key-ledger", "Another ledger.", {**later, "previous": OTHER.hex()}, certificate(later))
    return topic.file()
