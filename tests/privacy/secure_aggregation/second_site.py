"""A second, minimal site of the secure-aggregation protocol: slow and plain, `update` sessions only, all in memory."""

import hashlib
import json
import math
import re
import struct
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import msgspec
import rfc8785
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SHAMIR_PRIME, P, NONCE = 2**256 + 297, 2**255 - 19, bytes(12)
LOW_ORDER = {v.to_bytes(32, "little") for v in (0, 1, P - 1, P, P + 1)} | {
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
}
PURPOSES = {"update", "evaluation", "class-means", "temperature"}
STAGES = ("start", "share", "mask", "agree", "unmask", "done")
SESSION = (32, int, PURPOSES, int, int)
ADVERT = ({"advert"}, SESSION, str, 32, 32, 32, 32, 64)
FORMS: dict[str, tuple[str, tuple, int, int]] = {  # stage, fields, largest size: fixed and for each site
    "round-start": ("start", (SESSION, bytes, bytes), 66_048, 0),
    "advert-list": ("share", (SESSION, [ADVERT]), 512, 512),
    "share-delivery": ("mask", (SESSION, [(str, 82, 32, 32, bytes, 64)]), 512, 704),
    "survivor-set": ("agree", (SESSION, [str]), 512, 80),
    "unmask-request": ("unmask", (SESSION, [str], [(str, 64)]), 512, 256),
    "round-end": ("", (SESSION, {"released", "aborted"}, 32), 512, 0),
    "study-end": ("", (32, {"completed", "aborted"}, bytes), 512, 0),
}


class Refused(Exception):  # noqa: N818
    """Section "Refusals": a site does not go on."""

    def __init__(self, code: str, peer: str = "", stage: str = "") -> None:
        super().__init__(code, stage, peer)
        self.code, self.stage, self.peer = code, stage, peer


def need(holds: object, code: str = "malformed", peer: str = "", stage: str = "") -> None:
    """Refuse with a code unless something holds."""
    if not holds:
        raise Refused(code, peer, stage)


def is_name(value: object) -> bool:
    return type(value) is str and re.fullmatch("[a-z0-9][a-z0-9._-]{0,63}", value) is not None


# Section "Encodings and primitives".


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def transcript(*parts: str | bytes) -> bytes:
    """T: each part preceded by its length."""
    raw = [p.encode() if isinstance(p, str) else p for p in parts]
    return b"".join(struct.pack(">I", len(p)) + p for p in raw)


def labelled(label: str, *parts: str | bytes) -> bytes:
    return transcript("wardround/v1/" + label, *parts)


def hashed(label: str, *parts: str | bytes) -> bytes:
    """H."""
    return sha(labelled(label, *parts))


def session_bytes(session: list[Any]) -> bytes:
    """S."""
    return transcript(*(struct.pack(">I", v) if isinstance(v, int) else v for v in session))


def derived(secret: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, None, info).derive(secret)


