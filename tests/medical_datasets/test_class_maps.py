from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wardround.medical_datasets.catalog import DATASETS
from wardround.medical_datasets.class_map_tables import CLASS_MAPS, INTO, MEANINGS
from wardround.medical_datasets.class_maps import map_classes
from wardround.medical_datasets.classes import keep_classes
from wardround.medical_datasets.cohort import ClassLabel, Dataset
from wardround.medical_datasets.errors import UnknownClassError
from wardround.medical_datasets.sets.bcn20000 import BCN20000
from wardround.medical_datasets.sets.brain_mri import BRAIN_MRI
from wardround.medical_datasets.sets.derm7pt import DERM7PT
from wardround.medical_datasets.sets.fitzpatrick17k import FITZPATRICK17K, FITZPATRICK17K_NINE
from wardround.medical_datasets.sets.ham10000 import HAM10000
from wardround.medical_datasets.sets.isic_2018 import ISIC_2018
from wardround.medical_datasets.sets.isic_2019 import ISIC_2019
from wardround.medical_datasets.sets.isic_2020 import ISIC_2020
from wardround.medical_datasets.sets.isic_folders import ISIC
from wardround.medical_datasets.sets.pad_ufes_20 import PAD_UFES_20

SKIN = (
    HAM10000,
    ISIC,
    ISIC_2018,
    ISIC_2019,
    ISIC_2020,
    BCN20000,
    PAD_UFES_20,
    DERM7PT,
    FITZPATRICK17K,
    FITZPATRICK17K_NINE,
)
KNOWN = {**{key: DATASETS[key] for key in MEANINGS if key in DATASETS}, **{data.key: data for data in SKIN}}
PAIRS = [(KNOWN[source], KNOWN[target]) for source, target in CLASS_MAPS if source in KNOWN and target in KNOWN]
BETWEEN = pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda data: data.key)


def left_out(source: Dataset, target: Dataset) -> list[str]:
    return [name for name, into in CLASS_MAPS[source.key, target.key].items() if into.name is None]


def test_every_pair_of_a_family_has_a_map() -> None:
    assert MEANINGS.keys() == INTO.keys()
    assert len(PAIRS) >= len(SKIN) * (len(SKIN) - 1)
    assert all((a.key, b.key) in CLASS_MAPS for a in SKIN for b in SKIN if a is not b)


@pytest.mark.parametrize("key", KNOWN)
def test_meanings_are_of_every_class_and_lead_into_real_ones(key: str) -> None:
    assert set(MEANINGS[key]) == set(KNOWN[key].class_names)
    known = {meaning for meanings in MEANINGS.values() for meaning in meanings.values()}
    for meaning, into in INTO[key].items():
        assert meaning in known
        assert into.name is None or into.name in KNOWN[key].class_names
        assert into.name is not None or into.note
    for name, meaning in MEANINGS[key].items():  # a class belongs to itself, exactly
        assert INTO[key][meaning].name == name
        if meaning not in ("malignant-melanoma-only", "derm7pt-misc"):
            assert not INTO[key][meaning].note


@BETWEEN
def test_every_class_is_resolved_exactly_once(source: Dataset, target: Dataset) -> None:
    table = CLASS_MAPS[source.key, target.key]
    assert set(table) == set(source.class_names)
    nowhere = left_out(source, target)
    if nowhere:
        with pytest.raises(UnknownClassError) as caught:
            map_classes(source, target)
        assert all(repr(name) in caught.value.what and table[name].note in caught.value.what for name in nowhere)
    resolved = map_classes(source, target, exclude=nowhere)
    assert len(resolved.labels) == len(source.classes)
    for name, label in zip(source.class_names, resolved.labels, strict=True):
        assert (label is None) == (name in nowhere)
        assert label is None or target.class_names[label] == table[name].name
    assert len(resolved.notes) == sum(bool(into.note) for into in table.values() if into.name is not None)


