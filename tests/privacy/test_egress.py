"""The one door: ledger first, policy before ledger, and no other way to a sealed message."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import inspect
from wardround.privacy import egress
from wardround.privacy.accounted import key_of
from wardround.privacy.differential_privacy.budget import Budget
from wardround.privacy.differential_privacy.releases import Release
from wardround.privacy.egress import COORDINATOR, Gate, Sealed, StudyFacts
from wardround.privacy.errors import DecodeError, EgressRefusedError, LedgerError, PolicyError, Refusal
from wardround.privacy.identity import Identity, fingerprint_hex
from wardround.privacy.ledger import log as ledger_module
from wardround.privacy.ledger.log import Ledger, verify
from wardround.privacy.messages import (
    BY_TAG,
    TO_COORDINATOR,
    TO_SITE,
    AdvertList,
    Cosignature,
    Limits,
    MaskedVector,
    OpenedShare,
    Receipt,
    RefusalNotice,
    RoundStart,
    SurvivorSet,
    UnmaskAnswer,
    encode,
)
from wardround.privacy.policy import Policy
from wardround.privacy.policy_file import default_policy_toml
from wardround.privacy.secure_aggregation.parameters import Block
from wardround.privacy.secure_aggregation.session import SessionId

from .conftest import STUDY, Consortium

A, B = "site-000", "site-001"


def policy_text(consortium, role="site", **arguments):
    # A roster without a coordinator's key is for whoever allows any.
    coordinators = [] if consortium.roster.coordinator_key else ["*"]
    given = {"studies": [STUDY.hex()], "methods": ["facmic"], "limits": consortium.limits, "coordinators": coordinators}
    arguments = {**given, **arguments}
    return default_policy_toml(role, **arguments)


class Side:
    """One side with its gate; ``entries`` reads its ledger."""

    def __init__(self, folder, owner=A, edit=lambda text: text, consortium=None, budget=None, **facts):
        self.consortium = consortium or Consortium(4)
        self.path = folder / f"{owner}.jsonl"
        self.ledger = Ledger.open(self.path, owner=owner, clock=lambda: datetime(2026, 1, 1, tzinfo=UTC))
        self.ledger.open_study(STUDY.hex())
        role = "coordinator" if owner == COORDINATOR else "site"
        self.policy = Policy.parse(edit(policy_text(self.consortium, role)).encode())
        facts = {"roster": self.consortium.pinned, "method": "facmic", "model": "ff" * 32, **facts}
        self.gate = Gate(
            owner=owner,
            ledger=self.ledger,
            policy=self.policy,
            facts=StudyFacts(**facts),
            limits=self.consortium.limits,
            budget=budget,
        )

    @property
    def entries(self):
        return [json.loads(line) for line in self.path.read_text().splitlines()][1:]


@pytest.fixture
def advert():
    return Consortium(4).site(A).advertise()


def test_release_writes_the_entry_of_exactly_these_bytes(tmp_path, advert):
    side = Side(tmp_path)
    sealed = side.gate.release(advert, peer=COORDINATOR)
    assert sealed.wire == encode(advert)
    (entry,) = side.entries
    assert entry["sequence"] == sealed.sequence
    assert (entry["outcome"], entry["direction"], entry["peer"]) == ("sent", "out", COORDINATOR)
    assert (entry["wire_sha256"], entry["wire_bytes"]) == (sealed.sha256, len(sealed.wire))
    assert (entry["round"], entry["stage"], entry["message_type"]) == (0, "advertise", "advert")
    assert (entry["policy_sha256"], entry["model"]) == (side.policy.digest, "ff" * 32)
    assert entry["message_id"].endswith("/0/update/0/0/advert/site-000/coordinator")
    assert verify(side.path).ok


def test_a_masked_vector_names_masking_and_clip(tmp_path):
    side = Side(tmp_path)
    vector = MaskedVector(side.consortium.session_id(), A, bytes(32), bytes(16), bytes(64))
    side.gate.release(vector, peer=COORDINATOR)
    (entry,) = side.entries
    assert entry["masking"]["threshold"] == 3
    assert entry["clip"] == {"update": 1, "counts": 100}
    assert {"name": "vector", "dtype": "uint32", "shape": [8], "nbytes": 32} in entry["schema"]


def test_the_entry_is_synced_before_the_sealed_message_exists(tmp_path, advert, monkeypatch):
    side, events = Side(tmp_path), []
    real = ledger_module.os.fsync
    monkeypatch.setattr(ledger_module.os, "fsync", lambda fd: (events.append("sync"), real(fd)))
    original = Sealed.__init__

    def spy(self, *arguments, **named):
        events.append("sealed")
        original(self, *arguments, **named)

    monkeypatch.setattr(Sealed, "__init__", spy)
    side.gate.release_many([(COORDINATOR, advert), (COORDINATOR, advert)])
    assert events == ["sync", "sealed", "sealed"]


@pytest.mark.parametrize("broken", ["write", "fsync"])
def test_no_sealed_message_when_the_ledger_fails(tmp_path, advert, monkeypatch, broken):
    side, made = Side(tmp_path), []

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ledger_module.os, broken, fail)
    monkeypatch.setattr(Sealed, "__init__", lambda *a, **k: made.append(1))
    with pytest.raises(LedgerError):
        side.gate.release(advert, peer=COORDINATOR)
    assert made == []


def test_a_sealed_message_cannot_be_made_changed_or_copied(tmp_path, advert):
    with pytest.raises(TypeError, match="only the egress gate"):
        Sealed(object(), wire=b"x", peer="p", tag="advert", sha256="", sequence=0)
    with pytest.raises(TypeError, match="cannot be subclassed"):
        type("Mine", (Sealed,), {})
    sealed = Side(tmp_path).gate.release(advert, peer=COORDINATOR)
    with pytest.raises(AttributeError):
        sealed.wire = b"other"
    with pytest.raises(AttributeError):
        del sealed.wire
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="pickled or copied"):
            attempt(sealed)


def test_sending_again_is_an_entry_retried(tmp_path, advert):
    side = Side(tmp_path)
    first, second = (side.gate.release(advert, peer=COORDINATOR) for _ in range(2))
    assert first.wire == second.wire
    assert [entry["outcome"] for entry in side.entries] == ["sent", "retried"]


def test_sending_again_after_a_restart_is_an_entry_retried(tmp_path, advert):
    side = Side(tmp_path)
    side.gate.release(advert, peer=COORDINATOR)
    side.ledger.close()
    again = Side(tmp_path)
    again.gate.release(advert, peer=COORDINATOR)
    assert [entry["outcome"] for entry in again.entries if entry["direction"] == "out"] == ["sent", "retried"]
    other = msgspec.structs.replace(advert, session=msgspec.structs.replace(advert.session, attempt=1))
    again.gate.release(other, peer=COORDINATOR)
    assert again.entries[-1]["outcome"] == "sent"


def test_an_unopened_study_releases_nothing(tmp_path, advert):
    side = Side(tmp_path)
    side.ledger.close_study(STUDY.hex())
    with pytest.raises(LedgerError, match="after the close"):
        side.gate.release(advert, peer=COORDINATOR)


# --- every rule stops a message ------------------------------------------------------------------------------------


def replace(old, new):
    def edit(text):
        assert old in text
        return text.replace(old, new)

    return edit


RULES = [
    ("studies.allow", {"edit": replace(STUDY.hex(), "00" * 32)}),
    ("methods.allow", {"edit": replace('["facmic"]', "[]")}),
    ("methods.allow", {"method": "fedclip"}),
    ("aggregation.required", {"secure_aggregation": False}),
    ("aggregation.minimum_cohort", {"edit": replace("minimum_cohort = 3", "minimum_cohort = 4")}),
    ("aggregation.purposes", {"edit": replace('"update", ', "")}),
    ("budget.maximum_epsilon", {"edit": replace("# maximum_epsilon", "maximum_epsilon")}),
    ("budget.maximum_epsilon", {"edit": replace("# maximum_epsilon", "maximum_epsilon"), "epsilon": 8.5}),
    ("budget.maximum_epsilon", {"edit": replace("# maximum_epsilon", "maximum_epsilon"), "epsilon": float("nan")}),
    ("budget.maximum_delta", {"edit": replace("# maximum_delta", "maximum_delta"), "delta": 1e-3}),
    ("messages.advert", {"edit": replace("\nadvert = 512", "")}),
    ("messages.advert", {"edit": replace("\nadvert = 512", "\nadvert = 100")}),
]


@pytest.mark.parametrize(("rule", "arguments"), RULES, ids=[f"{i}-{rule}" for i, (rule, _) in enumerate(RULES)])
def test_each_rule_stops_the_message_and_is_an_entry(tmp_path, advert, rule, arguments):
    side = Side(tmp_path, **arguments)
    with pytest.raises(EgressRefusedError) as refused:
        side.gate.release(advert, peer=COORDINATOR)
    assert refused.value.rule == rule
    (entry,) = side.entries
    assert (entry["outcome"], entry["rule"]) == ("refused", rule)
    assert (entry["wire_bytes"], entry["wire_sha256"]) == (0, "")
    assert verify(side.path).ok


def test_within_its_budget_a_study_may_send(tmp_path, advert):
    edit = replace("# maximum_epsilon", "maximum_epsilon")
    assert Side(tmp_path, edit=edit, epsilon=8.0).gate.release(advert, peer=COORDINATOR).tag == "advert"


def test_wrong_direction_peer_and_study(tmp_path, advert):
    side = Side(tmp_path)
    cases = [
        ("messages", SurvivorSet(advert.session, (A,)), COORDINATOR),
        ("studies", advert, B),
        (
            "studies.allow",
            msgspec.structs.replace(advert, session=msgspec.structs.replace(advert.session, study=bytes(32))),
            COORDINATOR,
        ),
    ]
    for rule, message, peer in cases:
        with pytest.raises(EgressRefusedError) as refused:
            side.gate.release(message, peer=peer)
        assert refused.value.rule == rule


def test_an_answer_over_too_few_survivors_is_stopped(tmp_path):
    side = Side(tmp_path)
    shares = tuple(
        OpenedShare(name, "b" if i < 2 else "s", bytes(33)) for i, name in enumerate(side.consortium.roster.names)
    )
    answer = UnmaskAnswer(side.consortium.session_id(), A, shares, bytes(64))
    with pytest.raises(EgressRefusedError) as refused:
        side.gate.release(answer, peer=COORDINATOR)
    assert refused.value.rule == "aggregation.minimum_cohort"


def test_a_refusal_notice_gets_through_where_nothing_else_may(tmp_path):
    side = Side(tmp_path, edit=replace(STUDY.hex(), "00" * 32))
    notice = RefusalNotice(side.consortium.session_id(), A, Refusal.POLICY, "advertise", "")
    assert side.gate.release(notice, peer=COORDINATOR).tag == "refusal"


def test_a_batch_leaves_whole_or_not_at_all(tmp_path, advert):
    side = Side(tmp_path, owner=COORDINATOR)
    request = AdvertList(advert.session, (advert,))
    sealed = side.gate.release_many([(A, request), (B, request)])
    assert [(s.peer, s.wire) for s in sealed] == [(A, encode(request)), (B, encode(request))]
    with pytest.raises(EgressRefusedError):
        side.gate.release_many([(A, request), ("stranger", request)])
    assert [entry["outcome"] for entry in side.entries] == ["sent", "sent", "refused"]


def test_a_policy_of_the_other_role_is_refused(tmp_path, advert):
    consortium = Consortium(4)
    ledger = Ledger.open(tmp_path / "l", owner=A, clock=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    policy = Policy.parse(policy_text(consortium, "coordinator").encode())
    with pytest.raises(EgressRefusedError, match="the policy is a coordinator's"):
        Gate(
            owner=A,
            ledger=ledger,
            policy=policy,
            facts=StudyFacts(consortium.pinned, "facmic"),
            limits=consortium.limits,
        )
    ledger.close()


# --- rules of the coordinator, of rounds, of figures, and of what follows a refusal ---------------------------------

FIGURES = (Block("update", 5, 1.0), Block("metrics", 3, 100.0, 0, weighted=False))
H, SIG = b"h" * 32, b"s" * 64


def known_coordinator(n=4, **arguments):
    """A consortium whose roster names its coordinator."""
    made = Consortium(n, **arguments)
    made.roster = dataclasses.replace(made.roster, coordinator_key=COORDINATOR_KEY.hex())
    made.pinned = made.pin()
    return made


def allowing(*fingerprints):
    return replace("allow = []", f"allow = {json.dumps(fingerprints)}")


COORDINATOR_KEY = Identity.from_seed(b"c" * 32).public_key
OURS, THEIRS = fingerprint_hex(COORDINATOR_KEY), fingerprint_hex(b"\x01" * 32)


def receipt_of(side, round_=7, closing=False):
    return Receipt(STUDY, round_, closing, A, 9, H, SIG, H, 0, b"", 0, (), SIG)


def cosignature_of(side, round_=7, closing=False):
    return Cosignature(STUDY, round_, closing, 9, H, A, 1, SIG)


def advert_of(side, round_=7):
    return side.consortium.site(A, session=side.consortium.session_id(round_)).advertise()


def evaluation_of(side):
    return vector_of(side, purpose="evaluation")


def sized(size):
    return lambda side: msgspec.structs.replace(vector_of(side), vector=bytes(size))


OWN_RULES = [
    ("coordinator.allow", advert_of, {"edit": replace('allow = ["*"]', "allow = []")}),  # one without a key
    ("coordinator.allow", advert_of, {"consortium": known_coordinator}),
    ("coordinator.allow", advert_of, {"consortium": known_coordinator, "edit": allowing(THEIRS)}),
    ("coordinator.allow", receipt_of, {"consortium": known_coordinator, "edit": allowing(THEIRS)}),
    ("studies.maximum_rounds", advert_of, {"edit": replace("# maximum_rounds = 100", "maximum_rounds = 6")}),
    ("studies.maximum_rounds", receipt_of, {"edit": replace("# maximum_rounds = 100", "maximum_rounds = 6")}),
    ("studies.maximum_rounds", cosignature_of, {"edit": replace("# maximum_rounds = 100", "maximum_rounds = 6")}),
    (
        "metrics.allow",
        lambda side: vector_of(side),
        {"blocks": FIGURES, "edit": replace("= true\nmin", "= false\nmin")},
    ),
    ("metrics.allow", evaluation_of, {"edit": replace("= true\nmin", "= false\nmin")}),
    ("metrics.minimum_cell", evaluation_of, {"minimum_cell": 10}),
    ("metrics.minimum_cell", evaluation_of, {"edit": replace("minimum_cell = 11", "minimum_cell = 12")}),
    *[("messages.masked-vector", sized(size), {}) for size in (0, 4, 28, 31, 33, 36, 64)],
    ("aggregation.purposes", lambda side: vector_of(side, purpose="temperature"), {}),
    ("messages.receipt", receipt_of, {"edit": replace("\nreceipt = ", "\n# receipt = ")}),
    ("messages.cosignature", cosignature_of, {"edit": replace("\ncosignature = ", "\n# cosignature = ")}),
]


@pytest.mark.parametrize(
    ("rule", "make", "arguments"), OWN_RULES, ids=[f"{i}-{row[0]}" for i, row in enumerate(OWN_RULES)]
)
def test_each_of_these_rules_stops_a_message_before_it_has_bytes(tmp_path, monkeypatch, rule, make, arguments):
    side = side_of(tmp_path, arguments)
    message = make(side)
    made = []
    monkeypatch.setattr(egress, "encode", lambda message: made.append(message))
    monkeypatch.setattr(Sealed, "__init__", lambda *rest, **named: made.append(rest))
    with pytest.raises(EgressRefusedError) as refused:
        side.gate.release(message, peer=COORDINATOR)
    assert refused.value.rule == rule
    assert made == []
    (entry,) = side.entries
    assert (entry["outcome"], entry["rule"], entry["direction"]) == ("refused", rule, "out")
    assert (entry["wire_bytes"], entry["wire_sha256"], entry["facts"], entry["commitment"]) == (0, "", None, "")
    assert verify(side.path).ok
    assert not side.gate.stopped


def side_of(tmp_path, arguments):
    """The side of a case; what makes its consortium is called here."""
    arguments = dict(arguments)
    consortium, blocks = arguments.pop("consortium", None), arguments.pop("blocks", None)
    if blocks is not None:
        consortium = lambda: Consortium(4, blocks=blocks)  # noqa: E731
    return Side(tmp_path, consortium=consortium and consortium(), **arguments)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (advert_of, {"consortium": known_coordinator, "edit": allowing(THEIRS, OURS)}),
        (advert_of, {"consortium": known_coordinator, "edit": allowing("*")}),
        (advert_of, {"edit": replace("# maximum_rounds = 100", "maximum_rounds = 7")}),
        (receipt_of, {"edit": replace("# maximum_rounds = 100", "maximum_rounds = 7")}),
        (lambda side: vector_of(side), {"blocks": FIGURES}),
        (lambda side: vector_of(side), {"edit": replace("= true\nmin", "= false\nmin")}),  # no figures in it
        (evaluation_of, {"minimum_cell": 12}),
        (sized(32), {}),
        (cosignature_of, {}),
    ],
)
def test_what_is_just_within_these_rules_leaves(tmp_path, make, arguments):
    side = side_of(tmp_path, arguments)
    message = make(side)
    assert side.gate.release(message, peer=COORDINATOR).wire == encode(message)


def test_a_refusal_passes_whatever_coordinator_and_round_it_is_about(tmp_path):
    edit = replace("# maximum_rounds = 100", "maximum_rounds = 6")
    side = Side(tmp_path, consortium=known_coordinator(), edit=edit)
    notice = RefusalNotice(side.consortium.session_id(7), A, Refusal.POLICY, "start", "")
    assert side.gate.release(notice, peer=COORDINATOR).tag == "refusal"


def test_the_coordinators_own_policy_asks_for_no_coordinator(tmp_path, advert):
    side = Side(tmp_path, owner=COORDINATOR, consortium=known_coordinator())
    assert "coordinator" not in tomllib.loads(policy_text(side.consortium, "coordinator"))
    side.gate.release(AdvertList(advert.session, (advert,)), peer=A)


def test_after_a_refusal_a_side_goes_on_or_stops_as_its_policy_says(tmp_path):
    (tmp_path / "stop").mkdir()
    no_receipts = replace("\nreceipt = ", "\n# receipt = ")
    stopping = replace('then = "continue"', 'then = "stop"')
    for folder, edit, stops in (
        (tmp_path, no_receipts, False),
        (tmp_path / "stop", lambda text: stopping(no_receipts(text)), True),
    ):
        side = Side(folder, edit=edit)
        side.gate.release(advert_of(side), peer=COORDINATOR)
        with pytest.raises(EgressRefusedError):
            side.gate.release(receipt_of(side), peer=COORDINATOR)
        assert side.gate.stopped is stops
        later = [advert_of(side, 8), cosignature_of(side)]
        if stops:
            for message in later:
                with pytest.raises(EgressRefusedError) as refused:
                    side.gate.release(message, peer=COORDINATOR)
                assert refused.value.rule == "refusal.then"
            assert [entry["rule"] for entry in side.entries] == ["", "messages.receipt", *["refusal.then"] * 2]
        else:
            assert [sealed.tag for sealed in side.gate.release_many([(COORDINATOR, m) for m in later])] == [
                "advert",
                "cosignature",
            ]
        notice = RefusalNotice(side.consortium.session_id(8), A, Refusal.POLICY, "start", "")
        assert side.gate.release(notice, peer=COORDINATOR).tag == "refusal"
        assert verify(side.path).ok


def test_what_is_too_large_stops_a_side_too(tmp_path, advert):
    def edit(text):
        return replace('then = "continue"', 'then = "stop"')(replace("\nadvert = 512", "\nadvert = 100")(text))

    side = Side(tmp_path, edit=edit)
    with pytest.raises(EgressRefusedError, match=r"messages\.advert"):
        side.gate.release(advert, peer=COORDINATOR)
    assert side.gate.stopped


def test_a_new_process_asks_the_policy_anew(tmp_path, advert):
    """Whoever mended the policy and started again is not held to what was refused before."""

    def stopping(text):
        return replace('then = "continue"', 'then = "stop"')(replace('["facmic"]', "[]")(text))

    side = Side(tmp_path, edit=stopping)
    with pytest.raises(EgressRefusedError):
        side.gate.release(advert, peer=COORDINATOR)
    side.ledger.close()
    again = Side(tmp_path)
    assert not again.gate.stopped
    assert again.gate.release(advert, peer=COORDINATOR).tag == "advert"


def test_a_vector_is_committed_to_in_the_ledger_and_the_plain_one_is_not_in_it(tmp_path):
    side, identity, plain = Side(tmp_path), Identity.from_seed(b"k" * 32), bytes(range(32))
    facts = StudyFacts(side.consortium.pinned, "facmic")
    gate = Gate(
        owner=A,
        ledger=side.ledger,
        policy=side.policy,
        facts=facts,
        limits=side.consortium.limits,
        commit=partial(identity.commit, b"a label"),
    )
    vector = vector_of(side)
    gate.release(vector, peer=COORDINATOR, plain=plain)
    gate.release(advert_of(side), peer=COORDINATOR, plain=plain)
    first, second = side.entries
    assert first["commitment"] == identity.commit(b"a label", vector.session.to_bytes(), plain).hex()
    assert second["commitment"] == ""  # nothing is masked in it
    assert plain.hex() not in side.path.read_text()


# --- no message has room for words ---------------------------------------------------------------------------------

# Bytes whose bound is the study's own (`Limits`), not the type's: adapters, settings, and the masked vector, whose
# exact size the gate asks for.
BOUNDED_BY_THE_STUDY = {
    "round-start.adapter",
    "round-start.settings",
    "study-end.adapter",
    "masked-vector.vector",
}
WORDS = ("Jane Doe", "a b", "A", "a\n", "ä", "-", "a" * 65, "/etc/passwd", "2026-01-01T00:00:00")


def free_fields(kind, place, seen=()):
    """Fields in which anything could be written, of a field's type and of all types within it."""
    match kind:
        case inspect.StructType():
            if kind.cls in seen:
                return
            assert kind.forbid_unknown_fields or kind.array_like, place
            for each in kind.fields:
                yield from free_fields(each.type, f"{place}.{each.name}", (*seen, kind.cls))
        case inspect.StrType():
            assert kind.pattern is not None, f"{place} has any text"
            assert kind.pattern.startswith(r"\A"), place
            assert kind.pattern.endswith(r"\Z"), place
            assert not [words for words in WORDS if re.search(kind.pattern, words)], place
        case inspect.BytesType():
            if kind.max_length is None:
                yield place
        case inspect.IntType():
            assert kind.ge is not None, place
            assert kind.lt is not None or kind.le is not None, place
        case inspect.LiteralType():
            assert all(isinstance(value, str) for value in kind.values), place
        case inspect.EnumType():
            assert issubclass(kind.cls, StrEnum), place
        case inspect.BoolType():
            pass
        case inspect.VarTupleType():
            yield from free_fields(kind.item_type, f"{place}[]", seen)
            assert kind.max_length is not None, f"{place} has any length"
        case _:
            raise AssertionError(f"{place} is a {type(kind).__name__}: nobody has looked at what can stand in it")