def exchange(private: bytes, public: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


def public_of(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def prg(key: bytes, words: int) -> list[int]:
    """Mask: little-endian 32-bit words of the key stream."""
    return list(struct.unpack(f"<{words}I", AESGCM(key).encrypt(NONCE, bytes(4 * words), None)[:-16]))


def split(secret: bytes, coefficients: list[int], point: int) -> bytes:
    """Shamir: the share at a point; coefficients from the highest power down, without the secret."""
    value = 0
    for coefficient in [*coefficients, int.from_bytes(secret, "big")]:
        value = (value * point + coefficient) % SHAMIR_PRIME
    return value.to_bytes(33, "big")


def tree_root(entries: list[bytes]) -> bytes:
    """Tree: pair neighbours, a last one alone rises unchanged."""
    level = [sha(b"\0" + e) for e in entries]
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [sha(b"\1" + p[0] + p[1]) if len(p) == 2 else p[0] for p in pairs]
    return level[0]


def path_root(entry: bytes, index: int, size: int, path: bytes) -> bytes:
    """Tree: the root from a leaf and its path, nothing for a path of another length."""
    node = sha(b"\0" + entry)
    while size > 1:
        if index ^ 1 < size:
            step, path = path[:32], path[32:]
            if len(step) < 32:
                return b""
            node = sha(b"\1" + (step + node if index & 1 else node + step))
        index, size = index // 2, (size + 1) // 2
    return b"" if path else node


def share_hashes(s: bytes, dealer: str, recipient: str, pair: tuple[bytes, bytes]) -> list[bytes]:
    return [hashed("share-hash", s, dealer, recipient, kind, share) for kind, share in zip("bs", pair, strict=True)]


# Sections "Parameters" and "Roster".


def read_roster(raw: bytes) -> SimpleNamespace:
    """The content of the canonical bytes, checked."""
    try:
        return _read_roster(raw)
    except (Refused, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Refused("malformed", "", "roster") from None


def _read_roster(raw: bytes) -> SimpleNamespace:
    doc = json.loads(raw)
    keys = "cohort differential_privacy evaluation_cohort sites study threshold vectors version w_max weighting"
    need(rfc8785.dumps(doc) == raw and sorted(doc) == keys.split() and doc["differential_privacy"] is False)
    n, t, m, sites, cohort = len(doc["sites"]), doc["threshold"], doc["cohort"], doc["sites"], doc["evaluation_cohort"]
    need(all(type(v) is int for v in (t, m, doc["version"], *(s["samples"] for s in sites))) and doc["version"] == 1)
    need(3 <= n <= 1000 and n < 2 * t <= 2 * n and 3 <= m <= n and doc["weighting"] in ("weighted", "uniform"))
    need(all(set(s) == {"name", "public_key", "samples"} and 1 <= s["samples"] < 2**53 for s in sites))
    site_keys = {s["name"]: unhex(s["public_key"]) for s in sites}
    names = [s["name"] for s in sites]
    need(names == sorted(site_keys) and all(is_name(x) and x != "coordinator" for x in names))
    need(len(set(site_keys.values())) == n and len(cohort) >= max(t, m) and cohort == sorted({*cohort} & {*names}))
    w_max, total = decimal(doc["w_max"]), sum(s["samples"] for s in sites)
    need(1 <= w_max < 2**32 and set(doc["vectors"]) <= PURPOSES)
    weight = {s["name"]: min(s["samples"] * n / total, w_max) for s in sites}
    if doc["weighting"] == "uniform":
        w_max, weight = 1.0, dict.fromkeys(names, 1.0)
    blocks = {purpose: [read_block(b, n, w_max) for b in vector] for purpose, vector in doc["vectors"].items()}
    need(all(len({b.name for b in vector}) == len(vector) > 0 for vector in blocks.values()))
    return SimpleNamespace(
        hash=sha(raw), study=unhex(doc["study"]), names=names, keys=site_keys, n=n, t=t, least=max(t, m),
        weight=weight, blocks=blocks["update"],
    )  # fmt: skip


def read_block(doc: dict[str, str], n: int, w_max: float) -> SimpleNamespace:
    need(sorted(doc) == ["bits", "clip", "fraction_bits", "name", "size", "weighted"])
    size, fraction, bits = (int(doc[k]) for k in ("size", "fraction_bits", "bits"))
    need([str(v) for v in (size, fraction, bits)] == [doc[k] for k in ("size", "fraction_bits", "bits")])
    clip, ring = decimal(doc["clip"]), 32 if bits == 32 else bits + (n - 1).bit_length()
    need(0 < clip < 2**32 and 0 <= fraction <= 30 and size > 0 and 1 <= len(doc["name"]) <= 64)
    need(doc["weighted"] in ("yes", "no"))
    weighted = doc["weighted"] == "yes"
    top = math.floor((w_max if weighted else 1.0) * clip * 2.0**fraction)
    packed = 8 <= bits <= 24 and ring < 32 and top <= 2 ** (bits - 1) - 1
    need(n * (top + 1) < 2**31 if bits == 32 else packed)
    return SimpleNamespace(
        name=doc["name"], size=size, clip=clip, fraction=fraction, bits=bits, ring=ring, weighted=weighted
    )


def decimal(text: str) -> float:
    need(repr(float(text)) == text)
    return float(text)


def unhex(text: str) -> bytes:
    need(re.fullmatch("[0-9a-f]{64}", text))
    return bytes.fromhex(text)


# Sections "Fixed point" and "Packing".


def encode_block(values: list[float], block: SimpleNamespace, weight: float, rounding_key: bytes) -> list[int]:
    """One block's values as signed fixed-point numbers, each a word modulo 2^32."""
    need(len(values) == block.size, "wrong-length")
    scale = (weight if block.weighted else 1.0) * 2.0**block.fraction
    stream = prg(hashed("rounding", rounding_key, block.name), block.size)
    words = []
    for value, random_word in zip(values, stream, strict=True):
        need(math.isfinite(value), "local-failure")
        q = max(-block.clip, min(block.clip, float(value))) * scale
        if block.bits == 32:
            number = round(q)
        else:
            top = 2 ** (block.bits - 1) - 1
            number = max(-top, min(top, math.floor(q + random_word * 2.0**-32)))
        words.append(number % 2**32)
    return words


def pack(words: list[int], blocks: list[SimpleNamespace]) -> bytes:
    """The wire bytes of a vector."""
    out = b""
    for block in blocks:
        own, words = words[: block.size], words[block.size :]
        if block.bits == 32:
            out += struct.pack(f"<{block.size}I", *own)
            continue
        groups = -(-block.size // 32)
        packed = [0] * (block.ring * groups)
        for j in range(groups):
            column = sum((v % 2**block.ring) << (k * block.ring) for k, v in enumerate(own[j::groups]))
            for w in range(block.ring):
                packed[w * groups + j] = column >> (32 * w) & 0xFFFFFFFF
        out += struct.pack(f"<{len(packed)}I", *packed)
    return out


# Section "Messages".


def fits(form: Any, value: Any) -> bool:
    """A form is a row (tuple), any number of one form (list), words (set), a count of bytes, or a type."""
    if isinstance(form, tuple):
        return type(value) is list and len(value) == len(form) and all(map(fits, form, value))
    if isinstance(form, list):
        return type(value) is list and all(fits(form[0], v) for v in value)
    if isinstance(form, set):
        return type(value) is str and value in form
    if isinstance(form, int):
        return type(value) is bytes and len(value) == form
    return type(value) is form and (form is bytes or (is_name(value) if form is str else 0 <= value < 2**32))


def read_message(wire: bytes, n: int, largest_adapter: int) -> list[Any]:
    """One message of the coordinator: size from the first bytes, then form, then the one encoding."""
    tag = wire[2 : 2 + (wire[1] & 0x1F)].decode("ascii", "replace") if len(wire) > 2 else ""
    need(tag in FORMS)
    _, fields, fixed, per_site = FORMS[tag]
    need(len(wire) <= fixed + per_site * n + (largest_adapter if tag in ("round-start", "study-end") else 0))
    try:
        message = msgspec.msgpack.decode(wire)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
        raise Refused("malformed") from None
    need(fits(({tag}, *fields), message) and msgspec.msgpack.encode(message) == wire)
    return message


# Section "A site, stage by stage".


class SecondSite:
    """One site; `handle` takes a coordinator's message and gives the reply's bytes."""

    def __init__(
        self, name: str, seed: bytes, roster: bytes, signatures: dict[str, bytes], confirmed: set[str],
        update: Callable[[bytes, int], dict[str, list[float]]], random: Callable[[int], bytes],
        rounds: int = 2**32 - 1, largest_adapter: int = 2**30,
    ) -> None:  # fmt: skip
        self.sign_roster(name, seed, roster)
        self.name, self.roster, self.confirmed = name, read_roster(roster), {*confirmed, name}
        self._key, self._update, self._random = Ed25519PrivateKey.from_private_bytes(seed), update, random
        self._rounds, self._largest = rounds, largest_adapter
        for site in {*signatures, *self.roster.names}:
            need(site in self.roster.keys, "unknown-site", site, "roster")
            content = labelled("roster", self.roster.study, bytes(32), b"", site, self.roster.hash)
            self._verify(site, signatures.get(site, b""), content)
        self._open: SimpleNamespace | None = None
        self._last = (0, 0, b"")  # round, attempt, adapter hash
        self._vector: tuple[int, list[int]] = (0, [])  # round and its encoded words, for all its attempts
        self._signed: dict[int | bytes, list[str]] = {}  # survivor sets by round and by adapter hash

    @staticmethod
    def sign_roster(name: str, seed: bytes, roster: bytes) -> bytes:
        """Section "Roster": this site's signature over a roster that names its own key."""
        read, key = read_roster(roster), Ed25519PrivateKey.from_private_bytes(seed)
        need(read.keys.get(name) == key.public_key().public_bytes_raw(), "unknown-site", name, "roster")
        return key.sign(labelled("roster", read.study, bytes(32), b"", name, read.hash))

    def handle(self, wire: bytes) -> bytes | None:
        """Answer one message, as "Refusals" and "Again and again" say."""
        now, stage, session = self._open, "", None
        done = now is not None and now.stage == "done"
        try:
            if now is not None:
                stage, session = now.stage, now.session
            tag, *fields = read_message(wire, self.roster.n, self._largest)
            stage, session = FORMS[tag][0], fields[0]
            if stage:
                return self._answer(stage, wire, fields)
        except Refused as no:
            if session is None or (done and stage != "start"):
                return None
            return msgspec.msgpack.encode(["refusal", session, self.name, no.code, stage, no.peer])
        if session == (self.roster.study if tag == "study-end" else now and now.session):
            self._open = None
        if tag == "study-end" and fields[:2] == [self.roster.study, "completed"]:
            self._vector = (self._vector[0], [])
        return None

    def _answer(self, stage: str, wire: bytes, fields: list[Any]) -> bytes:
        session, now = fields[0], self._open
        need(session[0] == self.roster.study, "wrong-session")
        if stage == "start" and (now is None or session != now.session):
            now = self._start(*fields)
            message = now.advert
        else:
            if now is None:
                raise Refused("out-of-order")
            need(session == now.session, "wrong-session")
            if stage in now.answers:
                request, reply = now.answers[stage]
                need(wire == request or (stage == "unmask" and fields[1] == now.survivors), "changed-request")
                return reply
            need(stage == now.stage, "out-of-order")
            message = getattr(self, "_" + stage)(now, *fields[1:])
        now.answers[stage] = wire, msgspec.msgpack.encode(message)
        now.stage = STAGES[STAGES.index(stage) + 1]
        self._open = now
        return now.answers[stage][1]

    # What several stages share.

    def _content(self, label: str, s: bytes, signer: str, *content: bytes) -> bytes:
        return labelled(label, self.roster.study, self.roster.hash, s, signer, *content)

    def _sign(self, label: str, s: bytes, *content: bytes) -> bytes:
        return self._key.sign(self._content(label, s, self.name, *content))

    def _verify(self, site: str, signature: bytes, content: bytes) -> None:
        try:
            Ed25519PublicKey.from_public_bytes(self.roster.keys[site]).verify(signature, content)
        except (InvalidSignature, ValueError):
            raise Refused("bad-signature", site) from None

    def _check_names(self, names: list[str], allowed: Iterable[str]) -> None:
        for i, name in enumerate(names):
            need(name in self.roster.keys, "unknown-site", name)
            need(name not in names[:i], "duplicate-site", name)
        need(names == sorted(names))
        for name in names:
            need(name in allowed, "unknown-site", name)

    def _enough(self, names: Iterable[str]) -> None:
        need(len(self.confirmed & set(names)) >= self.roster.least, "too-few")

    def _box(self, now: SimpleNamespace, other: str, other_key: bytes, outward: bool) -> tuple[AESGCM, bytes]:
        """Sealing: the cipher and the header of a box to or from another site."""
        ends = [(self.name, now.advert[3]), (other, other_key)]
        (a, a_key), (b, b_key) = ends if outward else ends[::-1]
        info = labelled("seal-shares", now.s, a, b, a_key, b_key)
        return AESGCM(derived(exchange(now.channel, other_key), info)), labelled("seal-shares", now.s, a, b)

    # The stages.

    def _start(self, session: list[Any], adapter: bytes, settings: bytes) -> SimpleNamespace:
        """Start: check, end the earlier session, train once a round, draw the keys."""
        _, number, purpose, sequence, attempt = session
        need(purpose == "update" and sequence == 0 and 1 <= number <= self._rounds, "wrong-session")
        need((number, attempt) > self._last[:2], "wrong-session")
        adapter_hash = sha(adapter)
        need(number != self._last[0] or adapter_hash == self._last[2], "other-adapter")
        need(settings == b'{"round":%d,"study":"%s"}' % (number, self.roster.study.hex().encode()), "other-adapter")
        self._open, self._last = None, (number, attempt, adapter_hash)
        if self._vector[0] != number:
            self._vector = (number, self._encode(adapter, session))
        need(self._vector[1], "local-failure")
        s, binding = session_bytes(session), hashed("binding", adapter_hash, sha(settings))
        channel, mask, b = (self._random(32) for _ in range(3))
        content = [public_of(channel), public_of(mask), hashed("commit-b", s, self.name, b), binding]
        advert = ["advert", session, self.name, *content, self._sign("advert", s, *content)]
        return SimpleNamespace(
            session=session, s=s, adapter=adapter_hash, binding=binding, words=self._vector[1], advert=advert,
            channel=channel, mask=mask, b=b, answers={}, survivors=[],
        )  # fmt: skip

    def _encode(self, adapter: bytes, session: list[Any]) -> list[int]:
        key, weight = hashed("rounding", session_bytes([*session[:4], 0]), self.name), self.roster.weight[self.name]
        try:
            values = self._update(adapter, session[1])
            need(set(values) == {block.name for block in self.roster.blocks}, "wrong-length")
            return [w for block in self.roster.blocks for w in encode_block(values[block.name], block, weight, key)]
        except Exception as error:
            raise error if isinstance(error, Refused) else Refused("local-failure") from error

    def _share(self, now: SimpleNamespace, adverts: list[list[Any]]) -> list[Any]:
        """Share: check the list, then split, seal and sign."""
        s, listed = now.s, [advert[2] for advert in adverts]
        self._check_names(listed, self.roster.names)
        for _, session, site, channel_key, mask_key, commitment, binding, signature in adverts:
            need(session == now.session, "wrong-session", site)
            content = self._content("advert", s, site, channel_key, mask_key, commitment, binding)
            self._verify(site, signature, content)
            need(binding == now.binding, "other-adapter", site)
            for key in (channel_key, mask_key):
                need(key[:31] + bytes([key[31] & 127]) not in LOW_ORDER, "low-order-key", site)
        need(now.advert in adverts, "self-missing")
        self._enough(listed)
        lines = [[int.from_bytes(self._random(48), "big") for _ in range(self.roster.t - 1)] for _ in "bs"]
        entries = []
        for _, _, site, channel_key, *_ in adverts:
            point = self.roster.names.index(site) + 1
            pair = split(now.b, lines[0], point), split(now.mask, lines[1], point)
            if site == self.name:
                box, now.shares = b"", {site: pair}
            else:
                cipher, header = self._box(now, site, channel_key, outward=True)
                box = cipher.encrypt(NONCE, pair[0] + pair[1], header)
            entries.append([site, box, *share_hashes(s, self.name, site, pair)])
        now.adverts = dict(zip(listed, adverts, strict=True))
        now.adverts_hash = hashed("adverts", *(transcript(*advert[2:]) for advert in adverts))
        root = tree_root([labelled("share-leaf", *entry) for entry in entries])
        return ["sealed-shares", now.session, self.name, entries, self._sign("shares", s, now.adverts_hash, root)]

    def _mask(self, now: SimpleNamespace, delivered: list[list[Any]]) -> list[Any]:
        """Mask: check what was dealt, then mask, pack and sign."""
        s, dealers, shares = now.s, [entry[0] for entry in delivered], dict(now.shares)
        self._check_names(dealers, now.adverts)
        need(self.name not in dealers, "duplicate-site", self.name)
        self._enough([*dealers, self.name])
        for dealer, box, b_hash, s_hash, path, signature in delivered:
            leaf = labelled("share-leaf", self.name, box, b_hash, s_hash)
            root = path_root(leaf, list(now.adverts).index(self.name), len(now.adverts), path)
            self._verify(dealer, signature, self._content("shares", s, dealer, now.adverts_hash, root))
            cipher, header = self._box(now, dealer, now.adverts[dealer][3], outward=False)
            try:
                plain = cipher.decrypt(NONCE, box, header)
            except InvalidTag:
                raise Refused("unopenable-share", dealer) from None
            shares[dealer] = plain[:33], plain[33:]
            right = share_hashes(s, dealer, self.name, shares[dealer]) == [b_hash, s_hash]
            need(len(plain) == 66 and right, "dishonest-share", dealer)
        keys = [(1, derived(now.b, labelled("self-mask", s, self.name, "update")))]
        for other in dealers:
            info = labelled("pair-mask", s, *sorted((self.name, other)), "update")
            keys.append((1 if other > self.name else -1, derived(exchange(now.mask, now.adverts[other][4]), info)))
        masked = now.words
        for sign, key in keys:
            masked = [(x + sign * v) % 2**32 for x, v in zip(masked, prg(key, len(masked)), strict=True)]
        now.shares = dict(sorted(shares.items()))
        vector = pack(masked, self.roster.blocks)
        tag = AESGCM(hashed("checksum", s, self.name)).encrypt(NONCE, b"", vector)
        return ["masked-vector", now.session, self.name, vector, tag, self._sign("masked-vector", s, tag)]

    def _agree(self, now: SimpleNamespace, survivors: list[str]) -> list[Any]:
        """Agree: one set a round and one an adapter; then forget all but one share of each sharer."""
        self._check_names(survivors, now.shares)
        need(self.name in survivors, "self-missing")
        self._enough(survivors)
        for record in (now.session[1], now.adapter):
            need(self._signed.get(record, survivors) == survivors, "second-survivor-set")
        self._signed.update({now.session[1]: survivors, now.adapter: survivors})
        now.agreed = hashed("sharers", *now.shares), hashed("survivors", *survivors), now.adverts_hash
        now.kept = [[d, "b", b] if d in survivors else [d, "s", key] for d, (b, key) in now.shares.items()]
        now.survivors = survivors
        del now.channel, now.mask, now.b, now.shares, now.words
        return ["agreement", now.session, self.name, self._sign("agree", now.s, *now.agreed)]

    def _unmask(self, now: SimpleNamespace, survivors: list[str], signed: list[list[Any]]) -> list[Any]:
        """Unmask: t confirmed signatures over the own three hashes, then one share for each sharer."""
        need(survivors == now.survivors, "changed-request")
        self._check_names([signer for signer, _ in signed], survivors)
        counting = [pair for pair in signed if pair[0] in self.confirmed]
        for signer, signature in counting[: self.roster.t]:
            self._verify(signer, signature, self._content("agree", now.s, signer, *now.agreed))
        need(len(counting) >= self.roster.t, "too-few")
        signature = self._sign("unmask-answer", now.s, *(transcript(*share) for share in now.kept))
        return ["unmask-answer", now.session, self.name, now.kept, signature]
