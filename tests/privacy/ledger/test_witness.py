"""Cosigning between a coordinator and sites: what honest parties end up with, and what a dishonest one runs into."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wardround.platform.cosigning import Cosigning
from wardround.privacy.egress import COORDINATOR
from wardround.privacy.errors import EgressRefusedError, LedgerError, ProtocolError, Refusal
from wardround.privacy.identity import Identity
from wardround.privacy.ledger import batches as b
from wardround.privacy.ledger.checkpoints import Checkpoint, cosignature_message
from wardround.privacy.ledger.coordinator_witness import STATE_FILE
from wardround.privacy.ledger.entries import Record
from wardround.privacy.ledger.evidence import EvidenceStore
from wardround.privacy.ledger.keys import LedgerKey, rotate
from wardround.privacy.ledger.log import verify
from wardround.privacy.ledger.tree import GrowingTree
from wardround.privacy.messages import (
    TO_SITE,
    Batch,
    Cosignature,
    Cosigned,
    LogHead,
    Receipt,
    RoundEnd,
    SiteCosignature,
    StudyEnd,
    encode,
)
from wardround.privacy.secure_aggregation.session import SessionId

from .parties import STUDY, World, entries, identity_of, notice, signed_batch, signed_receipt

SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
A, B, C = "site-1", "site-2", "site-3"
STRANGER = Identity.from_seed(b"x" * 32)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[int], World]:
    """A world of n sites in a folder of its own, for each example of a property."""
    made = iter(range(10_000))

    def make(n: int) -> World:
        folder = tmp_path / f"world-{next(made)}"
        folder.mkdir()
        return World(folder, n)

    return make


def refused(code: Refusal, call: Callable[..., Any], *arguments: Any) -> ProtocolError:
    """The call is refused with this code, at the stage of cosigning."""
    with pytest.raises(ProtocolError) as caught:
        call(*arguments)
    assert (caught.value.code, caught.value.stage) == (code, "witness")
    return caught.value


# --- honest parties ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 4, 7])
def test_rounds_and_a_close_leave_evidence_that_holds(fresh: Callable[[int], World], n: int) -> None:
    world = fresh(n)
    for _ in range(3):
        world.exchange()
    world.exchange(closing=True)
    world.check()
    everybody = set(world.roster.names)
    for party in world.parties:
        kept = world.evidence(party.name)
        assert [world.cosigners(each, party.name) for each in kept] == [everybody] * 4
        # The last one is over a ledger that has the close; nothing but the exchange itself comes after it.
        close = next(entry["sequence"] for entry in entries(party) if entry["kind"] == "close")
        assert kept[-1].log.size > close
        latest = party.store.latest()
        assert latest is not None
        signed = Checkpoint.parse(latest.text)
        if party.name == COORDINATOR:
            assert signed == kept[-1].log
            world.coordinator.witness.sign_end()
            signed = Checkpoint.parse(party.store.latest().text)
        assert (signed.size, signed.root) == (len(entries(party)), party.ledger.chain.tree.root())
        out = [e["message_type"] for e in entries(party)[close:] if e["direction"] == "out"]
        expected = ["batch"] * n + ["cosigned"] * n if party.name == COORDINATOR else ["receipt", "cosignature"]
        assert out == expected
    world.close()


def test_an_acknowledgement_names_exactly_what_came_since_the_last(world: World) -> None:
    """What one side signs to have received is what the other side wrote down to have sent."""
    for _ in range(3):
        world.exchange()

    def sent(party: Any, peer: str) -> set[bytes]:
        rows = [entry for entry in entries(party) if (entry["direction"], entry["peer"]) == ("out", peer)]
        return {bytes.fromhex(entry["wire_sha256"]) for entry in rows}

    for name, site in world.sites.items():
        listed: list[bytes] = []
        for kept in world.evidence(COORDINATOR):
            receipt = msgspec.msgpack.decode(kept.messages[name])
            listed += receipt[12]
        assert len(listed) == len(set(listed))
        # The last batch and the last signatures came after the last receipt.
        assert sent(world.coordinator, name) >= set(listed)
        assert len(sent(world.coordinator, name) - set(listed)) == 2
        listed = [
            sha for kept in world.evidence(name) for sha in msgspec.msgpack.decode(kept.messages[COORDINATOR])[12]
        ]
        assert len(listed) == len(set(listed))
        assert sent(site, COORDINATOR) - set(listed) == {
            bytes.fromhex(entries(site)[-2]["wire_sha256"])  # the last cosignature; after it the signatures came
        }


@SLOW
@given(data=st.data())
def test_whoever_is_silent_at_any_step_harms_nobody_and_catches_up(fresh: Callable[[int], World], data: Any) -> None:
    world = fresh(data.draw(st.sampled_from([3, 4, 7])))
    subset = st.sets(st.sampled_from(world.roster.names))
    for _ in range(data.draw(st.integers(1, 4))):
        world.exchange(data.draw(subset), data.draw(subset))
        world.check()
    world.exchange()
    for name in (*world.roster.names, COORDINATOR):
        last = world.evidence(name)[-1]
        assert world.cosigners(last, name) == set(world.roster.names)
    world.check()
    world.close()


@SLOW
@given(data=st.data())
def test_a_restart_between_any_two_steps_blocks_nobody_for_good(fresh: Callable[[int], World], data: Any) -> None:
    """Either side is made anew from its files; what it had not written down it does not know any more."""
    world = fresh(3)
    for closing in (False, False, True):
        run_with_restarts(world, data, closing)
        world.check()
    # Nobody was lost on the way: in a new study part everybody signs again.
    for party in world.parties:
        party.open_study()
    world.exchange()
    for name in (*world.roster.names, COORDINATOR):
        assert world.cosigners(world.evidence(name)[-1], name) == set(world.roster.names)
    world.check()
    world.close()


def run_with_restarts(world: World, data: Any, closing: bool) -> None:
    def maybe(party: Any) -> bool:
        if data.draw(st.integers(0, 4)):
            return False
        party.restart()
        return True

    witness = lambda: world.coordinator.witness  # noqa: E731
    world.begin(closing=closing)
    if maybe(world.coordinator):
        return
    for name, site in world.sites.items():
        maybe(site)
        receipt = world.receipt(name)
        if maybe(world.coordinator):
            return
        witness().take(name, receipt)
        maybe(site)
    batches = world.batches()
    if maybe(world.coordinator):
        return
    for name, batch in batches.items():
        maybe(world.sites[name])
        answer = world.cosign(name, batch)
        maybe(world.sites[name])
        again = world.sites[name].witness.cosign(batch)  # asked again, also after a restart: the same signature
        assert again == answer
        if maybe(world.coordinator):
            return
        witness().take(name, answer)
    signed = world.finish()
    maybe(world.coordinator)
    for name, message in signed.items():
        restarted = maybe(world.sites[name])
        assert world.sites[name].witness.keep(message) is not restarted


def test_a_second_batch_for_one_receipt_is_signed_too_and_the_numbers_rise(world: World) -> None:
    """A coordinator that was stopped after the batch left makes another one, over more entries."""
    world.begin()
    world.collect()
    first = world.batches()
    one = world.cosign(A, first[A])
    world.coordinator.restart()
    world.begin()
    world.collect()
    second = world.batches()
    two = world.cosign(A, second[A])
    assert two.number > one.number
    refused(Refusal.SELF_MISSING, world.sites[A].witness.cosign, first[A])  # it is not about the newest receipt
    world.check()


def test_a_lost_closing_receipt_is_answered_again_with_the_same_bytes(world: World) -> None:
    world.exchange()
    world.begin(closing=True)
    first = world.receipt(A)
    for restart in (False, True):
        if restart:
            world.sites[A].restart()
        assert world.receipt(A) == first
    outcomes = [e["outcome"] for e in entries(world.sites[A]) if e["stage"] == "close" and e["direction"] == "out"]
    assert outcomes == ["sent", "retried", "retried"]


def test_after_the_close_one_batch_is_signed_and_no_other(world: World) -> None:
    world.exchange()
    world.begin(closing=True)
    world.collect()
    batches = world.batches()
    answer = world.cosign(A, batches[A])
    site = world.sites[A].witness
    assert world.cosign(A, batches[A]) == answer  # a retry
    other = forged(world, A, batches[A], number=batches[A].number + 1)
    refused(Refusal.OUT_OF_ORDER, site.cosign, other)
    for closing in (False, True):
        refused(Refusal.OUT_OF_ORDER, partial(site.receipt, 1, closing=closing))
    for name in (B, C):
        of_a_round = signed_batch(world, name, batches[name], closing=False)
        refused(Refusal.CHANGED_REQUEST, world.sites[name].witness.cosign, of_a_round)
    world.check()


def test_what_sites_showed_survives_in_a_file_whose_damage_is_named(world: World) -> None:
    world.exchange()
    world.coordinator.restart()
    path = world.coordinator.folder / STATE_FILE
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(LedgerError, match=r"showed of their ledgers is damaged.*witness\.json.*backup"):
        world.coordinator.make_witness()
    path.unlink()  # with a backup of nothing, every site's next checkpoint is its first
    world.coordinator.make_witness()
    world.exchange()
    world.check()


def test_a_new_ledger_key_goes_on_where_the_old_one_stopped(world: World) -> None:
    world.exchange()
    site = world.sites[A]
    site.key = rotate(site.folder, site.identity, site.ledger)
    site.make_witness()
    world.exchange()
    last = world.evidence(A)[-1]
    assert world.cosigners(last, A) == set(world.roster.names)


def test_no_checkpoint_is_signed_over_entries_that_a_power_cut_could_lose(world: World, monkeypatch: Any) -> None:
    """Else the ledger would look cut off afterwards, by its own owner's signature."""
    kept: list[tuple[Path, bool]] = []
    real = EvidenceStore.save_latest

    def save(self: EvidenceStore, note: Any) -> None:
        (party,) = [party for party in world.parties if party.store.folder == self.folder]
        kept.append((self.folder, party.ledger._unsynced))
        real(self, note)

    monkeypatch.setattr(EvidenceStore, "save_latest", save)
    world.begin(closing=True)
    world.coordinator.ledger.close_study(STUDY.hex())
    for name, site in world.sites.items():  # what arrives is not synced by itself
        site.gate.admit(encode(StudyEnd(STUDY, "completed", name.encode())), peer=COORDINATOR, expected=TO_SITE)
        assert site.ledger._unsynced
        world.coordinator.witness.take(name, world.receipt(name))
    assert world.coordinator.ledger._unsynced
    world.coordinator.witness.batch()
    assert [folder.parent.name for folder, _ in kept] == [A, B, C, COORDINATOR]
    assert [unsynced for _, unsynced in kept] == [False] * 4


