"""Where a passphrase comes from, and which of its places are refused."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from wardround.platform.enrolling import passphrase
from wardround.platform.enrolling.errors import EnrolmentError
from wardround.platform.enrolling.passphrase import CREDENTIAL, CREDENTIALS, VARIABLE, passphrase_for

LONG = "six words drawn by dice are good"


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (VARIABLE, CREDENTIALS):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def secret_file(path: Path, text: str = LONG + "\n", mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_option_comes_before_the_variable_and_the_variable_before_the_credential(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").mkdir()
    secret_file(tmp_path / "credentials" / CREDENTIAL, "of the service manager", 0o440)  # as an access list shows
    monkeypatch.setenv(CREDENTIALS, str(tmp_path / "credentials"))
    assert passphrase_for(None, new=False, folder=home) == b"of the service manager"
    monkeypatch.setenv(VARIABLE, str(secret_file(tmp_path / "named", "of the variable\n")))
    assert passphrase_for(None, new=False, folder=home) == b"of the variable"
    option = secret_file(tmp_path / "option", "of the option\r\n")
    assert passphrase_for(option, new=False, folder=home) == b"of the option"


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (LONG, 0o640, "read by others"),
        ("", 0o600, "one line"),
        ("two\nlines", 0o600, "one line"),
        ("x" * 5000, 0o600, "one line"),
    ],
)
def test_a_file_that_keeps_no_secret_is_refused(tmp_path: Path, home: Path, text: str, mode: int, words: str) -> None:
    with pytest.raises(EnrolmentError, match=words) as refused:
        passphrase_for(secret_file(tmp_path / "file", text, mode), new=False, folder=home)
    assert LONG not in str(refused.value)


def test_a_file_in_the_home_itself_is_refused_also_by_a_link(tmp_path: Path, home: Path) -> None:
    inside = secret_file(home / "passphrase")
    link = tmp_path / "link"
    link.symlink_to(inside)
    for path in (inside, link):
        with pytest.raises(EnrolmentError, match="inside the folder"):
            passphrase_for(path, new=False, folder=home)


def test_another_users_file_and_what_is_no_file_are_refused(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EnrolmentError, match="cannot be read"):
        passphrase_for(tmp_path / "absent", new=False, folder=home)
    with pytest.raises(EnrolmentError, match="no file"):
        passphrase_for(Path("/dev/null"), new=False, folder=home)
    path = secret_file(tmp_path / "file")
    monkeypatch.setattr(passphrase.os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(EnrolmentError, match="another user's"):
        passphrase_for(path, new=False, folder=home)


def test_a_new_one_must_be_long_from_wherever_it_comes(tmp_path: Path, home: Path) -> None:
    short = secret_file(tmp_path / "short", "fifteen letters")
    assert passphrase_for(short, new=False, folder=home) == b"fifteen letters"
    with pytest.raises(EnrolmentError, match="shorter than 16"):
        passphrase_for(short, new=True, folder=home)
    assert passphrase_for(secret_file(tmp_path / "long"), new=True, folder=home) == LONG.encode()


def test_without_a_terminal_nobody_is_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("piped in\n"))
    with pytest.raises(EnrolmentError, match="no terminal"):
        passphrase_for(None, new=True, folder=home)


def test_a_person_types_a_new_one_twice(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    typed = iter([LONG, LONG, LONG, LONG + "x", LONG, ""])
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(passphrase.getpass, "getpass", lambda _: next(typed))
    assert passphrase_for(None, new=True, folder=home) == LONG.encode()
    with pytest.raises(EnrolmentError, match="not the same"):
        passphrase_for(None, new=True, folder=home)
    assert passphrase_for(None, new=False, folder=home) == LONG.encode()
    with pytest.raises(EnrolmentError, match="no passphrase was typed"):
        passphrase_for(None, new=False, folder=home)
