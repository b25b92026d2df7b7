"""Hospitals as their coordinator sees them: they answer an invitation with files, and nothing of them runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.engines.nvflare.certificates import new_request
from wardround.platform.engines.nvflare.hardening import Machine
from wardround.platform.enrolling.coordinator_folder import ConsortiumFolder
from wardround.platform.enrolling.documents import sign_document
from wardround.platform.enrolling.founding import Founded, found
from wardround.platform.enrolling.kinds import Approval, Request
from wardround.privacy.identity import Identity
from wardround.privacy.secure_aggregation.roster import Roster

STUDY = """
name = "tiny"
method = "facmic"
rounds = 2
[data]
dataset = "brain-mri"
source = "phantoms"
images_per_site = 48
[sites]
count = 3
[reference]
source = "class-means"
"""
PASSPHRASE = b"correct horse battery staple"
MACHINE = Machine("localhost", 8002, 8002)
NOW = 1_790_000_000


@cache
def tls(name: str) -> tuple[bytes, bytes]:
    """A TLS key and signing request of a hospital; made once, because that takes a while."""
    return new_request(name)


def identity_of(name: str) -> Identity:
    """The identity of a hospital, the same in every test."""
    return Identity.from_seed(hashlib.sha256(name.encode()).digest())


def found_tiny(folder: Path, text: str = STUDY) -> Founded:
    """Found the tiny study's consortium in ``folder / "c"``."""
    (folder / "study.toml").write_text(text)
    return found(folder / "study.toml", folder / "c", MACHINE, lambda: PASSPHRASE, now=NOW)


def request_of(folder: ConsortiumFolder, name: str, to: Path, signer: Identity | None = None, **changes: Any) -> Path:
    """The file of a hospital's request, with some of its values changed."""
    identity = signer or identity_of(name)
    values: dict[str, Any] = {
        "study_hash": folder.record.study_hash,
        "invitation_sha256": folder.read_invitation().sha256,
        "site": name,
        "public_key": identity.public_key.hex(),
        "samples": 40,
        "csr": tls(name)[1].decode(),
        "backbone": folder.study().backbone.fingerprint,
    }
    to.mkdir(exist_ok=True)
    path = to / f"{name}-{len(list(to.iterdir()))}.json"
    path.write_bytes(sign_document(Request(**{**values, **changes}), identity).data)
    return path


def approval_of(roster: Roster, name: str, to: Path, **changes: Any) -> Path:
    """The file of a hospital's approval, with some of its values changed."""
    identity = identity_of(name)
    values: dict[str, Any] = {
        "study_hash": roster.study.hex(),
        "site": name,
        "roster_sha256": roster.digest.hex(),
        "roster_signature": roster.sign(identity, name).hex(),
    }
    to.mkdir(exist_ok=True)
    path = to / f"{name}-{len(list(to.iterdir()))}.json"
    path.write_bytes(sign_document(Approval(**{**values, **changes}), identity).data)
    return path


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours may catch it, and nothing is cleaned up after it."""


def kill_at(patch: pytest.MonkeyPatch, step: int) -> Callable[[], int]:
    """Let the process end at the given taking of a name, counted from 1: the file beside it is whole, and stays.

    Returns:
        How many names were taken so far; with a step that is never reached, how many there are in all.
    """
    taken = 0

    def wrapped(real: Callable[..., None]) -> Callable[..., None]:
        def call(*args: Any, **keys: Any) -> None:
            nonlocal taken
            taken += 1
            if taken == step:
                patch.setattr(os, "unlink", lambda *_, **__: None)  # or the half would be cleaned up
                raise Killed
            real(*args, **keys)

        return call

    patch.setattr(os, "replace", wrapped(os.replace))
    patch.setattr(os, "rename", wrapped(os.rename))
    return lambda: taken
