"""The key that signs a ledger's checkpoints: kept encrypted, vouched for in the ledger, replaced, and lost."""

from __future__ import annotations

import copy
import itertools
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from wardround.privacy.errors import KeyStoreError, LedgerError
from wardround.privacy.identity import Identity, SigningContext
from wardround.privacy.ledger import keys as module
from wardround.privacy.ledger.checkpoints import Checkpoint
from wardround.privacy.ledger.entries import Entry, Record
from wardround.privacy.ledger.key_entries import KeyChain, certificate, is_low_order, origin_of
from wardround.privacy.ledger.keys import KEY_FILE, LedgerKey, open_key, rotate
from wardround.privacy.ledger.log import Ledger, verify

from .parties import ticking

OWN, OTHER = Identity.from_seed(b"i" * 32), Identity.from_seed(b"j" * 32)
SEEDS = [bytes([value]) * 32 for value in (1, 2, 3)]
# y = 1, 0 and -1, the first two unreduced, the two of order 8; all again with the sign of x set.
LOW_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
]
LOW_ORDER += [text[:62] + f"{int(text[62:], 16) | 0x80:02x}" for text in LOW_ORDER]


def opened(folder: Path) -> Ledger:
    folder.mkdir(exist_ok=True)
    return Ledger.open(folder / "ledger.jsonl", owner="site-a", clock=ticking())


def seeds() -> Any:
    """Random bytes of which a test knows the first few."""
    drawn = itertools.chain(SEEDS, itertools.repeat(b"\xff" * 32))
    return lambda count: next(drawn)


def rows(ledger: Ledger) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in ledger.path.read_bytes().splitlines()]


def text_of(key: LedgerKey, size: int = 1) -> bytes:
    return Checkpoint(key.origin, size, bytes(32)).text().encode()


