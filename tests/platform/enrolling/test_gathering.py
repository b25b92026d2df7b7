"""What hospitals send is taken in only where all of it holds, and nothing is replaced in silence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from wardround.platform.engines.nvflare.certificates import new_request
from wardround.platform.enrolling.coordinator_folder import ConsortiumFolder
from wardround.platform.enrolling.errors import EnrolmentError
from wardround.platform.enrolling.gathering import Added, add_file
from wardround.platform.enrolling.provisioned import provision
from wardround.privacy.atomic import write_json
from wardround.privacy.identity import Identity

from .paper_sites import (
    NOW,
    PASSPHRASE,
    Killed,
    approval_of,
    found_tiny,
    identity_of,
    kill_at,
    request_of,
    tls,
)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("founded")
    found_tiny(folder)
    return folder / "c"


@pytest.fixture
def folder(founded: Path, tmp_path: Path) -> ConsortiumFolder:
    shutil.copytree(founded, tmp_path / "c")
    return ConsortiumFolder.load(tmp_path / "c")


@pytest.fixture(scope="module")
def drawn(founded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("drawn")
    shutil.copytree(founded, place / "c")
    folder = ConsortiumFolder.load(place / "c")
    with folder.held():
        for site in ("amber", "birch", "cedar"):
            add_file(folder, request_of(folder, site, place / "mail"), lambda site: identity_of(site).fingerprint)
        provision(folder, lambda: folder.read_identity(PASSPHRASE), now=NOW)
    return place / "c"


def never(site: str) -> str:
    raise AssertionError(f"a person was asked for the words of {site} in vain")


def own_words(site: str) -> str:
    return identity_of(site).fingerprint


def add(folder: ConsortiumFolder, path: Path, heard: Callable[[str], str | None] = own_words) -> Added:
    with folder.held():
        return add_file(folder, path, heard)


def everything(folder: ConsortiumFolder) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}


def refused(folder: ConsortiumFolder, path: Path, words: str, heard: Callable[[str], str | None] = never) -> None:
    with folder.held():
        pass  # makes its subfolders
    before = everything(folder)
    with pytest.raises(EnrolmentError, match=words) as caught:
        add(folder, path, heard)
    assert caught.value.where
    assert caught.value.remedy
    assert everything(folder) == before


def test_a_request_is_taken_in_once_and_the_same_file_again_changes_nothing(
    folder: ConsortiumFolder, tmp_path: Path
) -> None:
    path = request_of(folder, "amber", tmp_path / "mail")
    assert add(folder, path) == Added("amber", "request", new=True, confirmed=True)
    assert folder.confirmed() == {"amber": identity_of("amber").public_key.hex()}
    before = everything(folder)
    assert add(folder, path, never) == Added("amber", "request", new=False, confirmed=True)
    assert everything(folder) == before
    assert folder.request("amber").read_bytes() == path.read_bytes()


def test_unconfirmed_is_kept_as_such_until_the_words_are_given(folder: ConsortiumFolder, tmp_path: Path) -> None:
    path = request_of(folder, "amber", tmp_path / "mail")
    assert add(folder, path, lambda _: None) == Added("amber", "request", new=True, confirmed=False)
    assert folder.confirmed() == {}
    assert add(folder, path, lambda _: None) == Added("amber", "request", new=False, confirmed=False)
    assert add(folder, path) == Added("amber", "request", new=False, confirmed=True)


@pytest.mark.parametrize("typed", ["", "babab-babab", identity_of("birch").fingerprint])
def test_wrong_words_take_in_nothing_and_tell_nothing(folder: ConsortiumFolder, tmp_path: Path, typed: str) -> None:
    path = request_of(folder, "amber", tmp_path / "mail")
    refused(folder, path, "not the words of the key", lambda _: typed)
    with pytest.raises(EnrolmentError) as caught:
        add(folder, path, lambda _: typed)
    assert not any(word in str(caught.value) for word in identity_of("amber").fingerprint.split("-"))
    assert "at a number that you had before" in caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"study_hash": "ab" * 32}, "about another study"),
        ({"invitation_sha256": "ab" * 32}, "answers another invitation"),
        ({"site": "dune"}, "no site of this study"),
        ({"backbone": "ab" * 32}, "other weights"),
        ({"samples": 10}, "10 samples; at least 11"),
        ({"public_key": identity_of("birch").public_key.hex()}, "signature of a request to take part is wrong"),
        ({"csr": "no request"}, "no signing request"),
        ({"csr": tls("birch")[1].decode()}, "not for 'amber'"),
    ],
)
def test_a_request_of_which_something_does_not_hold(
    folder: ConsortiumFolder, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    refused(folder, request_of(folder, "amber", tmp_path / "mail", **changes), words)


def test_a_signing_request_that_asks_for_more_than_its_name(folder: ConsortiumFolder, tmp_path: Path) -> None:
    key: Any = load_pem_private_key(tls("amber")[0], None)
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "amber")]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = request_of(folder, "amber", tmp_path / "mail", csr=csr.public_bytes(Encoding.PEM).decode())
    refused(folder, path, "asks for more than that")


def test_a_second_request_replaces_nothing_and_no_key_serves_two(folder: ConsortiumFolder, tmp_path: Path) -> None:
    mail = tmp_path / "mail"
    add(folder, request_of(folder, "amber", mail))
    thief = Identity.from_seed(b"t" * 32)
    refused(folder, request_of(folder, "amber", mail, samples=41), "has sent another request before")
    refused(folder, request_of(folder, "amber", mail, thief), "has sent another request before")
    refused(folder, request_of(folder, "birch", mail, identity_of("amber")), "same identity as 'amber'")
    key: Any = load_pem_private_key(tls("amber")[0], None)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "birch")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    same_tls = request_of(folder, "birch", mail, csr=csr.public_bytes(Encoding.PEM).decode())
    refused(folder, same_tls, "same TLS key as 'amber'")
    coordinator = folder.read_identity(PASSPHRASE)
    refused(folder, request_of(folder, "birch", mail, coordinator), "coordinator's own key")


def test_other_documents_and_damaged_ones(folder: ConsortiumFolder, tmp_path: Path) -> None:
    refused(folder, folder.invitation, "this is an invitation; a hospital's request or approval is wanted")
    path = request_of(folder, "amber", tmp_path / "mail")
    path.write_bytes(path.read_bytes().replace(b'"samples":40', b'"samples":41'))
    refused(folder, path, "signature of a request to take part is wrong")


def test_nothing_new_comes_in_once_the_roster_is_drawn(drawn: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn, tmp_path / "c")
    folder = ConsortiumFolder.load(tmp_path / "c")
    mail = tmp_path / "mail"
    assert not add(folder, request_of(folder, "amber", mail), never).new
    refused(folder, request_of(folder, "amber", mail, csr=new_request("amber")[1].decode()), "another request before")
    folder.request("cedar").unlink()
    refused(folder, request_of(folder, "cedar", mail), "the roster is drawn already, so 'cedar' comes too late")


def test_an_approval_is_of_this_roster_by_a_site_in_it(drawn: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn, tmp_path / "c")
    folder, mail = ConsortiumFolder.load(tmp_path / "c"), tmp_path / "mail"
    roster = folder.read_roster()
    assert roster is not None
    other = "ab" * 32
    refused(folder, approval_of(roster, "amber", mail, roster_sha256=other), "approved another roster")
    refused(folder, approval_of(roster, "amber", mail, roster_signature="ab" * 64), "not over this roster")
    refused(folder, approval_of(roster, "amber", mail, study_hash=other), "about another study")
    refused(folder, approval_of(roster, "amber", mail, site="dune"), "'dune' is not in the roster")
    refused(folder, approval_of(roster, "amber", mail, site="birch"), "signature of an approval is wrong")
    path = approval_of(roster, "amber", mail)
    assert add(folder, path, never) == Added("amber", "approval", new=True, confirmed=True)
    assert add(folder, path, never) == Added("amber", "approval", new=False, confirmed=True)


def test_an_approval_before_there_is_a_roster(drawn: Path, folder: ConsortiumFolder, tmp_path: Path) -> None:
    roster = ConsortiumFolder.load(drawn).read_roster()
    assert roster is not None
    refused(folder, approval_of(roster, "amber", tmp_path / "mail"), "no roster here yet")


def test_killed_at_any_write_the_same_command_finishes(founded: Path, tmp_path: Path) -> None:
    for step in (1, 2):
        shutil.copytree(founded, tmp_path / str(step) / "c")
        folder = ConsortiumFolder.load(tmp_path / str(step) / "c")
        path = request_of(folder, "amber", tmp_path / str(step) / "mail")
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                add(folder, path)
        assert add(folder, path).confirmed
        assert list(folder.requests()) == list(folder.confirmed()) == ["amber"]
        assert not list((folder.root / "requests").glob(".*"))


def test_two_commands_at_once(folder: ConsortiumFolder, tmp_path: Path) -> None:
    path = request_of(folder, "amber", tmp_path / "mail")
    with folder.held(), pytest.raises(EnrolmentError, match="another command is at work"):
        add(folder, path)


def test_files_put_there_by_hand_or_damaged_are_noticed(folder: ConsortiumFolder, tmp_path: Path) -> None:
    add(folder, request_of(folder, "amber", tmp_path / "mail"))
    shutil.copy(folder.request("amber"), folder.request("birch"))
    with pytest.raises(EnrolmentError, match="of another site or study than its place says"):
        folder.requests()
    folder.request("birch").unlink()
    data = folder.request("amber").read_bytes()
    folder.request("amber").write_bytes(data.replace(b'"samples":40', b'"samples":90'))
    with pytest.raises(EnrolmentError, match="signature"):
        folder.requests()
    write_json(folder.confirmed_file, {"confirmed": {"../x": "y"}, "format": 1})
    with pytest.raises(EnrolmentError, match="list of compared fingerprints is damaged"):
        folder.confirmed()
