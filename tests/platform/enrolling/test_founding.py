"""Founding a consortium: everything is checked before anything is made, and nothing half-made counts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.backbone import load_backbone
from wardround.platform.engines.nvflare.certificates import CertificateError
from wardround.platform.enrolling import founding
from wardround.platform.enrolling.coordinator_folder import ConsortiumFolder
from wardround.platform.enrolling.errors import EnrolmentError
from wardround.platform.enrolling.founding import found
from wardround.platform.enrolling.portable import OwnPlaces, check_invitable, received
from wardround.platform.errors import PlatformError
from wardround.privacy.errors import KeyStoreError, PrivacyError
from wardround.privacy.identity import fingerprint

from .paper_sites import MACHINE, NOW, PASSPHRASE, STUDY, Killed, found_tiny, kill_at


@pytest.fixture(autouse=True)
def _one_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(founding, "load_backbone", _loaded)


@cache
def _loaded(*args: Any, **keys: Any) -> Any:
    return load_backbone(*args, **keys)


def test_a_consortium_is_founded_and_its_invitation_carries_the_study(tmp_path: Path) -> None:
    made = found_tiny(tmp_path)
    assert made.members == ("amber", "birch", "cedar")
    folder = ConsortiumFolder.load(tmp_path / "c")
    invitation = folder.read_invitation().document
    assert (invitation.host, invitation.port, invitation.created) == ("localhost", 8002, NOW)
    study = received(invitation.study, invitation.study_hash, OwnPlaces(), where="i")
    check_invitable(study)
    assert study.digest() == folder.study().digest() == folder.record.study_hash
    identity = folder.read_identity(PASSPHRASE)
    assert identity.public_key.hex() == invitation.coordinator
    assert made.words == fingerprint(identity.public_key)
    assert made.words not in folder.invitation.read_text()
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "c").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (STUDY + '[backbone]\nfingerprint = "' + "ab" * 32 + '"\n', "the study pins"),
        (STUDY.replace('"facmic"', '"zero-shot"').replace("class-means", "none"), "nothing is exchanged"),
        (STUDY + '[[faults.drop]]\nsite = "amber"\nround = 1\nstage = "mask"\n', "fault"),
        (STUDY + "[secure_aggregation]\nminimum_cohort = 9\n", "cohort"),
        (
            '[data]\ndataset = "brain-mri"\npath = "x"\n[reference]\nsource = "none"\n',
            "missing",
        ),
        (
            STUDY.replace('source = "phantoms"\nimages_per_site = 48', 'path = "x"'),
            "does not say which hospital holds what",
        ),
    ],
)
def test_a_study_that_cannot_be_run_is_refused_before_anything_is_made(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(text)

    def never() -> bytes:
        raise AssertionError("asked for a passphrase in vain")

    with pytest.raises((PlatformError, PrivacyError), match=words):
        found(tmp_path / "study.toml", tmp_path / "c", MACHINE, never, now=NOW)
    assert not (tmp_path / "c").exists()


def test_names_and_addresses_that_flare_cannot_carry_are_refused(tmp_path: Path) -> None:
    sources = "".join(
        f'[[data.sources]]\ndataset = "brain-mri"\npath = "x"\nsite = "{site}"\n' for site in ("a.b", "beech", "cedar")
    )
    text = (
        'name = "x"\n[data]\ndataset = "brain-mri"\nsource = "joined"\n[sites]\npartition = "column"\nunseen = ""\n'
        f'[reference]\nsource = "class-means"\n{sources}'
    )
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(CertificateError, match=r"'a\.b' cannot be a site's name"):
        found(tmp_path / "study.toml", tmp_path / "c", MACHINE, lambda: PASSPHRASE, now=NOW)
    (tmp_path / "study.toml").write_text(STUDY)
    for host, words in (("amber", "is a hospital"), ("no host", "no host name"), ("::1", "no host name")):
        with pytest.raises(PlatformError, match=words):
            found(tmp_path / "study.toml", tmp_path / "c", replace(MACHINE, host=host), lambda: PASSPHRASE, now=NOW)
    assert not (tmp_path / "c").exists()


def test_what_lies_in_the_folder_is_never_overwritten(tmp_path: Path) -> None:
    found_tiny(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file()}
    with pytest.raises(EnrolmentError, match="holds a consortium already"):
        found_tiny(tmp_path)
    assert before == {path: path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file()}
    shutil.rmtree(tmp_path / "c")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "study.toml").write_text("mine")
    with pytest.raises(EnrolmentError, match="not empty"):
        found_tiny(tmp_path)
    assert (tmp_path / "c" / "study.toml").read_text() == "mine"
    shutil.rmtree(tmp_path / "c")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "c").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EnrolmentError, match="no folder of this user"):
        found_tiny(tmp_path)


def test_killed_at_any_write_it_is_founded_by_the_same_command(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        taken = kill_at(patch, 0)
        found_tiny(tmp_path)
        steps = taken()
    assert steps == 4
    for step in range(1, steps + 1):
        own = tmp_path / str(step)
        own.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                found_tiny(own)
        with pytest.raises(EnrolmentError, match="was interrupted"):
            ConsortiumFolder.load(own / "c")
        found_tiny(own)
        ConsortiumFolder.load(own / "c").read_identity(PASSPHRASE)
        assert not list((own / "c").rglob("*.tmp"))


def test_an_interrupted_founding_goes_on_under_its_own_passphrase_only(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, 3)
        with pytest.raises(Killed):
            found_tiny(tmp_path)
    with pytest.raises(KeyStoreError, match="cannot be unlocked"):
        found(tmp_path / "study.toml", tmp_path / "c", MACHINE, lambda: b"another passphrase", now=NOW)


def test_a_folder_that_was_changed_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(EnrolmentError, match="no consortium in this folder"):
        ConsortiumFolder.load(tmp_path)
    root = found_tiny(tmp_path).folder.root
    text = (root / "study.toml").read_text()
    (root / "study.toml").write_text(text.replace("rounds = 2", "rounds = 3"))
    with pytest.raises(EnrolmentError, match="changed after the consortium was founded"):
        ConsortiumFolder.load(root).study()
    record = (root / "consortium.json").read_text()
    (root / "consortium.json").write_text(record.replace('"port":8002', '"port":8003'))
    with pytest.raises(EnrolmentError, match="another consortium than its folder"):
        ConsortiumFolder.load(root)
    (root / "consortium.json").write_text("{}")
    with pytest.raises(EnrolmentError, match="record cannot be read"):
        ConsortiumFolder.load(root)


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    root = found_tiny(tmp_path).folder.root
    root.chmod(0o750)
    with pytest.raises(EnrolmentError, match="others on this machine can enter"):
        ConsortiumFolder.load(root)
