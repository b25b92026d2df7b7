"""Which kinds of identifying elements a DICOM file holds; their values end here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ..readers.dicom_file import Elements, opened, refusing, text
from ..readers.dicom_tags import facts_of

NAME: Final = "patient's name"
_KINDS: Final = {
    "patient's identifier": ("PatientID", "OtherPatientIDs"),
    "date of birth": ("PatientBirthDate",),
    "patient's address or telephone": ("PatientAddress", "PatientTelephoneNumbers"),
    "accession number": ("AccessionNumber",),
    "institution": ("InstitutionName", "InstitutionAddress"),
    "name of staff": (
        "ReferringPhysicianName",
        "PerformingPhysicianName",
        "NameOfPhysiciansReadingStudy",
        "OperatorsName",
    ),
    "device serial number": ("DeviceSerialNumber",),
}
_ASKED: Final = ("PatientName", "PatientIdentityRemoved", *(each for keywords in _KINDS.values() for each in keywords))
# What pseudonymisation leaves in place of a value, and dates that are nobody's (00000000, 19000101).
_EMPTIED: Final = re.compile(
    r"(anon[a-z]*|pseudo[a-z]*|unknown|none|null|nil|na|n/a|removed|redacted|de.?ident[a-z]*|no.?name)[\W\d]*"
    r"|[0x*?._ ^-]*|19000101",
    re.IGNORECASE,
)


def kinds_in(path: Path) -> tuple[str, ...]:
    """Kinds of identifying elements that are filled, in a fixed order; what pseudonymisation writes does not count.

    A patient's identifier does not count either where the file says that his identity was removed: it is a pseudonym.

    Raises:
        UnreadableImageError: missing, or no DICOM image.
    """
    with refusing(str(path)), opened(path, _ASKED) as header:
        tags = header.tags
        removed = text(tags, "PatientIdentityRemoved").upper() == "YES"
        found = [NAME] if facts_of(tags).identified else []
        for kind, keywords in _KINDS.items():
            if not (removed and kind == "patient's identifier") and any(_filled(tags, each) for each in keywords):
                found.append(kind)
        return tuple(found)


def _filled(tags: Elements, keyword: str) -> bool:
    return not _EMPTIED.fullmatch(text(tags, keyword))
