"""From requests to the signed roster: drawn once, taken up after any crash, and nothing given out a second time."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.backbone import load_backbone
from wardround.platform.engines.nvflare import authority
from wardround.platform.engines.nvflare.certificates import Standing, check_certificate, key_fits, new_key
from wardround.platform.enrolling import founding, provisioned
from wardround.platform.enrolling.coordinator_folder import ConsortiumFolder
from wardround.platform.enrolling.errors import EnrolmentError
from wardround.platform.enrolling.gathering import add_file
from wardround.platform.enrolling.provisioned import provision
from wardround.platform.enrolling.standing import standing_of
from wardround.privacy.identity import Identity
from wardround.privacy.secure_aggregation.roster import Roster

from .paper_sites import NOW, PASSPHRASE, Killed, approval_of, found_tiny, identity_of, kill_at, request_of, tls

SITES = ("amber", "birch", "cedar")


@cache
def _loaded(*args: Any, **keys: Any) -> Any:
    return load_backbone(*args, **keys)


@cache
def _one_key() -> Any:
    return new_key()


_fits = cache(key_fits)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One backbone and one key for all, and each key is unlocked once: what takes long is not what is tested."""
    for module in (authority, provisioned):
        monkeypatch.setattr(module, "key_fits", _fits)
    monkeypatch.setattr(founding, "load_backbone", _loaded)
    monkeypatch.setattr(authority, "new_key", _one_key)


@pytest.fixture(scope="module")
def requested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("requested")
    folder = found_tiny(place).folder
    take(folder, place / "mail", *(request_of(folder, site, place / "mail") for site in SITES))
    return place / "c"


@pytest.fixture
def folder(requested: Path, tmp_path: Path) -> ConsortiumFolder:
    shutil.copytree(requested, tmp_path / "c")
    return ConsortiumFolder.load(tmp_path / "c")


def take(folder: ConsortiumFolder, mail: Path, *paths: Path) -> None:
    with folder.held():
        for path in paths:
            add_file(folder, path, lambda site: identity_of(site).fingerprint)


def go_on(folder: ConsortiumFolder, *, without: Collection[str] = (), renew: Collection[str] = ()) -> None:
    with folder.held():
        provision(folder, lambda: _identity(folder), without=without, renew=renew, now=NOW)


_identities: dict[str, Identity] = {}


def _identity(folder: ConsortiumFolder) -> Identity:
    """The coordinator's, unlocked once."""
    key = folder.record.coordinator
    if key not in _identities:
        _identities[key] = folder.read_identity(PASSPHRASE)
    return _identities[key]


def go_on_silently(folder: ConsortiumFolder) -> None:
    def never() -> Identity:
        raise AssertionError("asked for the identity in vain")

    with folder.held():
        provision(folder, never, now=NOW + 1)


def roster_of(folder: ConsortiumFolder) -> Roster:
    roster = folder.read_roster()
    assert roster is not None
    return roster


def approve_all(folder: ConsortiumFolder, mail: Path) -> None:
    roster = roster_of(folder)
    take(folder, mail, *(approval_of(roster, site, mail) for site in roster.names))


def everything(folder: ConsortiumFolder, *parts: str) -> dict[str, bytes]:
    of = [folder.root / part for part in parts] or [folder.root]
    return {str(path): path.read_bytes() for each in of for path in each.rglob("*") if path.is_file()}


def check_kits(folder: ConsortiumFolder) -> None:
    roster = roster_of(folder)
    kits = folder.kits()
    assert tuple(kits) == roster.names
    for site, signed in kits.items():
        kit = signed.document
        assert kit.roster == roster.to_bytes().decode()
        assert kit.invitation_sha256 == folder.read_invitation().sha256
        pem, root = kit.certificate.encode(), kit.authority.encode()
        assert root == (folder.flare / "authority" / "ca.crt").read_bytes()
        checked = check_certificate(pem, root, name=site, now=dt.datetime.now(dt.UTC))
        assert checked.standing is Standing.GOOD
        assert _fits(tls(site)[0], pem)
    server, admin = folder.flare / "server/startup", folder.flare / "admin/startup"
    assert _fits((server / "server.key").read_bytes(), (server / "server.crt").read_bytes())
    assert _fits((admin / "client.key").read_bytes(), (admin / "client.crt").read_bytes())


def test_nothing_is_drawn_while_requests_are_missing(folder: ConsortiumFolder) -> None:
    folder.request("cedar").unlink()
    go_on_silently(folder)
    assert not folder.roster.exists()
    assert not folder.flare.exists()
    standing = standing_of(folder, now=dt.datetime.now(dt.UTC))
    assert [row.samples for row in standing.sites] == [40, 40, None]
    assert "Wait for the requests of cedar" in standing.steps[0]