# --- a dishonest coordinator ---------------------------------------------------------------------------------------


def forged(
    world: World,
    name: str,
    batch: Batch,
    shown: dict[str, tuple[int, bytes]] | None = None,
    number: int | None = None,
    root: bytes | None = None,
    **changes: Any,
) -> Batch:
    """A batch for one site that the coordinator made up and signed in all its places.

    Args:
        shown: (size, root) by site; those of the receipts by default.
        number, root: of the coordinator's own ledger.
        changes: other fields, stated as well.
    """
    coordinator, roster = world.coordinator, world.roster
    number, root = number or batch.number, root or batch.log.root
    if shown is None:
        shown = receipts_of(world)
    leaves = b.Leaves.of(roster, {**shown, COORDINATOR: (number, root)})
    text = b.batch_checkpoint(roster, number, leaves.tree.root).text().encode()
    own = Checkpoint(coordinator.key.origin, number, root).text().encode()
    values = {
        "number": number,
        "root": leaves.tree.root,
        "signature": coordinator.identity.sign_note(text),
        "path": leaves.tree.path(b.index_of(roster, name)),
        "log": LogHead(root, coordinator.key.public_key, coordinator.key.sign(own)),
        "log_path": leaves.tree.path(0),
        **changes,
    }
    return signed_batch(world, name, batch, **values)


