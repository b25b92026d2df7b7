from __future__ import annotations

import re

import pytest
from wardround.medical_datasets.cohort import Code, Dataset
from wardround.medical_datasets.sets.bcn20000 import BCN20000
from wardround.medical_datasets.sets.derm7pt import DERM7PT
from wardround.medical_datasets.sets.fitzpatrick17k import FITZPATRICK17K, FITZPATRICK17K_NINE
from wardround.medical_datasets.sets.ham10000 import HAM10000
from wardround.medical_datasets.sets.isic_2018 import ISIC_2018
from wardround.medical_datasets.sets.isic_2019 import ISIC_2019
from wardround.medical_datasets.sets.isic_2020 import ISIC_2020
from wardround.medical_datasets.sets.isic_folders import ISIC
from wardround.medical_datasets.sets.pad_ufes_20 import PAD_UFES_20

SETS = (
    BCN20000,
    DERM7PT,
    FITZPATRICK17K,
    FITZPATRICK17K_NINE,
    HAM10000,
    ISIC,
    ISIC_2018,
    ISIC_2019,
    ISIC_2020,
    PAD_UFES_20,
)
# The dihedral group of order ten; J. Verhoeff, Error detecting decimal codes, 1969.
PERMUTATION = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def times(a: int, b: int) -> int:
    if a < 5:
        return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
    return 5 + (a - b) % 5 if b < 5 else (a - b) % 5


def verhoeff(identifier: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(identifier)):
        value = int(digit)
        for _ in range(place % 8):
            value = PERMUTATION[value]
        total = times(total, value)
    return total == 0


def test_the_check_digit_is_computed_right() -> None:
    assert verhoeff("2363")  # the example that is given everywhere: 236 has the check digit 3
    assert not any(verhoeff(f"236{digit}") for digit in "012456789")


@pytest.mark.parametrize("dataset", SETS, ids=lambda dataset: dataset.key)
def test_codes_are_well_formed_and_no_two_classes_share_one(dataset: Dataset) -> None:
    shapes = {"ICD-O-3": r"\d{4}/[01236]", "ICD-10": r"[A-Z]\d\d(\.\d)?", "SNOMED CT": r"[1-9]\d{5,17}"}
    seen: dict[Code, str] = {}
    for label in dataset.classes:
        for code in label.codes:
            assert re.fullmatch(shapes[code.system], code.code)
            assert code.system != "SNOMED CT" or verhoeff(code.code)
            assert seen.setdefault(code, label.name) == label.name


def test_classes_that_no_single_concept_covers_have_no_code() -> None:
    coded = {(dataset.key, label.name) for dataset in SETS for label in dataset.classes if label.codes}
    assert ("bcn20000", "SCC") in coded
    assert not {key for key in coded if key[1].lower() in {"mel", "melanoma", "akiec", "bkl", "vasc", "misc"}}
    for wide in (("isic-2019", "SCC"), ("pad-ufes-20", "SCC"), ("isic", "squamous cell carcinoma")):
        assert wide not in coded
