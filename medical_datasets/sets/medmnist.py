"""MedMNIST: eleven sets of small pictures, each one npz of ``{train,val,test}_{images,labels}`` in up to four sizes.

Groups: none is published, and the supplied split shares lesions and patients; near-duplicate clusters stand in.
ChestMNIST has several labels an image, and the sets whose names end in 3d are volumes: neither is read.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..classes import kept_labels
from ..cohort import ClassLabel, Dataset, ImageRef, Modality, Skipped
from ..errors import DataError, DatasetLayoutError, TableError, UnknownClassError, UnreadableImageError
from ..listing import Item, Listing, Wanted
from ..readers.arrays import check_header, members, names_of, small_array
from . import medmnist_classes as classes

MAX_IMAGES: Final = 1 << 18
"""Images of a set; a file that claims more is refused. The largest published set, TissueMNIST, has 236,386."""

_SPLITS: Final = {"train": "train", "val": "validation", "test": "test"}
_FILE: Final = re.compile(r"(?P<key>[a-z0-9]*mnist(3d)?)(_(?P<side>64|128|224))?\.npz", re.IGNORECASE | re.ASCII)
REFUSED: Final = {
    "chestmnist": "ChestMNIST gives an image several of 14 findings, and a classifier here has one class an image",
    **{
        f"{name}mnist3d": f"{name.capitalize()}MNIST3D holds volumes; read are the two-dimensional sets of MedMNIST"
        for name in ("organ", "nodule", "adrenal", "fracture", "vessel", "synapse")
    },
}
"""Sets of MedMNIST that are not read, and why."""


def list_medmnist(dataset: Dataset, wanted: Wanted) -> Listing:
    """The pictures of the set's largest file in the folder, or of the file itself; only labels are unpacked.

    Parts are ``train_images/00017``, with leading zeros so that their order is the array's.

    Raises:
        DatasetLayoutError: the folder has no file of this set.
        UnknownClassError, EmptyClassError: ``wanted.classes`` are no classes of the data set.
    """
    kept = kept_labels(dataset, wanted.classes)
    path, skipped = _find(dataset, wanted.root)
    items: list[Item] = []
    problems: list[DataError] = []
    room = MAX_IMAGES
    for name, split in _SPLITS.items():
        try:
            labels = _labels(path, name, dataset, room)
        except UnreadableImageError as damaged:
            problems.append(TableError(damaged.what, where=damaged.where, remedy=damaged.remedy))
            continue
        except DataError as refused:
            problems.append(refused)
            continue
        room -= len(labels)
        digits = len(str(len(labels) - 1))
        items += [
            Item(relative=path.name, label=label, part=f"{name}_images/{index:0{digits}}", split=split)
            for index, label in enumerate(labels.tolist())
            if label in kept
        ]
    items.sort(key=lambda item: item.part)
    return Listing(path.parent, dataset, tuple(items), tuple(skipped), tuple(problems))


def _find(dataset: Dataset, root: Path) -> tuple[Path, list[Skipped]]:
    if not root.exists():
        raise DatasetLayoutError("the data folder does not exist", where=str(root), remedy=dataset.obtain)
    files = [root] if root.is_file() else sorted(path for path in root.glob("*.npz") if path.is_file())
    sides: dict[int, Path] = {}
    skipped = []
    for path in files:
        named = _FILE.fullmatch(path.name)
        if named and named["key"].lower() == dataset.key:
            sides[int(named["side"] or 28)] = path
        else:
            key = named["key"].lower() if named else ""
            skipped.append(Skipped(path, REFUSED.get(key, f"not a file of {dataset.key}")))
    if not sides:
        refused = next((each.reason for each in skipped if each.reason in REFUSED.values()), "")
        raise DatasetLayoutError(
            f"there is no {dataset.key}.npz, nor one with _64, _128 or _224" + (f"; {refused}" if refused else ""),
            where=str(root),
            remedy=dataset.obtain,
        )
    largest = max(sides)
    reason = f"{sides[largest].name} has the same images, larger"
    skipped += [Skipped(path, reason) for side, path in sides.items() if side != largest]
    return sides[largest], skipped


def _labels(path: Path, name: str, dataset: Dataset, room: int) -> NDArray[np.int64]:
    """Labels of one part of the set, at most ``room``, after checking that its pictures fit them."""
    images, labels = f"{name}_images", f"{name}_labels"
    found = members(path)
    missing = [each for each in (images, labels) if each not in found]
    if missing:
        raise DatasetLayoutError(
            f"the file has no array {missing[0]!r}; it has {names_of(found)}",
            where=str(path),
            remedy="download it again",
        )
    shape = found[images].shape
    where = f"{path}, {labels}"
    claimed = max(math.prod(each[:1]) for each in (shape, found[labels].shape))
    if claimed > room:
        raise TableError(
            f"the file claims more than {MAX_IMAGES} images: {claimed} in {name}",
            where=where,
            remedy="download it again; no published set has more",
        )
    values = small_array(path, labels)
    if values.ndim == 2 and values.shape[1] > 1:
        raise TableError(
            f"there are {values.shape[1]} labels an image; a classifier here has one class an image",
            where=where,
            remedy="use a set with one label an image",
        )
    if values.dtype.kind not in "iu" or values.ndim not in (1, 2):
        raise TableError(
            f"the labels are {values.dtype} of shape {values.shape}", where=where, remedy="download it again"
        )
    flat = values.reshape(-1).astype(np.int64)
    if len(flat) != (shape[0] if shape else 0):
        raise TableError(
            f"there are {len(flat)} labels for {shape[0] if shape else 0} images",
            where=where,
            remedy="download it again: which label belongs to which image is not known",
        )
    if len(flat):
        check_header(ImageRef(path, f"{images}/0"))  # all pictures of an array have one type and shape
    outside = np.flatnonzero((flat < 0) | (flat >= len(dataset.classes)))
    if len(outside):
        raise UnknownClassError(
            f"{len(outside)} labels are out of range, the first is {flat[outside[0]]} of image {outside[0]}",
            where=where,
            remedy=f"labels are 0 to {len(dataset.classes) - 1}: {', '.join(dataset.class_names)}",
        )
    return flat


def _set(
    key: str,
    name: str,
    words: str,
    modality: Modality,
    labels: tuple[ClassLabel, ...],
    source: str,
    licence: str = "CC BY 4.0",
) -> Dataset:
    return Dataset(
        key=key,
        title=f"{name} ({words})",
        modality=modality,
        classes=labels,
        layout=(
            f"{key}.npz (28 x 28), {key}_64.npz, {key}_128.npz or {key}_224.npz; the largest is read",
            "each: train_images, train_labels, val_images, val_labels, test_images, test_labels",
        ),
        group_key="near-duplicate group",
        site_key="",
        subgroup_columns=(),
        licence=licence,
        citation=(
            "J. Yang et al., MedMNIST v2 - a large-scale lightweight benchmark for 2D and 3D biomedical image "
            f"classification, Scientific Data 10, 41, 2023; made from {source}"
        ),
        obtain=f"download {key}_224.npz (or a smaller one) of MedMNIST from Zenodo; its folder is the path to give",
        read=list_medmnist,
        signature=(f"{key}.npz", f"{key}_*.npz"),
    )


_LITS: Final = "P. Bilic et al., The liver tumor segmentation benchmark (LiTS), Medical Image Analysis 84, 102680, 2023"

MEDMNIST: Final = (
    _set(
        "dermamnist",
        "DermaMNIST",
        "dermoscopy of seven skin lesions",
        "dermoscopy",
        classes.DERMA,
        "P. Tschandl et al., The HAM10000 dataset, Scientific Data 5, 180161, 2018",
        "CC BY-NC 4.0",
    ),
    _set(
        "pathmnist",
        "PathMNIST",
        "histology patches of colorectal tissue",
        "microscopy",
        classes.PATH,
        "J. N. Kather et al., Predicting survival from colorectal cancer histology slides using deep learning, PLoS "
        "Medicine 16(1), e1002730, 2019",
    ),
    _set(
        "octmnist",
        "OCTMNIST",
        "optical coherence tomography of the retina",
        "any",
        classes.OCT,
        "D. S. Kermany et al., Identifying medical diagnoses and treatable diseases by image-based deep learning, Cell "
        "172(5), 1122-1131, 2018",
    ),
    _set(
        "pneumoniamnist",
        "PneumoniaMNIST",
        "chest radiographs of children",
        "radiology",
        classes.PNEUMONIA,
        "D. S. Kermany et al., Identifying medical diagnoses and treatable diseases by image-based deep learning, Cell "
        "172(5), 1122-1131, 2018",
    ),
    _set(
        "retinamnist",
        "RetinaMNIST",
        "fundus photographs by grade of diabetic retinopathy",
        "any",
        classes.RETINA,
        "R. Liu et al., DeepDRiD: diabetic retinopathy - grading and image quality estimation challenge, Patterns "
        "3(6), 100512, 2022",
    ),
    _set(
        "breastmnist",
        "BreastMNIST",
        "breast ultrasound",
        "radiology",
        classes.BREAST,
        "W. Al-Dhabyani et al., Dataset of breast ultrasound images, Data in Brief 28, 104863, 2020",
    ),
    _set(
        "bloodmnist",
        "BloodMNIST",
        "cells of normal blood",
        "microscopy",
        classes.BLOOD,
        "A. Acevedo et al., A dataset of microscopic peripheral blood cell images for development of automatic "
        "recognition systems, Data in Brief 30, 105474, 2020",
    ),
    _set(
        "tissuemnist",
        "TissueMNIST",
        "cells of the human kidney cortex",
        "microscopy",
        classes.TISSUE,
        "A. Woloshuk et al., In situ classification of cell types in human kidney tissue using 3D nuclear staining, "
        "Cytometry A 99(7), 707-721, 2021 (BBBC051)",
    ),
    _set("organamnist", "OrganAMNIST", "abdominal CT, axial", "radiology", classes.organs("axial"), _LITS),
    _set("organcmnist", "OrganCMNIST", "abdominal CT, coronal", "radiology", classes.organs("coronal"), _LITS),
    _set("organsmnist", "OrganSMNIST", "abdominal CT, sagittal", "radiology", classes.organs("sagittal"), _LITS),
)
"""The two-dimensional sets with one label an image. The groups of OrganA-, C- and SMNIST are the same patients."""