@BETWEEN
def test_round_trips_where_both_ways_are_one_to_one(source: Dataset, target: Dataset) -> None:
    there = map_classes(source, target, exclude=left_out(source, target)).labels
    back = map_classes(target, source, exclude=left_out(target, source)).labels
    for label, over in enumerate(there):
        if over is not None and there.count(over) == 1 and back[over] is not None:
            exact = not CLASS_MAPS[source.key, target.key][source.class_names[label]].note
            assert back[over] == label or not exact


@pytest.mark.parametrize(
    ("source", "target", "pairs", "nowhere"),
    [
        (HAM10000, ISIC_2018, {name: name.upper() for name in HAM10000.class_names}, []),
        (ISIC_2018, HAM10000, {name.upper(): name for name in HAM10000.class_names}, []),
        (ISIC_2019, BCN20000, {name: name for name in BCN20000.class_names}, []),
        (
            ISIC,
            HAM10000,
            {
                "actinic keratosis": "akiec",
                "basal cell carcinoma": "bcc",
                "dermatofibroma": "df",
                "melanoma": "mel",
                "nevus": "nv",
                "pigmented benign keratosis": "bkl",
                "seborrheic keratosis": "bkl",
                "vascular lesion": "vasc",
            },
            ["squamous cell carcinoma"],
        ),
        (
            PAD_UFES_20,
            ISIC_2019,
            dict(zip(PAD_UFES_20.class_names, ["AK", "BCC", "MEL", "NV", "SCC", "BKL"], strict=True)),
            [],
        ),
        (
            DERM7PT,
            ISIC,
            {"BCC": "basal cell carcinoma", "NEV": "nevus", "MEL": "melanoma", "SK": "seborrheic keratosis"},
            ["MISC"],
        ),
        (
            BCN20000,
            ISIC_2020,
            {
                "MEL": "malignant",
                "NV": "benign",
                "BCC": "malignant",
                "BKL": "benign",
                "DF": "benign",
                "VASC": "benign",
                "SCC": "malignant",
            },
            ["AK"],
        ),
        (
            FITZPATRICK17K_NINE,
            FITZPATRICK17K,
            {
                "benign dermal": "benign",
                "benign epidermal": "benign",
                "benign melanocyte": "benign",
                "genodermatoses": "non-neoplastic",
                "inflammatory": "non-neoplastic",
                "malignant cutaneous lymphoma": "malignant",
                "malignant dermal": "malignant",
                "malignant epidermal": "malignant",
                "malignant melanoma": "malignant",
            },
            [],
        ),
    ],
    ids=lambda value: value.key if isinstance(value, Dataset) else "",
)
def test_what_a_dermatologist_would_say(
    source: Dataset, target: Dataset, pairs: dict[str, str], nowhere: list[str]
) -> None:
    labels = map_classes(source, target, exclude=nowhere).labels
    found = {
        name: target.class_names[label]
        for name, label in zip(source.class_names, labels, strict=True)
        if label is not None
    }
    assert found == pairs


def test_notes_say_what_is_not_exact() -> None:
    (note,) = map_classes(HAM10000, BCN20000).notes
    assert note.startswith("ham10000 'akiec' -> bcn20000 'AK': ")
    assert "Bowen" in note
    assert map_classes(HAM10000, ISIC_2018).notes == ()


def test_brain_sets_map_by_equal_names() -> None:
    facmic = replace(BRAIN_MRI, key="facmic-brain")
    assert map_classes(facmic, BRAIN_MRI).labels == (0, 1, 2, 3)
    figshare = replace(keep_classes(BRAIN_MRI, ["glioma", "meningioma", "pituitary"]), key="figshare-brain")
    assert map_classes(figshare, BRAIN_MRI).labels == (0, 1, 3)
    with pytest.raises(UnknownClassError, match=r"'notumor'.*every image of the target shows a tumour"):
        map_classes(BRAIN_MRI, figshare)
    assert map_classes(BRAIN_MRI, figshare, exclude=["no_tumor"]).labels == (0, 1, None, 2)