def test_from_requests_to_the_signed_roster(folder: ConsortiumFolder, tmp_path: Path) -> None:
    go_on(folder)
    check_kits(folder)
    roster = roster_of(folder)
    assert roster.coordinator_key == folder.record.coordinator
    assert {site.name: site.samples for site in roster.sites} == dict.fromkeys(SITES, 40)
    assert "class-means" in roster.vectors
    before = everything(folder, "kits", "flare", "requests")
    go_on_silently(folder)
    assert everything(folder, "kits", "flare", "requests") == before
    take(folder, tmp_path / "mail", approval_of(roster, "amber", tmp_path / "mail"))
    go_on_silently(folder)
    standing = standing_of(folder, now=dt.datetime.now(dt.UTC))
    assert [row.approved for row in standing.sites] == [True, False, False]
    assert "birch, cedar must still join" in standing.steps[0]
    approve_all(folder, tmp_path / "mail")
    assert "Sign off the roster" in standing_of(folder, now=dt.datetime.now(dt.UTC)).steps[0]
    go_on(folder)
    signed = folder.read_signed_roster()
    assert signed is not None
    given = {site: bytes.fromhex(each) for site, each in signed.document.signatures.items()}
    assert Roster.from_bytes(signed.document.roster.encode()).pin(given, confirmed=SITES).roster == roster
    before = everything(folder)
    go_on_silently(folder)
    assert everything(folder) == before
    standing = standing_of(folder, now=dt.datetime.now(dt.UTC))
    assert standing.signed
    assert len(standing.steps) == 1
    assert "coordinator start" in standing.steps[0]


def test_no_key_of_a_hospital_and_no_key_of_ours_is_in_a_kit(folder: ConsortiumFolder) -> None:
    go_on(folder)
    for path in (folder.root / "kits").iterdir():
        assert b"PRIVATE" not in path.read_bytes()
    for path in folder.root.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_roster_is_drawn_once(folder: ConsortiumFolder, tmp_path: Path) -> None:
    go_on(folder)
    drawn = folder.roster.read_bytes()
    fewer = request_of(folder, "amber", tmp_path / "mail", samples=500)
    folder.request("amber").write_bytes(fewer.read_bytes())
    with pytest.raises(EnrolmentError, match="the roster and the request of 'amber' do not say the same"):
        go_on(folder)
    folder.request("amber").unlink()
    with pytest.raises(EnrolmentError, match="request of 'amber', which is in the roster, is gone"):
        go_on(folder)
    assert folder.roster.read_bytes() == drawn


def test_hospitals_can_be_left_out_before_it_is_drawn(tmp_path: Path) -> None:
    text = (
        'name = "tiny"\nrounds = 2\n[data]\ndataset = "brain-mri"\nsource = "phantoms"\nimages_per_site = 48\n'
        '[sites]\ncount = 4\n[reference]\nsource = "class-means"\n'
    )
    made = found_tiny(tmp_path, text)
    folder, mail = made.folder, tmp_path / "mail"
    first, *rest = made.members
    take(folder, mail, *(request_of(folder, site, mail) for site in rest))
    with pytest.raises(EnrolmentError, match="'nowhere' is no site of this study"):
        go_on(folder, without=["nowhere"])
    with pytest.raises(EnrolmentError, match="2 hospitals would take part"):
        go_on(folder, without=made.members[:2])
    go_on(folder, without=[first])
    assert list(roster_of(folder).names) == rest
    check_kits(folder)
    go_on(folder, without=[first])
    with pytest.raises(EnrolmentError, match="the roster is drawn already, with"):
        go_on(folder, without=[rest[0]])
    standing = standing_of(folder, now=dt.datetime.now(dt.UTC))
    assert [row.takes_part for row in standing.sites] == [False, True, True, True]


def test_a_certificate_is_renewed_under_the_same_roster(folder: ConsortiumFolder) -> None:
    with pytest.raises(EnrolmentError, match="nothing is provisioned yet"):
        go_on(folder, renew=["amber"])
    go_on(folder)
    drawn, before = folder.roster.read_bytes(), everything(folder, "kits")
    go_on(folder, renew=["birch"])
    after = everything(folder, "kits")
    assert [Path(path).name for path in after if after[path] != before[path]] == ["birch.kit.json"]
    assert folder.roster.read_bytes() == drawn
    check_kits(folder)
    with pytest.raises(EnrolmentError, match="'dune' is not in the roster"):
        go_on(folder, renew=["dune"])
    server = (folder.flare / "server/startup/server.crt").read_bytes()
    go_on(folder, renew=["coordinator"])
    assert (folder.flare / "server/startup/server.crt").read_bytes() != server
    assert everything(folder, "kits") == after
    check_kits(folder)


