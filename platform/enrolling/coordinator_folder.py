"""The coordinator's folder of one consortium: one study, one certificate authority, one port."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ...privacy.atomic import make_private, sweep, write_json
from ...privacy.errors import RosterError
from ...privacy.identity import Identity
from ...privacy.secure_aggregation.roster import Roster
from ..config import Study
from ..coordinator_side import IDENTITY_FILE
from ..errors import StudyFileError
from ..run_folder import RunFolder
from ..study_file import load_study
from .coordinator_record import BACKUP, Confirmed, ConsortiumRecord, lock_of
from .documents import Signed, read_document, verify
from .errors import EnrolmentError
from .kinds import Approval, Invitation, Kind, Kit, Request, SignedRoster


class ConsortiumFolder:
    """Paths of a consortium at its coordinator, and what lies there. Made by :meth:`load`.

    Attributes:
        root: the folder, mode 0700.
        record: whose it is.
    """

    def __init__(self, root: Path, record: ConsortiumRecord) -> None:
        self.root = root
        self.record = record

    @classmethod
    def load(cls, root: Path) -> ConsortiumFolder:
        """Open a consortium's folder.

        Raises:
            EnrolmentError: there is none here, its founding was interrupted, others may enter it, or it is damaged.
        """
        if not (root / "invitation.json").exists():
            begun = (root / "enrolment.lock").exists()
            raise EnrolmentError(
                "the founding of this consortium was interrupted" if begun else "there is no consortium in this folder",
                where=str(root),
                remedy=f"Run again: wardround consortium new STUDY.toml --out {root} …"
                if begun
                else "Give the folder that `wardround consortium new … --out` named",
            )
        mode = root.stat().st_mode & 0o777
        if mode & 0o077:
            raise EnrolmentError(
                f"others on this machine can enter the consortium's folder (mode {mode:03o})",
                where=str(root),
                remedy="chmod 700 it: it holds keys",
            )
        path = root / "consortium.json"
        try:
            record = msgspec.json.decode(path.read_bytes(), type=ConsortiumRecord)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            raise EnrolmentError("the consortium's record cannot be read", where=str(path), remedy=BACKUP) from None
        folder = cls(root, record)
        invitation = folder.read_invitation().document
        shared = ("study_hash", "coordinator", "host", "port", "admin_port")
        if any(getattr(invitation, each) != getattr(record, each) for each in shared):
            raise EnrolmentError(
                "the invitation is of another consortium than its folder", where=str(root), remedy=BACKUP
            )
        return folder

    @property
    def invitation(self) -> Path:
        """What hospitals are sent."""
        return self.root / "invitation.json"

    @property
    def study_file(self) -> Path:
        """The study, every default written out, with this machine's paths."""
        return self.root / "study.toml"

    @property
    def confirmed_file(self) -> Path:
        """Whose words were compared."""
        return self.root / "confirmed.json"

    @property
    def roster(self) -> Path:
        """The roster, drawn once; not signed."""
        return self.root / "roster.json"

    @property
    def signed_roster(self) -> Path:
        """The roster with every site's signature; what each hospital confirms."""
        return self.root / "signed-roster.json"

    @property
    def flare(self) -> Path:
        """Authority, server kit and admin kit: keys."""
        return self.root / "flare"

    @property
    def run(self) -> RunFolder:
        """Where the study itself runs."""
        return RunFolder(self.root / "run")

    @property
    def identity_file(self) -> Path:
        """The coordinator's encrypted identity."""
        return self.run.coordinator / IDENTITY_FILE

    @property
    def status(self) -> Path:
        """What the running coordinator shows of itself."""
        return self.root / "status.json"

    @property
    def submitted(self) -> Path:
        """There once the study was submitted."""
        return self.root / "submitted"

    @property
    def abort(self) -> Path:
        """There once the study is to be ended."""
        return self.root / "abort"

    @property
    def logs(self) -> Path:
        """Folder of logs."""
        return self.root / "logs"

    def request(self, site: str) -> Path:
        """The request of a site."""
        return self.root / "requests" / f"{site}.json"

    def kit(self, site: str) -> Path:
        """The kit of a site."""
        return self.root / "kits" / f"{site}.kit.json"

    def approval(self, site: str) -> Path:
        """The approval of a site."""
        return self.root / "approvals" / f"{site}.json"

    def study(self) -> Study:
        """The study of this consortium.

        Raises:
            EnrolmentError: its file is gone, damaged, or of another study.
        """
        try:
            study = load_study(self.study_file, of_run=True)
        except StudyFileError as error:
            raise EnrolmentError(
                f"the study cannot be read: {error.what}", where=str(self.study_file), remedy=BACKUP
            ) from None
        if study.digest() != self.record.study_hash:
            raise EnrolmentError(
                "the study was changed after the consortium was founded on it",
                where=str(self.study_file),
                remedy=f"{BACKUP}. For another study, found another consortium",
            )
        return study

    def read_identity(self, passphrase: bytes) -> Identity:
        """This side's identity.

        Raises:
            KeyStoreError: it cannot be unlocked. EnrolmentError: it is not the one that the invitation names.
        """
        identity = Identity.load(self.identity_file, passphrase)
        if identity.public_key.hex() != self.record.coordinator:
            raise EnrolmentError(
                "this is not the identity that the invitation names", where=str(self.identity_file), remedy=BACKUP
            )
        return identity

    def read_invitation(self) -> Signed[Invitation]:
        """The invitation, its signature checked.

        Raises:
            EnrolmentError: it is damaged.
        """
        return self._checked(read_document(self.invitation, Invitation))

    def requests(self) -> dict[str, Signed[Request]]:
        """Requests that were taken in, by site, in order; signatures checked.

        Raises:
            EnrolmentError: a file is damaged, or lies under another site's name.
        """
        found = self._all("requests", ".json", Request)
        for signed in found.values():
            verify(signed, bytes.fromhex(signed.document.public_key))
        return found

    def approvals(self) -> dict[str, Signed[Approval]]:
        """Approvals that were taken in, by site, in order; whoever needs their signatures checks them again.

        Raises:
            EnrolmentError: a file is damaged, or lies under another site's name.
        """
        return self._all("approvals", ".json", Approval)

    def kits(self) -> dict[str, Signed[Kit]]:
        """Kits that were made, by site, in order; signatures checked.

        Raises:
            EnrolmentError: a file is damaged, or lies under another site's name.
        """
        return {site: self._checked(kit) for site, kit in self._all("kits", ".kit.json", Kit).items()}

    def read_roster(self) -> Roster | None:
        """The roster's draft; None where none was drawn yet.

        Raises:
            EnrolmentError: it is damaged, or of another study or coordinator.
        """
        if not self.roster.exists():
            return None
        try:
            roster = Roster.from_bytes(self.roster.read_bytes())
        except RosterError as error:
            raise EnrolmentError(error.what, where=str(self.roster), remedy=BACKUP) from None
        if (roster.study.hex(), roster.coordinator_key) != (self.record.study_hash, self.record.coordinator):
            raise EnrolmentError("the roster is of another consortium", where=str(self.roster), remedy=BACKUP)
        return roster

    def read_signed_roster(self) -> Signed[SignedRoster] | None:
        """The signed roster, the coordinator's signature checked; None where approvals are missing.

        Raises:
            EnrolmentError: it is damaged.
        """
        if not self.signed_roster.exists():
            return None
        return self._checked(read_document(self.signed_roster, SignedRoster))

    def confirmed(self) -> dict[str, str]:
        """Public keys, hexadecimal, by site whose words a person compared.

        Raises:
            EnrolmentError: the file is damaged.
        """
        path = self.confirmed_file
        if not path.exists():
            return {}
        try:
            return msgspec.json.decode(path.read_bytes(), type=Confirmed).confirmed
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise EnrolmentError(
                "the list of compared fingerprints is damaged", where=str(path), remedy=BACKUP
            ) from None

    def write_confirmed(self, confirmed: Mapping[str, str]) -> None:
        """Keep whose words were compared.

        Raises:
            OSError: as the file system reports it.
        """
        write_json(self.confirmed_file, msgspec.to_builtins(Confirmed(dict(confirmed))))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the enrolment for one command; also sweeps up what a killed one left half-written.

        Raises:
            EnrolmentError: another command is at work here.
        """
        with lock_of(self.root):
            for part in ("requests", "kits", "approvals"):
                make_private(self.root / part)
            # Not the whole folder: a running coordinator writes into other parts.
            for part in ("requests", "kits", "approvals", "flare/authority", "flare/sites"):
                if (self.root / part).is_dir():
                    sweep(self.root / part)
            yield

    def _all(self, part: str, suffix: str, kind: type[Kind]) -> dict[str, Signed[Kind]]:
        found = {}
        for path in sorted((self.root / part).glob(f"*{suffix}")):
            if path.name.startswith("."):
                continue
            signed = read_document(path, kind)
            document: Any = signed.document
            if document.site != path.name.removesuffix(suffix) or document.study_hash != self.record.study_hash:
                raise EnrolmentError(
                    "this file is of another site or study than its place says",
                    where=str(path),
                    remedy="Do not copy files in here by hand: wardround consortium add-site checks them",
                )
            found[document.site] = signed
        return found

    def _checked(self, signed: Signed[Kind]) -> Signed[Kind]:
        verify(signed, bytes.fromhex(self.record.coordinator))
        return signed
