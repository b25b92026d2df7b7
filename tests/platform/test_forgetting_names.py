"""A patient of DICOM files is named by the identifier in them, though the study knows a digest of it alone."""

from __future__ import annotations

from pathlib import Path

from wardround.medical_datasets.readers.dicom import patient_group
from wardround.platform.forgetting import _as_recorded
from wardround.privacy.forgotten import Forgotten, Pending, Withdrawal, sorted_marks

SEVENTEEN, OF_ISSUER = patient_group("17"), patient_group("17", "ST ELSEWHERE")
JOINED = f"patient_id:dicom-folder/{SEVENTEEN.partition(':')[2]}"


def test_an_identifier_stands_for_its_digest(tmp_path: Path) -> None:
    none = Forgotten.read(tmp_path)
    groups = {SEVENTEEN, OF_ISSUER, "patient_id:18"}
    assert _as_recorded("patient_id:17", groups, none) == SEVENTEEN
    assert _as_recorded("patient_id:17^^^ST ELSEWHERE", groups, none) == OF_ISSUER
    assert _as_recorded("patient_id:17", {JOINED}, none) == JOINED
    assert _as_recorded(SEVENTEEN, groups, none) == SEVENTEEN


def test_a_name_that_the_data_have_is_never_taken_for_an_identifier(tmp_path: Path) -> None:
    groups = {"patient_id:17", SEVENTEEN}
    assert _as_recorded("patient_id:17", groups, Forgotten.read(tmp_path)) == "patient_id:17"


def test_what_nobody_knows_stays_as_it_was_written(tmp_path: Path) -> None:
    for named in ("patient_id:19", "lesion_id:17", "patient_id:", "17"):
        assert _as_recorded(named, {SEVENTEEN}, Forgotten.read(tmp_path)) == named


def test_a_patient_whose_files_are_gone_is_still_known_as_withdrawn(tmp_path: Path) -> None:
    known = Forgotten.read(tmp_path).with_key()
    mark = known.group_mark(SEVENTEEN)
    known.adding(
        Withdrawal(marks=sorted_marks([mark]), counted=()), Pending(entries=0, records=1, files=0, state=False)
    )
    assert _as_recorded("patient_id:17", set(), Forgotten.read(tmp_path)) == SEVENTEEN
    assert _as_recorded("patient_id:18", set(), Forgotten.read(tmp_path)) == "patient_id:18"