def receipts_of(world: World) -> dict[str, tuple[int, bytes]]:
    """What each site's ledger says that it showed last."""
    found = {}
    for name, site in world.sites.items():
        receipt = site.ledger.chain.studies[STUDY.hex()].receipt
        if receipt is not None:
            facts = receipt.facts or {}
            found[name] = (int(facts["size"]), bytes.fromhex(str(facts["root"])))
    return found


def at_batch(world: World, rounds: int = 1) -> dict[str, Batch]:
    """After some honest exchanges, the batches of the next one."""
    for _ in range(rounds):
        world.exchange()
    world.begin()
    world.collect()
    return world.batches()


def test_the_forgery_of_these_tests_is_signed_when_nothing_in_it_is_wrong(world: World) -> None:
    batch = at_batch(world)[A]
    assert forged(world, A, batch) == batch
    assert isinstance(world.sites[A].witness.cosign(batch), Cosignature)


def turned_back(world: World, rounds: int, extra: int = 0) -> dict[str, Batch]:
    """The coordinator puts an old copy of its ledger in place after ``rounds`` exchanges, and goes on from there."""
    path, kept = world.coordinator.ledger.path, world.folder / "copy.jsonl"
    shutil.copy(path, kept)
    for _ in range(rounds):
        world.exchange()
    world.coordinator.ledger.close()
    shutil.copy(kept, path)
    world.coordinator.start()
    for i in range(extra):
        world.coordinator.gate.release(another_end(i), peer=A)
    world.begin()
    world.collect()
    return world.batches()


def another_end(i: int) -> RoundEnd:
    return RoundEnd(SessionId(STUDY, 1, "update", 0, i), "aborted", bytes(32))


def test_a_coordinator_that_shows_a_shorter_ledger_is_refused(world: World) -> None:
    batches = turned_back(world, rounds=2)
    for name, batch in batches.items():
        refused(Refusal.OUT_OF_ORDER, world.sites[name].witness.cosign, batch)


def test_a_coordinator_that_rewrites_its_ledger_is_refused(world: World) -> None:
    batches = turned_back(world, rounds=1, extra=9)
    for name, batch in batches.items():
        error = refused(Refusal.CHANGED_REQUEST, world.sites[name].witness.cosign, batch)
        assert "rewritten" in error.what


def test_a_coordinator_that_hides_that_its_ledger_was_compared_to_nothing_is_refused(world: World) -> None:
    batch = at_batch(world)[A]
    lie = signed_batch(world, A, batch, since=0, consistency=b"")
    refused(Refusal.OUT_OF_ORDER, world.sites[A].witness.cosign, lie)


def test_a_coordinator_that_reuses_a_number_with_another_root_is_refused(world: World) -> None:
    batch = at_batch(world)[A]
    site = world.sites[A]
    answer = world.cosign(A, batch)
    # Another site's leaf is changed, so this site's own checkpoint and the coordinator's are where they were.
    other = {**receipts_of(world), B: (1, bytes(32))}
    for restart in (False, True):
        if restart:
            site.restart()
        refused(Refusal.CHANGED_REQUEST, site.witness.cosign, forged(world, A, batch, other))
        assert site.witness.cosign(batch) == answer