def test_what_is_lost_is_made_again(folder: ConsortiumFolder) -> None:
    go_on(folder)
    kits = everything(folder, "kits")
    folder.kit("amber").unlink()
    shutil.rmtree(folder.flare / "server")
    go_on(folder)
    assert everything(folder, "kits") == kits
    check_kits(folder)


def test_a_signed_roster_of_another_draft_is_refused(folder: ConsortiumFolder, tmp_path: Path) -> None:
    go_on(folder)
    approve_all(folder, tmp_path / "mail")
    go_on(folder)
    folder.roster.unlink()
    folder.request("amber").unlink()
    with folder.held():
        add_file(folder, request_of(folder, "amber", tmp_path / "m", samples=500), lambda _: None)
    with pytest.raises(EnrolmentError, match="approved another roster"):
        go_on(folder)


EVERY = pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
"""Some of the steps at which it is killed, or all."""


@EVERY
def test_killed_at_any_write_the_same_command_goes_on(requested: Path, tmp_path: Path, stride: int) -> None:
    def fresh(name: str) -> ConsortiumFolder:
        shutil.copytree(requested, tmp_path / name / "c")
        return ConsortiumFolder.load(tmp_path / name / "c")

    whole = fresh("whole")
    with pytest.MonkeyPatch.context() as patch:
        taken = kill_at(patch, 0)
        go_on(whole)
        steps = taken()
    drawn = whole.roster.read_bytes()
    assert steps > 20
    for step in range(1, steps + 1, stride):
        folder = fresh(str(step))
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                go_on(folder)
        if folder.flare.joinpath("authority").exists():
            authority_before = (folder.flare / "authority" / "ca.crt").read_bytes()
        else:
            authority_before = None
        kits = everything(folder, "kits")
        go_on(folder)
        assert folder.roster.read_bytes() == drawn
        check_kits(folder)
        assert authority_before in (None, (folder.flare / "authority" / "ca.crt").read_bytes())
        assert kits.items() <= {**everything(folder, "kits"), **_halves(kits)}.items()
        shutil.rmtree(tmp_path / str(step))


def _halves(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if Path(path).name.startswith(".")}


@EVERY
@pytest.mark.parametrize("renewed", ["amber", "coordinator"])
def test_killed_while_a_certificate_is_renewed(
    folder: ConsortiumFolder, tmp_path: Path, renewed: str, stride: int
) -> None:
    go_on(folder)
    shutil.copytree(folder.root, tmp_path / "before")
    with pytest.MonkeyPatch.context() as patch:
        taken = kill_at(patch, 0)
        go_on(folder, renew=[renewed])
        steps = taken()
    for step in range(1, steps + 1, stride):
        shutil.rmtree(folder.root)
        shutil.copytree(tmp_path / "before", folder.root)
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                go_on(folder, renew=[renewed])
        go_on(folder)
        check_kits(folder)


def test_killed_while_the_roster_is_signed_off(folder: ConsortiumFolder, tmp_path: Path) -> None:
    go_on(folder)
    approve_all(folder, tmp_path / "mail")
    with pytest.MonkeyPatch.context() as patch:
        taken = kill_at(patch, 0)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Roster, "pin", _raise)
            with pytest.raises(Killed):
                go_on(folder)
        steps = taken() + 1
        patch.undo()
        kill_at(patch, steps)
        with pytest.raises(Killed):
            go_on(folder)
    assert not folder.signed_roster.exists()
    go_on(folder)
    assert folder.read_signed_roster() is not None


def _raise(*_: object, **__: object) -> None:
    raise Killed


def test_the_table_says_who_is_not_confirmed_and_whose_certificate_ends(
    folder: ConsortiumFolder, tmp_path: Path
) -> None:
    folder.write_confirmed({"amber": identity_of("amber").public_key.hex(), "birch": "ab" * 32})
    go_on(folder)
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=390)
    standing = standing_of(folder, now=later)
    assert [row.confirmed for row in standing.sites] == [True, False, False]
    assert "Not compared by telephone yet: birch, cedar" in standing.steps[1]
    assert "no round can release anything before 3 are compared" in standing.steps[1]
    assert "certificates of amber, birch, cedar end within 30 days" in standing.steps[2]
