"""What a consortium's folder says of itself, and the lock that its commands take."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ..engines.nvflare.hardening import Machine
from .errors import EnrolmentError
from .kinds import FORMAT, Hash, Host, Port, PublicKey, Seconds, SiteName

BACKUP = "Restore it from a backup"


class ConsortiumRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``consortium.json``: whose folder this is.

    Attributes:
        study_hash: of the study. coordinator: raw public key of this side's identity, hexadecimal.
        host, port, admin_port: where the server is reached. created: UTC seconds since 1970.
    """

    study_hash: Hash
    coordinator: PublicKey
    host: Host
    port: Port
    admin_port: Port
    created: Seconds
    format: int = FORMAT

    @property
    def machine(self) -> Machine:
        """Where the server is reached, as FLARE's files have it."""
        return Machine(self.host, self.port, self.admin_port)


class Confirmed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``confirmed.json``: public keys by site whose words a person here compared."""

    confirmed: dict[SiteName, PublicKey]
    format: int = FORMAT


@contextmanager
def lock_of(root: Path) -> Iterator[None]:
    """Hold a consortium's folder against other commands of its enrolment.

    Raises:
        EnrolmentError: another one is at work here.
        OSError: as the file system reports it.
    """
    descriptor = os.open(root / "enrolment.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnrolmentError(
                "another command is at work in this consortium", where=str(root), remedy="Wait for it, then try again"
            ) from None
        yield
    finally:
        os.close(descriptor)
