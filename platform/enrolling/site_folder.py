"""What a hospital has of one consortium: a folder in its home, named by all digits of the study's hash.

Nothing in it is believed because it lies there: each document's signature is checked whenever it is read, and the study
must still have the hash that the folder is called by.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...privacy.atomic import make_private
from ..config import Study
from ..errors import StudyFileError
from ..features import default_cache
from ..site_side import LEFT_FILE, REQUEST_FILE, ROSTER_FILE
from ..study_file import load_study
from .documents import Approval, Invitation, Kit, Request, Signed, SignedRoster, read_document, verify
from .errors import EnrolmentError
from .kinds import Kind
from .portable import check_invitable, portable

CONSORTIA = "consortia"
HASH = re.compile(r"[0-9a-f]{64}")
HASH_PREFIX = 8
"""Digits of a hash, from its beginning, that may stand for it."""
_BACKUP = "Restore the home from a backup, or join anew with the coordinator's file"


@dataclass(frozen=True, slots=True)
class SiteFolder:
    """``<home>/consortia/<study's hash>/``: paths, and what lies there.

    Attributes:
        home: the site's home; its name is the site's.
        digest: the study's SHA-256, 64 hexadecimal digits.
    """

    home: Path
    digest: str

    def __post_init__(self) -> None:
        if not HASH.fullmatch(self.digest):
            raise EnrolmentError("the study's hash is not 64 hexadecimal digits", where=str(self.home))

    @property
    def site(self) -> str:
        """The site's name."""
        return self.home.name

    @property
    def root(self) -> Path:
        """The folder itself, mode 0700."""
        return self.home / CONSORTIA / self.digest

    @property
    def state(self) -> Path:
        """The home's state of this study, which ``site_side`` knows."""
        return self.home / "state" / self.digest

    @property
    def invitation(self) -> Path:
        """As the coordinator sent it, once a person compared the words."""
        return self.root / "invitation.json"

    @property
    def study_file(self) -> Path:
        """The study with this machine's paths."""
        return self.root / "study.toml"

    @property
    def request(self) -> Path:
        """What the hospital sends to the coordinator first."""
        return self.root / "request.json"

    @property
    def tls_key(self) -> Path:
        """This machine's private TLS key, mode 0600."""
        return self.root / "tls.key"

    @property
    def signing_request(self) -> Path:
        """What the coordinator's authority is to sign, PEM."""
        return self.root / "tls.csr"

    @property
    def kit(self) -> Path:
        """What the coordinator sent back."""
        return self.root / "kit.json"

    @property
    def flare(self) -> Path:
        """FLARE's files, all written here."""
        return self.root / "flare"

    @property
    def approval(self) -> Path:
        """The hospital's consent, to be sent to the coordinator."""
        return self.root / "approval.json"

    @property
    def signed_roster(self) -> Path:
        """The roster with every site's signature."""
        return self.root / "signed-roster.json"

    @property
    def pinned(self) -> Path:
        """Whose words a person compared, signed by this site."""
        return self.root / "pinned.json"

    @property
    def phantoms(self) -> Path:
        """Pictures of a synthetic study; they are of nobody, so they lie with what can be made again."""
        return default_cache() / "phantoms" / self.digest

    @property
    def status(self) -> Path:
        """What the running site shows of itself."""
        return self.root / "status.json"

    @property
    def logs(self) -> Path:
        """Folder of logs."""
        return self.root / "logs"

    @property
    def report(self) -> Path:
        """Folder of the site's own report."""
        return self.root / "report"

    @property
    def state_request(self) -> Path:
        """The request, where ``site forget`` looks whether the site has told its number."""
        return self.state / REQUEST_FILE

    @property
    def state_roster(self) -> Path:
        """The one roster of this study that this site ever signs."""
        return self.state / ROSTER_FILE

    @property
    def left(self) -> Path:
        """There once the site has left the study."""
        return self.state / LEFT_FILE

    def check_not_left(self) -> None:
        """Refuse a study that this site has left.

        Raises:
            EnrolmentError: it has.
        """
        if self.left.exists():
            raise EnrolmentError(
                "this site has left the study, and takes no further part in it",
                where=str(self.left),
                remedy="To take part again, ask the coordinator to found the study anew under another name",
            )

    def read_invitation(self) -> Signed[Invitation]:
        """The invitation that this site answered, its signature checked.

        Raises:
            EnrolmentError: it is gone, damaged, or of another study.
        """
        signed = read_document(self.invitation, Invitation)
        verify(signed, bytes.fromhex(signed.document.coordinator))
        return self._of_study(signed)

    def read_request(self) -> Signed[Request]:
        """The site's own request, its signature checked.

        Raises:
            EnrolmentError: it is gone, damaged, or of another site or study.
        """
        signed = self._of_study(read_document(self.request, Request))
        verify(signed, bytes.fromhex(signed.document.public_key))
        self._check_own(signed.document.site, self.request)
        return signed

    def read_kit(self) -> Signed[Kit]:
        """The installed kit, the coordinator's signature checked.

        Raises:
            EnrolmentError: it is gone, damaged, or of another site or study.
        """
        signed = self._of_study(read_document(self.kit, Kit))
        verify(signed, self.coordinator_key())
        self._check_own(signed.document.site, self.kit)
        return signed

    def read_approval(self, public_key: bytes) -> Signed[Approval]:
        """The site's own approval, its signature checked with its own key.

        Raises:
            EnrolmentError: it is gone, damaged, or of another site or study.
        """
        signed = self._of_study(read_document(self.approval, Approval))
        verify(signed, public_key)
        self._check_own(signed.document.site, self.approval)
        return signed

    def read_signed_roster(self) -> Signed[SignedRoster]:
        """The signed roster that was confirmed, the coordinator's signature checked.

        Raises:
            EnrolmentError: it is gone, damaged, or of another study.
        """
        signed = self._of_study(read_document(self.signed_roster, SignedRoster))
        verify(signed, self.coordinator_key())
        return signed

    def coordinator_key(self) -> bytes:
        """Raw public key of the coordinator whose words were compared.

        Raises:
            EnrolmentError: as :meth:`read_invitation`.
        """
        return bytes.fromhex(self.read_invitation().document.coordinator)

    def study(self) -> Study:
        """The study with this machine's paths; nothing in it but paths is beyond what the coordinator signed.

        Raises:
            EnrolmentError: the file is gone, damaged, or not of the study that this folder is of.
        """
        where = str(self.study_file)
        try:
            study = load_study(self.study_file, of_run=True)
            if study.faults or study.data.split_file:
                raise StudyFileError("faults and split files are for simulations alone")
            check_invitable(study)
        except StudyFileError as error:
            raise EnrolmentError(
                f"the study of this consortium cannot be used: {error.what}", where=where, remedy=_BACKUP
            ) from None
        invited = self.read_invitation().document
        if not study.digest() == self.digest == invited.study_hash or portable(study) != invited.study:
            raise EnrolmentError(
                "the study's file is not of the study that this site was invited to",
                where=where,
                remedy=f"Only paths in it may be changed. {_BACKUP}",
            )
        return study

    def _of_study(self, signed: Signed[Kind]) -> Signed[Kind]:
        if signed.document.study_hash != self.digest:
            raise EnrolmentError("this file is of another study than its folder", where=signed.source, remedy=_BACKUP)
        return signed

    def _check_own(self, site: str, path: Path) -> None:
        if site != self.site:
            raise EnrolmentError(f"this file is of '{site}', not of this site", where=str(path), remedy=_BACKUP)


def make_folder(folder: SiteFolder) -> None:
    """Make the folder of a consortium in a home.

    Raises:
        EnrolmentError: something else is in its place.
        OSError: as the file system reports it.
    """
    make_private(folder.root)
    for each in (folder.root.parent, folder.root):
        if each.is_symlink():
            raise EnrolmentError("a link is in the place of a folder", where=str(each), remedy="Find out who put it")