def test_no_field_of_any_message_can_carry_free_text():
    found = set()
    for tag, kind in BY_TAG.items():
        found |= set(free_fields(inspect.type_info(kind), tag))
    assert found == BOUNDED_BY_THE_STUDY
    # Each of these is held to a size by the type of its message.
    limits = Limits(sites=3, vector_bytes=64, adapter_bytes=100, settings_bytes=100)
    assert all(limits.of(place.partition(".")[0]) <= 512 + 200 for place in found)


def test_the_walk_finds_what_it_looks_for():
    """A test of the test above: a field of text, of bytes, of anything, or of another kind would be found."""

    class Nested(msgspec.Struct, array_like=True):
        note: str

    for bad in (str, Annotated[str, msgspec.Meta(max_length=9)], dict[str, int], Any, float, int, Nested):
        with pytest.raises(AssertionError):
            list(free_fields(inspect.type_info(bad), "here"))
    with pytest.raises(AssertionError):
        list(free_fields(inspect.type_info(tuple[Nested, ...]), "here"))
    with pytest.raises(AssertionError):
        list(free_fields(inspect.type_info(tuple[Literal["a"], ...]), "here"))
    assert list(free_fields(inspect.type_info(bytes), "here")) == ["here"]


# --- what a private study sends ------------------------------------------------------------------------------------

