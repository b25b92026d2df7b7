"""Where the consortia of this machine lie, and how far each one's enrolment is: a hospital's, or a coordinator's."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..enrolling.coordinator_folder import ConsortiumFolder
from ..enrolling.errors import EnrolmentError
from ..enrolling.finding import find_folder, folders_of, name_of
from ..enrolling.site_folder import CONSORTIA, HASH, SiteFolder
from ..enrolling.standing import standing_of
from .status import STATUS_FILE


@dataclass(frozen=True, slots=True)
class Step:
    """A step of enrolment.

    Attributes:
        name: of the step. done: whether it is. todo: what to do where it is not.
    """

    name: str
    done: bool
    todo: str = ""


@dataclass(frozen=True, slots=True)
class ConsortiumPlace:
    """A consortium's folder on this machine.

    Attributes:
        folder: itself. side: whose. study: name of the study, or the beginning of its hash.
    """

    folder: Path
    side: Literal["site", "coordinator"]
    study: str

    @property
    def status(self) -> Path:
        """What its process says of itself."""
        return self.folder / STATUS_FILE

    def steps(self) -> list[Step]:
        """Steps before the first start, in order.

        Raises:
            EnrolmentError: a document of a coordinator is damaged.
        """
        if self.side == "site":
            return _site_steps(SiteFolder(self.folder.parent.parent, self.folder.name))
        return _coordinator_steps(ConsortiumFolder.load(self.folder))


def places_of(home: Path, study: str = "") -> list[ConsortiumPlace]:
    """The consortia of a home.

    Args:
        home: a site's. study: name of one study, or the beginning of its hash; empty for all.

    Raises:
        EnrolmentError: there is none, or none of that name.
    """
    found = [find_folder(home, study)] if study else list(folders_of(home))
    if not found:
        raise EnrolmentError(
            "this site has joined no study", where=str(home), remedy="Join one: wardround site join INVITATION"
        )
    return [_of_site(each) for each in found]


def coordinator_place(folder: Path) -> ConsortiumPlace:
    """A coordinator's consortium folder.

    Raises:
        EnrolmentError: it is none, or damaged.
    """
    found = ConsortiumFolder.load(folder.absolute())
    name = found.read_invitation().document.study.get("name", "")
    return ConsortiumPlace(found.root, "coordinator", name if isinstance(name, str) and name else found.root.name)


def place_of(folder: Path) -> ConsortiumPlace:
    """A consortium's folder of either side.

    Raises:
        EnrolmentError: it is neither, or a coordinator's that is damaged.
    """
    folder = folder.absolute()
    if HASH.fullmatch(folder.name) and folder.parent.name == CONSORTIA:
        if folder.is_dir():
            return _of_site(SiteFolder(folder.parent.parent, folder.name))
    elif any((folder / name).is_file() for name in ("invitation.json", "consortium.json")):
        return coordinator_place(folder)
    raise EnrolmentError(
        "this is no consortium's folder" if folder.exists() else "there is no such folder",
        where=str(folder),
        remedy="A hospital gives HOME/consortia/HASH, where HASH has 64 digits; a coordinator its consortium folder",
    )


def _of_site(folder: SiteFolder) -> ConsortiumPlace:
    return ConsortiumPlace(folder.root, "site", name_of(folder) or folder.digest[:16])


def _site_steps(folder: SiteFolder) -> list[Step]:
    if folder.left.exists():
        return [Step("left", False, "This site has left the study; to take part again, the study is founded anew")]
    confirm = "wardround site roster confirm signed-roster.json"
    needed = (
        ("invitation", folder.invitation, "Ask the coordinator for it, then: wardround site join invitation.json"),
        ("request", folder.request, "wardround site join invitation.json"),
        (
            "kit",
            folder.kit,
            f"Send {folder.request} to the coordinator; when its kit comes: wardround site join KIT",
        ),
        ("approval", folder.approval, "wardround site approve"),
        (
            "roster",
            folder.signed_roster,
            f"Send {folder.approval} to the coordinator; when the signed roster comes: {confirm}",
        ),
        ("confirmation", folder.pinned, confirm),
    )
    return [Step(name, path.is_file(), todo) for name, path, todo in needed]


def _coordinator_steps(folder: ConsortiumFolder) -> list[Step]:
    at = standing_of(folder, now=dt.datetime.now(dt.UTC))
    of = [row for row in at.sites if row.takes_part]
    todo = "; ".join(at.steps)
    asked, kits, approved = (
        sum(row.samples is not None for row in of),
        sum(row.kit for row in of),
        sum(row.approved for row in of),
    )
    return [
        Step(f"requests: {asked} of {len(of)}", asked == len(of), todo),
        Step("roster drawn", at.drawn, todo),
        Step(f"kits: {kits} of {len(of)}", kits == len(of), todo),
        Step(f"approvals: {approved} of {len(of)}", approved == len(of), todo),
        Step("roster signed by all", at.signed, todo),
    ]
