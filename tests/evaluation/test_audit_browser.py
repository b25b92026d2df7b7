"""The auditor's page in a real browser: it verifies what is true, names what is not, and can be read and searched."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from wardround.evaluation.audit_model import (
    AuditCheckpoint,
    AuditKey,
    AuditPage,
    Cosigner,
    Party,
    Verification,
    counts_of,
)
from wardround.evaluation.audit_view import audit_page
from wardround.privacy.ledger.checkpoints import Checkpoint, signed
from wardround.privacy.ledger.key_entries import origin_of
from wardround.privacy.ledger.proofs import Proof, proves
from wardround.privacy.merkle import Tree, leaf_hash

from .audit_study import STUDY, key_of, make_study, name_of

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
NO_ED25519 = """(() => {
  const real = SubtleCrypto.prototype.importKey;
  SubtleCrypto.prototype.importKey = function (format, key, algorithm, ...rest) {
    return algorithm === "Ed25519" ? Promise.reject(new DOMException("no", "NotSupportedError"))
      : real.call(this, format, key, algorithm, ...rest);
  };
})();"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> AuditPage:
    return make_study(tmp_path_factory.mktemp("study"))


@contextmanager
def opened(browser: Any, path: Path, page: AuditPage | str, *, width: int = 1280, before: str = "") -> Iterator[Any]:
    """The page in a tab of its own, once its check has ended; nothing may be said on the console or asked for."""
    path.write_text(page if isinstance(page, str) else audit_page(page), encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    try:
        if before:
            tab.add_init_script(before)
        tab.goto(path.as_uri())
        tab.wait_for_selector("html[data-verified=yes], html[data-verified=no]", state="attached", timeout=60_000)
        yield tab
        assert said == []
        assert asked == [path.as_uri()]
    finally:
        tab.close()


def verdict(tab: Any) -> tuple[str, int, int]:
    data = tab.evaluate("({...document.documentElement.dataset})")
    return data["verified"], int(data["failed"]), int(data["unchecked"])


def changed(page: AuditPage, owner: str, **fields: Any) -> AuditPage:
    return replace(page, parties=tuple(replace(p, **fields) if p.owner == owner else p for p in page.parties))


def party(page: AuditPage, owner: str) -> Party:
    return next(each for each in page.parties if each.owner == owner)


def test_a_true_study_is_verified(browser: Any, tmp_path: Path, study: AuditPage) -> None:
    with opened(browser, tmp_path / "audit.html", study) as tab:
        assert verdict(tab) == ("yes", 0, 0)
        assert "everything fits" in tab.inner_text("#verified")
        said = tab.inner_text("#check-0")
        for words in (
            "amber: everything fits",
            "The identity vouches for 2 ledger keys.",
            "At 4 checkpoints the entries give the signed Merkle root",
            "4 checkpoints signed by the ledger's key",
            "4 checkpoints proven to be in batches, with 12 good cosignatures.",
            "Entries after them, with their owner's word only: 1.",
        ):
            assert words in said, words
        assert tab.locator("#check-3 .verdict").inner_text() == "coordinator: everything fits"


def test_one_ledger_alone_is_verified_against_the_keys_of_the_others(
    browser: Any, tmp_path: Path, study: AuditPage
) -> None:
    with opened(browser, tmp_path / "audit.html", replace(study, parties=(party(study, "birch"),))) as tab:
        assert verdict(tab) == ("yes", 0, 0)
    keys = tuple(key for key in study.keys if key.owner != "coordinator")
    alone = replace(study, parties=(party(study, "birch"),), keys=keys)
    with opened(browser, tmp_path / "audit.html", alone) as tab:
        assert verdict(tab)[0] == "no"
        assert "The coordinator has not signed the batch 10" in tab.inner_text("#check-0")


def ledger_key(owner: str) -> str:
    return key_of(f"{owner} ledger key").public_key().public_bytes_raw().hex()


def unsigned(lines: tuple[str, ...]) -> tuple[str, ...]:
    return (re.sub(r'("signature":")(.)', lambda m: m[1] + ("0" if m[2] != "0" else "1"), lines[0]), *lines[1:])


def edit(lines: tuple[str, ...]) -> tuple[str, ...]:
    return (*lines[:5], lines[5].replace('"wire_bytes":', '"wire_bytes":1', 1), *lines[6:])


def last(lines: tuple[str, ...]) -> tuple[str, ...]:
    at = next(i for i, line in enumerate(lines) if '"kind":"close"' in line)
    return (*lines[:at], lines[at].replace("T", "U", 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit, "Entry 5 was changed"),
        (lambda e: (*e[:5], e[5][:40] + "\x7f" + e[5][41:], *e[6:]), "Entry 5 "),
        (lambda e: (*e[:5], e[6], e[5], *e[7:]), "Entry 5 says that it is entry 6."),
        (lambda e: (*e[:5], *e[6:]), "Entry 5 says that it is entry 6."),
        (lambda e: (*e[:5], e[5], *e[5:]), "Entry 6 says that it is entry 5."),
        (lambda e: e[1:], "Entry 0 names an entry before it"),
        (lambda e: e[:-3], "it was cut, and the end is missing"),
        (lambda e: (*e[:5], json.dumps(json.loads(e[5])), *e[6:]), "Entry 5 is not in canonical form."),
        (lambda e: (*e[:5], "[1]", *e[6:]), "Entry 5 is no JSON object."),
        (lambda e: (*e[:5], '{"sequence":{"toString":1}}', *e[6:]), "Entry 5 says that it is entry {…}"),
        (last, "one of entries"),
        (unsigned, "Entry 0 announces a ledger key that the identity does not vouch for."),
        (
            lambda e: (*e[:5], e[5].replace('"owner":"amber"', '"owner":"birch"'), *e[6:]),
            "Entry 5 is of another ledger",
        ),
    ],
)
def test_a_changed_ledger_is_named(
    browser: Any, tmp_path: Path, study: AuditPage, change: Callable[[tuple[str, ...]], tuple[str, ...]], said: str
) -> None:
    lines = change(party(study, "amber").entries)
    with opened(browser, tmp_path / "audit.html", changed(study, "amber", entries=lines)) as tab:
        result, failed, _ = verdict(tab)
        assert result == "no"
        assert failed > 0
        assert said in tab.inner_text("#check-0")
        assert "PROBLEM" in tab.inner_text("#verified")
        assert "amber" in tab.inner_text("#verified")
        assert "everything fits" in tab.inner_text("#check-1")