PRIVATE = {"epsilon": 8.0, "delta": 1e-5}


class Accounts:
    """A privacy budget that covers what it was told to."""

    def __init__(self, *keys, epsilon=2.5, delta=1e-5):
        self.keys, self.spent = keys, {"epsilon": epsilon, "delta": delta}

    def covers(self, study, key):
        return study == STUDY.hex() and key in self.keys

    def statement(self, study, key):
        assert self.covers(study, key)
        return {"unit": "patient", **self.spent}


def vector_of(side, round_=0, **more):
    session = msgspec.structs.replace(side.consortium.session_id(round_), **more)
    return MaskedVector(session, A, bytes(32), bytes(16), bytes(64))


UNACCOUNTED = [
    ("no budget", {"budget": None}, {}),
    ("another round", {"budget": Accounts("round-6", "round-8", "class-sums")}, {}),
    ("a second update of the round", {"budget": Accounts("round-7")}, {"sequence": 1}),
    ("another sum", {"budget": Accounts("round-7", "evaluation-7", "evaluation")}, {"purpose": "evaluation"}),
    ("the study's epsilon", {"budget": Accounts("round-7", epsilon=8.0001)}, {}),
    ("no epsilon at all", {"budget": Accounts("round-7", epsilon=float("nan"))}, {}),
    ("the study's delta", {"budget": Accounts("round-7", delta=1e-4)}, {}),
    ("no delta", {"budget": Accounts("round-7"), "delta": None}, {}),
]


