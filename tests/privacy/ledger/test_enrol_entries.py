"""Steps before a study is begun, in a ledger: it does not know the study from them, and audits can read them."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from wardround.platform.audit.exporting import export_chunks
from wardround.platform.audit.filters import Filters
from wardround.platform.audit.showing import distinct_sources, survey
from wardround.platform.held_home import hold
from wardround.platform.purging import plan_purge, purge
from wardround.privacy.errors import LedgerError
from wardround.privacy.home import SiteHome
from wardround.privacy.identity import Identity
from wardround.privacy.ledger.enrol_entries import enrolment, steps_of
from wardround.privacy.ledger.entries import Record
from wardround.privacy.ledger.keys import open_key
from wardround.privacy.ledger.log import Ledger
from wardround.privacy.ledger.log import verify as verify_chain
from wardround.privacy.ledger.reading import read_entries
from wardround.privacy.ledger.verifying import verify

STUDY, OTHER, DOCUMENT, ROSTER = "ab" * 32, "cd" * 32, "12" * 32, "34" * 32


def now() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that asked to take part in two studies and signed the roster of one."""
    with SiteHome.open(tmp_path / "homes", "amber") as made:
        identity = Identity.create(made.identity, b"a long passphrase")
        with Ledger.open(made.ledger, owner="amber", clock=now) as ledger:
            open_key(made.folder, identity, ledger)
            ledger.append([enrolment("request", STUDY, document=DOCUMENT, samples=24)])
            ledger.append([enrolment("count-again", OTHER)])
            ledger.append([enrolment("request", OTHER, document=DOCUMENT, samples=0)])
            ledger.append([enrolment("approval", STUDY, document=DOCUMENT, roster=ROSTER)])
        (made.state(STUDY) / "request.json").write_bytes(b"{}")
        return made.folder


def test_an_entry_names_its_study_in_the_facts_alone(home: Path) -> None:
    entries = [entry for entry in read_entries(home / "ledger.jsonl") if entry.kind == "enrol"]
    assert [(entry.study, entry.rule, entry.facts) for entry in entries] == [
        ("", "request", {"study": STUDY, "document": DOCUMENT, "samples": 24}),
        ("", "count-again", {"study": OTHER}),
        ("", "request", {"study": OTHER, "document": DOCUMENT, "samples": 0}),
        ("", "approval", {"study": STUDY, "document": DOCUMENT, "roster": ROSTER}),
    ]
    with Ledger.open(home / "ledger.jsonl", owner="amber", clock=now) as ledger:
        for study in (STUDY, OTHER):
            assert not ledger.knows(study)
            assert not ledger.is_open(study)
            assert ledger.roster_of(study) == ""
    assert verify_chain(home / "ledger.jsonl").open_studies == ()


def test_the_steps_of_a_study(home: Path) -> None:
    entries = list(read_entries(home / "ledger.jsonl"))
    assert [entry.rule for entry in steps_of(entries)] == ["request", "count-again", "request", "approval"]
    assert [entry.rule for entry in steps_of(entries, STUDY)] == ["request", "approval"]
    assert steps_of(entries, "ef" * 32) == []
    assert steps_of([entry for entry in entries if entry.kind == "key"]) == []


def test_an_unknown_step_is_none(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.jsonl", owner="amber", clock=now) as ledger:
        ledger.append([Record(kind="enrol", study="", outcome="noted", rule="joke", facts={"study": STUDY})])
    assert steps_of(read_entries(tmp_path / "ledger.jsonl")) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"study": "amber and birch"}, "states 'study' in words"),
        ({"study": STUDY, "document": "request.json"}, "states 'document' in words"),
        ({"study": STUDY, "samples": "24"}, "states 'samples' in another form"),
        ({"study": 7}, "states 'study' in another form"),
        ({"study": STUDY, "patient": "ab"}, "'patient', which is no fact of a enrol"),
        ({"study": STUDY, "name": "ab"}, "'name', which is no fact of a enrol"),
    ],
)
def test_facts_in_another_form_are_refused(tmp_path: Path, facts: dict[str, Any], words: str) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger.open(path, owner="amber", clock=now) as ledger:
        with pytest.raises(LedgerError, match=words):
            ledger.append([Record(kind="enrol", study="", outcome="noted", rule="request", facts=facts)])
        ledger.append([enrolment("request", STUDY, samples=1)])
    assert verify_chain(path).ok


def test_an_audit_takes_the_entries(home: Path) -> None:
    found = verify(home / "ledger.jsonl")
    assert found.ok, found.problems
    assert found.entries == 5
    sources = distinct_sources([home])
    shown = survey(sources, Filters())
    assert shown.matching == 5
    assert survey(sources, Filters(type="enrol")).matching == 4
    bundle = json.loads(b"".join(export_chunks(sources, "fhir")))
    events = [each["resource"] for each in bundle["entry"]]
    assert len(events) == 5
    for event in events:
        AuditEvent.model_validate(event)
    assert any(DOCUMENT in json.dumps(event) for event in events)
    table = b"".join(export_chunks(sources, "csv")).decode()
    rows = list(csv.DictReader(io.StringIO(table, newline=""), strict=True))
    assert [(row["kind"], row["study"], row["rule"]) for row in rows][1] == ("enrol", "", "request")
    assert json.loads(rows[1]["facts"]) == {"study": STUDY, "document": DOCUMENT, "samples": 24}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def test_a_home_that_is_enrolled_alone_keeps_what_it_asked_with(home: Path, cache: Path) -> None:
    state = home / "state" / STUDY
    (state / "split.json").write_text("{}")
    with hold(home) as held, held.ledger() as ledger:
        assert held.unfinished(STUDY, ledger) == "enrolled, and not begun"
        assert held.unfinished(OTHER, ledger) == "not in the ledger"
        assert held.signed == [STUDY]
    with hold(home) as held:
        plan = plan_purge(held, cache)
        assert plan.open_studies == {STUDY: "enrolled, and not begun"}
        purge(held, plan)
    assert (state / "request.json").is_file()
    assert (state / "split.json").is_file()


def test_a_study_that_was_left_before_it_began_is_over(home: Path) -> None:
    (home / "state" / STUDY / "left.json").write_text("{}")
    with hold(home) as held, held.ledger() as ledger:
        assert held.unfinished(STUDY, ledger) == ""
        assert held.signed == [STUDY]  # its number was told all the same


def test_a_study_that_was_left_while_it_ran_is_open_until_the_ledger_closes_it(home: Path) -> None:
    (home / "state" / STUDY / "left.json").write_text("{}")
    with hold(home) as held, held.ledger() as ledger:
        ledger.open_study(STUDY, roster=ROSTER)
        assert held.unfinished(STUDY, ledger) == "open"
        ledger.close_study(STUDY)
        assert held.unfinished(STUDY, ledger) == ""
