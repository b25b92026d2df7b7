"""What a person calls a group of images, and the name that the study's data have for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..medical_datasets.cohort import ImageRef
from ..medical_datasets.errors import UnreadableImageError
from ..privacy.forgotten import Forgotten
from .errors import PlatformError


class UnknownGroupError(PlatformError):
    """The site's data have no such group, or it cannot be told which one is meant.

    Attributes:
        near: names of groups that are like it. They name patients: for the local terminal only, in no log.
    """

    def __init__(
        self,
        study: str,
        near: tuple[str, ...],
        what: str = "the study's data at this site have no such group",
        remedy: str = "Give the group as the data's table names it, with its prefix (patient_id:…, lesion_id:…); of "
        "DICOM files patient_id: and the identifier in them, with its issuer as in patient_id:17^^^ISSUER if the files "
        "are gone; of one source of several patient_id:SOURCE/17",
    ) -> None:
        self.near = near
        super().__init__(what, where=study, remedy=remedy)


def meant_group(
    named: str, groups: Mapping[str, ImageRef], forgotten: Forgotten, sources: Collection[str], where: str
) -> str:
    """The group that a person means: by its name, or by a patient's identifier, of which DICOM gives a digest only.

    ``patient_id:17^^^ISSUER`` stands for the digest of both; ``patient_id:17`` for that of the identifier without an
    issuer, else for the one patient of that identifier at the site, whoever issued it. In a joined study the value
    comes after the source's name, which may be left out where one source alone has it.

    Args:
        named: as the person wrote it.
        groups: those at the site, each with one of its images.
        forgotten: groups that were withdrawn before are known too, whether or not their files are there.
        sources: names of the sources of a joined study.
        where: the study's file, for messages.

    Returns:
        The group; ``named`` itself where nothing is known of it.

    Raises:
        UnknownGroupError: several groups may be meant.
    """
    column, _, value = named.partition(":")
    if named in groups or not value:
        return named
    from ..medical_datasets.readers.dicom import patient_group

    source, _, rest = value.partition("/")
    chosen = bool(rest) and source in sources
    prefixes = [f"{source}/"] if chosen else ["", *(f"{name}/" for name in sources)]
    identifier, with_issuer, issuer = (rest if chosen else value).partition("^^^")
    values = [rest if chosen else value]
    if column == "patient_id":
        values.append(patient_group(identifier, issuer).partition(":")[2])
    candidates = dict.fromkeys(f"{column}:{prefix}{each}" for prefix in prefixes for each in values)
    found = [group for group in candidates if group in groups or is_withdrawn(group, forgotten)]
    if not found and column == "patient_id" and not with_issuer:
        alone = patient_group(identifier)
        of_source = {group: image for group, image in groups.items() if group.startswith(f"{column}:{prefixes[0]}")}
        found = sorted(group for group, image in of_source.items() if _patient_in(image) == alone)
    if len(found) > 1:
        several = {name for name in sources for group in found if group.startswith(f"{column}:{name}/")}
        raise UnknownGroupError(
            where,
            tuple(found),
            f"{len(found)} groups at this site may be meant",
            f"Say of which source: {column}:SOURCE/…, with one of {', '.join(sorted(several))}"
            if len(several) > 1
            else "Add the issuer of the identifier, as in patient_id:17^^^ISSUER, or give the group's full name",
        )
    return found[0] if found else named


def is_withdrawn(group: str, forgotten: Forgotten) -> bool:
    """Whether a home has withdrawn a group."""
    return bool(forgotten.withdrawals) and bool(forgotten.holding(forgotten.group_mark(group)))


def _patient_in(image: ImageRef) -> str:
    """The digest of the identifier in a DICOM file, whoever issued it; empty: there is none, or it is another file."""
    from ..medical_datasets.readers.dicom import facts, is_dicom

    try:
        return facts(image.path).patient if is_dicom(image.path) else ""
    except UnreadableImageError:
        return ""