def test_a_key_is_made_once_and_opened_again(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        first = open_key(tmp_path, OWN, ledger)
        assert open_key(tmp_path, OWN, ledger).public_key == first.public_key
    with opened(tmp_path) as ledger:
        again = open_key(tmp_path, OWN, ledger)
        assert again.sign(text_of(again)) == first.sign(text_of(first))
        assert [row["kind"] for row in rows(ledger)] == ["key"]
        assert ledger.chain.keys.keys == [(0, first.public_key)]
        assert ledger.chain.keys.identity == OWN.public_key
        assert ledger.chain.keys.recovered == []
    assert first.public_key != OWN.public_key


def test_the_file_is_its_owners_alone_and_holds_no_secret_in_the_clear(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        open_key(tmp_path, OWN, ledger, seeds())
        for _ in range(2):
            path = tmp_path / KEY_FILE
            assert path.stat().st_mode & 0o777 == 0o600
            content = path.read_bytes() + ledger.path.read_bytes()
            for seed in SEEDS:
                public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
                assert public not in path.read_bytes()
                for secret in (seed, seed.hex().encode()):
                    assert secret not in content
            rotate(tmp_path, OWN, ledger, random=seeds())
        assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == []


def test_another_identity_cannot_open_the_file(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        open_key(tmp_path, OWN, ledger)
        with pytest.raises(KeyStoreError, match="missing or damaged"):
            open_key(tmp_path, OTHER, ledger)


def test_a_new_key_takes_over_and_the_old_one_is_gone(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        first = open_key(tmp_path, OWN, ledger)
        ledger.append([Record(kind="note", study="", outcome="noted", rule="a")])
        second = rotate(tmp_path, OWN, ledger)
        assert second.public_key != first.public_key
        assert open_key(tmp_path, OWN, ledger).public_key == second.public_key
        chain = ledger.chain.keys
        assert chain.keys == [(0, first.public_key), (2, second.public_key)]
        assert [chain.at(size) for size in range(5)] == [
            None,
            first.public_key,
            first.public_key,
            second.public_key,
            second.public_key,
        ]
        assert chain.recovered == []
    assert verify(ledger.path).ok
    with opened(tmp_path) as ledger:
        assert open_key(tmp_path, OWN, ledger).public_key == second.public_key
        assert len(module._load(tmp_path / KEY_FILE, OWN)) == 1


class KilledError(BaseException):
    """The power goes: nothing catches it."""


def test_a_crash_between_the_file_and_the_first_entry_costs_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    with opened(tmp_path) as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "append_key", killed)
            with pytest.raises(KilledError):
                open_key(tmp_path, OWN, ledger, seeds())
        assert ledger.sequence == 0
    with opened(tmp_path) as ledger:
        key = open_key(tmp_path, OWN, ledger)
        assert key.public_key == Ed25519PrivateKey.from_private_bytes(SEEDS[0]).public_key().public_bytes_raw()
        assert ledger.chain.keys.keys == [(0, key.public_key)]


def killed(*arguments: Any) -> None:
    raise KilledError


@pytest.mark.parametrize("after_the_entry", [False, True])
def test_a_crash_in_a_rotation_leaves_the_key_that_the_ledger_names(
    tmp_path: Path, monkeypatch: Any, after_the_entry: bool
) -> None:
    with opened(tmp_path) as ledger:
        first = open_key(tmp_path, OWN, ledger)
        with monkeypatch.context() as patch:
            if after_the_entry:  # the file with the old key and the new one is there, the last write is not
                real, calls = module._store, itertools.count()
                patch.setattr(module, "_store", lambda *rest: killed() if next(calls) else real(*rest))
            else:
                patch.setattr(ledger, "append_key", killed)
            with pytest.raises(KilledError):
                rotate(tmp_path, OWN, ledger)
        assert len(module._load(tmp_path / KEY_FILE, OWN)) == 2
    with opened(tmp_path) as ledger:
        key = open_key(tmp_path, OWN, ledger)
        assert key.public_key == ledger.chain.keys.keys[-1][1]
        assert (key.public_key != first.public_key) is after_the_entry
        assert len(ledger.chain.keys.keys) == 1 + after_the_entry
        third = rotate(tmp_path, OWN, ledger)
        assert open_key(tmp_path, OWN, ledger).public_key == third.public_key
        assert ledger.chain.keys.recovered == []
    assert verify(ledger.path).ok


@pytest.mark.parametrize("damage", ["gone", "flipped", "empty", "another home's"])
def test_a_lost_key_is_named_with_its_remedy_and_its_replacement_shows(tmp_path: Path, damage: str) -> None:
    with opened(tmp_path) as ledger:
        first = open_key(tmp_path, OWN, ledger)
        path = tmp_path / KEY_FILE
        if damage == "gone":
            path.unlink()
        elif damage == "flipped":
            path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
        elif damage == "empty":
            path.write_bytes(b"")
        else:
            with opened(tmp_path / "other") as other:
                open_key(tmp_path / "other", OTHER, other)
            path.write_bytes((tmp_path / "other" / KEY_FILE).read_bytes())
        for _ in range(2):
            with pytest.raises(KeyStoreError) as caught:
                open_key(tmp_path, OWN, ledger)
            assert caught.value.where == str(path)
            assert "wardround site rotate-key --lost" in caught.value.remedy
        with pytest.raises(KeyStoreError):
            rotate(tmp_path, OWN, ledger)
        assert ledger.sequence == 1
        second = rotate(tmp_path, OWN, ledger, lost=True)
        assert second.public_key != first.public_key
        assert ledger.chain.keys.recovered == [1]
        rotate(tmp_path, OWN, ledger)
    with opened(tmp_path) as ledger:
        assert ledger.chain.keys.recovered == [1]
        open_key(tmp_path, OWN, ledger)
    assert verify(ledger.path).ok


def test_a_key_signs_nothing_but_its_own_ledgers_checkpoints(tmp_path: Path) -> None:
    key, other = LedgerKey(SEEDS[0], OWN), LedgerKey(SEEDS[0], OTHER)
    assert key.public_key == other.public_key
    assert len(key.sign(text_of(key))) == 64
    statement = SigningContext(bytes(32), bytes(32)).statement(b"wardround/v1/receipt", "a", [b""])
    batch = b"wardround/batch/" + b"0" * 64 + b"/1\n4\nAAAA\n"
    for text in (
        b"",
        b"\n",
        statement,
        batch,
        text_of(other),  # of another identity's ledger
        b" " + text_of(key),
        key.origin.encode(),
        key.origin.encode() + b"0\n1\n",
        key.origin[:-1].encode() + b"\n1\n",
        b"cosignature/v1\ntime 1\n" + text_of(key),
    ):
        with pytest.raises(KeyStoreError, match="checkpoints of its own ledger only"):
            key.sign(text)


def test_an_identity_signs_no_checkpoint_of_a_ledger() -> None:
    """Else it could be taken for the ledger key that it vouches for."""
    text = text_of(LedgerKey(SEEDS[0], OWN))
    with pytest.raises(KeyStoreError):
        OWN.sign_note(text)
    with pytest.raises(KeyStoreError):
        OWN.sign_transcript(text)


def test_a_key_cannot_be_copied_or_shown(tmp_path: Path) -> None:
    key = LedgerKey(SEEDS[0], OWN)
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="pickled or copied"):
            attempt(key)
    assert repr(key) == "LedgerKey()"
    assert not hasattr(key, "__dict__")


# --- certificates that do not hold ---------------------------------------------------------------------------------


def entry_at(sequence: int, previous: str, **facts: str | int) -> Entry:
    return Entry(
        kind="key",
        study="",
        outcome="noted",
        facts=facts,
        version=2,
        sequence=sequence,
        previous=previous,
        time="t",
        owner="site-a",
        salt="",
    )


def made(chain: KeyChain, sequence: int, previous: str, seed: bytes, *, old: bytes = b"", by: Identity = OWN) -> Entry:
    """A good key entry at a place; ``old`` is the seed of the key before."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes_raw()
    before = chain.keys[-1][1] if chain.keys else b""
    signed = certificate(by.public_key, sequence, previous, before, public)
    facts: dict[str, str | int] = {
        "public_key": public.hex(),
        "identity": by.public_key.hex(),
        "signature": (by.sign_transcript(signed) + private.sign(signed)).hex(),
    }
    if old:
        facts["previous_signature"] = Ed25519PrivateKey.from_private_bytes(old).sign(signed).hex()
    return entry_at(sequence, previous, **facts)


HERE, THERE = "aa" * 32, "bb" * 32
NOT_VOUCHED = "names a ledger key that is not vouched for"


def with_first() -> KeyChain:
    chain = KeyChain()
    chain.follow(made(chain, 0, "00" * 32, SEEDS[0]))
    return chain


def test_a_good_certificate_is_taken() -> None:
    chain = with_first()
    for old in (SEEDS[0], b""):
        assert chain.refuses(made(chain, 5, HERE, SEEDS[1], old=old)) == ""


def test_a_certificate_holds_at_its_own_place_only() -> None:
    chain = with_first()
    good = made(chain, 5, HERE, SEEDS[1], old=SEEDS[0])
    for place in ({"sequence": 6}, {"previous": THERE}, {"sequence": 6, "previous": THERE}):
        assert chain.refuses(msgspec.structs.replace(good, **place)) == NOT_VOUCHED
    chain.follow(good)  # and not a second time, when another key came between
    chain.follow(made(chain, 7, THERE, SEEDS[2], old=SEEDS[1]))
    assert chain.refuses(good) == NOT_VOUCHED


def test_a_certificate_of_another_ledger_is_refused(tmp_path: Path) -> None:
    """Two ledgers of one identity: the entry of the one does not fit into the other, though both begin at nought."""
    for name in ("a", "b"):
        with opened(tmp_path / name) as ledger:
            open_key(tmp_path / name, OWN, ledger)
            ledger.append([Record(kind="note", study="", outcome="noted", rule="a")])
            rotate(tmp_path / name, OWN, ledger)
    first, second = ((tmp_path / name / "ledger.jsonl").read_bytes().splitlines(keepends=True) for name in "ab")
    (tmp_path / "a" / "ledger.jsonl").write_bytes(b"".join(first[:2]))
    with opened(tmp_path / "a") as ledger:
        row = msgspec.json.decode(second[2])
        with pytest.raises(LedgerError, match=NOT_VOUCHED):
            ledger.append([Record(kind="key", study="", outcome="noted", facts=row["facts"])])


def test_another_identity_cannot_bring_its_own_key() -> None:
    chain = with_first()
    assert chain.refuses(made(chain, 5, HERE, SEEDS[1], by=OTHER)) == "names a ledger key of another identity"
    # Nor vouch for one in the owner's name.
    forged = made(chain, 5, HERE, SEEDS[1], by=OTHER)
    assert forged.facts is not None
    renamed = msgspec.structs.replace(forged, facts={**forged.facts, "identity": OWN.public_key.hex()})
    assert chain.refuses(renamed) == NOT_VOUCHED


def test_the_key_before_must_have_signed_where_it_is_said_to_have() -> None:
    chain = with_first()
    assert chain.refuses(made(chain, 5, HERE, SEEDS[1], old=SEEDS[2])) == NOT_VOUCHED
    first = made(KeyChain(), 0, HERE, SEEDS[0], old=SEEDS[2])  # there is no key before the first
    assert KeyChain().refuses(first) == NOT_VOUCHED


@pytest.mark.parametrize("low", LOW_ORDER)
def test_a_key_of_low_order_is_refused(low: str) -> None:
    """Under the neutral element, R = 1 and s = 0 is a signature of everything; only the identity's is real here."""
    key, neutral = bytes.fromhex(low), (1).to_bytes(32, "little")
    assert is_low_order(key)
    signed = certificate(OWN.public_key, 0, HERE, b"", key)
    signature = OWN.sign_transcript(signed) + neutral + bytes(32)
    entry = entry_at(0, HERE, public_key=low, identity=OWN.public_key.hex(), signature=signature.hex())
    assert KeyChain().refuses(entry) == "names a ledger key that is none"


def test_usual_keys_are_not_of_low_order() -> None:
    for seed in SEEDS:
        assert not is_low_order(LedgerKey(seed, OWN).public_key)


@pytest.mark.parametrize(
    "change",
    [
        {"public_key": "00"},
        {"public_key": ""},
        {"public_key": "ff" * 32},
        {"public_key": 7},
        {"public_key": "zz" * 32},
        {"identity": ""},
        {"identity": "00" * 31},
        {"identity": "ff" * 32},
        {"signature": ""},
        {"signature": "00" * 64},
        {"signature": "00" * 128},
        {"previous_signature": "00" * 64},
        {"public_key": None},
        {"identity": None},
        {"signature": None},
    ],
    ids=str,
)
def test_a_malformed_certificate_is_refused(change: dict[str, Any]) -> None:
    chain = with_first()
    good = made(chain, 5, HERE, SEEDS[1])
    facts = {name: value for name, value in {**(good.facts or {}), **change}.items() if value is not None}
    assert chain.refuses(msgspec.structs.replace(good, facts=facts)).startswith("names a ledger key that is")
    assert chain.refuses(msgspec.structs.replace(good, facts=None)) == NOT_VOUCHED


def test_a_truncated_second_half_of_the_signature_is_refused() -> None:
    """The new key itself must sign: nobody takes over another's key by naming it."""
    good = made(KeyChain(), 0, HERE, SEEDS[0])
    assert good.facts is not None
    for signature in (str(good.facts["signature"])[:128], str(good.facts["signature"]) + "00"):
        facts = {**good.facts, "signature": signature}
        assert KeyChain().refuses(msgspec.structs.replace(good, facts=facts)) == NOT_VOUCHED


def test_a_ledgers_name_is_its_identitys() -> None:
    assert origin_of(OWN.public_key) == LedgerKey(SEEDS[0], OWN).origin
    assert origin_of(OWN.public_key) != origin_of(OTHER.public_key)
