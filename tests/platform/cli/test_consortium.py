"""``wardround consortium`` as a coordinator's person calls it, with hospitals that answer by file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.cli import consortium as command
from wardround.platform.enrolling.coordinator_folder import ConsortiumFolder

from ..enrolling.paper_sites import STUDY, approval_of, identity_of, request_of

Cli = Callable[..., Any]
SITES = ("amber", "birch", "cedar")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text("six words drawn by dice\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def c(cli: Cli, tmp_path: Path, secret: Path) -> Path:
    """A consortium that was founded."""
    (tmp_path / "study.toml").write_text(STUDY)
    out = tmp_path / "c"
    ended = cli(
        *("consortium", "new", tmp_path / "study.toml", "--out", out),
        *("--address", "localhost:9100", "--passphrase-file", secret),
    )
    assert ended.code == 0, ended.err
    for words in (f"Send {out}/invitation.json to: amber, birch, cedar", "Your own words", "Next:", "site join"):
        assert words in ended.out
    return out


def words_of(*sites: str) -> list[str]:
    return [word for site in sites for word in ("--words", f"{site}={identity_of(site).fingerprint}")]


def test_from_a_study_to_the_signed_roster(cli: Cli, c: Path, tmp_path: Path, secret: Path) -> None:
    folder, mail = ConsortiumFolder.load(c), tmp_path / "mail"
    assert (folder.record.port, folder.record.admin_port) == (9100, 9100)
    ended = cli("consortium", "provision", c)
    assert ended.code == 0, ended.err
    assert "Wait for the requests of amber, birch, cedar" in ended.out
    requests = [request_of(folder, site, mail) for site in SITES]
    ended = cli("consortium", "add-site", *requests, "--consortium", c, *words_of(*SITES))
    assert ended.code == 0, ended.err
    assert "amber: request taken in, words compared" in ended.out
    assert "Draw the roster" in ended.out
    assert not any(identity_of(site).fingerprint in ended.out + ended.err for site in SITES)
    ended = cli("consortium", "provision", c, "--passphrase-file", secret)
    assert ended.code == 0, ended.err
    assert "40 samples" in ended.out
    assert "Send each hospital its own kit" in ended.out
    roster = folder.read_roster()
    assert roster is not None
    approvals = [approval_of(roster, site, mail) for site in SITES]
    assert cli("consortium", "add-site", *approvals, "--consortium", c).code == 0
    ended = cli("consortium", "provision", c, "--passphrase-file", secret, "--json")
    assert ended.code == 0, ended.err
    said = json.loads(ended.out)
    assert said["signed"]
    assert said["signed_roster"] == str(c / "signed-roster.json")
    assert [row["site"] for row in said["sites"] if row["approved"] and row["confirmed"]] == list(SITES)
    assert len(said["next"]) == 1


def test_new_as_json_and_here_as_the_folder(
    cli: Cli, tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    ended = cli(
        *("consortium", "new", "study.toml", "--out", "c", "--address", "localhost", "--admin-port", 9001),
        *("--passphrase-file", secret, "--json"),
    )
    said = json.loads(ended.out)
    assert said["sites"] == list(SITES)
    assert said["invitation"] == "c/invitation.json"
    folder = ConsortiumFolder.load(tmp_path / "c")
    assert (folder.record.port, folder.record.admin_port) == (command.PORT, 9001)
    assert said["backbone"] == folder.study().backbone.fingerprint
    path = request_of(folder, "amber", tmp_path / "mail")
    monkeypatch.chdir(tmp_path / "c")
    ended = cli("consortium", "add-site", path, "--words", identity_of("amber").fingerprint.upper(), "--json")
    assert json.loads(ended.out)["added"] == [{"site": "amber", "kind": "request", "new": True, "confirmed": True}]
    assert json.loads(cli("consortium", "provision", "--json").out)["drawn"] is False


def test_words_are_typed_at_the_terminal_or_the_request_is_refused(
    cli: Cli, c: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = request_of(ConsortiumFolder.load(c), "amber", tmp_path / "mail")
    add = ("consortium", "add-site", path, "--consortium", c)
    cli(*add).assert_explains("the words of 'amber' were not compared", "--unconfirmed", "at a number that you had")
    cli(*add, "--words", "babab-babab").assert_explains("not the words of the key")
    assert "words NOT compared" in cli(*add, "--unconfirmed").out
    monkeypatch.setattr(command.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(command.typer, "prompt", lambda *_, **__: identity_of("amber").fingerprint.replace("-", " "))
    ended = cli(*add)
    assert "amber: request was here already, words compared" in ended.out
    assert "before this file came" in ended.err


def test_two_words_without_names_are_nobodys(cli: Cli, c: Path, tmp_path: Path) -> None:
    folder = ConsortiumFolder.load(c)
    files = [request_of(folder, site, tmp_path / "mail") for site in ("amber", "birch")]
    ended = cli("consortium", "add-site", *files, "--consortium", c, "--words", "a-b-c")
    ended.assert_explains("whose words", "SITE=WORDS")


@pytest.mark.parametrize("address", ["host:", "host:0", "host:99999", "host:http", "::1", "a:b:3", "host:²"])
def test_an_address_that_is_none(cli: Cli, tmp_path: Path, address: str) -> None:
    ended = cli("consortium", "new", tmp_path / "study.toml", "--out", tmp_path / "c", "--address", address)
    ended.assert_explains("is no address", "HOST:PORT")


def test_errors_say_what_to_do(cli: Cli, c: Path, tmp_path: Path, secret: Path) -> None:
    study = tmp_path / "study.toml"
    again = ("consortium", "new", study, "--address", "localhost", "--passphrase-file", secret, "--out")
    cli(*again, c).assert_explains("holds a consortium already")
    cli("consortium", "provision", tmp_path).assert_explains("no consortium in this folder")
    cli("consortium", "add-site", c / "invitation.json", "--consortium", c).assert_explains("this is an invitation")
    cli("consortium", "add-site", study, "--consortium", c).assert_explains("no document of an enrolment")
    inside = c / "passphrase"
    os.link(secret, inside)
    (tmp_path / "wrong").write_text("some other passphrase\n")
    (tmp_path / "wrong").chmod(0o600)
    folder = ConsortiumFolder.load(c)
    requests = [request_of(folder, site, tmp_path / "mail") for site in SITES]
    assert cli("consortium", "add-site", *requests, "--consortium", c, "--unconfirmed").code == 0
    for path, words in ((inside, "inside the folder"), (tmp_path / "wrong", "cannot be unlocked")):
        cli("consortium", "provision", c, "--passphrase-file", path).assert_explains(words)
    cli("consortium", "provision", c, "--without", "nowhere").assert_explains("no site of this study")
    assert not folder.roster.exists()