@pytest.mark.parametrize(("arguments", "more"), [row[1:] for row in UNACCOUNTED], ids=[row[0] for row in UNACCOUNTED])
def test_a_private_studys_vector_that_is_not_accounted_for_stays(tmp_path, arguments, more):
    side = Side(tmp_path, **{**PRIVATE, **arguments})
    with pytest.raises(EgressRefusedError, match=r"policy rule budget\.unaccounted.*Charge the release") as refused:
        side.gate.release(vector_of(side, 7, **more), peer=COORDINATOR)
    assert refused.value.rule == "budget.unaccounted"
    (entry,) = side.entries
    assert (entry["outcome"], entry["rule"], entry["wire_bytes"], entry["dp"]) == (
        "refused",
        "budget.unaccounted",
        0,
        None,
    )
    assert verify(side.path).ok


def test_what_is_accounted_for_leaves_with_a_statement_and_so_does_its_retry(tmp_path):
    side = Side(tmp_path, budget=Accounts("round-7"), **PRIVATE)
    for attempt in (0, 1):
        side.gate.release(vector_of(side, 7, attempt=attempt), peer=COORDINATOR)
    assert [(entry["outcome"], entry["dp"]) for entry in side.entries] == [
        ("sent", {"unit": "patient", "epsilon": 2.5, "delta": 1e-5})
    ] * 2


