"""Hospitals that really enrol: three homes with keys, phantoms and ledgers, and a coordinator, without a network."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.backbone import load_backbone
from wardround.platform.config import Study
from wardround.platform.engines.nvflare import authority
from wardround.platform.engines.nvflare.certificates import new_key, new_request
from wardround.platform.enrolling import approving, confirming, counting, founding, installing, joining
from wardround.platform.enrolling.coordinator_folder import ConsortiumFolder
from wardround.platform.enrolling.documents import Signed, read_any, read_document
from wardround.platform.enrolling.gathering import add_file
from wardround.platform.enrolling.joining import Invited, read_invited
from wardround.platform.enrolling.kinds import Invitation, Kit, Request, SignedRoster
from wardround.platform.enrolling.noting import open_ledger
from wardround.platform.enrolling.provisioned import provision
from wardround.platform.enrolling.site_folder import SiteFolder
from wardround.privacy.home import SiteHome
from wardround.privacy.identity import Identity, fingerprint
from wardround.privacy.ledger.enrol_entries import steps_of
from wardround.privacy.ledger.reading import read_entries

from .paper_sites import NOW, PASSPHRASE, STUDY, found_tiny

SITES = ("amber", "birch", "cedar")
ONE = "amber"
_loaded, _one_key, _request = cache(load_backbone), cache(new_key), cache(new_request)


def make_quick(patch: pytest.MonkeyPatch) -> None:
    """One backbone for all, and each TLS key is made once: what takes long is tested elsewhere."""

    def study_backbone(study: Study) -> Any:
        return _loaded("embedded", None, device="cpu")

    for module in (counting, installing):
        patch.setattr(module, "study_backbone", study_backbone)
    patch.setattr(founding, "load_backbone", _loaded)
    patch.setattr(authority, "new_key", _one_key)
    patch.setattr(joining, "new_request", _request)


def identity_of(name: str) -> Identity:
    """A hospital's identity, the same in every test."""
    return Identity.from_seed(hashlib.sha256(f"hospital {name}".encode()).digest())


@dataclass(frozen=True)
class Place:
    """Where it all lies.

    Attributes:
        root: folder of ``c``, the consortium's, and of ``of-NAME/sites/NAME``, the homes.
    """

    root: Path

    @property
    def folder(self) -> ConsortiumFolder:
        return ConsortiumFolder.load(self.root / "c")

    @property
    def invitation(self) -> Path:
        return self.root / "c" / "invitation.json"

    def homes(self, name: str) -> Path:
        return self.root / f"of-{name}" / "sites"

    def site(self, name: str = ONE) -> SiteFolder:
        return SiteFolder(self.homes(name) / name, self.folder.record.study_hash)

    def kit(self, name: str = ONE) -> Signed[Kit]:
        return read_document(self.folder.kit(name), Kit)

    def signed(self) -> Signed[SignedRoster]:
        return read_document(self.folder.signed_roster, SignedRoster)

    def invited(self) -> Invited:
        return read_invited(read_document(self.invitation, Invitation))

    def words(self, *names: str) -> dict[str, str]:
        return {name: fingerprint(identity_of(name).public_key) for name in names}

    def steps(self, name: str = ONE) -> list[str]:
        return [entry.rule for entry in steps_of(read_entries(self.homes(name) / name / "ledger.jsonl"))]

    @contextmanager
    def held(self, name: str = ONE) -> Iterator[tuple[SiteHome, Identity, Any]]:
        """A home with its identity and ledger."""
        with SiteHome.open(self.homes(name), name) as home:
            if not home.identity.exists():
                seed = hashlib.sha256(f"hospital {name}".encode()).digest()
                Identity.create(home.identity, PASSPHRASE, seed=seed)
            identity = identity_of(name)
            with open_ledger(home, identity) as ledger:
                yield home, identity, ledger


def founded(root: Path, text: str = STUDY) -> Place:
    """A consortium without hospitals."""
    found_tiny(root, text)
    return Place(root)


def join_one(place: Place, name: str = ONE, *, counted: counting.Counted | None = None) -> Signed[Request]:
    """One hospital joins, as the command does it, without its questions."""
    invited, folder = place.invited(), place.site(name)
    study = counting.own_study(invited.signed, invited.study, name, [], [], None)
    with place.held(name) as (home, identity, ledger):
        found = counted or count_one(place, name, study)
        return joining.make_request(home, folder, invited, study, identity, found, ledger)


def count_one(place: Place, name: str, study: Study) -> counting.Counted:
    """What one hospital has."""
    return counting.count_own(place.site(name), study, place.root / "cache", lambda _: None, lambda *_: None)


def join_all(place: Place) -> Place:
    """All hospitals join, and the coordinator takes their requests and makes kits."""
    for name in SITES:
        join_one(place, name)
        with place.folder.held():
            add_file(place.folder, place.site(name).request, lambda site: place.words(site)[site])
    provision_all(place)
    return place


def provision_all(place: Place) -> None:
    """The coordinator does what can be done next."""
    folder = place.folder
    with folder.held():
        provision(folder, lambda: folder.read_identity(PASSPHRASE), now=NOW)


def approve_one(place: Place, name: str = ONE) -> Any:
    """One hospital approves, as the command does it, without its questions."""
    with place.held(name) as (home, identity, ledger):
        proposal = approving.propose(home, place.site(name), identity, ledger)
        approving.check_proposal(proposal, ())
        return approving.approve(home, place.site(name), proposal, identity, ledger)


def approve_all(place: Place) -> Place:
    """All hospitals install their kits and approve, and the coordinator gathers the signatures."""
    for name in SITES:
        installing.install_kit(place.site(name), place.kit(name))
        approve_one(place, name)
        with place.folder.held():
            add_file(place.folder, place.site(name).approval, lambda _: None)
    provision_all(place)
    return place


def confirm_one(place: Place, *others: str, name: str = ONE, **persons: str) -> confirming.Confirmed:
    """One hospital confirms others, as the command does it."""
    with place.held(name) as (_, identity, ledger):
        return confirming.confirm(place.site(name), place.signed(), identity, ledger, place.words(*others), persons)


def copied(place: Place, to: Path) -> Place:
    """The same at another place, to be changed."""
    return Place(Path(shutil.copytree(place.root, to / "place")))


def any_document(path: Path) -> Any:
    """A document of whatever kind."""
    return read_any(path).document
