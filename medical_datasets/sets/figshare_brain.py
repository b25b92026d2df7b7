"""The figshare brain tumour set: 3,064 contrast-enhanced T1 slices of 233 patients, one MATLAB v7.3 file a slice.

Groups: the patient, ``cjdata/PID`` of each file; a patient has about 13 slices, so a split by image leaks. There is no
class without a tumour. The numbers of the files say nothing, and the published folds (``cvind.mat``) are not used.
"""

from __future__ import annotations

from typing import Final

from ..classes import kept_labels
from ..cohort import Dataset, Skipped
from ..errors import DataError, DatasetLayoutError, UnknownClassError, UnreadableImageError
from ..image_files import ImageFiles, check_root
from ..listing import Item, Listing, Wanted
from ..readers.matlab import facts
from .brain_mri import BRAIN_MRI

_FOLDS: Final = "cvind.mat"
_CLASS_OF: Final = {1: "meningioma", 2: "glioma", 3: "pituitary"}  # cjdata/label


def list_figshare(dataset: Dataset, wanted: Wanted) -> Listing:
    """Find the slices below the root, in whatever folders they were unpacked; label and patient come from each file.

    Raises:
        DatasetLayoutError: the root is no folder, or a folder cannot be listed.
        UnknownClassError, EmptyClassError: ``wanted.classes`` are no classes of the data set.
    """
    root = wanted.root
    check_root(dataset, root)
    kept = kept_labels(dataset, wanted.classes)
    found = ImageFiles(root, frozenset({".mat"}))
    skipped = list(found.skipped)
    problems: list[DataError] = []
    items: list[Item] = []
    slices = sorted(name for name in found.relatives if name.rsplit("/", 1)[-1].lower() != _FOLDS)
    for relative in slices:
        try:
            known = facts(root / relative)
        except UnreadableImageError as damaged:
            skipped.append(Skipped(root / relative, damaged.what))
            continue
        if known.label not in _CLASS_OF:
            problems.append(
                UnknownClassError(
                    f"cjdata/label is {known.label}; the labels are 1 meningioma, 2 glioma and 3 pituitary tumour",
                    where=str(root / relative),
                    remedy="copy the file again from its source, or remove it",
                )
            )
            continue
        label = dataset.class_index(_CLASS_OF[known.label])
        if label is None or label not in kept:
            continue
        group = None if known.patient is None else f"patient_id:{known.patient}"
        items.append(Item(relative=relative, label=label, group=group))
    if not slices:
        problems.append(
            DatasetLayoutError(
                "there is no .mat file in the folder", where=str(root), remedy=f"unpack the archives: {dataset.obtain}"
            )
        )
    return Listing(root, dataset, tuple(items), tuple(skipped), tuple(problems))


FIGSHARE_BRAIN: Final = Dataset(
    key="figshare-brain",
    title="Figshare brain tumour MRI",
    modality="brain-mri",
    classes=tuple(label for label in BRAIN_MRI.classes if label.name in _CLASS_OF.values()),
    layout=(
        "1.mat to 3064.mat, in any folders (brainTumorDataPublic_1-766 and its like)",
        "each: cjdata/image, label, PID, tumorBorder, tumorMask in MATLAB v7.3",
        "cvind.mat is passed over",
    ),
    group_key="patient (PID)",
    site_key="",
    subgroup_columns=(),
    licence="CC BY 4.0 (figshare)",
    citation=(
        "J. Cheng et al., Enhanced performance of brain tumor classification via tumor region augmentation and "
        "partition, PLoS ONE 10(10), e0140381, 2015; J. Cheng, Brain tumor dataset, figshare, 2017"
    ),
    obtain=(
        "download 'brain tumor dataset' by Jun Cheng from figshare in a browser and unpack the four archives inside it"
    ),
    read=list_figshare,
    signature=("cvind.mat", "*/cvind.mat", "brainTumorDataPublic_*"),
)
"""Classes and prompts are those of :data:`..brain_mri.BRAIN_MRI`, without ``notumor``."""
