"""The auditor's page as text: the same bytes each time, no ledger's text as markup, and complete without a script."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wardround.evaluation.audit_model import (
    AuditCheckpoint,
    AuditKey,
    AuditPage,
    BudgetRow,
    Count,
    Party,
    Reconciliation,
    Verification,
    audit_page_from_json,
    audit_page_to_json,
    counts_of,
    policy_of,
)
from wardround.evaluation.audit_timeline import timeline
from wardround.evaluation.audit_view import audit_page
from wardround.evaluation.errors import InvalidReportError

from .audit_study import STUDY, make_study

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> AuditPage:
    return make_study(tmp_path_factory.mktemp("study"))


class _Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def embedded(page: str, name: str) -> bytes:
    found = re.search(rf'<script type="application/octet-stream;base64" id="{name}">([A-Za-z0-9+/=]*)</script>', page)
    assert found
    return gzip.decompress(base64.b64decode(found.group(1)))


def test_same_input_same_bytes(study: AuditPage) -> None:
    assert audit_page(study) == audit_page(audit_page_from_json(audit_page_to_json(study)))


def test_ledgers_are_embedded_byte_for_byte(study: AuditPage) -> None:
    page = audit_page(study)
    for i, party in enumerate(study.parties):
        assert embedded(page, f"ledger-{i}").decode().split("\n") == list(party.entries)
    facts = json.loads(embedded(page, "audit-facts"))
    assert [party["length"] for party in facts["parties"]] == [len(party.entries) for party in study.parties]
    assert facts["parties"][0]["checkpoints"][0]["note"] == study.parties[0].checkpoints[0].note


def test_the_one_script_is_named_by_its_hash_and_nothing_is_loaded(study: AuditPage) -> None:
    page = audit_page(study)
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'; style-src 'unsafe-inline'" in page
    assert "default-src 'none'" in page
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "fetch("):
        assert word not in scripts[0]
    assert scripts[0].startswith('"use strict";')
    assert "<!--" not in scripts[0]
    assert not [attrs for _, attrs in _Tags(page).tags if {"src", "srcset", "action", "onclick", "style"} & set(attrs)]
    links = [attrs["href"] for tag, attrs in _Tags(page).tags if tag in ("a", "link")]
    assert links
    assert all(link and link.startswith("#") for link in links)


def test_hostile_names_stay_text(study: AuditPage) -> None:
    first = study.parties[0]
    line = json.dumps({**json.loads(first.entries[3]), "message_type": HOSTILE, "peer": HOSTILE, "outcome": HOSTILE})
    party = replace(
        first,
        owner=HOSTILE,
        words=HOSTILE,
        entries=(*first.entries[:3], line, HOSTILE, *first.entries[4:]),
        verification=Verification(False, HOSTILE, (HOSTILE,)),
        checkpoints=(AuditCheckpoint(1, HOSTILE, HOSTILE + "\n\n" + HOSTILE),),
        policy=policy_of(HOSTILE.encode()),
        budget=(BudgetRow(HOSTILE, 1.0, 2.0, 1e-5),),
    )
    row = Reconciliation(HOSTILE, HOSTILE, HOSTILE, 1, 1, 1, 1, unsent=1)
    clean = audit_page(study)
    page = audit_page(
        replace(
            study, study=HOSTILE, method=HOSTILE, marks=(HOSTILE,), parties=(party,), reconciliation=(row,), keys=()
        )
    )
    kinds = {tag for tag, _ in _Tags(clean).tags}
    found = _Tags(page).tags
    assert {tag for tag, _ in found} <= kinds
    assert sum(tag == "script" for tag, _ in found) == 3  # the facts, one ledger, the script
    assert not [name for _, attrs in found for name in attrs if name.startswith("on")]
    assert "49" not in re.sub(r"<script.*?</script>", "", page.split("<h1>")[1].split("</h1>")[0])
    assert json.loads(embedded(page, "audit-facts"))["study"] == HOSTILE


def test_without_a_script_everything_but_entries_and_check_is_there(study: AuditPage) -> None:
    page = re.sub(r"<script.*?</script>", "", audit_page(study), flags=re.DOTALL)
    for said in (
        "Not checked in this browser: that needs JavaScript",
        "Missing without JavaScript",
        "SYNTHETIC PHANTOMS",
        "This study is closed.",
        "27.4\N{NO-BREAK SPACE}MB",
        "1 refused, 1 retried, 1 failed",
        "amber: transmissions by round and message type",
        "advert sent: 5 entries, 1.0\N{NO-BREAK SPACE}kB, some refused",
        "What this page can and cannot prove",
        "advert = 4096",
        "2026-03-01 10:14:20 to 2026-03-01 10:14:22",
        "1 did not arrive as they were sent",
        "3.21",
        "cedar</strong>: the clock was set back once",
    ):
        assert said in page, said
    assert all(party.words in page for party in study.parties)


def test_problems_and_open_studies_are_said(study: AuditPage) -> None:
    bad = replace(study.parties[0], verification=Verification(False, "line 5 is not in canonical form"))
    page = audit_page(replace(study, complete=False, parties=(bad, *study.parties[1:])))
    assert "This study is NOT closed" in page
    assert "line 5 is not in canonical form" in page
    assert "3 of 4" in page
    assert "PROBLEM" in page


def test_a_page_without_entries_draws_from_counts(study: AuditPage) -> None:
    short = tuple(
        replace(p, entries=(), left_out=len(p.entries), counts=counts_of(p.entries, STUDY)) for p in study.parties
    )
    whole, page = audit_page(study), audit_page(replace(study, parties=short))
    lane = re.compile(r'<svg class="lane".*?</svg>', re.DOTALL)
    assert lane.findall(page) == lane.findall(whole)
    assert len(lane.findall(page)) == 4
    assert "entries are left out" in page
    assert embedded(page, "ledger-0") == b""


def test_nothing_to_show_is_said() -> None:
    party = Party("amber", "site", "words", "ab" * 32, Verification(True))
    page = audit_page(AuditPage("s", STUDY, "facmic", False, False, (party,)))
    for said in (
        "No transmission.",
        "No policy was given",
        "No checkpoint.",
        "No two ledgers were laid side by side",
        "No message was sent or received",
        "The ledgers name no message that left the sites.",
    ):
        assert said in page, said
    assert "SYNTHETIC" not in page


def test_counts_take_one_study_and_pass_over_what_is_no_entry(study: AuditPage) -> None:
    lines = study.parties[0].entries
    found = counts_of(
        [*lines, "{", "[]", '{"study": 3}', json.dumps({**json.loads(lines[3]), "study": "cd" * 32})], STUDY
    )
    assert found == counts_of(lines, STUDY)
    assert Count("message", "masked-vector", "out", "retried", 2, 1, 2_105_412) in found
    assert Count("message", "advert", "out", "refused", 2, 1, 0) in found
    assert sum(count.entries for count in found) == len(lines)


def test_many_rounds_share_columns() -> None:
    counts = [Count("message", "advert", "out", "sent", number, 1, 100) for number in (-1, *range(1, 1001))]
    drawn = timeline("key", "amber", counts)
    assert 50 <= drawn.count("h0") <= 60
    assert "outside rounds" in drawn
    assert len(drawn) < 6000
    assert timeline("key", "amber", [Count("close", "", "none", "noted", -1, 1, 0)]) == ""


@given(
    st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])), max_size=5),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.floats(allow_nan=False, allow_infinity=False),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_json_round_trip(study: AuditPage, lines: list[str], text: str, epsilon: float) -> None:
    party = replace(
        study.parties[0],
        entries=tuple(lines),
        budget=(BudgetRow(text, epsilon, 8.0, 1e-5),),
        policy=policy_of(text.encode()),
    )
    page = replace(study, study=text, parties=(party, *study.parties[1:]))
    data = audit_page_to_json(page)
    again = audit_page_from_json(data)
    assert again == page
    assert audit_page_to_json(again) == data


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'"study": "demo-brain"', b'"study": 3', "not the JSON"),
        (b'"study": "demo-brain"', b'"more": 1, "study": "demo-brain"', "changed by hand"),
        (b'"study": "demo-brain",', b"", "not the JSON"),
        (b'"schema": 1', b'"schema": 2', "layout version 2"),
        (b'"synthetic": true', b'"synthetic":  true', "changed by hand"),
        (b'"role": "site"', b'"role": "visitor"', "not the JSON"),
    ],
)
def test_other_json_is_refused(study: AuditPage, old: bytes, new: bytes, said: str) -> None:
    data = audit_page_to_json(study)
    assert old in data
    with pytest.raises(InvalidReportError, match=said):
        audit_page_from_json(data.replace(old, new, 1))


def test_contradictions_are_refused(study: AuditPage) -> None:
    party = study.parties[0]
    with pytest.raises(InvalidReportError, match="all of them"):
        replace(party, left_out=1)
    with pytest.raises(InvalidReportError, match="beside the entries"):
        replace(party, counts=(Count("open", "", "none", "noted", -1, 1, 0),))
    with pytest.raises(InvalidReportError, match="newline"):
        replace(party, entries=("a\nb",))
    with pytest.raises(InvalidReportError, match="order of size"):
        replace(party, checkpoints=party.checkpoints[::-1])
    with pytest.raises(InvalidReportError, match="no proof"):
        replace(party.checkpoints[0], proof=None)
    with pytest.raises(InvalidReportError, match="with a problem"):
        Verification(True, "something")
    with pytest.raises(InvalidReportError, match="not finite"):
        BudgetRow("s", float("inf"), 1.0, 1e-5)
    with pytest.raises(InvalidReportError, match="64 hexadecimal"):
        replace(study, study_sha256="AB" * 32)
    with pytest.raises(InvalidReportError, match="one name"):
        replace(study, parties=(party, party))
    with pytest.raises(InvalidReportError, match="no ledger"):
        replace(study, parties=())
    with pytest.raises(InvalidReportError, match="space or a plus"):
        AuditKey("a b", "amber", "identity", "ab" * 32)
    with pytest.raises(InvalidReportError, match="not the one of its owner"):
        replace(study, keys=(AuditKey("a", "amber", "identity", "ab" * 32),))


def test_package_data_names_the_script() -> None:
    listed = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"templates/*.js"' in listed
