"""Atomic files, identities and homes."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys

import pytest
from wardround.privacy import atomic
from wardround.privacy.atomic import canonical_json, write_atomic, write_json
from wardround.privacy.errors import HomeError, KeyStoreError
from wardround.privacy.home import SiteHome
from wardround.privacy.identity import Identity, SigningContext, fingerprint, fingerprint_hex, verifies

PASS = b"correct horse"


# --- atomic --------------------------------------------------------------------------------------------------------


def test_write_atomic_writes_whole_with_its_mode(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two", 0o640)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch, broken):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, broken, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_content_is_synced_before_it_takes_the_name(tmp_path, monkeypatch):
    events = []
    real_sync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(atomic.os, "fsync", lambda fd: (events.append("sync"), real_sync(fd)))
    monkeypatch.setattr(atomic.os, "replace", lambda a, b: (events.append("rename"), real_replace(a, b)))
    write_atomic(tmp_path / "file", b"x")
    assert events == ["sync", "rename", "sync"]


def test_write_json_is_canonical(tmp_path):
    write_json(tmp_path / "x.json", {"b": 1, "a": [1.5, None]})
    assert (tmp_path / "x.json").read_bytes() == b'{"a":[1.5,null],"b":1}\n'
    assert canonical_json({"b": 1, "a": 2}) == b'{"a":2,"b":1}'


# --- identity ------------------------------------------------------------------------------------------------------


def test_identity_round_trip(tmp_path):
    path = tmp_path / "identity.pem"
    made = Identity.create(path, PASS)
    loaded = Identity.load(path, PASS)
    assert loaded.public_key == made.public_key
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in path.read_bytes()
    with pytest.raises(KeyStoreError, match="exists already"):
        Identity.create(path, PASS)


def test_wrong_passphrase_and_damaged_file_look_alike(tmp_path):
    path = tmp_path / "identity.pem"
    Identity.create(path, PASS)
    with pytest.raises(KeyStoreError) as wrong:
        Identity.load(path, b"wrong horse")
    write_atomic(path, path.read_bytes()[:60])
    with pytest.raises(KeyStoreError) as damaged:
        Identity.load(path, PASS)
    assert str(wrong.value) == str(damaged.value)
    assert "horse" not in str(wrong.value)


def test_identity_refusals(tmp_path):
    with pytest.raises(KeyStoreError, match="shorter than 8"):
        Identity.create(tmp_path / "x", b"short")
    with pytest.raises(KeyStoreError, match="cannot be read"):
        Identity.load(tmp_path / "missing", PASS)
    Identity.create(tmp_path / "open", PASS)
    (tmp_path / "open").chmod(0o644)
    with pytest.raises(KeyStoreError, match="readable by others"):
        Identity.load(tmp_path / "open", PASS)
    with pytest.raises(KeyStoreError, match="cannot be written"):
        Identity.create(tmp_path / "no" / "folder", PASS)
    with pytest.raises(KeyStoreError, match="32 bytes"):
        Identity.from_seed(b"x")


def test_rfc_8032_test_1_key_and_no_secret_shown():
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    identity = Identity.from_seed(seed)
    assert identity.public_key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert identity._private.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974")
    assert seed.hex() not in repr(identity)
    assert not hasattr(identity, "__dict__")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            attempt(identity)


def test_a_signature_is_bound_to_everything_it_is_about():
    identity = Identity.from_seed(b"\1" * 32)
    public = identity._private.public_key()
    context = SigningContext(b"s" * 32, b"r" * 32, b"session")
    signature = identity.sign(b"label", context, "a", b"x", b"y")
    assert verifies(public, signature, b"label", context, "a", b"x", b"y")
    other = [
        (b"labe1", context, "a", (b"x", b"y")),
        (b"label", SigningContext(b"S" * 32, b"r" * 32, b"session"), "a", (b"x", b"y")),
        (b"label", SigningContext(b"s" * 32, b"R" * 32, b"session"), "a", (b"x", b"y")),
        (b"label", SigningContext(b"s" * 32, b"r" * 32, b"Session"), "a", (b"x", b"y")),
        (b"label", context, "b", (b"x", b"y")),
        (b"label", context, "a", (b"xy",)),
        (b"label", context, "a", (b"x", b"y", b"")),
    ]
    for label, where, signer, parts in other:
        assert not verifies(public, signature, label, where, signer, *parts)


def test_fingerprints():
    key = Identity.from_seed(bytes(32)).public_key
    words = fingerprint(key).split("-")
    assert len(words) == 8
    assert all(len(word) == 5 for word in words)
    assert fingerprint(key) != fingerprint(bytes([key[0] ^ 1]) + key[1:])
    assert len(fingerprint_hex(key)) == 64


# --- home ----------------------------------------------------------------------------------------------------------


def test_home_is_private_and_locked(tmp_path):
    with SiteHome.open(tmp_path / "sites", "site-a") as home:
        assert home.folder.stat().st_mode & 0o777 == 0o700
        assert home.identity == home.folder / "identity.pem"
        assert home.state("ab" * 32).is_dir()
        assert home.state("ab" * 32).stat().st_mode & 0o777 == 0o700
        with pytest.raises(HomeError, match=f"in use by process {os.getpid()}"):
            SiteHome.open(tmp_path / "sites", "site-a")
        with SiteHome.open(tmp_path / "sites", "site-b"):
            pass
    with SiteHome.open(tmp_path / "sites", "site-a"):
        pass


def test_another_process_cannot_take_the_home_and_names_the_holder(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom wardround.privacy.home import SiteHome\n"
        "from wardround.privacy.errors import HomeError\n"
        "try:\n    SiteHome.open(Path(sys.argv[1]), 'site-a')\nexcept HomeError as error:\n    print(error)\n"
    )
    with SiteHome.open(tmp_path, "site-a"):
        told = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert f"in use by process {os.getpid()}" in told.stdout


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", "a\n", "x" * 65, "."])
def test_bad_site_names(tmp_path, name):
    with pytest.raises(HomeError, match="no site name"):
        SiteHome.open(tmp_path, name)


def test_a_home_open_to_others_is_refused(tmp_path):
    (tmp_path / "site-a").mkdir(mode=0o755)
    (tmp_path / "site-a").chmod(0o755)
    with pytest.raises(HomeError, match="entered by others"):
        SiteHome.open(tmp_path, "site-a")


def test_every_new_folder_of_a_home_is_private_and_its_name_is_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(atomic, "sync_folder", lambda folder: synced.append(folder))
    before = os.umask(0)
    try:
        with SiteHome.open(tmp_path / "deep" / "homes", "site-a") as home:
            state = home.state("ab" * 32)
    finally:
        os.umask(before)
    made = [tmp_path / "deep", tmp_path / "deep" / "homes", home.folder, home.folder / "state", state]
    assert [folder.stat().st_mode & 0o777 for folder in made] == [0o700] * 5
    assert synced == [folder.parent for folder in made]


def test_a_file_in_the_place_of_the_state_is_named(tmp_path):
    with SiteHome.open(tmp_path, "site-a") as home:
        (home.folder / "state").write_text("")
        with pytest.raises(HomeError, match="state cannot be kept"):
            home.state("ab" * 32)
        (home.folder / "state").unlink()
        (home.state("ab" * 32).parent / ("cd" * 32)).write_text("")
        with pytest.raises(HomeError, match="state cannot be kept"):
            home.state("cd" * 32)


@pytest.mark.parametrize("target", ["elsewhere", "missing"])
def test_a_home_that_is_a_link_is_refused_and_nothing_is_written_through_it(tmp_path, target):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "site-a").symlink_to(tmp_path / target)
    with pytest.raises(HomeError, match=r"is a link|cannot be opened"):
        SiteHome.open(tmp_path, "site-a")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_home_of_another_user_is_refused(tmp_path, monkeypatch):
    SiteHome.open(tmp_path, "site-a").close()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(HomeError, match="not this user's folder"):
        SiteHome.open(tmp_path, "site-a")


def test_a_lock_that_is_a_link_does_not_empty_its_target(tmp_path):
    SiteHome.open(tmp_path, "site-a").close()
    (tmp_path / "kept").write_bytes(b"kept")
    (tmp_path / "site-a" / "lock").unlink()
    (tmp_path / "site-a" / "lock").symlink_to(tmp_path / "kept")
    with pytest.raises(HomeError, match="cannot be opened"):
        SiteHome.open(tmp_path, "site-a")
    assert (tmp_path / "kept").read_bytes() == b"kept"


def test_what_a_killed_process_left_half_written_goes_with_the_next_lock(tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom wardround.privacy import atomic\n"
        "atomic.os.replace = lambda *_: os._exit(9)\natomic.write_atomic(Path(sys.argv[1]), b'patients')\n"
    )
    with SiteHome.open(tmp_path, "site-a") as home:
        state = home.state("ab" * 32)
        (state / ".mine.tmp").write_bytes(b"not ours")
        for path in (home.folder / "passphrase", state / "update-00001.safetensors"):
            assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
        left = [path for path in home.folder.rglob(".*.tmp") if path.read_bytes() == b"patients"]
        assert len(left) == 2
    with SiteHome.open(tmp_path, "site-a") as home:
        assert not any(path.exists() for path in left)
        assert [path.name for path in home.folder.rglob(".*.tmp")] == [".mine.tmp"]


def test_a_home_where_a_file_is_in_the_way(tmp_path):
    (tmp_path / "root").write_text("")
    with pytest.raises(HomeError, match="cannot be opened"):
        SiteHome.open(tmp_path / "root", "site-a")


@pytest.mark.parametrize("study", ["", "../..", "XYZ", "ab" * 33])
def test_state_takes_only_hashes(tmp_path, study):
    with SiteHome.open(tmp_path, "site-a") as home, pytest.raises(HomeError, match="not hexadecimal"):
        home.state(study)


def test_json_helper_gives_what_json_reads(tmp_path):
    write_json(tmp_path / "j", {"x": [1, "ü"]})
    assert json.loads((tmp_path / "j").read_text()) == {"x": [1, "ü"]}
