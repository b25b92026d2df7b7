"""What the tags of a DICOM image say of its patient, study and scanner, without its pixels.

Identifiers end here. A patient's identifier leaves this module only as a digest, a name only as "there is one", a
birth date only as an age.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from pydicom.uid import UID

from .dicom_file import MODALITIES, Elements, text, texts

_GROUP_LABEL: Final = "wardround dicom patient v1"
_STUDY_LABEL: Final = "wardround dicom study v1"
_ACCESSION_LABEL: Final = "wardround dicom accession v1"
_FACTS: Final = """
    SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID StudyDate AccessionNumber Modality ImageType
    Manufacturer ManufacturerModelName InstitutionName PatientName PatientID IssuerOfPatientID PatientBirthDate
    PatientSex PatientAge BodyPartExamined Laterality ImageLaterality NumberOfFrames BurnedInAnnotation
"""
FACT_ELEMENTS: Final = tuple(_FACTS.split())
_PSEUDONYM: Final = re.compile(r"\W*(anon|pseudo|unknown|no.?name|de.?ident|removed|redacted|subject|case|none|nil)")
_NO_PATIENT: Final = re.compile(r"(anon[a-z]*|pseudo[a-z]*|unknown|none|null|nil|na|n/a|removed|redacted|[0x*?._ -]*)")


@dataclass(frozen=True, slots=True)
class DicomFacts:
    """What the tags of an image say, without its pixels. No name, date of birth or patient's identifier is kept.

    Attributes:
        group: ``patient_id:`` and a digest; without a usable PatientID ``study:`` and a digest; None: neither.
        patient: the digest for the PatientID alone, whatever its issuer, to find it in a table; empty: none.
        accession: :func:`accession_key` of the accession number; empty: none.
        study, series, instance: unique identifiers; empty: not written. They name a record in the hospital's archive.
        frames: pictures in the file, >= 1.
        modality: as DICOM defines it; else empty.
        burned_in: ``YES``, ``NO`` or empty, as the tag says.
        identified: a patient's name is there and is no obvious pseudonym.
        derived: a secondary capture or a derived image.
        body_part, laterality, manufacturer, model, institution: as written, stripped; empty: not written.
        sex: ``female``, ``male`` or empty.
        age: whole years at the study, as digits; empty: not known.
    """

    group: str | None = None
    patient: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    study: str = field(default="", repr=False)
    series: str = field(default="", repr=False)
    instance: str = field(default="", repr=False)
    frames: int = 1
    modality: str = ""
    burned_in: str = ""
    identified: bool = False
    derived: bool = False
    body_part: str = field(default="", repr=False)
    laterality: str = field(default="", repr=False)
    manufacturer: str = field(default="", repr=False)
    model: str = field(default="", repr=False)
    institution: str = field(default="", repr=False)
    sex: str = ""
    age: str = ""


def patient_group(patient_id: str, issuer: str = "") -> str:
    """The group of a patient's images: ``patient_id:`` and 32 hexadecimal digits of SHA-256.

    It hides the identifier from a reader of logs and reports and not from someone who can try all identifiers: it
    stays at the hospital like everything else about a patient.

    Args:
        patient_id: as in (0010,0020) PatientID; spaces around it do not count.
        issuer: as in (0010,0021) IssuerOfPatientID; empty: not written.
    """
    return f"patient_id:{_digest(_GROUP_LABEL, issuer.strip(), patient_id.strip())}"


def accession_key(number: str) -> str:
    """A digest by which two accession numbers are compared, 32 hexadecimal digits."""
    return _digest(_ACCESSION_LABEL, number.strip())


def facts_of(tags: Elements) -> DicomFacts:
    """What the elements :data:`FACT_ELEMENTS` of an image say."""
    patient = text(tags, "PatientID")
    if _NO_PATIENT.fullmatch(patient.lower()):  # shared by all patients of an export, it would make them one
        patient = ""
    study = text(tags, "StudyInstanceUID")
    group = patient_group(patient, text(tags, "IssuerOfPatientID")) if patient else None
    if group is None and study:
        group = f"study:{_digest(_STUDY_LABEL, study)}"
    name = text(tags, "PatientName").lower()
    accession = text(tags, "AccessionNumber")
    modality = text(tags, "Modality")
    burned_in = text(tags, "BurnedInAnnotation").upper()
    frames = text(tags, "NumberOfFrames")
    return DicomFacts(
        group=group,
        patient=patient_group(patient) if patient else "",
        accession=accession_key(accession) if accession else "",
        study=study,
        series=text(tags, "SeriesInstanceUID"),
        instance=text(tags, "SOPInstanceUID"),
        frames=int(frames) if re.fullmatch(r"[0-9]{1,9}", frames) and int(frames) else 1,
        modality=modality if modality in MODALITIES else "",
        burned_in=burned_in if burned_in in ("YES", "NO") else "",
        identified=any(letter.isalpha() for letter in name) and not _PSEUDONYM.match(name),
        derived="Secondary Capture" in UID(text(tags, "SOPClassUID")).name
        or bool({"DERIVED", "SECONDARY"} & {each.upper() for each in texts(tags, "ImageType")[:2]}),
        body_part=text(tags, "BodyPartExamined"),
        laterality=text(tags, "ImageLaterality") or text(tags, "Laterality"),
        manufacturer=text(tags, "Manufacturer"),
        model=text(tags, "ManufacturerModelName"),
        institution=text(tags, "InstitutionName"),
        sex={"F": "female", "M": "male"}.get(text(tags, "PatientSex").upper(), ""),
        age=_age(text(tags, "PatientAge"), text(tags, "PatientBirthDate"), text(tags, "StudyDate")),
    )


def _age(written: str, born: str, studied: str) -> str:
    """Whole years: by PatientAge (``045Y``, ``018M``, ``006W``, ``010D``), else from the two dates."""
    stated = re.fullmatch(r"(\d{1,3})([YMWD])", written.upper())
    if stated:
        return str(int(int(stated[1]) / {"Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}[stated[2]]))
    if not (re.fullmatch(r"\d{8}", born) and re.fullmatch(r"\d{8}", studied)):
        return ""
    years = int(studied[:4]) - int(born[:4]) - (studied[4:] < born[4:])
    return str(years) if 0 <= years <= 130 else ""


def _digest(label: str, *parts: str) -> str:
    """The first 128 bits of SHA-256 over a label and parts, each with its length, so that no two lists are alike."""
    data = "\n".join([label, *(f"{len(part)}:{part}" for part in parts)])
    return hashlib.sha256(data.encode("utf-8", "surrogatepass")).hexdigest()[:32]