def test_other_messages_of_a_private_study_need_no_charge(tmp_path, advert):
    side = Side(tmp_path, **PRIVATE)
    side.gate.release(advert, peer=COORDINATOR)
    assert side.entries[0]["dp"] is None


def test_without_an_epsilon_nothing_is_asked_and_nothing_stated(tmp_path):
    side = Side(tmp_path, budget=Accounts())
    side.gate.release(vector_of(side), peer=COORDINATOR)
    assert side.entries[0]["dp"] is None


def test_the_coordinator_of_a_private_study_has_no_budget(tmp_path):
    side, site = Side(tmp_path, owner=COORDINATOR, **PRIVATE), Side(tmp_path)
    vector = vector_of(site, 7)
    assert side.gate.admit(encode(vector), peer=A, expected=TO_COORDINATOR) == vector
    assert side.entries[0]["dp"] is None


def test_a_real_budget_opens_the_gate_after_the_seal_and_not_before(tmp_path):
    study, identity = STUDY.hex(), Identity.from_seed(bytes(32))
    side = Side(tmp_path, **PRIVATE)
    budget = Budget.open(tmp_path / "budget.json", site=A, identity=identity, ledger=side.ledger)
    facts = StudyFacts(side.consortium.pinned, "facmic", **PRIVATE)
    gate = Gate(
        owner=A, ledger=side.ledger, policy=side.policy, facts=facts, limits=side.consortium.limits, budget=budget
    )
    vector, release = vector_of(side, 7), Release("training", 1.0, 1.0, 1)

    def refused():
        with pytest.raises(EgressRefusedError, match="round-7 was not charged"):
            gate.release(vector, peer=COORDINATOR)

    refused()
    budget.charge(study, "round-7", release, unit="patient", limit=(8.0, 1e-5))
    refused()
    budget.seal(study, "round-7", "11" * 32)
    gate.release(vector, peer=COORDINATOR)
    last = side.entries[-1]
    assert last["dp"] == json.loads(json.dumps(budget.statement(study, "round-7")))
    assert 4.3 < last["dp"]["epsilon"] < 4.4  # the Gaussian mechanism of noise 1
    assert [entry["kind"] for entry in side.entries] == ["message", "budget", "message", "budget", "message"]
    assert verify(side.path).ok


