"""The passphrase of an identity: from a file, from a credential of the service manager, or from a person.

It is never a word of a command line and never the value of a variable, both of which other programs can read.
"""

from __future__ import annotations

import getpass
import hmac
import os
import stat
import sys
from pathlib import Path

from .errors import EnrolmentError

VARIABLE = "WARDROUND_PASSPHRASE_FILE"
CREDENTIALS, CREDENTIAL = "CREDENTIALS_DIRECTORY", "wardround-passphrase"
SHORTEST = 16
"""Characters of a new passphrase."""
_LARGEST = 4096
_ELSEWHERE = (
    f"Give --passphrase-file FILE, or set {VARIABLE} to its path; a service gets it as the credential '{CREDENTIAL}'"
)


def passphrase_for(option: Path | None, *, new: bool, folder: Path) -> bytes:
    """The passphrase, from the first of: the option, the variable's file, the service's credential, the terminal.

    Args:
        option: file that the command line names.
        new: an identity is made with it: it must be long, and a person types it twice.
        folder: what it protects lies in here, so its file must not: a copy of the one would be a copy of both.

    Raises:
        EnrolmentError: the file is missing, readable by others, another user's, empty or inside ``folder``; there is
            neither a file nor a terminal; a new one is too short, or was typed differently the second time.
    """
    named = os.environ.get(VARIABLE, "")
    service = os.environ.get(CREDENTIALS, "")
    credential = Path(service) / CREDENTIAL if service else None
    if option is not None or named:
        secret, where = _from_file(option or Path(named).expanduser(), folder), str(option or named)
    elif credential is not None and credential.exists():
        secret, where = _from_file(credential, folder, service=True), str(credential)
    else:
        secret, where = _from_person(new=new), "terminal"
    if new and len(secret.decode("utf-8", errors="replace")) < SHORTEST:
        raise EnrolmentError(
            f"the passphrase is shorter than {SHORTEST} characters",
            where=where,
            remedy="Choose a longer one, for instance six words drawn by dice",
        )
    return secret


def _from_file(path: Path, folder: Path, *, service: bool = False) -> bytes:
    """The first line of a passphrase's file.

    Raises:
        EnrolmentError: as `passphrase_for`.
    """
    where = str(path)
    try:
        if path.resolve().is_relative_to(folder.resolve()):
            raise EnrolmentError(
                "the passphrase's file lies inside the folder that it protects",
                where=where,
                remedy="Keep it elsewhere: who copies the folder must not get the passphrase with it",
            )
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            found = os.fstat(stream.fileno())
            data = stream.read(_LARGEST + 1) if stat.S_ISREG(found.st_mode) else b""
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no path"
        raise EnrolmentError(
            f"the passphrase's file cannot be read: {reason}", where=where, remedy=_ELSEWHERE
        ) from None
    if not stat.S_ISREG(found.st_mode):
        raise EnrolmentError("the passphrase's file is no file", where=where, remedy=_ELSEWHERE)
    # A service manager owns its credentials, and shows an access list of one user as the group's right to read.
    owners, open_to = ({0, os.geteuid()}, 0o037) if service else ({os.geteuid()}, 0o077)
    if found.st_uid not in owners:
        raise EnrolmentError("the passphrase's file is another user's", where=where, remedy="Make one of your own")
    if stat.S_IMODE(found.st_mode) & open_to:
        raise EnrolmentError(
            f"the passphrase's file can be read by others (mode {stat.S_IMODE(found.st_mode):03o})",
            where=where,
            remedy="chmod 600 it, and change the passphrase if others may have read it",
        )
    secret = data.removesuffix(b"\n").removesuffix(b"\r")
    if not secret or len(data) > _LARGEST or b"\n" in secret or b"\0" in secret:
        raise EnrolmentError(
            "the passphrase's file must hold one line, the passphrase", where=where, remedy="Write it anew"
        )
    return secret


def _from_person(*, new: bool) -> bytes:
    """Typed at the terminal, unseen.

    Raises:
        EnrolmentError: there is no terminal, nothing was typed, or not the same twice.
    """
    if not sys.stdin.isatty():
        raise EnrolmentError("no passphrase is given, and there is no terminal to ask at", remedy=_ELSEWHERE)
    typed = getpass.getpass("New passphrase of the identity: " if new else "Passphrase: ").encode()
    if not typed:
        raise EnrolmentError("no passphrase was typed", remedy=_ELSEWHERE)
    if new and not hmac.compare_digest(typed, getpass.getpass("The same once more: ").encode()):
        raise EnrolmentError("the two are not the same", remedy="Run the command again")
    return typed
