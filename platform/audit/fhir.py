"""Ledgers as a FHIR R4 Bundle of AuditEvent resources, for a hospital's audit repository.

Modelled on the disclosure patterns of IHE BALP (Basic Audit Log Patterns, ``IHE.BasicAudit.PrivacyDisclosure.Source``
and ``.Recipient``), with all their required elements but one: they want the patient whose record was disclosed, and a
ledger knows no patient. So no resource claims the profile in ``meta``. Nothing here identifies a patient.

========  ==========================================  ======================================================
entry     ``type``                                    ``subtype``, beside the ledger's own word
========  ==========================================  ======================================================
message   DCM 110106 Export, 110107 Import            ISO 21089 disclose (BALP), and transmit or receive
open      DCM 110100 Application Activity             DCM 110120 Application Start
close     DCM 110100 Application Activity             DCM 110121 Application Stop
budget    DCM 110100 Application Activity
key       DCM 110113 Security Alert                   DCM 110129 Security Configuration
note      DCM 110113 Security Alert                   (the ledger says that something is wrong with itself)
sign      ISO 21089 attest
forget    ISO 21089 destroy                           (DCM 110105 is about DICOM studies alone)
purge     ISO 21089 destroy
========  ==========================================  ======================================================

Every entry has its resource; none is left out. ``outcome``: 0 for what left, arrived or was noted, also for the same
bytes sent again; 4 for bytes that were no message and were not taken in, and for notes; 8 for what the policy refused.
12 is not used. ``agent.network`` has the party's name, as a machine name: a ledger has no addresses. The sender is the
requestor. ``purposeOfEvent`` is coded as healthcare research (this software is for nothing else) with the policy's own
words as text. Of a signature the name, role and decision are told; its remarks are free text and stay out.

Ids are UUIDs (version 5) of the entries' SHA-256: the same ledger gives the same Bundle, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ...privacy.errors import LedgerError
from ...privacy.ledger.entries import Entry

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:x-wardround:ledger-entry")
OWN = "urn:x-wardround"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
ISO = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
SOURCE, DESTINATION, APPLICATION = (
    ("110153", "Source Role ID"),
    ("110152", "Destination Role ID"),
    ("110150", "Application"),
)
JOB, SECURITY, REPORT = ("20", "Job"), ("13", "Security Resource"), ("3", "Report")
_INSTANT = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?Z")
_HASH = re.compile(r"[0-9a-f]{64}")
_START, _STOP, _CONFIGURED = (
    (DCM, "110120", "Application Start"),
    (DCM, "110121", "Application Stop"),
    (DCM, "110129", "Security Configuration"),
)
_ACTIVITY, _ALERT = (DCM, "110100", "Application Activity"), (DCM, "110113", "Security Alert")
_DESTROY = (ISO, "destroy", "Destroy/Delete Record Lifecycle Event")
_KINDS: dict[str, tuple[str, tuple[str, str, str], tuple[tuple[str, str, str], ...]]] = {
    "open": ("E", _ACTIVITY, (_START,)),
    "close": ("E", _ACTIVITY, (_STOP,)),
    "budget": ("U", _ACTIVITY, ()),
    "key": ("U", _ALERT, (_CONFIGURED,)),
    "note": ("E", _ALERT, ()),
    "sign": ("E", (ISO, "attest", "Attest Record Lifecycle Event"), ()),
    "forget": ("D", _DESTROY, ()),
    "purge": ("D", _DESTROY, ()),
    "enrol": ("C", (ISO, "attest", "Attest Record Lifecycle Event"), ()),
}
_DISCLOSE = (ISO, "disclose", "Disclose Record Lifecycle Event")
_OUT = ("R", (DCM, "110106", "Export"), (_DISCLOSE, (ISO, "transmit", "Transmit Record Lifecycle Event")))
_IN = ("C", (DCM, "110107", "Import"), (_DISCLOSE, (ISO, "receive", "Receive/Retain Record Lifecycle Event")))


def bundle_chunks(lines: Iterable[tuple[bytes, Entry]]) -> Iterator[bytes]:
    """One Bundle of type ``collection``, resource by resource; its own id, at the end, is of all their ids.

    Args:
        lines: entries with the lines that they stand in, each once.

    Raises:
        LedgerError: an entry's time is none.
    """
    digest, between = hashlib.sha256(), '"entry":['
    yield b'{"resourceType":"Bundle","type":"collection",'
    for line, entry in lines:
        resource = audit_event(line, entry)
        digest.update(resource["id"].encode())
        item = {"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource}
        yield f"{between}\n{json.dumps(item, separators=(',', ':'))}".encode()
        between = ","
    if between == ",":
        yield b"\n],"
    yield f'"id":"{uuid.uuid5(NAMESPACE, digest.hexdigest())}"}}\n'.encode()


def audit_event(line: bytes, entry: Entry) -> dict[str, Any]:
    """One AuditEvent, ready for JSON.

    Args:
        line: the entry's bytes in the ledger, without the newline.
        entry: the same, decoded.

    Raises:
        LedgerError: the entry's time is none.
    """
    if not _INSTANT.fullmatch(entry.time):
        raise LedgerError(
            f"the time of entry {entry.sequence} is none: {entry.time!r}",
            where=f"the ledger of {entry.owner}",
            remedy="See what else is wrong with it: wardround audit verify",
        )
    sha256 = hashlib.sha256(line).hexdigest()
    moved = entry.kind == "message"
    action, kind, subtypes = (_IN if entry.direction == "in" else _OUT) if moved else _KINDS[entry.kind]
    own = (f"{OWN}:message-type", entry.message_type or "unknown", "") if moved else (f"{OWN}:kind", entry.kind, "")
    event: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": str(uuid.uuid5(NAMESPACE, sha256)),
        "type": _coding(*kind),
        "subtype": [_coding(*each) for each in (*subtypes, own)],
        "action": action,
        "recorded": entry.time,
        "outcome": _outcome(entry),
        "outcomeDesc": _clean(entry.outcome + (f": {entry.rule}" if entry.rule else "")),
    }
    if entry.purpose:
        code = _coding(REASON, "HRESCH", "healthcare research")
        event["purposeOfEvent"] = [{"coding": [code], "text": _clean(entry.purpose)}]
    event["agent"] = _agents(entry)
    event["source"] = {
        "site": _clean(entry.owner),
        "observer": _who(entry.owner),
        "type": [_coding(SOURCE_TYPE, "4", "Application Server")],
    }
    event["entity"] = list(_entities(entry, sha256))
    return event


def _outcome(entry: Entry) -> str:
    if entry.outcome == "refused":
        return "8"
    return "4" if entry.outcome == "failed" or entry.kind == "note" else "0"


def _agents(entry: Entry) -> list[dict[str, Any]]:
    if entry.kind == "message":
        roles = (DESTINATION, SOURCE) if entry.direction == "in" else (SOURCE, DESTINATION)
        owner = _agent(roles[0], entry.owner, requestor=roles[0] is SOURCE)
        peer = _agent(roles[1], entry.peer, requestor=roles[1] is SOURCE, key=entry.peer_key)
        if _HASH.fullmatch(entry.policy_sha256):
            owner["policy"] = [f"{OWN}:policy:sha256:{entry.policy_sha256}"]
        return [owner, peer] if roles[0] is SOURCE else [peer, owner]
    facts = entry.facts or {}
    signed = entry.kind == "sign" and bool(facts.get("name"))
    agents = [_agent(APPLICATION, entry.owner, requestor=not signed)]
    if signed:
        person: dict[str, Any] = {"name": _clean(facts["name"]), "requestor": True}
        if facts.get("role"):
            person["role"] = [{"text": _clean(facts["role"])}]
        agents.append(person)
    return agents


def _agent(role: tuple[str, str], name: str, *, requestor: bool, key: str = "") -> dict[str, Any]:
    return {
        "type": {"coding": [_coding(DCM, *role)]},
        "who": _who(name),
        **({"altId": _clean(key)} if key else {}),
        "requestor": requestor,
        "network": {"address": _clean(name), "type": "1"},
    }


def _who(name: str) -> dict[str, Any]:
    return {"identifier": {"system": f"{OWN}:party", "value": _clean(name)}, "display": _clean(name)}


def _entities(entry: Entry, sha256: str) -> Iterator[dict[str, Any]]:
    """Study, message, policy, privacy budget or facts, as far as there are any, and the entry itself."""
    if entry.study:
        yield _entity("study", JOB, "study:sha256", entry.study, {})
    if entry.kind == "message":
        stated = {
            "message-type": entry.message_type,
            "message-id": entry.message_id,
            "stage": entry.stage,
            "codec": entry.codec,
            "bytes": entry.wire_bytes,
            "commitment": entry.commitment,
            "schema": entry.schema or None,
            "masking": entry.masking,
            "clip": entry.clip,
            "differential-privacy": entry.dp,
            "facts": entry.facts,
            **{name: value for name, value in (("round", entry.round), ("batch", entry.number)) if value >= 0},
        }
        yield _entity("message", REPORT, "wire:sha256", entry.wire_sha256, stated)
    if entry.policy_sha256 or entry.legal_basis or entry.retention_days:
        why = {"legal-basis": entry.legal_basis, "retention-days": entry.retention_days or None}
        yield _entity("policy", SECURITY, "policy:sha256", entry.policy_sha256, why)
    if entry.kind == "budget":
        dp = entry.dp or {}
        spent = {"stage": entry.stage, "release": entry.rule, "differential-privacy": dp or None}
        yield _entity("privacy budget", SECURITY, "budget:sha256", str(dp.get("sha256", "")), spent)
    elif entry.facts and entry.kind != "message":
        told = {name: value for name, value in entry.facts.items() if name not in ("remarks", "name", "role")}
        yield _entity(entry.kind, SECURITY, "", "", told)
    place = {"sequence": entry.sequence, "previous": entry.previous, "software": entry.software, "model": entry.model}
    yield _entity("ledger entry", SECURITY, "ledger-entry:sha256", sha256, place)


def _entity(name: str, role: tuple[str, str], system: str, value: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """A thing that an event is about; details that are None or empty are left out."""
    told = [
        {"type": _clean(key), "valueString": _text(each)} for key, each in details.items() if each not in (None, "")
    ]
    return {
        **({"what": {"identifier": {"system": f"{OWN}:{system}", "value": _clean(value)}}} if value else {}),
        "type": _coding(ENTITY_TYPE, "2", "System Object"),
        "role": _coding(ROLE, *role),
        "name": name,
        **({"detail": told} if told else {}),
    }


def _coding(system: str, code: str, display: str) -> dict[str, str]:
    return {"system": system, "code": " ".join(_clean(code).split()), **({"display": display} if display else {})}


def _text(value: Any) -> str:
    if isinstance(value, str | int):
        return _clean(str(value))
    return _clean(msgspec.json.encode(value, order="sorted").decode())


def _clean(value: object) -> str:
    """A FHIR string: no control characters, no white space around it, and never empty."""
    text = str(value)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text.strip() or "(blank)"
