"""``doctor --kit``: every fault is planted by itself, found under its name, and comes with the remedy for it."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import time
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from wardround.platform import study_parts
from wardround.platform.doctor import Check
from wardround.platform.engines.nvflare.authority import Authority
from wardround.platform.engines.nvflare.certificates import new_request
from wardround.platform.engines.nvflare.hardening import Machine
from wardround.platform.engines.nvflare.provisioning import description
from wardround.platform.enrolling.coordinator_folder import ConsortiumFolder
from wardround.platform.enrolling.documents import project_of, read_any, sign_document
from wardround.platform.enrolling.errors import EnrolmentError
from wardround.platform.service import machine_checks, network_checks, preflight, study_readiness
from wardround.platform.service.preflight import examine_kit
from wardround.platform.service.status_board import StatusBoard
from wardround.privacy.atomic import write_atomic
from wardround.privacy.identity import Identity
from wardround.privacy.ledger.enrol_entries import enrolment
from wardround.privacy.ledger.log import Ledger
from wardround.privacy.secure_aggregation.roster import Roster

SECRET = b"a passphrase of a test, long enough"
NOW = dt.datetime.now(dt.UTC)
Enrolled = Any


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No encoder is loaded, and nobody is called, but where a test is about that."""
    if "weights" not in request.node.name:
        monkeypatch.setattr(preflight, "weights_check", lambda _: Check("weights", True, "as pinned"))
    monkeypatch.setattr(preflight, "reach_check", lambda *_: Check("coordinator", True, "answers"))


def faults(folder: Path, **options: Any) -> dict[str, Check]:
    return {check.name: check for check in examine_kit(folder, **options) if not check.sound}


def only(folder: Path, name: str, **options: Any) -> Check:
    """The one fault that is found; it has a remedy."""
    found = faults(folder, **options)
    assert list(found) == [name], found
    assert found[name].remedy
    return found[name]


def resigned(enrolled: Enrolled, path: Path, *, by: str = "", **changes: Any) -> None:
    """Change a document and sign it again, as its maker could: the coordinator, or a hospital."""
    key = enrolled.homes[by] / "identity.pem" if by else ConsortiumFolder.load(enrolled.coordinator).identity_file
    document = msgspec.structs.replace(read_any(path).document, **changes)
    write_atomic(path, sign_document(document, Identity.load(key, SECRET)).data)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# --- all is well -----------------------------------------------------------------------------------------------------


def test_both_sides_are_ready(enrolled: Enrolled) -> None:
    before = {path: path.stat().st_mtime_ns for path in enrolled.coordinator.parent.rglob("*") if path.is_file()}
    site, coordinator = list(examine_kit(enrolled.folder.root)), list(examine_kit(enrolled.coordinator))
    assert [check for check in (*site, *coordinator) if not check.sound] == []
    assert all(check.found for check in (*site, *coordinator))
    names = [check.name for check in site]
    assert len(names) == len(set(names)) >= 19
    after = {path: path.stat().st_mtime_ns for path in enrolled.coordinator.parent.rglob("*") if path.is_file()}
    assert before == after  # it looks and changes nothing


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing", tmp_path / "consortia" / ("ab" * 32)):
        with pytest.raises(EnrolmentError) as refused:
            list(examine_kit(folder))
        assert "HOME/consortia/HASH" in refused.value.remedy


# --- a hospital's documents ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "name", "remedy"),
    [
        ("approval.json", "approval", "wardround site approve"),
        ("signed-roster.json", "roster", "wardround site roster confirm"),
        ("pinned.json", "confirmation", "wardround site roster confirm"),
    ],
)
def test_a_step_that_was_not_taken(enrolled: Enrolled, file: str, name: str, remedy: str) -> None:
    (enrolled.folder.root / file).unlink()
    found = faults(enrolled.folder.root)
    assert found[name].found == "not there yet"
    assert remedy in found[name].remedy


def test_a_kit_that_did_not_come(enrolled: Enrolled) -> None:
    enrolled.folder.kit.unlink()
    assert "wardround site join KIT" in faults(enrolled.folder.root)["kit"].remedy