def test_a_coordinator_that_reuses_a_number_with_another_ledger_of_its_own_is_refused(world: World) -> None:
    batch = at_batch(world)[A]
    world.cosign(A, batch)
    lie = forged(world, A, batch, root=bytes(32), since=batch.number, consistency=b"")
    refused(Refusal.CHANGED_REQUEST, world.sites[A].witness.cosign, lie)


def test_a_number_that_was_signed_for_one_round_is_not_signed_for_another(world: World) -> None:
    batch = at_batch(world)[A]
    world.cosign(A, batch)
    for changes in ({"round": 9}, {"closing": True}):
        lie = signed_batch(world, A, batch, **changes)
        refused(Refusal.CHANGED_REQUEST, world.sites[A].witness.cosign, lie)


def test_a_coordinator_that_leaves_a_sites_checkpoint_out_is_refused(world: World) -> None:
    batch = at_batch(world)[A]
    shown = receipts_of(world)
    del shown[A]
    refused(Refusal.SELF_MISSING, world.sites[A].witness.cosign, forged(world, A, batch, shown))


def test_a_coordinator_that_puts_another_checkpoint_in_is_refused(world: World) -> None:
    batch = at_batch(world)[A]
    size, root = receipts_of(world)[A]
    for wrong in ((size - 1, root), (size, bytes(32)), receipts_of(world)[B]):
        lie = forged(world, A, batch, {**receipts_of(world), A: wrong})
        refused(Refusal.SELF_MISSING, world.sites[A].witness.cosign, lie)


def test_a_coordinator_that_leaves_its_own_checkpoint_out_is_refused(world: World) -> None:
    batch = at_batch(world)[A]
    lie = signed_batch(world, A, batch, log_path=batch.path)
    refused(Refusal.SELF_MISSING, world.sites[A].witness.cosign, lie)


def test_a_coordinator_that_swaps_two_sites_batches_is_refused(world: World) -> None:
    batches = at_batch(world)
    refused(Refusal.BAD_SIGNATURE, world.sites[A].witness.cosign, batches[B])
    refused(Refusal.SELF_MISSING, world.sites[A].witness.cosign, signed_batch(world, A, batches[B]))


@pytest.mark.parametrize("part", ["statement", "signature", "log"])
def test_a_batch_that_the_coordinator_did_not_sign_is_refused(world: World, part: str) -> None:
    batch = at_batch(world)[A]
    bad = bytes(64)
    lie = {
        "statement": msgspec.structs.replace(batch, statement=bad),
        "signature": signed_batch(world, A, batch, signature=bad),
        "log": signed_batch(world, A, batch, log=LogHead(batch.log.root, batch.log.key, bad)),
    }[part]
    refused(Refusal.BAD_SIGNATURE, world.sites[A].witness.cosign, lie)


def test_a_batch_before_any_receipt_is_refused(world: World) -> None:
    world.begin()
    world.collect({B, C})
    batch = world.batches()[B]
    refused(Refusal.OUT_OF_ORDER, world.sites[A].witness.cosign, signed_batch(world, A, batch))


@pytest.mark.parametrize("field", [name for name in Batch.__struct_fields__ if name != "statement"])
def test_no_field_of_a_batch_can_be_changed_on_the_way(world: World, field: str) -> None:
    batch = at_batch(world)[A]
    value = getattr(batch, field)
    other: Any
    if isinstance(value, bool):
        other = not value
    elif isinstance(value, int):
        other = value + 1
    elif isinstance(value, bytes):
        other = value[:-1] + bytes([value[-1] ^ 1]) if value else b"\x01"
    elif isinstance(value, LogHead):
        other = LogHead(bytes(32), value.key, value.signature)
    else:
        other = (*value, bytes(32))
    changed = msgspec.structs.replace(batch, **{field: other})
    if field == "study":  # the gate lets nothing of another study in; what is signed is always about this one
        assert changed.study != STUDY
        return
    refused(Refusal.BAD_SIGNATURE, world.sites[A].witness.cosign, changed)


def at_signatures(world: World) -> Cosigned:
    """Everybody has signed; what the first site is told of it, untouched."""
    for name, batch in at_batch(world).items():
        world.coordinator.witness.take(name, world.cosign(name, batch))
    return world.finish()[A]


def refused_signatures(world: World, code: Refusal, message: Cosigned, site: str | None = None) -> None:
    error = refused(code, world.sites[A].witness.keep, message)
    assert error.site == site
    assert len(world.evidence(A)) == 1  # that of the exchange before


def test_a_coordinator_that_sends_a_strangers_cosignature_is_refused(world: World) -> None:
    message = at_signatures(world)
    stranger = SiteCosignature("stranger", 1, bytes(64))
    lie = msgspec.structs.replace(message, cosignatures=(*message.cosignatures, stranger))
    refused_signatures(world, Refusal.UNKNOWN_SITE, lie)
    assert world.sites[A].witness.keep(message)


