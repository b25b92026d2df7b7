"""The run folder: where a study's results lie, made and resumed without ever losing an earlier one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..privacy.atomic import sync_folder, write_atomic
from .config import Study
from .errors import RunFolderError, StudyFileError
from .study_file import dump_study, load_study


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of one run; docs/run-folder.md describes each file."""

    root: Path

    @property
    def study(self) -> Path:
        """The resolved study, every default written out."""
        return self.root / "study.toml"

    @property
    def lock(self) -> Path:
        """Held by the process that works on the run."""
        return self.root / "lock"

    @property
    def rounds(self) -> Path:
        """One line of JSON a round."""
        return self.root / "rounds.jsonl"

    @property
    def summary(self) -> Path:
        """The study's figures; written last, so that its presence says that the run is complete."""
        return self.root / "summary.json"

    @property
    def index(self) -> Path:
        """The dossier's front page."""
        return self.root / "index.html"

    @property
    def audit(self) -> Path:
        """The auditor's page."""
        return self.root / "audit.html"

    @property
    def annex(self) -> Path:
        """A draft annex to an impact assessment."""
        return self.root / "dpia-annex.md"

    @property
    def adapter(self) -> Path:
        """The final global adapter."""
        return self.root / "model" / "adapter.safetensors"

    @property
    def card(self) -> Path:
        """The model card."""
        return self.root / "model" / "card.json"

    @property
    def coordinator(self) -> Path:
        """The coordinator's checkpoint and ledger."""
        return self.root / "coordinator"

    @property
    def class_means(self) -> Path:
        """That the class means were summed, over whom, and which were left out; only where a study aligns to them."""
        return self.coordinator / "class-means.json"

    @property
    def held_out(self) -> Path:
        """What the sums of figures came to; exact until they are published, so the coordinator's alone."""
        return self.coordinator / "held-out.json"

    @property
    def homes(self) -> Path:
        """The simulated sites' homes."""
        return self.root / "homes"

    @property
    def split(self) -> Path:
        """The whole split that a simulation began with, by marks: patient data, like the homes."""
        return self.root / "split.json"

    @property
    def phantoms(self) -> Path:
        """Generated images of a synthetic study."""
        return self.root / "phantoms"

    def site(self, name: str) -> Path:
        """A site's part of the dossier."""
        return self.root / "sites" / name

    @classmethod
    def create(cls, root: Path, study: Study) -> RunFolder:
        """Make a new run folder and write the resolved study into it.

        Raises:
            RunFolderError: the folder exists and is not empty, or cannot be written.
        """
        cls.check_free(root)
        run = cls(root)
        existed = root.exists()
        try:
            root.mkdir(parents=True, exist_ok=True)
            os.chmod(root, 0o700)  # a simulation's run folder holds the sites' homes
            # A link takes the name only where it is free, so of two processes that start here one gets the folder.
            fresh = root / f".study.toml.{os.getpid()}.tmp"
            write_atomic(fresh, dump_study(study).encode())
            try:
                os.link(fresh, run.study)
            finally:
                fresh.unlink()
            sync_folder(root)
        except FileExistsError:
            cls.check_free(root)
            raise
        except OSError as error:
            if not existed:
                with contextlib.suppress(OSError):
                    root.rmdir()  # nothing half-made is left behind
            raise RunFolderError(
                f"the output folder cannot be written ({error.strerror or type(error).__name__})",
                where=str(root),
                remedy="Choose a folder with write access and free space",
            ) from None
        return run

    @staticmethod
    def check_free(root: Path) -> None:
        """Refuse a path that cannot become a new run folder, before any work is done.

        Raises:
            RunFolderError: it exists and is not empty, or the folder it would be made in cannot be written.
        """
        if root.exists() and (not root.is_dir() or any(not _leftover(path) for path in root.iterdir())):
            resumable = (root / "study.toml").is_file()
            raise RunFolderError(
                "the output folder already holds a run" if resumable else "the output path exists and is not empty",
                where=str(root),
                remedy="Choose another --out"
                + (f", or continue it: wardround run {root}/study.toml --out {root} --resume" if resumable else ""),
            )
        existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            why = "no right to write" if existing.is_dir() else "this is a file"
            raise RunFolderError(
                f"the output folder cannot be made here: {why}",
                where=str(existing),
                remedy="Choose a folder with write access",
            )

    @classmethod
    def open(cls, root: Path) -> tuple[RunFolder, Study]:
        """Open an existing run.

        Raises:
            RunFolderError: there is no run in this folder.
        """
        run = cls(root)
        if not run.study.is_file():
            raise RunFolderError(
                "there is no run here: study.toml is missing",
                where=str(root),
                remedy="Give the folder that --out named",
            )
        try:
            return run, load_study(run.study, of_run=True)
        except StudyFileError as error:
            raise RunFolderError(
                f"the run's study cannot be read: {error.what}", where=str(run.study), remedy="Restore it from a backup"
            ) from None

    @classmethod
    def resume(cls, root: Path, study: Study) -> RunFolder:
        """Open a run to continue it, and refuse to continue it with another study.

        Raises:
            RunFolderError: no run here, or it was started with another study; the differing keys are named.
        """
        run, started = cls.open(root)
        if started.digest() != study.digest():
            changed = sorted(_differences(started.model_dump(), study.model_dump()))
            raise RunFolderError(
                f"the run was started with another study; different: {', '.join(changed)}",
                where=str(root),
                remedy="Resume with the study it was started with, or choose another --out",
            )
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for one process; the lock goes with the process, however it ends.

        Raises:
            RunFolderError: another process runs or resumes this run.
        """
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode("ascii", errors="replace").strip() or "unknown"
                raise RunFolderError(
                    f"another process is working on this run: {holder}",
                    where=str(self.root),
                    remedy="Wait for it, end it, or choose another --out",
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def read_rounds(self) -> list[dict[str, Any]]:
        """Complete lines of rounds.jsonl, oldest first; a torn last line (power loss) is left out.

        Raises:
            RunFolderError: a complete line is damaged.
        """
        if not self.rounds.is_file():
            return []
        lines = self.rounds.read_bytes().split(b"\n")
        records = []
        for number, line in enumerate(lines[:-1], start=1):
            try:
                record = json.loads(line)
                if not isinstance(record["round"], int):
                    raise TypeError("a round is numbered")
                records.append(record)
            except (ValueError, KeyError, TypeError):
                raise RunFolderError(
                    "a line of the list of rounds is damaged",
                    where=f"{self.rounds}, line {number}",
                    remedy="Restore the file from a backup, or run the study again",
                ) from None
        return records

    def write_rounds(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Replace rounds.jsonl atomically: a reader sees the old lines or the new ones, never half."""
        text = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
        write_atomic(self.rounds, text.encode())


def _leftover(path: Path) -> bool:
    """Whether a file is what a start that was killed before it wrote the study leaves behind."""
    temporary = path.name.startswith(".") and ".study.toml." in path.name and path.name.endswith(".tmp")
    return temporary or path.name == "lock"


def _differences(left: Mapping[str, Any], right: Mapping[str, Any], prefix: str = "") -> set[str]:
    changed: set[str] = set()
    for key in left.keys() | right.keys():
        a, b = left.get(key), right.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            changed |= _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            changed.add(f"{prefix}{key}")
    return changed - {"data.path", "device", "backbone.weights"}