def test_a_site_that_has_left(enrolled: Enrolled) -> None:
    enrolled.folder.left.touch(mode=0o600)
    check = only(enrolled.folder.root, "enrolment")
    assert "has left" in check.found


def test_a_study_that_was_edited(enrolled: Enrolled) -> None:
    edit(enrolled.folder.study_file, "rounds = 2", "rounds = 3")
    check = only(enrolled.folder.root, "invitation")
    assert "not of the study" in check.found
    assert "Only paths" in check.remedy


def test_a_request_that_answers_another_invitation(enrolled: Enrolled) -> None:
    resigned(enrolled, enrolled.folder.request, by=enrolled.site, invitation_sha256="0" * 64)
    found = faults(enrolled.folder.root)
    assert "another invitation" in found["request"].found
    assert "which invitation is in force" in found["request"].remedy


def test_a_stale_kit(enrolled: Enrolled) -> None:
    resigned(enrolled, enrolled.folder.kit, invitation_sha256="0" * 64)
    check = only(enrolled.folder.root, "kit")
    assert "stale" in check.found
    assert "Do not start" in check.remedy


def test_a_kit_that_somebody_changed_or_signed_for_the_coordinator(enrolled: Enrolled) -> None:
    good = enrolled.folder.kit.read_bytes()
    enrolled.folder.kit.write_bytes(good.replace(b'"created":1', b'"created":2'))
    assert "wrong" in faults(enrolled.folder.root)["kit"].found
    enrolled.folder.kit.write_bytes(good[:-20])
    assert "damaged" in faults(enrolled.folder.root)["kit"].found
    other = next(name for name in enrolled.homes if name != enrolled.site)
    enrolled.folder.kit.write_bytes(ConsortiumFolder.load(enrolled.coordinator).kit(other).read_bytes())
    assert f"of '{other}'" in faults(enrolled.folder.root)["kit"].found


def test_a_kit_with_another_roster(enrolled: Enrolled) -> None:
    """A coordinator that gives each hospital a roster of its own."""
    kit = read_any(enrolled.folder.kit).document
    roster = Roster.from_bytes(kit.roster.encode())
    own = roster.index[enrolled.site]
    sites = tuple(
        msgspec.structs.replace(site, samples=site.samples + 1) if number == own else site
        for number, site in enumerate(roster.sites)
    )
    resigned(enrolled, enrolled.folder.kit, roster=replace(roster, sites=sites).to_bytes().decode())
    found = faults(enrolled.folder.root)
    assert "another key or number" in found["kit"].found
    assert "approved another roster" in found["approval"].found
    assert "not the one in the kit" in found["roster"].found
    assert "Do not start" in found["roster"].remedy


def test_a_roster_that_was_not_signed_here(enrolled: Enrolled) -> None:
    path = enrolled.folder.state_roster
    path.write_bytes(path.read_bytes() + b" ")
    check = only(enrolled.folder.root, "approval")
    assert "not the one that this site signed" in check.found
    assert "one backup" in check.remedy


def test_a_roster_that_a_hospital_did_not_sign(enrolled: Enrolled) -> None:
    signed = read_any(enrolled.folder.signed_roster).document
    other = next(name for name in signed.signatures if name != enrolled.site)
    for signatures in (
        {name: given for name, given in signed.signatures.items() if name != other},
        {**signed.signatures, other: "00" * 64},
    ):
        resigned(enrolled, enrolled.folder.signed_roster, signatures=signatures)
        check = only(enrolled.folder.root, "roster")
        assert other in check.found
        assert "Do not start" in check.remedy


# --- certificates and the clock --------------------------------------------------------------------------------------


def until(enrolled: Enrolled) -> dt.datetime:
    from wardround.platform.engines.nvflare.certificates import read_certificate

    return read_certificate(read_any(enrolled.folder.kit).document.certificate.encode()).not_valid_after_utc