def test_any_flipped_byte_of_the_packed_ledger_is_noticed(browser: Any, tmp_path: Path, study: AuditPage) -> None:
    page = audit_page(study)
    packed = re.search(r'id="ledger-1">([^<]+)<', page)
    assert packed
    broken = bytearray(base64.b64decode(packed.group(1)))
    broken[len(broken) // 2] ^= 1
    with opened(
        browser, tmp_path / "audit.html", page.replace(packed.group(1), base64.b64encode(broken).decode())
    ) as tab:
        assert tab.evaluate("document.documentElement.dataset.verified") == "no"
        assert tab.locator("#verified.pass").count() == 0


def forge(page: AuditPage, owner: str, **fields: Any) -> AuditPage:
    """The page with fields of the owner's second checkpoint changed."""
    of = party(page, owner).checkpoints
    return changed(page, owner, checkpoints=(of[0], replace(of[1], **fields), *of[2:]))


def re_signed(note: str, line: int) -> str:
    """A note with one bit of the signature in one of its lines flipped."""
    lines = note.split("\n")
    name, data = lines[line].rsplit(" ", 1)
    raw = bytearray(base64.b64decode(data))
    raw[-1] ^= 1
    lines[line] = f"{name} {base64.b64encode(raw).decode()}"
    return "\n".join(lines)


def test_forged_checkpoints_and_cosignatures_are_named(browser: Any, tmp_path: Path, study: AuditPage) -> None:
    second = party(study, "amber").checkpoints[1]
    other = party(study, "birch").checkpoints[1]
    assert second.proof is not None
    assert other.proof is not None
    root = base64.b64encode(hashlib.sha256(b"forged").digest()).decode()
    stranger = key_of("stranger")
    lines = second.note.split("\n")
    own = stranger.sign(("\n".join(lines[:3]) + "\n").encode())
    key = key_of("amber ledger key")
    origin, size, tree_root = lines[:3]
    other_log = Checkpoint("wardround/ledger/other", int(size), base64.b64decode(tree_root))
    elsewhere = signed(other_log, origin, key.sign, key.public_key().public_bytes_raw())
    longer = second.proof.replace("\n\n", f"\n{tree_root}\n\n", 1)
    cases: list[tuple[AuditPage, str]] = [
        (forge(study, "amber", note=elsewhere.to_bytes().decode()), "is of another log"),
        (forge(study, "amber", proof=longer), "the path is too long"),
        (forge(study, "amber", note=second.note.replace(lines[2], root)), "has another Merkle root than these entries"),
        (forge(study, "amber", note=second.note.replace(lines[2], root)), "has a wrong signature of amber"),
        (forge(study, "amber", note=re_signed(second.note, 4)), "has a wrong signature of amber"),
        (forge(study, "amber", note=other.note), f"is of {other.size} entries by its note"),
        (
            forge(study, "amber", note="\n".join(lines[:4]) + f"\n— x {base64.b64encode(b'abcd' + own).decode()}\n"),
            "is not signed by the ledger's key in force",
        ),
        (forge(study, "amber", note="nothing"), "cannot be read"),
        (forge(study, "amber", proof=re_signed(second.proof, -2)), "The signature of cedar under the batch 20"),
        (forge(study, "amber", proof=re_signed(second.proof, -2)), "The cosignature of wardround/site/cedar"),
        (forge(study, "amber", proof=re_signed(second.proof, -5)), "The signature of coordinator under the batch 20"),
        (forge(study, "amber", proof=other.proof), "is not proven to be in its batch: the path leads to another root"),
        (forge(study, "amber", proof=second.proof.replace("index 1", "index 0")), "is not proven to be in its batch"),
        (
            forge(study, "amber", cosigners=(*second.cosigners, Cosigner(name_of("dune"), 5))),
            "The cosignature of wardround/site/dune, which the table names, is not under the batch 20",
        ),
        (
            forge(study, "amber", cosigners=(replace(second.cosigners[0], time=5), *second.cosigners[1:])),
            "The cosignature of wardround/site/amber",
        ),
        (
            changed(study, "amber", checkpoints=party(study, "amber").checkpoints[:2]),
            f"but what is here proves {second.size}",
        ),
        (changed(study, "amber", words="bad-words"), "The words of the fingerprint"),
        (changed(study, "amber", verification=Verification(False, "line 3 is odd")), "found: line 3 is odd"),
    ]
    for page, said in cases:
        with opened(browser, tmp_path / "audit.html", page) as tab:
            assert verdict(tab)[0] == "no", said
            assert said in tab.inner_text("#check-0"), (said, tab.inner_text("#check-0"))


def test_another_identity_and_another_ledger_key_are_named(browser: Any, tmp_path: Path, study: AuditPage) -> None:
    thief = key_of("thief").public_key().public_bytes_raw().hex()
    keys = tuple(key for key in study.keys if key.owner != "amber")
    page = changed(replace(study, keys=keys), "amber", public_key=thief)
    with opened(browser, tmp_path / "audit.html", page) as tab:
        said = tab.inner_text("#check-0")
        assert "Entry 0 announces a ledger key that the identity does not vouch for." in said
        assert "has no key: no entry before it announces one" in said
        assert verdict(tab)[0] == "no"
    with opened(browser, tmp_path / "audit.html", page, before=NO_ED25519) as tab:
        assert "Entry 0 announces a ledger key that the identity" in tab.inner_text("#check-0")


def test_two_batches_of_one_number_are_named(browser: Any, tmp_path: Path, study: AuditPage) -> None:
    """A coordinator that shows two sites different roots is caught when both ledgers are on one page."""
    amber = party(study, "amber").checkpoints[-1]
    text = amber.note.split("\n\n")[0] + "\n"
    tree = Tree([leaf_hash(b"absent"), leaf_hash(text.encode())])
    identity = key_of("coordinator")
    origin = f"wardround/batch/{STUDY}/{'0' * 64}/40"
    batch = signed(
        Checkpoint(origin, 2, tree.root),
        name_of("coordinator"),
        identity.sign,
        identity.public_key().public_bytes_raw(),
    )
    proof = Proof(1, tree.path(1), batch).to_bytes().decode()
    forked = (*party(study, "amber").checkpoints[:-1], AuditCheckpoint(amber.size, amber.note, proof))
    with opened(browser, tmp_path / "audit.html", changed(study, "amber", checkpoints=forked)) as tab:
        assert "everything fits" in tab.inner_text("#check-0")
        assert "The coordinator showed parties different things." in tab.inner_text("#check-1")
        assert verdict(tab)[0] == "no"


def test_what_cannot_be_checked_is_said_and_is_no_yes(browser: Any, tmp_path: Path, study: AuditPage) -> None:
    with opened(browser, tmp_path / "a.html", study, before=NO_ED25519) as tab:
        assert verdict(tab) == ("no", 0, 4)
        assert "cannot check Ed25519" in tab.inner_text("#check-0")
        assert "nothing is wrong, but 4 things could not be checked" in tab.inner_text("#verified")
    short = tuple(
        replace(p, entries=(), left_out=len(p.entries), counts=counts_of(p.entries, STUDY)) for p in study.parties
    )
    with opened(browser, tmp_path / "b.html", replace(study, parties=short)) as tab:
        assert verdict(tab)[0] == "no"
        said = tab.inner_text("#check-0")
        assert "are not in this page. Check them with: wardround audit verify" in said
        assert "The keys that sign this ledger's checkpoints are not in the page." in said
        assert "4 checkpoints proven to be in batches, with 12 good cosignatures." in said
        assert verdict(tab)[1] == 0
    key = AuditKey(origin_of(bytes.fromhex(short[1].public_key)), "birch", "ledger", ledger_key("birch"))
    with opened(browser, tmp_path / "b.html", replace(study, parties=(short[1],), keys=(*study.keys, key))) as tab:
        assert verdict(tab) == ("no", 0, 1)
        assert "4 checkpoints signed by the ledger's key" in tab.inner_text("#check-0")
    wrong = replace(key, public_key=ledger_key("cedar"))
    with opened(browser, tmp_path / "b.html", replace(study, parties=(short[1],), keys=(*study.keys, wrong))) as tab:
        assert "is not signed by the ledger's key in force" in tab.inner_text("#check-0")
    bare = replace(party(study, "amber"), checkpoints=(), verification=Verification(True))
    with opened(browser, tmp_path / "c.html", replace(study, parties=(bare,))) as tab:
        assert verdict(tab) == ("no", 0, 1)
        assert "its owner could have rewritten all of it" in tab.inner_text("#check-0")
    cut = replace(bare, entries=bare.entries[:-4])
    with opened(browser, tmp_path / "d.html", replace(study, parties=(cut,))) as tab:
        assert "has no entry that closes it" in tab.inner_text("#check-0")


def test_filters_pages_and_proofs(browser: Any, tmp_path: Path, study: AuditPage) -> None:
    total = sum(len(p.entries) for p in study.parties)
    with opened(browser, tmp_path / "audit.html", study) as tab:
        rows, said = tab.locator("#entry-rows tr:not(.detail)"), tab.locator("#entry-count")
        assert said.inner_text() == f"1 to 50 of {total} entries"
        tab.click("#entry-later")
        assert said.inner_text() == f"51 to {total} of {total} entries" if total <= 100 else True
        tab.click("#entry-earlier")
        tab.select_option("#filter-outcome", "=refused")
        assert (rows.count(), said.inner_text()) == (1, "1 to 1 of 1 entry")
        tab.click("#filter-reset")
        tab.select_option("#filter-party", "=birch")
        tab.select_option("#filter-type", "=masked-vector")
        assert rows.count() == 4
        tab.select_option("#filter-round", "=3")
        assert rows.count() == 1
        tab.select_option("#filter-direction", "=in")
        assert said.inner_text() == "No entry fits."
        tab.click("#filter-reset")
        tab.select_option("#filter-day", "=2026-03-01")
        assert said.inner_text().endswith(f"of {total} entries")
        line = party(study, "cedar").entries[6]
        tab.fill("#filter-text", json.loads(line)["previous"].upper()[:30])
        assert rows.count() == 1
        button = tab.locator("#entry-rows button")
        button.focus()
        tab.keyboard.press("Enter")
        assert button.get_attribute("aria-expanded") == "true"
        proof = tab.locator("pre.proof")
        proof.wait_for()
        assert "Good This entry is number 6 under the signed root of" in tab.locator(".detail").inner_text()
        assert json.loads(tab.locator(".detail pre").first.inner_text()) == json.loads(line)
        assert proves(Proof.parse(proof.text_content().encode()), line.encode())
        tab.keyboard.press("Enter")
        assert tab.locator(".detail").count() == 0
        tab.fill("#filter-text", "records")
        button.first.click()
        tab.get_by_text("No checkpoint covers this entry yet").wait_for()


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_it_fits_reads_and_has_names(
    browser: Any, low_contrast: str, tmp_path: Path, study: AuditPage, width: int
) -> None:
    long = "universitaetsklinikum-donaudampfschifffahrt-neuroradiologie-abteilung"
    bad = changed(study, "amber", verification=Verification(False, "line 7 does not follow from the entry before it"))
    for page in (study, replace(bad, study=long)):
        with opened(browser, tmp_path / "audit.html", page, width=width) as tab:
            tab.locator("#entry-rows button").first.click()
            tab.locator("pre.proof").wait_for()
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            assert tab.evaluate(low_contrast) == []
            levels = tab.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])")
            assert levels[0] == 1
            assert all(b <= a + 1 for a, b in pairwise(levels))
            assert tab.evaluate("[...document.querySelectorAll('table')].every(t => t.caption?.textContent)")
            assert tab.evaluate("[...document.querySelectorAll('select, input')].every(f => f.labels.length === 1)")
            names = tab.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
            assert len(set(names)) == len(names)
            assert tab.locator("svg.lane").count() == 4