@pytest.mark.parametrize(
    ("session", "key"),
    [
        (SessionId(STUDY, 3, "update"), "round-3"),
        (SessionId(STUDY, 3, "update", 0, 5), "round-3"),
        (SessionId(STUDY, 3, "update", 1), None),
        (SessionId(STUDY, 3, "evaluation"), None),
        (SessionId(STUDY, 3, "class-means"), None),
        (SessionId(STUDY, 3, "temperature"), None),
    ],
)
def test_names_of_sums_in_the_budget(session, key):
    assert key_of(session) == key


def test_the_gate_loads_no_accountant():
    """Who sends nothing under differential privacy should not wait for torch and Opacus."""
    code = "import sys, wardround.privacy.egress; print({'torch', 'opacus', 'scipy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


# --- what arrives --------------------------------------------------------------------------------------------------


def test_admit_decodes_and_records(tmp_path, advert):
    side = Side(tmp_path, owner=COORDINATOR)
    wire = encode(advert)
    assert side.gate.admit(wire, peer=A, expected=TO_COORDINATOR) == advert
    (entry,) = side.entries
    assert (entry["outcome"], entry["direction"], entry["peer"], entry["wire_bytes"]) == (
        "received",
        "in",
        A,
        len(wire),
    )
    assert entry["message_id"].endswith("/advert/site-000/coordinator")
    assert len(entry["peer_key"]) == 64