def test_a_coordinator_that_sends_wrong_cosignatures_is_refused(world: World) -> None:
    message = at_signatures(world)
    one, two, three = message.cosignatures
    text = b.batch_checkpoint(world.roster, message.number, message.root).text()
    by_stranger = STRANGER.sign_note(cosignature_message(one.time, text))
    for cosignatures, site in (
        ((SiteCosignature(A, one.time + 1, one.signature), two, three), A),
        ((SiteCosignature(A, one.time, two.signature), two, three), A),
        ((one, SiteCosignature(B, two.time, by_stranger), three), B),
        ((one, two, two), B),  # twice
    ):
        lie = msgspec.structs.replace(message, cosignatures=cosignatures)
        refused_signatures(world, Refusal.BAD_SIGNATURE, lie, site)
    assert world.sites[A].witness.keep(message)


def test_a_coordinator_that_sends_wrong_leaves_is_refused(world: World) -> None:
    message = at_signatures(world)
    for leaves, code in (
        (message.leaves[:-32], Refusal.WRONG_LENGTH),
        (b"", Refusal.WRONG_LENGTH),
        (message.leaves + bytes(32), Refusal.WRONG_LENGTH),
        (message.leaves[:-32] + bytes(32), Refusal.CHANGED_REQUEST),
        (message.leaves[32:64] + message.leaves[:32] + message.leaves[64:], Refusal.CHANGED_REQUEST),
    ):
        refused_signatures(world, code, msgspec.structs.replace(message, leaves=leaves))
    for changes in ({"root": bytes(32)}, {"round": 9}, {"closing": True}):
        refused_signatures(world, Refusal.CHANGED_REQUEST, msgspec.structs.replace(message, **changes))
    assert world.sites[A].witness.keep(message)


def test_signatures_of_a_batch_that_nobody_waits_for_are_not_kept(world: World) -> None:
    message = at_signatures(world)
    assert not world.sites[A].witness.keep(msgspec.structs.replace(message, number=message.number + 1))
    assert world.sites[A].witness.keep(message)
    assert not world.sites[A].witness.keep(message)


# --- a dishonest site ----------------------------------------------------------------------------------------------


def rejected(world: World, code: Refusal, sender: str, message: Any) -> None:
    """The coordinator refuses an answer and names its sender; the others finish without it, and it can come back."""
    witness = world.coordinator.witness
    error = refused(code, witness.take, sender, message)
    assert error.site == sender
    witness.give_up(sender)


def finish_without(world: World, liar: str) -> None:
    """After a refusal the exchange goes on among the others."""
    others = set(world.sites) - {liar}
    for name in sorted(others):
        world.coordinator.witness.take(name, world.receipt(name))
    batches = world.batches()
    assert set(batches) == others
    for name, batch in batches.items():
        world.coordinator.witness.take(name, world.cosign(name, batch))
    for name, message in world.finish().items():
        assert world.sites[name].witness.keep(message)
        assert world.cosigners(world.evidence(name)[-1], name) == others


def test_a_site_that_rewrites_its_ledger_is_refused(world: World) -> None:
    world.exchange()
    world.begin()
    receipt = world.receipt(A)
    tree = GrowingTree()
    for i in range(receipt.size):
        tree.append(i.to_bytes(32, "big"))
    path = tree.consistency(receipt.since, receipt.size)
    lie = signed_receipt(world, A, receipt, root=tree.root(), consistency=path)
    rejected(world, Refusal.CHANGED_REQUEST, A, lie)
    finish_without(world, A)


def test_a_site_that_shortens_its_ledger_is_refused(world: World) -> None:
    world.exchange()
    path, kept = world.sites[A].ledger.path, world.folder / "copy.jsonl"
    shutil.copy(path, kept)
    world.exchange()
    world.sites[A].ledger.close()
    shutil.copy(kept, path)
    world.sites[A].start()
    world.begin()
    rejected(world, Refusal.CHANGED_REQUEST, A, world.receipt(A))
    finish_without(world, A)


def test_a_site_that_names_fewer_entries_than_were_cosigned_is_refused(world: World) -> None:
    world.exchange()
    world.begin()
    receipt = world.receipt(A)
    tree = world.sites[A].ledger.chain.tree
    size = receipt.since - 1
    lie = signed_receipt(world, A, receipt, size=size, root=tree.root(size), consistency=b"")
    rejected(world, Refusal.CHANGED_REQUEST, A, lie)
    rejected_twice = signed_receipt(world, A, receipt, since=0, consistency=b"")
    world.coordinator.witness.begin(world.rounds, closing=False)
    rejected(world, Refusal.CHANGED_REQUEST, A, rejected_twice)
    finish_without(world, A)


def test_a_site_that_forks_its_ledger_between_two_batches_is_refused(world: World) -> None:
    """Two ledgers that begin alike: the second is shown after the first was cosigned."""
    world.exchange()
    path, kept = world.sites[A].ledger.path, world.folder / "copy.jsonl"
    shutil.copy(path, kept)
    world.exchange()
    signed = world.sites[A].ledger.chain.studies[STUDY.hex()].cosignature
    assert signed is not None
    assert signed.facts is not None
    world.sites[A].ledger.close()
    shutil.copy(kept, path)
    world.sites[A].start()
    for i in range(9):
        world.sites[A].leave(notice(A, i))
    world.begin()
    receipt = world.receipt(A)
    assert receipt.size > int(signed.facts["size"])
    tree = world.sites[A].ledger.chain.tree
    since = int(signed.facts["size"])
    lie = signed_receipt(world, A, receipt, since=since, consistency=tree.consistency(since, receipt.size))
    for each in (receipt, lie):
        world.coordinator.witness.begin(world.rounds, closing=False)
        rejected(world, Refusal.CHANGED_REQUEST, A, each)
    finish_without(world, A)


