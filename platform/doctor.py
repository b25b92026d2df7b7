"""Does this machine have what a study needs? Each check says what it found and, where it fails, what to do."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .errors import PlatformError

PACKAGES = ("torch", "torchvision", "open_clip_torch", "cryptography", "safetensors", "scikit-learn")
FREE_BYTES = 2_000_000_000
OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: its name, whether it is as it should be, what was found, and the remedy where it is not."""

    name: str
    sound: bool
    found: str
    remedy: str = ""


def examine(cache: Path) -> Iterator[Check]:
    """Run every check in turn; slow ones (loading torch and the backbone) come last."""
    checks: dict[str, Callable[[], Check]] = {
        "python": _python,
        "packages": _packages,
        "randomness": _randomness,
        "cache": lambda: _cache(cache.absolute()),
        "disk": lambda: _space(cache.absolute()),
        "homes": lambda: _homes(default_homes()),
        "device": _device,
        "embedded CLIP": _backbone,
    }
    for name, check in checks.items():
        yield _guarded(name, check)


def default_homes() -> Path:
    """WARDROUND_HOME, or ``~/.wardround``: below it, ``sites/<site>/`` are the homes of this machine's sites."""
    chosen = os.environ.get("WARDROUND_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".wardround"


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except (PlatformError, OSError, ImportError, RuntimeError) as error:
        remedy = error.remedy if isinstance(error, PlatformError) else "Install Wardround again in a new environment"
        return Check(name, False, f"{type(error).__name__}: {error}", remedy)


def _python() -> Check:
    found = ".".join(str(part) for part in sys.version_info[:3])
    return Check("python", sys.version_info >= (3, 11), found, "Use Python 3.11 or newer")


def _packages() -> Check:
    missing, found = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check(
            "packages", False, f"missing: {', '.join(missing)}", "Install Wardround again with its dependencies"
        )
    return Check("packages", True, ", ".join(found))


def _randomness() -> Check:
    return Check("randomness", len(set(os.urandom(64))) > 8, "the operating system gives random bytes")


def _cache(cache: Path) -> Check:
    remedy = "Set WARDROUND_CACHE to a folder that only you can read and write"
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if not existing.is_dir():
        return Check("cache", False, f"{existing} is a file", remedy)
    if not os.access(existing, os.W_OK | os.X_OK):
        return Check("cache", False, f"{existing} is not writable", remedy)
    if cache.exists() and cache.stat().st_mode & OTHERS:
        return Check(
            "cache", False, f"{cache} is open to others (mode {cache.stat().st_mode & 0o777:03o})", f"chmod 700 {cache}"
        )
    return Check("cache", True, str(cache))


def _homes(root: Path) -> Check:
    """Keys, ledgers and what was learned from patients are for their owner's eyes alone."""
    sites = root / "sites"
    if not sites.is_dir():
        return Check("homes", True, f"no site's home in {root}")
    homes = sorted(path for path in sites.iterdir() if path.is_dir())
    for path in (found for home in homes for found in (home, *sorted(home.rglob("*")))):
        mode = path.lstat().st_mode
        if not path.is_symlink() and mode & OTHERS:
            wanted = "700" if path.is_dir() else "600"
            found = f"{path} is open to others (mode {mode & 0o777:03o})"
            return Check("homes", False, found, f"chmod {wanted} {path}, and find out who has read it")
    return Check("homes", True, f"{len(homes)} in {root}, for their owner alone")


def _space(cache: Path) -> Check:
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    return Check("disk", free >= FREE_BYTES, f"{free / 1e9:.1f} GB free", "Free at least 2 GB")


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        return Check("device", True, f"CUDA: {torch.cuda.get_device_name(0)}")
    return Check("device", True, f"CPU, {os.cpu_count()} cores (no CUDA device)")


def _backbone() -> Check:
    from .backbone import load_backbone

    backbone = load_backbone("embedded", device="cpu")
    return Check("embedded CLIP", True, f"{backbone.embed_dim} wide, fingerprint {backbone.fingerprint[:16]}")
