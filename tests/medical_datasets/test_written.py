from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wardround.medical_datasets.cohort import ClassLabel, Dataset
from wardround.medical_datasets.sets.ham10000 import HAM10000
from wardround.medical_datasets.written import misspelt_class, path_below, quoted, same_id


def named(*names: str) -> Dataset:
    return replace(HAM10000, classes=tuple(ClassLabel(name, name, (name,)) for name in names))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("P1", "p1", True),
        ("Müller", unicodedata.normalize("NFD", "müller"), True),
        (" P  1 ", "P 1", True),
        ("P\u00a01", "p 1", True),
        ("Straße", "STRASSE", True),
        ("P 1", "P1", False),
        ("007", "7", False),
        ("7.0", "7", False),
        ("Muller", "Müller", False),
    ],
)
def test_spellings_of_an_identifier(one: str, other: str, same: bool) -> None:
    assert (same_id(one) == same_id(other)) is same


@given(st.text(max_size=12))
def test_every_spelling_of_an_identifier_is_compared_alike(text: str) -> None:
    assert same_id(same_id(text)) == same_id(text)
    for form in ("NFC", "NFD"):
        assert same_id(unicodedata.normalize(form, text)) == same_id(text)
    assert same_id(f" {text}\t") == same_id(text)


@pytest.mark.parametrize(
    ("written", "classes", "meant"),
    [
        ("maligant", ("benign", "malignant"), "malignant"),
        ("bengin", ("benign", "malignant"), "benign"),
        ("gliomas", ("glioma", "other"), "glioma"),
        ("tpye_a", ("type_a", "type_b"), "type_a"),
        ("grade_3", ("grade_2", "grade_4"), None),
        ("graed_2", ("grade_2", "grade_3"), "grade_2"),
        ("grade III", ("grade I", "grade II"), None),
        ("type C", ("type A", "type B"), None),
        ("non-melanoma", ("melanoma", "nevus"), None),
        ("inflamed", ("benign", "malignant"), None),
    ],
)
def test_misspelt_classes_and_other_classes(written: str, classes: tuple[str, ...], meant: str | None) -> None:
    assert misspelt_class(written, named(*classes)) == meant


def test_only_classes_that_are_kept_are_meant() -> None:
    assert misspelt_class("maligant", named("benign", "malignant"), {0}) is None
    assert misspelt_class("maligant", named("benign", "malignant"), {1}) == "malignant"


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("a\\b/c.png", "a/b/c.png"),
        ("./a", "a"),
        ("a:b.png", "a:b.png"),
        ("", None),
        (".", None),
        ("/a", None),
        ("C:\\a", None),
        ("d:", None),
        ("\\\\server\\a", None),
        ("a/../../b", None),
    ],
)
def test_paths_below_a_folder(written: str, path: str | None) -> None:
    below = path_below(written)
    assert (None if below is None else str(below)) == path


def test_quoted_text_keeps_backslashes_and_escapes_controls() -> None:
    assert quoted("C:\\a") == "'C:\\a'"
    assert quoted("a\x1b[31m") == "'a\\x1b[31m'"