def unknown(*names: str) -> Dataset:
    classes = tuple(ClassLabel(name, name, (f"a picture of {name}",)) for name in names)
    return replace(BRAIN_MRI, key="ours", title="Our own", classes=classes)


def test_unknown_data_sets_map_by_name_or_alias_only() -> None:
    ours = unknown("Pituitary_Tumor", "healthy", "metastasis")
    with pytest.raises(UnknownClassError) as caught:
        map_classes(ours, BRAIN_MRI)
    message = str(caught.value)
    assert message.startswith("'metastasis' of ours belongs to no class of brain-mri")
    assert 'exclude = ["metastasis"]' in message
    assert 'map = { "metastasis" = "…" }' in message
    assert "glioma, meningioma, notumor, pituitary" in message
    assert map_classes(ours, BRAIN_MRI, {"metastasis": "glioma"}).labels == (3, 2, 0)
    assert map_classes(ours, BRAIN_MRI, exclude=["metastasis"]).labels == (3, 2, None)


def test_a_class_that_the_study_does_not_keep_is_refused() -> None:
    study = keep_classes(HAM10000, ["mel", "nv"])
    with pytest.raises(UnknownClassError) as caught:
        map_classes(keep_classes(ISIC_2018, ["MEL", "NV", "BCC"]), study)
    assert "'BCC': the study has no class 'bcc'" in str(caught.value)
    assert "'MEL'" not in caught.value.what
    assert map_classes(ISIC_2018, study, exclude=["BCC", "AKIEC", "BKL", "DF", "VASC"]).labels == (0, 1, *[None] * 5)


def test_the_study_has_the_last_word() -> None:
    explicit = {"squamous_cell_carcinoma": "Bowens disease", "sk": "nv"}
    resolved = map_classes(ISIC, HAM10000, explicit)
    assert [HAM10000.class_names[label] for label in resolved.labels if label is not None] == [
        "akiec",
        "bcc",
        "df",
        "mel",
        "nv",
        "bkl",
        "nv",
        "akiec",
        "vasc",
    ]
    assert not any("seborrheic" in note for note in resolved.notes)


@pytest.mark.parametrize(
    ("explicit", "exclude", "words"),
    [
        ({"melanomma": "mel"}, [], r"'melanomma' is no class of isic.*did you mean 'melanoma'"),
        ({"nevus": "nevuss"}, [], r"'nevuss' is no class of ham10000.*map of the source isic.*did you mean 'nv'"),
        ({}, ["scar"], r"'scar' is no class of isic.*exclude of the source isic"),
        ({"scc": "akiec"}, ["squamous cell carcinoma"], "both mapped and excluded"),
        ({}, ["scc", "SCC"], "a second time"),
        ({"scc": "akiec", "Squamous Cell Carcinoma": "bcc"}, [], "a second time"),
    ],
)
def test_faulty_maps_are_refused(explicit: dict[str, str], exclude: list[str], words: str) -> None:
    with pytest.raises(UnknownClassError, match=words):
        map_classes(ISIC, HAM10000, explicit, exclude)


@given(data=st.data())
def test_explicit_then_exclude_then_table(data: st.DataObject) -> None:
    source, target = data.draw(st.sampled_from(PAIRS))
    choice = {name: data.draw(st.sampled_from(["table", "map", "exclude"])) for name in source.class_names}
    explicit = {name: data.draw(st.sampled_from(target.class_names)) for name, what in choice.items() if what == "map"}
    exclude = [name for name, what in choice.items() if what == "exclude"]
    table = CLASS_MAPS[source.key, target.key]
    expected = [
        explicit.get(name) or (None if name in exclude else table[name].name or "refused")
        for name in source.class_names
    ]
    if "refused" in expected:
        with pytest.raises(UnknownClassError):
            map_classes(source, target, explicit, exclude)
    else:
        labels = map_classes(source, target, explicit, exclude).labels
        assert [None if label is None else target.class_names[label] for label in labels] == expected
