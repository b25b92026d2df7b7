"""A site that makes releases and is killed at any point of it; run as a process of its own by `test_budget_crash.py`.

It reads one JSON request a line and forks a child for each: the child is the site, and dies by SIGKILL just before,
after or (writes) in the middle of the operation on the disk that it was told. Where the power goes as well, what was
not synced is lost: the tail of the ledger, and renames whose folder was not synced. What was not synced stays so when
only the process dies, so it can still be lost by a later power cut.

Requests: {"folder", "keys", "stop": number of the point or null, "cut": "" | "ledger" | "half" | "renames" | "all"}.
Answers: {"killed": bool, "points": how many points the child passed}.
"""

import hashlib
import json
import os
import pickle
import signal
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wardround.privacy.atomic import sweep
from wardround.privacy.differential_privacy import accountant
from wardround.privacy.differential_privacy.budget import Budget
from wardround.privacy.differential_privacy.once import released_once
from wardround.privacy.differential_privacy.releases import Release
from wardround.privacy.identity import Identity
from wardround.privacy.ledger.log import Ledger

SITE, STUDY = "site-a", "ab" * 32
RELEASE = Release(kind="training", noise_multiplier=1.0, sample_rate=0.5, steps=2)


class Disk:
    """Counts what is done to the disk, knows what of it is durable, and ends the process at a point.

    Attributes:
        synced: bytes of the ledger that survive a power cut.
        renamed: by path, what a file held before a rename that does not survive one yet; None where there was none.
    """

    def __init__(self, folder: Path, stop: int | None, cut: str) -> None:
        self.ledger, self.model = folder / "ledger.jsonl", folder / "durable.pickle"
        self.stop, self.cut, self.points = stop, cut, 0
        self.synced: int = 0
        self.renamed: dict[Path, bytes | None] = {}
        if self.model.exists():
            self.synced, self.renamed = pickle.loads(self.model.read_bytes())  # noqa: S301 - this test's own
        self.real = {name: getattr(os, name) for name in ("write", "fsync", "replace", "ftruncate")}
        for name in self.real:
            setattr(os, name, getattr(self, name))

    def point(self) -> None:
        if self.points == self.stop:
            self.die()
        self.points += 1

    def die(self) -> None:
        if self.cut in ("ledger", "half", "all") and self.ledger.exists():
            size = self.ledger.stat().st_size
            kept = min(size, self.synced + (size - self.synced) // 2 if self.cut == "half" else self.synced)
            os.truncate(self.ledger, kept)
        if self.cut in ("renames", "all"):
            for path, before in self.renamed.items():
                if before is None:
                    path.unlink()
                else:
                    path.write_bytes(before)
        self.save()
        os.kill(os.getpid(), signal.SIGKILL)

    def save(self) -> None:
        if self.cut:  # what is there after a power cut is on the disk
            size = self.ledger.stat().st_size if self.ledger.exists() else 0
            self.synced, self.renamed = size, {}
        self.model.write_bytes(pickle.dumps((self.synced, self.renamed)))

    def write(self, descriptor: int, data: Any) -> int:
        self.point()
        half = len(data) // 2
        if self.points == self.stop:
            self.real["write"](descriptor, bytes(data)[:half])
        self.point()
        done: int = self.real["write"](descriptor, data)
        self.point()
        return done

    def fsync(self, descriptor: int) -> None:
        self.point()
        self.real["fsync"](descriptor)
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            self.renamed.clear()
        elif self.ledger.exists() and found.st_ino == self.ledger.stat().st_ino:
            self.synced = found.st_size
        self.point()

    def replace(self, source: Any, target: Any) -> None:
        self.point()
        path = Path(target)
        self.renamed.setdefault(path, path.read_bytes() if path.exists() else None)
        self.real["replace"](source, target)
        self.point()

    def ftruncate(self, descriptor: int, length: int) -> None:
        self.point()
        self.real["ftruncate"](descriptor, length)
        self.synced = min(self.synced, length)
        self.point()


def witness(path: Path, **said: Any) -> None:
    """What the world outside has seen; no crash of the site takes it back."""
    with path.open("a") as stream:
        stream.write(json.dumps(said) + "\n")


def site(folder: Path, keys: list[str], disk: Disk) -> None:
    """One run of the site: whatever was released before comes first, from what is stored."""
    sweep(folder)  # as a home does when it is opened
    identity = Identity.from_seed(bytes(32))
    with Ledger.open(folder / "ledger.jsonl", owner=SITE, clock=lambda: datetime(2026, 1, 1, tzinfo=UTC)) as ledger:
        ledger.open_study(STUDY)
        budget = Budget.open(folder / "budget.json", site=SITE, identity=identity, ledger=ledger)
        for key in keys:

            def make(key: str = key) -> bytes:
                data = os.urandom(16)
                witness(folder / "made.jsonl", key=key, sealed=budget.sealed(STUDY, key))
                return data

            data = released_once(
                budget,
                folder / f"{key}.bin",
                study=STUDY,
                key=key,
                release=RELEASE,
                unit="patient",
                limit=(100.0, 1e-5),
                make=make,
            )
            disk.point()
            witness(folder / "world.jsonl", key=key, sha256=hashlib.sha256(data).hexdigest())
            disk.point()


def child(request: dict[str, Any]) -> None:
    folder = Path(request["folder"])
    disk = Disk(folder, request["stop"], request["cut"])
    site(folder, request["keys"], disk)
    disk.cut = ""
    disk.save()
    (folder / "points").write_text(str(disk.points))


def main() -> None:
    # Only crashes are looked at here, so any account does that grows with the steps.
    accountant.epsilon_of = lambda releases, delta: float(sum(release.steps for release in releases))
    for line in sys.stdin:
        request = json.loads(line)
        process = os.fork()
        if process == 0:
            code = 1
            try:
                child(request)
                code = 0
            finally:
                sys.stderr.flush()
                if code:
                    import traceback

                    traceback.print_exc()
                os._exit(code)
        _, status = os.waitpid(process, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed and status != 0:
            sys.exit("the site failed; see above")
        points = Path(request["folder"]) / "points"
        print(json.dumps({"killed": killed, "points": 0 if killed else int(points.read_text())}), flush=True)


if __name__ == "__main__":
    main()