def test_a_certificate_that_has_expired(enrolled: Enrolled) -> None:
    check = only(enrolled.folder.root, "certificate", now=until(enrolled) + dt.timedelta(days=1))
    assert "expired on" in check.found
    assert "timedatectl" in check.remedy
    assert "wardround site join KIT" in check.remedy


def test_a_certificate_that_expires_soon(enrolled: Enrolled) -> None:
    check = only(enrolled.folder.root, "certificate", now=until(enrolled) - dt.timedelta(days=13, hours=1))
    assert "expires in 13 days" in check.found
    assert "--renew" in check.remedy
    assert not faults(enrolled.folder.root, now=until(enrolled) - dt.timedelta(days=15))


def test_a_clock_that_is_behind(enrolled: Enrolled) -> None:
    found = faults(enrolled.folder.root, now=NOW - dt.timedelta(days=400))
    assert "valid only from" in found["certificate"].found
    assert "timedatectl" in found["certificate"].remedy
    assert "set back, or is wrong" in found["clock"].found
    assert "the invitation" in found["clock"].found
    assert "set-ntp" in found["clock"].remedy


def test_a_clock_that_was_set_back_since_the_last_entry(enrolled: Enrolled) -> None:
    later = NOW + dt.timedelta(days=3)
    with Ledger.open(enrolled.home / "ledger.jsonl", owner=enrolled.site, clock=lambda: later) as ledger:
        ledger.append([enrolment("request", enrolled.digest)])
    check = only(enrolled.folder.root, "clock")
    assert "last ledger entry" in check.found
    assert not faults(enrolled.folder.root, now=later)


def test_a_key_that_was_replaced(enrolled: Enrolled) -> None:
    write_atomic(enrolled.folder.tls_key, new_request(enrolled.site)[0])
    check = only(enrolled.folder.root, "certificate")
    assert "not for this site's TLS key" in check.found
    assert "--renew" in check.remedy


