"""Entries as FHIR: every resource against fhir.resources, and what IHE BALP requires by hand, from its profiles."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.platform.audit.fhir import audit_event, bundle_chunks
from wardround.platform.audit.tables import read_both
from wardround.privacy.errors import LedgerError
from wardround.privacy.ledger.entries import Entry

from .shown_ledgers import AFTER, AMBER, DP, HOSTILE, KEY, POLICY, STUDY, WIRE, entry, refused, write_ledger

DCM = "http://dicom.nema.org/resources/ontology/DCM"
ISO = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
EXPORT, IMPORT, SOURCE, DESTINATION = "110106", "110107", "110153", "110152"
WORDS = (
    *("study", "stage", "peer", "peer_key", "message_id", "message_type", "codec", "wire_sha256"),
    *("commitment", "purpose", "legal_basis", "policy_sha256", "software", "model", "rule", "owner"),
)
KINDS = ("open", "close", "message", "budget", "key", "sign", "forget", "purge", "note", "enrol")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(HOSTILE)
# R4 data types, from the specification: a string has something in it and no control characters; code, uri, instant.
CODE = re.compile(r"[^\s]+(\s[^\s]+)*")
URI = re.compile(r"\S+")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def event(each: Entry) -> dict[str, Any]:
    return audit_event(each.line(), each)


def bundle(entries: Sequence[Entry]) -> dict[str, Any]:
    return json.loads(b"".join(bundle_chunks((each.line(), each) for each in entries)))


def of(record: Any, **fields: Any) -> Entry:
    return entry(**{name: getattr(record, name) for name in record.__struct_fields__}, **fields)


def agents(resource: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {agent["type"]["coding"][0]["code"]: agent for agent in resource["agent"] if "type" in agent}


def entities(resource: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entity["name"]: entity for entity in resource["entity"]}


def details(entity: dict[str, Any]) -> dict[str, str]:
    return {detail["type"]: detail["valueString"] for detail in entity["detail"]}


def check(resource: dict[str, Any]) -> None:
    """Valid R4, and by our own eyes where the library is lenient."""
    AuditEvent.model_validate(resource)
    assert INSTANT.fullmatch(resource["recorded"])
    assert resource["outcome"] in {"0", "4", "8", "12"}
    assert resource["action"] in set("CRUDE")
    assert str(uuid.UUID(resource["id"])) == resource["id"]
    assert all(isinstance(agent["requestor"], bool) for agent in resource["agent"])
    assert sum(agent["requestor"] for agent in resource["agent"]) == 1

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            assert value, f"{name} is empty"
            if "code" in value:
                assert CODE.fullmatch(value["code"])
            if "system" in value:
                assert URI.fullmatch(value["system"])
            for key, inner in value.items():
                walk(inner, key)
        elif isinstance(value, list):
            assert value, f"{name} is empty"
            for inner in value:
                walk(inner, name)
        elif isinstance(value, str):
            assert value.strip() == value != "", name
            assert value.isprintable(), name

    walk(resource, "AuditEvent")


def check_balp(resource: dict[str, Any], type_: str) -> None:
    """What IHE.BasicAudit.PrivacyDisclosure.Source and .Recipient require, but for the patient."""
    at_source = type_ == EXPORT
    assert "modifierExtension" not in resource
    assert (resource["type"]["system"], resource["type"]["code"]) == (DCM, type_)
    assert resource["action"] == ("R" if at_source else "C")
    assert (ISO, "disclose") in {(code["system"], code["code"]) for code in resource["subtype"]}
    assert resource["recorded"]
    assert resource["outcome"]
    assert len(resource["agent"]) >= 2
    roles = agents(resource)
    for role in (SOURCE, DESTINATION):
        assert roles[role]["type"]["coding"][0]["system"] == DCM
        assert roles[role]["who"]
        assert roles[role]["network"]["address"]
        assert roles[role]["network"]["type"] in set("12345")
    assert roles[SOURCE if at_source else DESTINATION]["who"] == resource["source"]["observer"]  # val-audit-source
    assert len(resource["entity"]) >= 2
    assert all(entity["type"]["code"] != "1" for entity in resource["entity"])  # no person, so no profile is claimed
    assert "meta" not in resource


def test_what_was_sent() -> None:
    resource = event(of(AMBER[2]))
    check(resource)
    check_balp(resource, EXPORT)
    roles = agents(resource)
    assert (roles[SOURCE]["who"]["display"], roles[DESTINATION]["who"]["display"]) == ("amber", "coordinator")
    assert (roles[SOURCE]["requestor"], roles[DESTINATION]["requestor"]) == (True, False)
    assert roles[DESTINATION]["altId"] == KEY
    assert roles[SOURCE]["policy"] == [f"urn:x-wardround:policy:sha256:{POLICY}"]
    assert (resource["outcome"], resource["outcomeDesc"]) == ("0", "sent")
    reason = resource["purposeOfEvent"][0]
    assert (reason["coding"][0]["code"], reason["text"]) == ("HRESCH", "federated training")
    known = entities(resource)
    values = {name: entity["what"]["identifier"]["value"] for name, entity in known.items()}
    assert (values["study"], values["message"], values["policy"]) == (STUDY, WIRE, POLICY)
    said = details(known["message"])
    assert (said["message-type"], said["round"], said["stage"], said["bytes"]) == ("masked-vector", "1", "mask", "1000")
    assert json.loads(said["differential-privacy"]) == DP
    assert json.loads(said["masking"])["threshold"] == 2
    assert details(known["policy"]) == {"legal-basis": "GDPR 9(2)(j)", "retention-days": "2190"}


def test_what_arrived() -> None:
    resource = event(of(AMBER[0]))
    check(resource)
    check_balp(resource, IMPORT)
    roles = agents(resource)
    assert (roles[SOURCE]["who"]["display"], roles[DESTINATION]["who"]["display"]) == ("coordinator", "amber")
    assert (roles[SOURCE]["requestor"], roles[DESTINATION]["requestor"]) == (True, False)
    assert "policy" in roles[DESTINATION]


@pytest.mark.parametrize(
    ("record", "outcome", "words"),
    [
        (AMBER[3], "0", "retried"),
        (refused(), "8", "refused: messages.masked-vector"),
        (AMBER[5], "4", "failed: decode"),
        (AFTER[3], "4", "noted: torn-line"),
    ],
)
def test_outcomes(record: Any, outcome: str, words: str) -> None:
    resource = event(of(record))
    check(resource)
    assert (resource["outcome"], resource["outcomeDesc"]) == (outcome, words)


def test_what_was_refused_has_no_hash() -> None:
    resource = event(of(refused()))
    check_balp(resource, EXPORT)
    assert "what" not in entities(resource)["message"]
    assert details(entities(resource)["message"])["bytes"] == "0"


@pytest.mark.parametrize(
    ("kind", "type_", "action"),
    [
        ("open", "110100", "E"),
        ("close", "110100", "E"),
        ("budget", "110100", "U"),
        ("key", "110113", "U"),
        ("note", "110113", "E"),
        ("sign", "attest", "E"),
        ("forget", "destroy", "D"),
        ("purge", "destroy", "D"),
    ],
)
def test_what_is_no_transmission(kind: str, type_: str, action: str) -> None:
    resource = event(entry(kind=kind, outcome="noted", facts={"files": 2}, dp=DP if kind == "budget" else None))
    check(resource)
    assert (resource["type"]["code"], resource["action"]) == (type_, action)
    assert resource["subtype"][-1] == {"system": "urn:x-wardround:kind", "code": kind}
    assert set(agents(resource)) == {"110150"}
    assert agents(resource)["110150"]["who"] == resource["source"]["observer"]


def test_a_budget_is_told() -> None:
    resource = event(of(AMBER[1]))
    spent = entities(resource)["privacy budget"]
    assert spent["what"]["identifier"]["value"] == DP["sha256"]
    assert details(spent)["stage"] == "charge"
    assert json.loads(details(spent)["differential-privacy"])["epsilon"] == 1.0


def test_who_signed_is_told_without_remarks() -> None:
    resource = event(of(AFTER[2]))
    check(resource)
    person = next(agent for agent in resource["agent"] if "who" not in agent)
    assert (person["name"], person["role"][0]["text"], person["requestor"]) == ("Dr. Ada Example", "radiologist", True)
    assert details(entities(resource)["sign"]) == {"report": "ef" * 32, "decision": "accepted"}
    assert "Surname" not in json.dumps(resource)


def test_what_was_forgotten_is_told_in_numbers() -> None:
    assert details(entities(event(of(AFTER[0])))["forget"]) == {"records": "3", "files": "9"}


def test_a_ledger_as_a_bundle(tmp_path: Any) -> None:
    path = write_ledger(tmp_path, after=AFTER)
    data = b"".join(bundle_chunks(read_both(path)))
    assert data == b"".join(bundle_chunks(read_both(path)))  # the same ledger, the same bytes
    parsed = Bundle.model_validate_json(data)
    assert parsed.type == "collection"
    content = json.loads(data)
    assert next(iter(content)) == "resourceType"
    assert len(content["entry"]) == len(path.read_bytes().splitlines())
    for item in content["entry"]:
        assert item["fullUrl"] == f"urn:uuid:{item['resource']['id']}"
        check(item["resource"])
        if item["resource"]["type"]["code"] in (EXPORT, IMPORT):
            check_balp(item["resource"], item["resource"]["type"]["code"])
    ids = [item["resource"]["id"] for item in content["entry"]]
    assert len({*ids, content["id"]}) == len(ids) + 1
    assert data.isascii()


def test_ids_follow_the_entries() -> None:
    one, other = entry(), entry(wire_bytes=1001)
    assert event(one)["id"] == event(entry())["id"] != event(other)["id"]
    assert uuid.UUID(event(one)["id"]).version == 5
    assert bundle([one])["id"] != bundle([other])["id"] != bundle([one, other])["id"]


def test_a_bundle_of_nothing() -> None:
    content = bundle([])
    Bundle.model_validate(content)
    assert "entry" not in content  # FHIR has no empty lists


@settings(max_examples=150)
@given(
    st.builds(
        entry,
        kind=st.sampled_from(KINDS),
        outcome=st.sampled_from(["sent", "retried", "refused", "received", "failed", "noted"]),
        direction=st.sampled_from(["out", "in", "none"]),
        **dict.fromkeys(WORDS, TEXTS),
        round=st.integers(-2, 9),
        wire_bytes=st.integers(-(2**53) + 1, 2**53 - 1),
        dp=st.none() | st.dictionaries(TEXTS | st.just("sha256"), TEXTS | st.integers(0, 9) | st.none(), max_size=3),
        facts=st.none()
        | st.dictionaries(
            TEXTS | st.sampled_from(["system", "value", "role", "name", "remarks", "self", ""]),
            TEXTS | st.integers(0, 9),
            max_size=4,
        ),
    )
)
def test_hostile_words_leave_it_valid(each: Entry) -> None:
    resource = event(each)
    check(resource)
    if each.kind == "message":
        check_balp(resource, IMPORT if each.direction == "in" else EXPORT)
    Bundle.model_validate(bundle([each]))


@pytest.mark.parametrize("time", ["", "today", "2026-01-01", "2026-01-01T00:00:01", "2026-01-01T00:00:01Z\n"])
def test_a_time_that_is_none_is_named(time: str) -> None:
    bad = msgspec.structs.replace(entry(), time=time, sequence=17)
    with pytest.raises(LedgerError, match="the time of entry 17 is none"):
        event(bad)