def test_sent_and_received_entries_name_the_same_message(tmp_path, advert):
    site, coordinator = Side(tmp_path), Side(tmp_path, owner=COORDINATOR)
    sealed = site.gate.release(advert, peer=COORDINATOR)
    coordinator.gate.admit(sealed.wire, peer=A, expected=TO_COORDINATOR)
    for key in ("message_id", "wire_sha256", "wire_bytes", "schema", "round", "stage"):
        assert site.entries[0][key] == coordinator.entries[0][key]


@pytest.mark.parametrize("wire", [b"", b"garbage about Jane Doe", b"\x94\xa6advert"])
def test_what_cannot_be_decoded_is_an_entry_without_content(tmp_path, wire):
    side = Side(tmp_path, owner=COORDINATOR)
    with pytest.raises(DecodeError):
        side.gate.admit(wire, peer=A, expected=TO_COORDINATOR)
    (entry,) = side.entries
    assert (entry["outcome"], entry["wire_bytes"], entry["rule"]) == ("failed", len(wire), "decode")
    assert "Jane" not in json.dumps(entry)


def test_a_message_of_another_study_is_not_admitted(tmp_path, advert):
    side = Side(tmp_path)
    foreign = RoundStart(msgspec.structs.replace(advert.session, study=bytes(32)), b"", b"")
    with pytest.raises(DecodeError, match="another study"):
        side.gate.admit(encode(foreign), peer=COORDINATOR, expected=TO_SITE)


def test_a_whole_session_through_the_gates_is_in_both_ledgers(tmp_path):
    consortium = Consortium(3)
    sides = {
        name: Side(tmp_path, owner=name, consortium=consortium) for name in (*consortium.roster.names, COORDINATOR)
    }
    play = consortium.play()
    words = play.words()

    def up(name, message):
        sealed = sides[name].gate.release(message, peer=COORDINATOR)
        play.coordinator.feed(name, sides[COORDINATOR].gate.admit(sealed.wire, peer=name, expected=TO_COORDINATOR))

    for name, site in play.sites.items():
        up(name, site.advertise())
    for closing, stage in (
        ("close_advertise", "share"),
        ("close_share", "mask"),
        ("close_mask", "agree"),
        ("close_agree", "unmask"),
    ):
        requests = getattr(play.coordinator, closing)()
        for sealed in sides[COORDINATOR].gate.release_many(list(dict(requests).items())):
            message = sides[sealed.peer].gate.admit(sealed.wire, peer=COORDINATOR, expected=TO_SITE)
            extra = (words[sealed.peer],) if stage == "mask" else ()
            up(sealed.peer, getattr(play.sites[sealed.peer], stage)(message, *extra))
    assert play.coordinator.finish().survivors == consortium.roster.names
    hashes = lambda entries, direction: sorted(e["wire_sha256"] for e in entries if e["direction"] == direction)  # noqa: E731
    all_sites = [entry for name in consortium.roster.names for entry in sides[name].entries]
    assert hashes(all_sites, "out") == hashes(sides[COORDINATOR].entries, "in")
    assert hashes(all_sites, "in") == hashes(sides[COORDINATOR].entries, "out")
    assert all(verify(side.path).ok for side in sides.values())
    texts = "".join(side.path.read_text() for side in sides.values())
    assert not any(words[name].tobytes().hex() in texts for name in words)