def test_a_site_that_replays_an_older_receipt_is_refused(world: World) -> None:
    world.begin()
    old = world.receipt(A)
    world.coordinator.witness.abandon()
    world.begin()
    rejected(world, Refusal.OUT_OF_ORDER, A, old)
    finish_without(world, A)


def test_a_receipt_of_another_round_or_of_the_end_is_refused(world: World) -> None:
    world.begin()
    receipt = world.receipt(A)
    for changes in ({"round": 2}, {"closing": True}):
        world.coordinator.witness.begin(1, closing=False)
        rejected(world, Refusal.OUT_OF_ORDER, A, signed_receipt(world, A, receipt, **changes))


def test_a_site_that_signs_with_another_ledger_key_than_it_names_is_refused(world: World) -> None:
    world.begin()
    receipt, site = world.receipt(A), world.sites[A]
    other = LedgerKey(b"o" * 32, site.identity)
    text = Checkpoint(site.key.origin, receipt.size, receipt.root).text().encode()
    for changes in (
        {"log_signature": other.sign(text)},
        {"log_key": other.public_key},
        {"log_key": b"\xff" * 32},
        {"log_signature": bytes(64)},
    ):
        world.coordinator.witness.begin(1, closing=False)
        rejected(world, Refusal.BAD_SIGNATURE, A, signed_receipt(world, A, receipt, **changes))
    finish_without(world, A)


def test_a_site_that_sends_another_sites_receipt_is_refused(world: World) -> None:
    world.begin()
    theirs = world.receipt(B)
    rejected(world, Refusal.OUT_OF_ORDER, A, theirs)
    world.coordinator.witness.begin(1, closing=False)
    rejected(world, Refusal.BAD_SIGNATURE, A, msgspec.structs.replace(theirs, site=A))
    world.coordinator.witness.begin(1, closing=False)
    rejected(world, Refusal.BAD_SIGNATURE, A, signed_receipt(world, A, theirs, site=A))  # B's ledger has another name


def test_of_two_different_receipts_the_first_stands(world: World) -> None:
    world.begin()
    witness = world.coordinator.witness
    first = world.receipt(A)
    second = signed_receipt(world, A, first, received=(b"x" * 32,))
    assert first != second
    witness.take(A, first)
    witness.take(A, second)
    world.coordinator.witness.take(B, world.receipt(B))
    witness.give_up(C)
    messages = world.batches()
    for name in (A, B):
        witness.take(name, world.cosign(name, messages[name]))
    assert set(world.finish()) == {A, B}
    assert world.evidence(COORDINATOR)[-1].messages[A] == encode(first)


def test_a_round_that_ends_twice_gets_one_receipt_until_it_is_cosigned(world: World) -> None:
    world.exchange()
    world.begin()
    first = world.receipt(A)
    world.sites[A].ledger.append([Record(kind="note", study="", outcome="noted", rule="meanwhile")])
    assert world.receipt(A) == first  # a repeated round-end does not take the batch from under it
    refused(Refusal.CHANGED_REQUEST, partial(world.sites[A].witness.receipt, first.round - 1, closing=False))
    world.collect()
    batches = world.batches()
    assert world.cosign(A, batches[A]).number == batches[A].number


def test_a_batch_about_another_round_than_the_receipt_is_refused(world: World) -> None:
    batches = at_batch(world)
    for changes in ({"round": batches[A].round + 1}, {"closing": True}):
        wrong = signed_batch(world, A, batches[A], **changes)
        refused(Refusal.CHANGED_REQUEST, world.sites[A].witness.cosign, wrong)


def test_the_end_of_the_study_is_told_once(world: World) -> None:
    world.exchange()
    world.begin(closing=True)
    first = world.receipt(A)
    site = world.sites[A].witness
    refused(Refusal.CHANGED_REQUEST, partial(site.receipt, first.round + 1, closing=True))
    assert site.receipt(first.round, closing=True) == first


def test_a_site_that_shows_its_ledger_and_never_cosigns_is_named(world: World) -> None:
    witness = world.coordinator.witness
    for _ in range(4):
        world.begin()
        world.collect()
        messages = world.batches()
        for name in (B, C):
            witness.take(name, world.cosign(name, messages[name]))
        witness.give_up(A)
        named = witness.silent()
        world.finish()
    assert named == (A,)


def test_of_two_different_cosignatures_the_first_stands(world: World) -> None:
    batches = at_batch(world)
    first = world.cosign(A, batches[A])
    later = cosignature_message(first.time + 1, batch_text(world, batches[A]))
    second = msgspec.structs.replace(first, time=first.time + 1, signature=world.sites[A].identity.sign_note(later))
    world.coordinator.witness.take(A, first)
    world.coordinator.witness.take(A, second)
    for name in (B, C):
        world.coordinator.witness.take(name, world.cosign(name, batches[name]))
    assert SiteCosignature(A, first.time, first.signature) in world.finish()[A].cosignatures


