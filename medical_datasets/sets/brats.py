"""BraTS: skull-stripped MR volumes of brain gliomas with their segmentation; slices are chosen by tumour area.

Read is the contrast-enhanced T1 (``t1ce``, since 2023 ``t1c``). What the segmentation has above 0 counts as tumour for
the choice of slices: necrosis 1, oedema 2, enhancing tumour 4 up to 2021 and 3 since 2023.

Groups: the patient. Of ``BraTS-GLI-00000-001`` it is ``BraTS-GLI-00000``, because the last number counts his
examinations; ``BraTS2021_00000`` is one. Every edition holds patients of the one before under other names (the
training cases of 2023 are those of 2021, which hold those of 2020), so two editions in one folder or study are refused.

Every case is a glioma: the set is a source of a study with others. Cases of the sister challenges for meningioma and
metastases (``BraTS-MEN``, ``BraTS-MET``) look alike on disk and are left out by name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Final

from ..classes import kept_labels
from ..cohort import Dataset, Skipped
from ..errors import DataError, DatasetLayoutError, UnreadableImageError
from ..image_files import ImageFiles, check_root
from ..listing import Item, Listing, Wanted
from ..readers.nifti_slices import choose_slices, in_threads
from .brain_mri import BRAIN_MRI

READ: Final = ("t1ce", "t1c")
_SEGMENTATION: Final = "seg"
_FILE: Final = re.compile(
    r"(?P<case>.+)[_-](?P<kind>flair|t1|t1ce|t2|t1n|t1c|t2w|t2f|seg)\.nii(\.gz)?", re.IGNORECASE | re.ASCII
)
_EXAMINATION: Final = re.compile(r"(BraTS-[A-Za-z]+-\d+)-\d+", re.IGNORECASE | re.ASCII)
_EDITION: Final = re.compile(r"BraTS(?:20)?(?P<year>[12]\d)_|(?P<since>BraTS-GLI-\d+-)", re.IGNORECASE | re.ASCII)
_OTHER_TUMOURS: Final = {"men": "a meningioma", "met": "a metastasis", "goat": "a tumour of any kind"}
_NIFTI: Final = frozenset({".nii", ".gz"})


def subject_of(case: str) -> str:
    """The patient of a case: its name without the number of the examination, where it has one."""
    found = _EXAMINATION.fullmatch(case)
    return found[1] if found else case


def edition_of(case: str) -> str:
    """The edition that a case or file is named by, in words; empty: named in no way of BraTS.

    ``BraTS2021_00000`` and ``BraTS20_Training_001`` tell the year, ``BraTS-GLI-00000-000`` that it is 2023 or later.
    """
    found = _EDITION.match(case)
    if found is None:
        return ""
    return "2023 or later" if found["since"] else f"20{found['year']}"


def list_brats(dataset: Dataset, wanted: Wanted) -> Listing:
    """Find the cases below the root and choose ``wanted.slices`` axial slices of each by its segmentation.

    The segmentations are unpacked for that, each once for each state of the files.

    Raises:
        DatasetLayoutError: the root is no folder, or a folder cannot be listed.
        UnknownClassError, EmptyClassError: ``wanted.classes`` is given; the set has one class.
    """
    root = wanted.root
    check_root(dataset, root)
    kept_labels(dataset, wanted.classes)
    found = ImageFiles(root, _NIFTI)
    skipped = list(found.skipped)
    cases: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for relative in sorted(found.relatives):
        folder, _, name = relative.rpartition("/")
        named = _FILE.fullmatch(name)
        if named is None:
            skipped.append(Skipped(root / relative, "its name is no case and modality of BraTS"))
            continue
        cases[f"{folder}/{named['case']}"].setdefault(named["kind"].lower(), relative)

    whole: list[tuple[str, str, str]] = []
    for place, files in cases.items():
        case = place.rpartition("/")[2]
        reason = _why_not(case, files)
        if reason:
            skipped.append(Skipped(root / min(files.values()), reason))
        else:
            whole.append((case, next(files[kind] for kind in READ if kind in files), files[_SEGMENTATION]))

    def choose(each: tuple[str, str, str]) -> tuple[int, ...] | str:
        try:
            return choose_slices(root / each[1], root / each[2], wanted.slices) or "the segmentation has no tumour"
        except UnreadableImageError as damaged:
            return damaged.what

    items: list[Item] = []
    for (case, volume, _), chosen in zip(whole, in_threads(choose, whole), strict=True):
        if isinstance(chosen, str):
            skipped.append(Skipped(root / volume, chosen))
            continue
        group = f"patient_id:{subject_of(case)}"
        items += [Item(relative=volume, label=0, part=f"axial={index}", group=group) for index in chosen]
    return Listing(
        root,
        dataset,
        tuple(sorted(items, key=lambda item: (item.relative, item.part))),
        tuple(skipped),
        _problems(root, [case for case, _, _ in whole], bool(cases), dataset),
    )


def _why_not(case: str, files: dict[str, str]) -> str:
    challenge = case.lower().split("-")[1] if case.lower().startswith("brats-") and case.count("-") else ""
    if challenge in _OTHER_TUMOURS:
        return f"{_OTHER_TUMOURS[challenge]} of a sister challenge, not known as a glioma"
    if _SEGMENTATION not in files:
        return "the case has no segmentation (seg)"
    if not any(kind in files for kind in READ):
        return "the case has no contrast-enhanced T1 (t1ce or t1c)"
    return ""


def _problems(root: Path, cases: list[str], any_case: bool, dataset: Dataset) -> tuple[DataError, ...]:
    if not any_case:
        return (
            DatasetLayoutError(
                "no file is named as BraTS does, e.g. BraTS2021_00000_t1ce.nii.gz or BraTS-GLI-00000-000-t1c.nii.gz",
                where=str(root),
                remedy=f"give the folder of the cases: {dataset.obtain}",
            ),
        )
    editions = sorted({edition_of(case) for case in cases} - {""})
    if len(editions) > 1:
        return (
            DatasetLayoutError(
                f"the folder holds cases of {' and of '.join(editions)}, which are partly the same patients under "
                "other names",
                where=str(root),
                remedy="keep one edition in the folder",
            ),
        )
    return ()


BRATS: Final = Dataset(
    key="brats",
    title="BraTS brain gliomas, slices by tumour area",
    modality="brain-mri",
    classes=tuple(label for label in BRAIN_MRI.classes if label.name == "glioma"),
    layout=(
        "<case>/<case>_{flair,t1,t1ce,t2,seg}.nii.gz (2021 and before)",
        "<case>/<case>-{t1n,t1c,t2w,t2f,seg}.nii.gz (2023 and later)",
    ),
    group_key="patient",
    site_key="",
    subgroup_columns=(),
    licence="by registration with the challenge; its data use terms and the papers to cite come with the download",
    citation=(
        "U. Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 benchmark on brain tumor segmentation and radiogenomic "
        "classification, arXiv:2107.02314, 2021; B. H. Menze et al., The multimodal brain tumor image segmentation "
        "benchmark, IEEE Transactions on Medical Imaging 34(10), 1993-2024, 2015"
    ),
    obtain="register with the BraTS challenge on Synapse, download the training data and unpack it; one folder a case",
    read=list_brats,
    signature=(
        "*_t1ce.nii.gz",
        "*-t1c.nii.gz",
        "*/*_t1ce.nii.gz",
        "*/*-t1c.nii.gz",
        "*/*_t1ce.nii",
        "*/*/*_t1ce.nii.gz",
        "*/*/*-t1c.nii.gz",
    ),
)
"""One class, because the data have one; a study that trains on it joins it with others."""