def test_a_certificate_of_another_authority(enrolled: Enrolled, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other", "other")
    resigned(enrolled, enrolled.folder.kit, authority=other.pem.decode())
    found = faults(enrolled.folder.root)
    assert "not signed by the consortium's authority" in found["certificate"].found
    assert "another consortium" in found["FLARE's files"].found


def test_settings_of_flare_that_somebody_changed(enrolled: Enrolled) -> None:
    path = enrolled.folder.flare / "local" / "authorization.json"
    path.write_text(path.read_text().replace("none", "any"))
    check = only(enrolled.folder.root, "FLARE's files")
    assert "not the hardened one" in check.found
    assert "site join" in check.remedy


def test_files_of_flare_that_lead_elsewhere(enrolled: Enrolled) -> None:
    from wardround.platform.engines.nvflare.kits import render

    project = project_of(enrolled.digest)
    (enrolled.folder.flare / "kit.json").write_bytes(
        description(project, enrolled.site, Machine("elsewhere.invalid", 1, 2))
    )
    render(enrolled.folder.flare)
    check = only(enrolled.folder.root, "FLARE's files")
    assert "elsewhere.invalid:1" in check.found


# --- the machine -----------------------------------------------------------------------------------------------------


def test_a_file_that_others_can_read(enrolled: Enrolled) -> None:
    for folder, name in ((enrolled.folder.root, "home"), (enrolled.coordinator, "folder")):
        path = folder / "invitation.json"
        path.chmod(0o644)
        check = only(folder, name)
        assert "mode 644" in check.found
        assert check.remedy.startswith(f"chmod 600 {path}")
        path.chmod(0o600)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user(enrolled: Enrolled) -> None:
    os.chown(enrolled.folder.request, 54321, -1)
    check = only(enrolled.folder.root, "home")
    assert "user 54321" in check.found
    assert "chown" in check.remedy


def test_a_full_disk(enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(machine_checks.shutil, "disk_usage", lambda _: usage(10**9, 9 * 10**8, 10**8))
    for folder in (enrolled.folder.root, enrolled.coordinator):
        check = only(folder, "disk")
        assert "100 MB free" in check.found
        assert "Free " in check.remedy


def test_more_space_for_more_sites_and_larger_vectors(enrolled: Enrolled) -> None:
    roster = Roster.from_bytes(read_any(enrolled.folder.kit).document.roster.encode())
    wire = roster.wire_size("update")
    assert machine_checks.site_bytes(roster) > machine_checks.BASE + 8 * wire
    assert machine_checks.coordinator_bytes(roster) > machine_checks.BASE + 12 * wire + 6 * wire


def test_without_flare_or_with_an_old_one(enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise PackageNotFoundError

    given: tuple[tuple[Callable[[str], str], str], ...] = (
        (missing, "not installed"),
        (lambda _: "2.7.1", "2.7.1"),
        (lambda _: "3.0", "3.0"),
    )
    for version, words in given:
        monkeypatch.setattr(machine_checks, "version", version)
        check = only(enrolled.folder.root, "FLARE")
        assert words in check.found
        assert "wardround[deploy]" in check.remedy


def test_a_umask_that_lets_others_write(enrolled: Enrolled) -> None:
    before = os.umask(0o002)
    try:
        assert "UMask=0077" in only(enrolled.folder.root, "umask").remedy
    finally:
        os.umask(before)


def test_a_folder_for_sockets_with_too_long_a_path(
    enrolled: Enrolled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    check = only(enrolled.folder.root, "sockets")
    assert "107" in check.found
    assert "RuntimeDirectory" in check.remedy


def test_a_name_without_an_address(enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(network_checks.socket, "getaddrinfo", unknown)
    for folder in (enrolled.folder.root, enrolled.coordinator):
        check = only(folder, "host name")
        assert "localhost" in check.found
        assert "name server" in check.remedy


# --- the study on this machine ---------------------------------------------------------------------------------------


def test_no_policy_and_policies_that_refuse(enrolled: Enrolled) -> None:
    policy = enrolled.home / "policy.toml"
    text = policy.read_text()
    policy.write_text(text.replace(enrolled.digest, "0" * 64))
    check = only(enrolled.folder.root, "policy")
    assert "studies.allow" in check.found
    assert "wardround site policy edit" in check.remedy
    key = next(line for line in text.splitlines() if line.startswith("allow") and enrolled.digest not in line)
    assert key
    section = text.index("[coordinator]")
    spoiled = text[:section] + text[section:].replace('allow = ["', 'allow = ["' + "0" * 64 + '"] # ["', 1)
    policy.write_text(spoiled)
    assert "coordinator.allow" in only(enrolled.folder.root, "policy").found
    policy.write_text("nonsense")
    assert "policy" in faults(enrolled.folder.root)
    policy.unlink()
    assert "wardround site approve" in only(enrolled.folder.root, "policy").remedy


def test_other_weights(enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(name="embedded", fingerprint="0" * 64)
    monkeypatch.setattr(study_parts, "load_backbone", lambda *_, **__: other)
    for folder in (enrolled.folder.root, enrolled.coordinator):
        check = only(folder, "weights")
        assert "the study pins" in check.found
        assert "Use the weights" in check.remedy


@pytest.mark.slow
def test_the_images_are_counted_where_asked(enrolled: Enrolled) -> None:
    check = only(enrolled.folder.root, "data", data=True)
    assert "training images, the request said 40" in check.found
    assert "wardround site forget" in check.remedy
    told = int(check.found.split()[0])
    resigned(enrolled, enrolled.folder.request, by=enrolled.site, samples=told)
    found = {each.name: each for each in examine_kit(enrolled.folder.root, data=True)}
    assert found["data"].sound, found["data"]


def test_a_folder_of_images_that_is_missing_or_empty(enrolled: Enrolled, tmp_path: Path) -> None:
    def look(path: str) -> Check:
        sources = (SimpleNamespace(site=enrolled.site, path=path), SimpleNamespace(site="other", path="/nowhere"))
        study = SimpleNamespace(
            data=SimpleNamespace(source="joined", sources=sources), reference=SimpleNamespace(site="")
        )
        return study_readiness.data_listing(enrolled.folder, study)  # type: ignore[arg-type]

    empty = tmp_path / "empty"
    empty.mkdir()
    for path, words in (("", "none given"), (str(tmp_path / "gone"), "cannot be read"), (str(empty), "is empty")):
        check = look(path)
        assert not check.sound
        assert words in check.found
        assert "Mount it" in check.remedy
        assert str(enrolled.folder.study_file) in check.remedy
    (empty / "deep").mkdir()
    (empty / "deep" / "one.png").touch()
    assert look(str(empty)).found.startswith(f"{enrolled.site}: 1 files")


# --- the coordinator -------------------------------------------------------------------------------------------------


def test_a_roster_that_is_not_signed_by_all(enrolled: Enrolled) -> None:
    (enrolled.coordinator / "signed-roster.json").unlink()
    (enrolled.coordinator / "approvals" / f"{enrolled.site}.json").unlink()
    found = faults(enrolled.coordinator)
    assert set(found) == {"enrolment", "roster"}
    assert "2 approvals of 3" in found["enrolment"].found
    assert enrolled.site in found["enrolment"].remedy
    assert "wardround consortium provision" in found["roster"].remedy


def test_words_that_nobody_compared(enrolled: Enrolled) -> None:
    path = enrolled.coordinator / "confirmed.json"
    told = json.loads(path.read_bytes())
    told["confirmed"] = dict(list(told["confirmed"].items())[:1])
    path.write_text(json.dumps(told))
    check = only(enrolled.coordinator, "roster")
    assert "words of 1 were compared" in check.found
    assert "--words" in check.remedy


def test_a_consortium_without_kits(enrolled: Enrolled) -> None:
    import shutil

    shutil.rmtree(enrolled.coordinator / "flare")
    check = only(enrolled.coordinator, "server certificate")
    assert "wardround consortium provision" in check.remedy


def test_the_coordinators_certificates(enrolled: Enrolled) -> None:
    found = faults(enrolled.coordinator, now=until(enrolled) - dt.timedelta(days=3))
    assert set(found) >= {"server certificate", "admin certificate", "hospitals' certificates"}
    assert "--renew coordinator" in found["server certificate"].remedy
    assert "--renew amber" in found["hospitals' certificates"].remedy
    startup = enrolled.coordinator / "flare" / "server" / "startup"
    write_atomic(startup / "server.key", new_request("somebody")[0])
    assert "not for the key beside it" in only(enrolled.coordinator, "server certificate").found


def test_a_server_under_another_name(enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "host_check", lambda _: Check("host name", True, "known"))
    record = ConsortiumFolder.load(enrolled.coordinator).record
    resigned(enrolled, enrolled.coordinator / "invitation.json", host="coordinator.example")
    path = enrolled.coordinator / "consortium.json"
    write_atomic(path, msgspec.json.encode(msgspec.structs.replace(record, host="coordinator.example")))
    check = only(enrolled.coordinator, "host in certificate")
    assert "the invitation says coordinator.example" in check.found
    assert "--renew coordinator" in check.remedy


def test_a_port_that_is_taken_by_another_or_by_itself(enrolled: Enrolled, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("", enrolled.port))
        other.listen(1)
        check = only(enrolled.coordinator, "port")
        assert f"{enrolled.port} is taken" in check.found
        assert "ss -ltnp" in check.remedy
        status = enrolled.coordinator / "status.json"
        with StatusBoard(status, "coordinator", "brain", enrolled.digest, 2):
            end = time.monotonic() + 5
            while not status.exists() and time.monotonic() < end:
                time.sleep(0.02)
            assert faults(enrolled.coordinator) == {}


def test_a_consortium_of_which_a_file_is_damaged(enrolled: Enrolled) -> None:
    edit(enrolled.coordinator / "study.toml", "rounds = 2", "rounds = 3")
    found = faults(enrolled.coordinator)
    assert "changed after" in found["study"].found
    assert "backup" in found["study"].remedy