def batch_text(world: World, batch: Batch) -> str:
    return b.batch_checkpoint(world.roster, batch.number, batch.root).text()


def test_nonsense_in_received_stays_on_record_under_its_sites_signature(world: World) -> None:
    """It harms nobody: what was received is the site's own word, which an auditor compares with the other ledger."""
    world.begin()
    lie = signed_receipt(world, A, world.receipt(A), received=(b"n" * 32,) * 7)
    world.coordinator.witness.take(A, lie)
    finish_among(world, {B, C})
    kept = world.evidence(COORDINATOR)[-1]
    assert msgspec.msgpack.decode(kept.messages[A])[12] == [b"n" * 32] * 7


def finish_among(world: World, others: set[str]) -> None:
    """The other sites answer too, and sign; whoever lied in its receipt does not."""
    for name in sorted(others):
        world.coordinator.witness.take(name, world.receipt(name))
    for name, batch in world.batches().items():
        if name in others:
            world.coordinator.witness.take(name, world.cosign(name, batch))
        else:
            world.coordinator.witness.give_up(name)
    for name, message in world.finish().items():
        assert world.sites[name].witness.keep(message)
        assert world.cosigners(world.evidence(name)[-1], name) == others


@pytest.mark.parametrize("since", [1, 5, 2**32 - 1])
def test_a_site_that_claims_a_since_that_never_was_is_refused(world: World, since: int) -> None:
    world.exchange()
    world.begin()
    receipt = world.receipt(A)
    assert since != receipt.since
    tree = world.sites[A].ledger.chain.tree
    path = tree.consistency(since, receipt.size) if since <= receipt.size else b""
    rejected(world, Refusal.CHANGED_REQUEST, A, signed_receipt(world, A, receipt, since=since, consistency=path))
    finish_without(world, A)


@pytest.mark.parametrize("known", [1, 5, 2**32 - 1])
def test_a_site_that_claims_a_known_that_never_was_harms_only_itself(world: World, known: int) -> None:
    world.exchange()
    world.begin()
    receipt = world.receipt(A)
    assert known != receipt.known
    world.coordinator.witness.take(A, signed_receipt(world, A, receipt, known=known))
    for name in (B, C):
        world.coordinator.witness.take(name, world.receipt(name))
    batches = world.batches()
    assert batches[A].since == min(known, batches[A].number)
    refused(Refusal.OUT_OF_ORDER, world.sites[A].witness.cosign, batches[A])
    world.coordinator.witness.give_up(A)
    for name in (B, C):
        world.coordinator.witness.take(name, world.cosign(name, batches[name]))
    for name, message in world.finish().items():
        assert world.sites[name].witness.keep(message)
    world.exchange()  # honest again, it takes part again
    assert world.cosigners(world.evidence(A)[-1], A) == {A, B, C}


@pytest.mark.parametrize("field", ["size", "root", "log_signature", "log_key", "since", "known", "closing", "received"])
def test_no_field_of_a_receipt_can_be_changed_on_the_way(world: World, field: str) -> None:
    world.begin()
    receipt = world.receipt(A)
    value = getattr(receipt, field)
    other: Any
    if field == "received":
        other = value[1:]
    elif field == "closing":
        other = True
        world.coordinator.witness.begin(1, closing=True)
    else:
        other = value + 1 if isinstance(value, int) else bytes(len(value))
    rejected(world, Refusal.BAD_SIGNATURE, A, msgspec.structs.replace(receipt, **{field: other}))


def test_a_cosignature_of_another_batch_is_refused(world: World) -> None:
    batches = at_batch(world)
    answer = world.cosign(A, batches[A])
    for changes in ({"number": answer.number + 1}, {"root": bytes(32)}):
        refused(Refusal.CHANGED_REQUEST, world.coordinator.witness.take, A, msgspec.structs.replace(answer, **changes))
    for changes in ({"round": 9}, {"closing": True}, {"site": B}):
        refused(Refusal.OUT_OF_ORDER, world.coordinator.witness.take, A, msgspec.structs.replace(answer, **changes))
    assert A in world.coordinator.witness.waiting()  # the true one still counts
    world.coordinator.witness.take(A, answer)
    assert A not in world.coordinator.witness.waiting()


def test_a_cosignature_that_its_site_did_not_make_is_refused(world: World) -> None:
    batches = at_batch(world)
    answer, theirs = world.cosign(A, batches[A]), world.cosign(B, batches[B])
    for changes in ({"time": answer.time + 1}, {"signature": theirs.signature}, {"signature": bytes(64)}):
        refused(Refusal.BAD_SIGNATURE, world.coordinator.witness.take, A, msgspec.structs.replace(answer, **changes))


def test_a_receipt_after_the_batch_and_a_cosignature_before_it_are_refused(world: World) -> None:
    batches = at_batch(world)
    answer = world.cosign(A, batches[A])
    refused(Refusal.OUT_OF_ORDER, world.coordinator.witness.take, A, world.receipt(A))
    world.coordinator.witness.begin(world.rounds, closing=False)
    refused(Refusal.CHANGED_REQUEST, world.coordinator.witness.take, A, answer)