# --- the policy file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["site", "coordinator"])
def test_the_default_policy_is_documented_toml_and_lists_every_message(role):
    text = policy_text(Consortium(4), role, purpose='train "x" \\ y', legal_basis="consent ü")
    data = tomllib.loads(text)
    kinds = TO_COORDINATOR if role == "site" else TO_SITE
    assert set(data["messages"]) == {egress.tag_of(kind) for kind in kinds}
    assert data["log"]["purpose"] == 'train "x" \\ y'
    policy = Policy.parse(text.encode())
    assert policy.aggregation.required
    assert len(policy.digest) == 64


def test_an_empty_policy_denies_everything(tmp_path, advert):
    side = Side(tmp_path, edit=lambda _: 'version = 1\nrole = "site"\n')
    with pytest.raises(EgressRefusedError):
        side.gate.release(advert, peer=COORDINATOR)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version = 1\nrole = 'site'\nstudie = 1", r"unknown key 'studie'.*Did you mean 'studies'"),
        (
            "version = 1\nrole = 'site'\n[aggregation]\nminimum_cohrt = 3",
            r"aggregation\.minimum_cohrt.*'minimum_cohort'",
        ),
        ("version = 1\nrole = 'site'\n[messages]\nmasked-vectr = 3", r"messages\.masked-vectr.*'masked-vector'"),
        ("version = 1\nrole = 'site'\n[messages]\nround-start = 3", r"a site never sends it"),
        ("version = 1\nrole = 'site'\n[messages]\nadvert = -1", r"messages\.advert"),
        ("version = 1\nrole = 'site'\n[aggregation]\nminimum_cohort = '3'", r"minimum_cohort"),
        ("version = 1\nrole = 'site'\n[aggregation]\nrequired = 1", r"required"),
        ("version = 1\nrole = 'site'\n[studies]\nallow = ['x']", r"neither a study hash"),
        ("version = 2\nrole = 'site'", r"version"),
        ("version = 1", r"role"),
        ("version = ", r"no valid TOML"),
        ("\xff", r"no valid TOML|unknown"),
        ("version = 1\nrole = 'site'\n[budget]\nmaximum_epsilom = 8.0", r"'maximum_epsilon'"),
        ("version = 1\nrole = 'site'\n[budget.disjoint]\nx = 'north'", r"'x' is no study hash"),
        (f"version = 1\nrole = 'site'\n[budget.disjoint]\n{STUDY.hex()} = 'No Rth'", r"'No Rth' is no cohort name"),
        (f"version = 1\nrole = 'site'\n[budget.disjoint]\n{STUDY.hex()} = ''", r"is no cohort name"),
        (f"version = 1\nrole = 'site'\n[budget.disjoint]\n{STUDY.hex()} = 7", r"budget\.disjoint"),
        ("version = 1\nrole = 'site'\n[coordinator]\nallow = ['x']", r"'x' is neither a key's fingerprint"),
        ("version = 1\nrole = 'site'\n[coordinator]\nalow = []", r"'alow'.*Did you mean 'allow'"),
        ("version = 1\nrole = 'site'\n[studies]\nmaximum_rounds = 0", r"studies\.maximum_rounds"),
        ("version = 1\nrole = 'site'\n[studies]\nmaximum_rounds = '3'", r"studies\.maximum_rounds"),
        ("version = 1\nrole = 'site'\n[metrics]\nminimum_cell = 0", r"metrics\.minimum_cell"),
        ("version = 1\nrole = 'site'\n[metrics]\nminimum_cel = 9", r"'minimum_cel'.*'minimum_cell'"),
        ("version = 1\nrole = 'site'\n[metrics]\nallow = 1", r"metrics\.allow"),
        ("version = 1\nrole = 'site'\n[refusal]\nthen = 'pause'", r"refusal\.then"),
        ("version = 1\nrole = 'site'\n[messages]\nbatch = 9", r"a site never sends it"),
        ("version = 1\nrole = 'coordinator'\n[messages]\nreceipt = 9", r"a coordinator never sends it"),
        ("version = 1\nrole = 'site'\n[messages]\ncosignatur = 9", r"'cosignature'"),
    ],
)
def test_bad_policies_are_refused_with_key_and_remedy(text, told):
    with pytest.raises(PolicyError, match=told):
        Policy.parse(text.encode("latin-1"), where="policy.toml")


def test_cohorts_that_share_no_patient_are_declared_in_the_policy():
    """What the default policy has commented out is right when the comment signs are removed."""
    text = policy_text(Consortium(4))
    assert Policy.parse(text.encode()).budget == Policy.parse(b"version = 1\nrole = 'site'").budget
    for line in ("# maximum_epsilon", "# maximum_delta", "# [budget.disjoint]", '# "00'):
        assert line in text
        text = text.replace(line, line[2:])
    budget = Policy.parse(text.encode()).budget
    assert (budget.maximum_epsilon, budget.maximum_delta) == (8.0, 1e-5)
    assert budget.disjoint == {"0" * 64: "cardiology-2024"}


def test_the_policy_digest_is_the_files(tmp_path):
    import hashlib

    path = tmp_path / "policy.toml"
    path.write_text(policy_text(Consortium(4)))
    assert Policy.load(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(PolicyError, match="cannot be read"):
        Policy.load(tmp_path / "missing")
