"""Before a start: clock, rights, space and packages of the machine that a site or a coordinator runs on."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from ...privacy.ledger.reading import read_good
from ...privacy.secure_aggregation.roster import Roster
from ..checkpoint import KEPT
from ..doctor import OTHERS, Check
from ..engines.nvflare.hardening import FLARE_VERSION
from ..engines.nvflare.relay import PATH_LIMIT
from .logs import FILE_BYTES, FILES
from .runtime import ServiceError, check_system, runtime_folder

SKEW = dt.timedelta(minutes=5)
"""Clocks may differ by so much."""
BASE = 200_000_000
"""Bytes for FLARE's own files, reports and what is written anew before the old is removed."""
FEATURE_BYTES = 4 * 1024 * 2
"""Bytes of one image's features, the widest there are, while a shard is merged into another."""
_LOG = FILE_BYTES * FILES
_DEPLOY = "pip install 'wardround[deploy]'"


def clock_check(known: dict[str, dt.datetime], ledger: Path, now: dt.datetime) -> Check:
    """Whether the clock is behind what is known to have happened; certificates' own dates are looked at elsewhere.

    Args:
        known: times of documents that were made elsewhere, by what they are. ledger: this side's.
        now: what the clock says.
    """
    times = dict(known)
    last = ""
    if ledger.is_file():
        for entry in read_good(ledger):
            last = entry.time
    if last:
        times["this side's last ledger entry"] = dt.datetime.fromisoformat(last)
    for what, time in times.items():
        if now < time - SKEW:
            return Check(
                "clock",
                False,
                f"{now:%Y-%m-%d %H:%M} UTC, but {what} is of {time.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC: it was set "
                "back, or is wrong",
                "Set it, and let it be kept right: timedatectl set-ntp true",
            )
    return Check("clock", True, f"{now:%Y-%m-%d %H:%M} UTC, after all that is written here")


def rights_check(name: str, folder: Path) -> Check:
    """Whether a folder and all below are their owner's alone, and the owner is who asks."""
    own = os.geteuid()
    for path in (folder, *sorted(folder.rglob("*"))):
        found = path.lstat()
        if found.st_uid != own:
            return Check(
                name,
                False,
                f"{path} belongs to user {found.st_uid}, this is user {own}",
                f"Run this command as the user of the service; or: chown -R {own} {folder}",
            )
        mode = found.st_mode & 0o777
        if not path.is_symlink() and mode & OTHERS:
            wanted = "700" if path.is_dir() else "600"
            remedy = f"chmod {wanted} {path}, and find out who has read it"
            return Check(name, False, f"{path} is open to others (mode {mode:03o})", remedy)
    return Check(name, True, f"{folder}, for its owner alone")


def disk_check(name: str, folder: Path, needed: int) -> Check:
    """Whether there is room.

    Args:
        name: of the check. folder: where; need not exist. needed: bytes.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        return Check(
            name,
            False,
            f"{free / 1e6:.0f} MB free in {existing}, {needed / 1e6:.0f} MB needed",
            f"Free {(needed - free) / 1e6:.0f} MB there; a full disk stops a round, and nothing is sent",
        )
    return Check(name, True, f"{free / 1e9:.1f} GB free, {needed / 1e6:.0f} MB needed")


def site_bytes(roster: Roster | None) -> int:
    """Bytes that a site's home may need: several masked vectors of a round, and logs."""
    return BASE + _LOG + 8 * _wire(roster)


def coordinator_bytes(roster: Roster | None) -> int:
    """Bytes that a coordinator's folder may need: kept checkpoints with the server's moments, a round's vectors."""
    sites = len(roster.names) if roster is not None else 0
    return BASE + _LOG + _wire(roster) * (3 * (KEPT + 1) + 2 * sites)


def feature_bytes(samples: int) -> int:
    """Bytes that the features of so many images may need; held-out images come on top of the training ones."""
    return 2 * samples * FEATURE_BYTES


def check_ready() -> None:
    """Refuse a machine on which no process of a consortium can run, before anything is read or asked.

    Raises:
        ServiceError: it does not run Linux; FLARE is missing, or of another version.
    """
    check_system()
    flare = flare_check()
    if not flare.sound:
        raise ServiceError(f"NVIDIA FLARE is needed to start: {flare.found}", where=sys.prefix, remedy=flare.remedy)


def umask_check() -> Check:
    """Whether new files of helping programs would be open to others' writing."""
    now = os.umask(0o077)
    os.umask(now)
    if now & 0o022 != 0o022:
        return Check(
            "umask", False, f"{now:03o} lets others write to new files", "Set umask 077; in a unit: UMask=0077"
        )
    return Check("umask", True, f"{now:03o}")


def flare_check() -> Check:
    """Whether FLARE is installed, in the version that its hardening is made for. Nothing of it is imported."""
    try:
        found = version("nvflare")
    except PackageNotFoundError:
        found = ""
    if not found or find_spec("nvflare") is None:
        return Check("FLARE", False, "nvflare is not installed", _DEPLOY)
    if found != FLARE_VERSION:
        return Check("FLARE", False, f"nvflare {found} is installed, and {FLARE_VERSION} is the one made safe", _DEPLOY)
    return Check("FLARE", True, f"nvflare {found}")


def socket_check(owner: Path) -> Check:
    """Whether the paths of sockets are short enough, and their folder is private."""
    folder = runtime_folder(owner)
    size = len(os.fsencode(folder / "courier.sock.key"))
    if size > PATH_LIMIT:
        return Check(
            "sockets",
            False,
            f"paths in {folder} have {size} bytes, the system allows {PATH_LIMIT}",
            "Set XDG_RUNTIME_DIR to a folder with a shorter path; in a unit: RuntimeDirectory=wardround",
        )
    return Check("sockets", True, str(folder))


def _wire(roster: Roster | None) -> int:
    return max(roster.wire_size(purpose) for purpose in roster.vectors) if roster is not None else 10_000_000