def test_answers_outside_an_exchange_are_refused(world: World) -> None:
    world.begin()
    receipt = world.receipt(A)
    world.coordinator.witness.abandon()
    refused(Refusal.OUT_OF_ORDER, world.coordinator.witness.take, A, receipt)
    assert world.coordinator.witness.waiting() == frozenset()
    for call in (world.coordinator.witness.batch, world.coordinator.witness.cosigned):
        with pytest.raises(LedgerError):
            call()


# --- the policy says no --------------------------------------------------------------------------------------------


def without(tag: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        assert f"\n{tag} = " in text
        return text.replace(f"\n{tag} = ", f"\n# {tag} = ")

    return edit


class Wires:
    """Carries an exchange's messages; a site whose policy refuses sends a notice instead, as its machine does."""

    def __init__(self, world: World, cosigning: Cosigning) -> None:
        self.world, self.cosigning = world, cosigning
        self.queue: list[tuple[str, bytes]] = []
        self.rules: list[tuple[str, str]] = []

    def answer(self, name: str, message: Receipt | Cosignature) -> None:
        try:
            self.queue.append((name, self.world.sites[name].leave(message)))
        except EgressRefusedError as error:
            self.rules.append((name, error.rule))
            self.queue.append((name, self.world.sites[name].leave(notice(name, message.round))))

    def carry(self) -> None:
        while self.queue:
            name, wire = self.queue.pop(0)
            message = self.world.coordinator.hear(name, wire)
            assert self.cosigning.concerns(message)
            for sealed in self.cosigning.handle(name, message):
                site = self.world.sites[sealed.peer]
                heard = site.hear(sealed.wire)
                if isinstance(heard, Batch):
                    self.answer(sealed.peer, site.witness.cosign(heard))
                else:
                    assert site.witness.keep(heard)


@pytest.mark.parametrize("tag", ["receipt", "cosignature"])
def test_an_exchange_goes_on_without_a_site_whose_policy_refuses(tmp_path: Path, tag: str) -> None:
    world = World(tmp_path, 4, {A: without(tag)})
    others, own = {B, C, "site-4"}, world.coordinator
    wires = Wires(world, Cosigning(own.witness, own.gate, own.ledger, STUDY.hex(), float))
    for closing in (False, False, True):
        world.begin(closing=closing)
        wires.cosigning.begin(world.rounds, closing=closing)
        for name, site in world.sites.items():
            wires.answer(name, site.witness.receipt(world.rounds, closing=closing))
        wires.carry()
        assert wires.cosigning.deadline is None
        assert f"{A} refuses to have its ledger cosigned" in wires.cosigning.notes
        wires.cosigning.notes.clear()
        for name in (*others, COORDINATOR):
            assert world.cosigners(world.evidence(name)[-1], name) == others
    assert wires.rules == [(A, f"messages.{tag}")] * 3
    refusals = [(e["message_type"], e["outcome"], e["stage"]) for e in entries(world.sites[A])]
    assert [row[2] for row in refusals if row[:2] == (tag, "refused")] == ["witness", "witness", "close"]
    told = [row[1:] for row in refusals if row[0] == "refusal"]
    assert told == [("sent", "refusal"), ("sent", "refusal"), ("retried", "close")]
    assert (tag, "sent") not in {row[:2] for row in refusals}
    assert all(verify(party.ledger.path).ok for party in world.parties)
    world.close()


def test_a_coordinator_whose_policy_refuses_goes_on_without_an_exchange(tmp_path: Path) -> None:
    world = World(tmp_path, 3, {COORDINATOR: without("batch")})
    own = world.coordinator
    cosigning = Cosigning(own.witness, own.gate, own.ledger, STUDY.hex(), float)
    world.begin()
    cosigning.begin(1, closing=False)
    for name in world.sites:
        assert cosigning.handle(name, world.receipt(name)) == []
    assert cosigning.deadline is None
    assert "messages.batch" in cosigning.notes.pop()
    refused_ones = [entry["message_type"] for entry in entries(own) if entry["outcome"] == "refused"]
    assert refused_ones == ["batch"]
    world.close()


def test_whoever_is_silent_is_given_up_at_the_deadline_of_each_step(world: World) -> None:
    now, own = [100.0], world.coordinator
    cosigning = Cosigning(own.witness, own.gate, own.ledger, STUDY.hex(), lambda: now[0], patience=5.0)
    world.begin()
    cosigning.begin(1, closing=False)
    assert cosigning.deadline == 105.0
    assert cosigning.handle(A, world.receipt(A)) == []
    now[0] = 105.0
    (batch,) = cosigning.expire()
    assert (batch.peer, batch.tag, cosigning.deadline) == (A, "batch", 110.0)
    assert cosigning.expire() == []  # nobody signed, so there is nothing to tell
    assert cosigning.deadline is None
    cosigning.begin(2, closing=False)
    assert cosigning.expire() == []
    assert cosigning.deadline is None


def test_identities_of_these_tests_differ() -> None:
    """Else a swapped signature would be a right one."""
    names = [COORDINATOR, A, B, C]
    assert len({identity_of(name).public_key for name in names} | {STRANGER.public_key}) == 5
