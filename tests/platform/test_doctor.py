"""The doctor: each check is named, finds what is wrong and says what to do."""

from __future__ import annotations

from collections import namedtuple
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
from wardround.platform import backbone, doctor
from wardround.platform.doctor import Check, examine
from wardround.platform.errors import BackboneError

NAMES = ["python", "packages", "randomness", "cache", "disk", "homes", "device", "embedded CLIP"]


@pytest.fixture(autouse=True)
def no_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDROUND_HOME", str(tmp_path / "wardround"))


@pytest.fixture(autouse=True)
def quick_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    known = SimpleNamespace(embed_dim=512, fingerprint="ab" * 32)
    monkeypatch.setattr(backbone, "load_backbone", lambda *_, **__: known)


def found(cache: Path) -> dict[str, Check]:
    return {check.name: check for check in examine(cache)}


def test_every_check_is_named_and_sound_here(tmp_path: Path) -> None:
    checks = found(tmp_path / "cache")
    assert list(checks) == NAMES
    assert all(check.sound and check.found for check in checks.values())
    assert not (tmp_path / "cache").exists()  # it looks and makes nothing


def test_a_relative_cache_is_examined_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert found(Path("not/yet"))["cache"].sound


def test_a_cache_that_is_open_to_others(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o755)
    check = found(cache)["cache"]
    assert not check.sound
    assert "755" in check.found
    assert check.remedy == f"chmod 700 {cache}"
    cache.chmod(0o700)
    assert found(cache)["cache"].sound


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    check = found(tmp_path / "file" / "cache")["cache"]
    assert not check.sound
    assert "is a file" in check.found
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    check = found(tmp_path / "cache")["cache"]
    assert not check.sound
    assert "WARDROUND_CACHE" in check.remedy


def test_a_home_that_others_can_read(tmp_path: Path) -> None:
    home = tmp_path / "wardround" / "sites" / "amber"
    home.mkdir(parents=True)
    home.chmod(0o700)
    key = home / "identity.pem"
    key.write_text("x")
    key.chmod(0o640)
    check = found(tmp_path / "cache")["homes"]
    assert not check.sound
    assert "640" in check.found
    assert check.remedy.startswith(f"chmod 600 {key}")
    key.chmod(0o600)
    assert found(tmp_path / "cache")["homes"] == Check(
        "homes", True, f"1 in {tmp_path / 'wardround'}, for their owner alone"
    )
    home.chmod(0o710)
    assert found(tmp_path / "cache")["homes"].remedy.startswith(f"chmod 700 {home}")


def test_too_little_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(10, 9, 1_999_999_999))
    check = found(tmp_path)["disk"]
    assert not check.sound
    assert check.remedy


def test_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "safetensors":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    check = found(tmp_path)["packages"]
    assert not check.sound
    assert check.found == "missing: safetensors"
    assert check.remedy


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (BackboneError("the weights are damaged", remedy="Install again"), "Install again"),
        (ImportError("operator torchvision::nms does not exist"), "new environment"),
    ],
)
def test_a_check_that_fails_is_a_finding_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, remedy: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(backbone, "load_backbone", fails)
    checks = found(tmp_path / "cache")
    assert list(checks) == NAMES
    assert not checks["embedded CLIP"].sound
    assert str(error) in checks["embedded CLIP"].found
    assert remedy in checks["embedded CLIP"].remedy