def test_without_a_script_the_rest_is_there(browser: Any, tmp_path: Path, study: AuditPage) -> None:
    path = tmp_path / "audit.html"
    path.write_text(audit_page(study), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    try:
        tab = context.new_page()
        tab.goto(path.as_uri())
        assert tab.get_by_text("Missing without JavaScript").is_visible()
        assert not tab.locator("#entry-browser").is_visible()
        assert tab.get_by_text("Not checked in this browser: that needs JavaScript").is_visible()
        assert tab.locator("svg.lane").first.is_visible()
    finally:
        context.close()


def test_it_prints_on_a4(browser: Any, tmp_path: Path, study: AuditPage) -> None:
    with opened(browser, tmp_path / "audit.html", study) as tab:
        assert tab.pdf(prefer_css_page_size=True).startswith(b"%PDF")
        tab.set_viewport_size({"width": 680, "height": 960})
        tab.emulate_media(media="print")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 680
        assert not tab.locator("#entry-browser").is_visible()


def test_twenty_thousand_entries_stay_quick(browser: Any, tmp_path: Path) -> None:
    """Hashes of 20,000 entries and a search through them: seconds, not minutes."""
    lines, head = [], "0" * 64
    for i in range(20_000):
        line = json.dumps(
            {"kind": "message", "owner": "a", "previous": head, "sequence": i, "study": STUDY}, separators=(",", ":")
        )
        head = hashlib.sha256(line.encode()).hexdigest()
        lines.append(line)
    key = key_of("a").public_key().public_bytes_raw()
    site = Party("a", "coordinator", "", key.hex(), Verification(True), tuple(lines))
    began = time.monotonic()
    with opened(browser, tmp_path / "audit.html", AuditPage("s", STUDY, "m", True, False, (site,))) as tab:
        assert time.monotonic() - began < 40
        assert "Each of 20,000 entries" in tab.inner_text("#check-0")
        took = tab.evaluate(
            """text => { const field = document.getElementById("filter-text"), began = performance.now();
            field.value = text; field.dispatchEvent(new Event("input")); return performance.now() - began; }""",
            head[:9],
        )
        assert took < 2000
