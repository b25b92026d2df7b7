"""Text that may identify a patient: in names of files, in names of columns, in comments.

Only kinds are told ("date"), never values. Names that are only words, such as ``doe_jane``, look like any other words
and are not guessed at.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final

_EMAIL: Final = re.compile(r"[\w.+-]+@[\w-]+\.\w{2,}")
_DICOM_NAME: Final = re.compile(r"[^\W\d_]{2,}\^[^\W\d_]+")
_DATE: Final = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d([-_. ]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[1-9]|[12]\d|3[01])([-_. ])(?:0[1-9]|1[0-2])\2(?:19|20)\d\d)(?!\d)"
)
_DIGITS: Final = re.compile(r"(?<!\d)\d{6,}(?!\d)")
# Numbers that data sets gave themselves: the ISIC archive's, hashes and UUIDs, DICOM's unique identifiers.
_OWN_NUMBERS: Final = re.compile(
    r"(?:ISIC|IL|IP|HAM|BCN|MSK\d?)_\d{7,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![0-9a-z])[0-9a-f]{24,}(?![0-9a-z])"
    r"|(?<![\d.])[0-2](?:\.\d+){4,}",
    re.IGNORECASE,
)
_PATTERNS: Final = (("e-mail address", _EMAIL), ("DICOM name", _DICOM_NAME), ("date", _DATE))
_DENSE: Final = 0.05  # numbers that fill this share of their range are a running count
_PERSON: Final = frozenset(
    ("patient", "first", "last", "middle", "family", "given", "full", "person", "doctor", "physician", "operator")
)
_COLUMNS: Final = {
    "names": ("name", "surname", "lastname", "firstname", "forename", "familyname", "givenname", "patientname"),
    "dates of birth": ("birth", "dob", "birthdate", "dateofbirth", "birthday"),
    "patient numbers": ("mrn", "ssn", "nhs", "medicalrecord", "accession", "insurance", "svnr", "ahv"),
    "addresses": ("address", "street", "postcode", "postalcode", "zip", "zipcode", "city"),
    "telephone numbers or e-mail": ("phone", "telephone", "tel", "mobile", "email", "mail", "fax"),
}


def in_names(names: Sequence[str]) -> list[str]:
    """What each path seems to hold, e.g. ``"e-mail address, date"``; empty: nothing.

    A run of six digits or more counts unless it is a number that the data set gave itself: an ISIC id, a hash, a DICOM
    UID, or one of a dense row of numbers in names that are otherwise equal.
    """
    numbers: dict[str, set[int]] = defaultdict(set)
    for name in names:
        for template, number in _numbers(name):
            numbers[template].add(number)
    running = {
        template
        for template, found in numbers.items()
        if len(found) > 1 and len(found) >= _DENSE * (max(found) - min(found) + 1)
    }
    out = []
    for name in names:
        kinds = _kinds(name)
        if "date" not in kinds and any(template not in running for template, _ in _numbers(name)):
            kinds.append("long number")
        out.append(", ".join(kinds))
    return out


def in_column(column: str) -> str:
    """What a column of this name would hold of a person, e.g. ``"names"``; empty: nothing."""
    parts = [part for part in re.split(r"[^a-z0-9]+", column.lower()) if part]
    for kind, words in _COLUMNS.items():
        # "image_name" and "class name" are nobody's; "patient_name" is.
        if "".join(parts) in words or any(part in words and part != "name" for part in parts):
            return kind
        if kind == "names" and "name" in parts and not _PERSON.isdisjoint(parts):
            return kind
    return ""


def in_text(text: str) -> list[str]:
    """What free text seems to hold: ``"e-mail address"``, ``"DICOM name"``, ``"date"`` or ``"long number"``."""
    kinds = _kinds(text)
    if _DIGITS.search(_DATE.sub("", _OWN_NUMBERS.sub("", text))):
        kinds.append("long number")
    return kinds


def _kinds(text: str) -> list[str]:
    plain = _OWN_NUMBERS.sub("", text)
    return [kind for kind, pattern in _PATTERNS if pattern.search(plain)]


def _numbers(name: str) -> Iterator[tuple[str, int]]:
    """Long numbers in the parts of a path, each with the part around it and the ending left out."""
    path = PurePosixPath(name)
    for part in dict.fromkeys((*path.parts[:-1], path.stem)):
        plain = _OWN_NUMBERS.sub("", part)
        for found in _DIGITS.finditer(plain):
            around = f"{plain[: found.start()]}#{plain[found.end() :]}"
            yield re.sub(r"\d+", "*", around), int(found.group())
