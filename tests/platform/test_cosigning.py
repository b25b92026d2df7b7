"""Cosigned ledgers around real rounds: what is kept, what a policy may keep back, and that no round is harmed."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from wardround.platform.adapter_file import dump_adapter
from wardround.platform.consortium import Consortium, open_consortium
from wardround.platform.engines.local import carry
from wardround.platform.federation import federate
from wardround.platform.run_folder import RunFolder
from wardround.platform.site_machine import Site
from wardround.platform.watching import Silent
from wardround.privacy.egress import COORDINATOR, Sealed
from wardround.privacy.errors import Refusal
from wardround.privacy.ledger.evidence import Evidence, EvidenceStore
from wardround.privacy.ledger.log import verify
from wardround.privacy.messages import (
    TO_COORDINATOR,
    TO_SITE,
    Batch,
    Cosignature,
    Limits,
    MaskedVector,
    Receipt,
    RefusalNotice,
    RoundStart,
    decode,
    encode,
)

NAME, OTHERS = "site-1", ("site-2", "site-3", "site-4", "site-5")
LARGE = Limits(100, 10**6, 10**6)
ROUNDS = 2
Edit = Callable[[str], str]


class Lossy:
    """Loses parcels of some types on their way to some sites; simulated time."""

    def __init__(self, lost: Collection[tuple[str, str]] = ()) -> None:
        self.lost, self.time = lost, 0.0

    def reaches(self, site: str, tag: str) -> bool:
        return (site, tag) not in self.lost

    def delay(self, site: str, tag: str) -> float:
        return 0.0

    def now(self) -> float:
        return self.time

    def wait_until(self, when: float) -> None:
        self.time = max(self.time, when)


@pytest.fixture
def made(toy: Callable[..., Any], toy_data: Callable[..., Any], tmp_path: Path) -> Any:
    return replace(toy(tmp_path / "run", rounds=ROUNDS), data=toy_data(sites=5))


@contextmanager
def opened(made: Any, fingerprint: str, edit: Edit | None = None, clock: Callable[[], float] = float) -> Iterator[Any]:
    """The consortium, after the policy of the first site was edited."""
    arguments = (made.study, made.method, made.data, fingerprint, made.run)
    if edit is not None:
        with open_consortium(*arguments):
            pass
        path = made.run.homes / NAME / "policy.toml"
        path.write_text(edit(path.read_text()))
    with open_consortium(*arguments, clock) as consortium:
        yield consortium


def replacing(old: str, new: str) -> Edit:
    def edit(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return edit


def without(tag: str) -> Edit:
    return replacing(f"\n{tag} = ", f"\n# {tag} = ")


Tapped = list[tuple[str, str, bytes]]


def run_round(consortium: Consortium, network: Lossy | None = None) -> Tapped:
    seen: Tapped = []
    coordinator = consortium.coordinator
    tap = lambda *parcel: seen.append(parcel)  # noqa: E731
    carry(coordinator, consortium.sites, coordinator.begin(), tap, network)
    carry(coordinator, consortium.sites, coordinator.commit(), tap, network)
    return seen


def finish(consortium: Consortium, network: Lossy | None = None) -> Tapped:
    seen: Tapped = []
    coordinator = consortium.coordinator
    carry(coordinator, consortium.sites, coordinator.finish(), lambda *parcel: seen.append(parcel), network)
    return seen


def entries(consortium: Consortium, owner: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in consortium.ledgers[owner].path.read_bytes().splitlines()]


def evidence(made: Any, owner: str) -> list[Evidence]:
    home = made.run.coordinator if owner == COORDINATOR else made.run.homes / owner
    return [Evidence.parse(path.read_bytes(), where=str(path)) for path in EvidenceStore(home / "checkpoints").paths()]


def cosigners(each: Evidence) -> set[str]:
    return {line.name.removeprefix("wardround/site/") for line in each.proof.checkpoint.signatures[1:]}


def notices(seen: Tapped, sender: str = NAME) -> list[RefusalNotice]:
    messages = [decode(wire, TO_COORDINATOR, LARGE) for who, to, wire in seen if to == COORDINATOR and who == sender]
    return [message for message in messages if isinstance(message, RefusalNotice)]


def one(parcels: tuple[Sealed, ...]) -> Any:
    (parcel,) = parcels
    return decode(parcel.wire, TO_COORDINATOR, LARGE)


def refused(consortium: Consortium) -> list[tuple[str, str]]:
    rows = [entry for entry in entries(consortium, NAME) if entry["outcome"] == "refused"]
    assert all((entry["wire_bytes"], entry["wire_sha256"]) == (0, "") for entry in rows)
    return [(entry["message_type"], entry["rule"]) for entry in rows]


# --- an honest study -----------------------------------------------------------------------------------------------


def test_every_round_and_the_end_of_a_study_are_cosigned_by_all(made: Any, BACKBONE: str) -> None:
    with opened(made, BACKBONE) as consortium:
        for _ in range(ROUNDS):
            run_round(consortium)
        finish(consortium)
        assert consortium.coordinator.cosigning.notes == []
        for owner, ledger in consortium.ledgers.items():
            assert not ledger.is_open(made.study.digest())
            kept = evidence(made, owner)
            assert [cosigners(each) for each in kept] == [{NAME, *OTHERS}] * (ROUNDS + 1)
            assert [each.log.root for each in kept] == [ledger.chain.tree.root(each.log.size) for each in kept]
            close = next(entry["sequence"] for entry in entries(consortium, owner) if entry["kind"] == "close")
            assert kept[-1].log.size == close + 1 or owner == COORDINATOR
            assert kept[-1].log.size > close
            assert verify(ledger.path).ok
            assert {entry["stage"] for entry in entries(consortium, owner)[kept[-1].log.size :]} == {"close"}


def test_a_site_that_hears_of_no_batch_is_absent_and_catches_up(made: Any, BACKBONE: str) -> None:
    network = Lossy([(NAME, "batch"), ("site-2", "round-end"), ("site-3", "cosigned")])
    with opened(made, BACKBONE, clock=network.now) as consortium:
        run_round(consortium, network)
        coordinator = consortium.coordinator
        assert coordinator.info.round == 1
        assert [cosigners(each) for each in evidence(made, COORDINATOR)] == [{"site-3", "site-4", "site-5"}]
        assert [len(evidence(made, site)) for site in (NAME, *OTHERS)] == [0, 0, 0, 1, 1]
        network.lost = ()
        run_round(consortium, network)
        for owner in consortium.ledgers:
            assert cosigners(evidence(made, owner)[-1]) == {NAME, *OTHERS}
        disturbed = dump_adapter(coordinator.state, coordinator.info)
    assert disturbed == undisturbed(made, BACKBONE)


def undisturbed(made: Any, fingerprint: str) -> bytes:
    """The adapter of the same study where nothing goes wrong."""
    run = RunFolder.create(made.run.root.with_name("undisturbed"), made.study)
    with open_consortium(made.study, made.method, made.data, fingerprint, run) as consortium:
        for _ in range(ROUNDS):
            run_round(consortium)
        return dump_adapter(consortium.coordinator.state, consortium.coordinator.info)


# --- what the policy keeps back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["receipt", "cosignature"])
def test_a_site_that_lets_no_ledger_message_out_takes_part_in_every_round(made: Any, BACKBONE: str, tag: str) -> None:
    with opened(made, BACKBONE, without(tag)) as consortium:
        coordinator = consortium.coordinator
        seen = [parcel for _ in range(ROUNDS) for parcel in run_round(consortium)]
        assert coordinator.outcome is not None
        assert coordinator.outcome.survivors == (NAME, *OTHERS)
        told = notices(seen)
        assert [(each.code, each.stage, each.peer) for each in told] == [(Refusal.POLICY, "witness", "")] * ROUNDS
        assert refused(consortium) == [(tag, f"messages.{tag}")] * ROUNDS
        adapter = dump_adapter(coordinator.state, coordinator.info)
        told = notices(finish(consortium))
        assert [(each.code, each.stage) for each in told] == [(Refusal.POLICY, "witness")]
        assert refused(consortium)[-1] == (tag, f"messages.{tag}")
        assert entries(consortium, NAME)[-1]["stage"] == "close" or tag == "receipt"
        assert coordinator.cosigning is not None
        notes = [note for note in coordinator.cosigning.notes if "does not cosign" not in note]
        assert len(coordinator.cosigning.notes) - len(notes) == (1 if tag == "cosignature" else 0)
        assert notes == [f"{NAME} refuses to have its ledger cosigned"] * (ROUNDS + 1)
        for owner in (*OTHERS, COORDINATOR):
            assert [cosigners(each) for each in evidence(made, owner)] == [set(OTHERS)] * (ROUNDS + 1)
        assert evidence(made, NAME) == []
        assert all(verify(ledger.path).ok for ledger in consortium.ledgers.values())
    assert adapter == undisturbed(made, BACKBONE)


def test_whoever_watches_is_told_whose_ledger_was_not_cosigned(made: Any, BACKBONE: str) -> None:
    with opened(made, BACKBONE, without("cosignature")):
        pass
    watch = Notes()
    federate(made.study, made.method, made.data, BACKBONE, made.run, watch)
    told = [text for text in watch.texts if "cosigned" in text]
    assert told == [f"{NAME} refuses to have its ledger cosigned"] * (ROUNDS + 1)


class Notes(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


CASES = [
    ("studies.maximum_rounds", replacing("# maximum_rounds = 100", "maximum_rounds = 1"), 2, "advert", "start"),
    ("metrics.allow", replacing("= true\nminimum_cell", "= false\nminimum_cell"), 1, "masked-vector", "mask"),
    ("methods.allow", replacing('["facmic"]', "[]"), 1, "advert", "start"),
]


@pytest.mark.parametrize(("rule", "edit", "number", "kind", "stage"), CASES, ids=[case[0] for case in CASES])
def test_a_refused_message_is_told_by_a_code_and_the_round_goes_on_without_the_site(
    made: Any, BACKBONE: str, rule: str, edit: Edit, number: int, kind: str, stage: str
) -> None:
    with opened(made, BACKBONE, edit) as consortium:
        for _ in range(number - 1):
            assert notices(run_round(consortium)) == []
        seen = run_round(consortium)
        # The code alone is told; the rule is for whoever looks at the site.
        first = notices(seen)[0]
        assert (first.code, first.stage, first.peer, first.session.round) == (Refusal.POLICY, stage, "", number)
        assert refused(consortium)[0] == (kind, rule)
        own = [wire for sender, _, wire in seen if sender == NAME]
        assert not any(rule.partition(".")[2].encode() in wire for wire in own)
        assert not any(isinstance(decode(wire, TO_COORDINATOR, LARGE), MaskedVector) for wire in own)
        outcome = consortium.coordinator.outcome
        assert outcome is not None
        assert outcome.survivors == OTHERS
        assert outcome.dropped[NAME][1] == "policy"
        assert all(verify(ledger.path).ok for ledger in consortium.ledgers.values())


def test_a_coordinator_that_the_policy_does_not_know_gets_nothing_but_refusals(made: Any, BACKBONE: str) -> None:
    def other(text: str) -> str:
        known = tomllib.loads(text)["coordinator"]["allow"]
        return replacing(f'allow = ["{known[0]}"]', f'allow = ["{"0" * 64}"]')(text)

    with opened(made, BACKBONE, other) as consortium:
        seen = [*run_round(consortium), *run_round(consortium), *finish(consortium)]
        mine = [decode(wire, TO_COORDINATOR, LARGE) for sender, _, wire in seen if sender == NAME]
        assert mine
        assert {(type(message), message.code) for message in mine} == {(RefusalNotice, Refusal.POLICY)}
        assert {rule for _, rule in refused(consortium)} == {"coordinator.allow"}
        assert verify(consortium.ledgers[NAME].path).ok


@pytest.mark.parametrize("then", ["continue", "stop"])
def test_after_a_refusal_the_site_goes_on_or_ends_its_part(made: Any, BACKBONE: str, then: str) -> None:
    def edit(text: str) -> str:
        return replacing('then = "continue"', f'then = "{then}"')(without("receipt")(text))

    with opened(made, BACKBONE, edit) as consortium:
        run_round(consortium)
        run_round(consortium)
        outcome = consortium.coordinator.outcome
        assert outcome is not None
        if then == "continue":
            assert outcome.survivors == (NAME, *OTHERS)
            assert {rule for _, rule in refused(consortium)} == {"messages.receipt"}
        else:
            assert outcome.survivors == OTHERS
            assert outcome.dropped[NAME] == ("advertise", "policy")
            assert refused(consortium)[:2] == [("receipt", "messages.receipt"), ("advert", "refusal.then")]
        for owner in (*OTHERS, COORDINATOR):
            assert cosigners(evidence(made, owner)[-1]) == set(OTHERS)


# --- after the end -------------------------------------------------------------------------------------------------


@pytest.fixture
def ended(made: Any, BACKBONE: str) -> Iterator[tuple[Consortium, Site, dict[str, bytes]]]:
    """A study that is over; and what the first site was sent, by type."""
    with opened(made, BACKBONE) as consortium:
        seen = [parcel for _ in range(ROUNDS) for parcel in run_round(consortium)]
        seen += finish(consortium)
        wires = {decode(wire, TO_SITE, LARGE): wire for _, to, wire in seen if to == NAME}
        by_tag = {message.__struct_config__.tag: wire for message, wire in wires.items()}
        yield consortium, consortium.sites[NAME], by_tag  # type: ignore[misc]


def test_after_the_end_a_site_is_silent_whatever_comes(ended: tuple[Consortium, Site, dict[str, bytes]]) -> None:
    consortium, site, wires = ended
    assert len(wires) == 9
    out = [entry for entry in entries(consortium, NAME) if entry["direction"] == "out"]
    for tag, wire in wires.items():
        answer = site.handle(wire)
        assert answer == () or tag == "batch"
        if answer:  # the very batch that it signed: a lost answer is given again
            assert answer[0].sha256 == out[-1]["wire_sha256"]
    assert site.handle(b"garbage") == ()
    later = [entry for entry in entries(consortium, NAME) if entry["direction"] == "out"]
    assert [entry["outcome"] for entry in later[len(out) :]] == ["retried"]
    assert verify(consortium.ledgers[NAME].path).ok


def test_a_false_batch_after_the_end_is_refused_once_and_then_with_silence(
    ended: tuple[Consortium, Site, dict[str, bytes]],
) -> None:
    consortium, site, wires = ended
    batch = decode(wires["batch"], TO_SITE, LARGE)
    assert isinstance(batch, Batch)
    for number in range(3):
        answer = site.handle(encode(msgspec.structs.replace(batch, number=batch.number + number + 1)))
        if number:
            assert answer == ()
            continue
        notice = one(answer)
        assert isinstance(notice, RefusalNotice)
        assert (notice.code, notice.stage) == (Refusal.BAD_SIGNATURE, "witness")
    assert entries(consortium, NAME)[-1]["direction"] == "in"
    assert verify(consortium.ledgers[NAME].path).ok


def test_a_lost_closing_receipt_is_sent_again_and_signed_for(made: Any, BACKBONE: str) -> None:
    with opened(made, BACKBONE) as consortium:
        for _ in range(ROUNDS):
            run_round(consortium)
        coordinator = consortium.coordinator
        ends = {parcel.peer: parcel.wire for parcel in coordinator.finish()}
        first = {name: consortium.sites[name].handle(wire)[0] for name, wire in ends.items()}
        site, receipt = consortium.sites[NAME], decode(first[NAME].wire, TO_COORDINATOR, LARGE)
        assert isinstance(receipt, Receipt)
        assert receipt.closing
        again = site.handle(ends[NAME])
        assert [parcel.wire for parcel in again] == [first[NAME].wire]
        batches: dict[str, bytes] = {}
        for name, parcel in first.items():
            batches |= {answer.peer: answer.wire for answer in coordinator.handle(name, parcel.wire)}
        assert isinstance(one(site.handle(batches[NAME])), Cosignature)
        assert site.handle(ends[NAME]) == ()  # it is over


def test_a_round_that_begins_gives_up_an_exchange_that_nobody_finished(made: Any, BACKBONE: str) -> None:
    with opened(made, BACKBONE) as consortium:
        coordinator = consortium.coordinator
        carry(coordinator, consortium.sites, coordinator.begin())
        coordinator.commit()  # nobody hears of it
        assert coordinator.deadline is not None
        starts = coordinator.begin()
        assert all(isinstance(decode(parcel.wire, TO_SITE, LARGE), RoundStart) for parcel in starts)
        carry(coordinator, consortium.sites, starts)
        carry(coordinator, consortium.sites, coordinator.commit())
        assert [cosigners(each) for each in evidence(made, COORDINATOR)] == [{NAME, *OTHERS}]
