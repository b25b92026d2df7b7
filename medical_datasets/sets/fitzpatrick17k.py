"""Fitzpatrick17k: 16,577 photographs of 114 skin conditions from two atlases, with the skin type as others judged it.

Two descriptions of one folder: ``fitzpatrick17k`` has the three classes of ``three_partition_label``,
``fitzpatrick17k-nine`` the nine of ``nine_partition_label``. Groups: none are known, and the atlases repeat pictures:
near-duplicate clusters stand in. A skin type of -1 is unknown. Rows that a dermatologist called wrongly labelled
(``qc``) are left out by name.
"""

from __future__ import annotations

from typing import Final

from ..cohort import ClassLabel, Dataset, normalise_name
from ..listed_images import Entry, Labels, LeftOut, Understand, list_table
from ..listing import Listing, Wanted
from ..tables import Row, Table
from .skin_rows import skin_subgroups

_TABLE: Final = "fitzpatrick17k.csv"
_COLUMNS: Final = {"fitzpatrick17k": "three_partition_label", "fitzpatrick17k-nine": "nine_partition_label"}


def read_fitzpatrick17k(dataset: Dataset, wanted: Wanted) -> Listing:
    """The images of the table but the wrongly labelled; raises as :func:`list_table`."""
    column = _COLUMNS[dataset.key]
    labels = Labels(dataset, wanted)

    def understand(row: Row) -> Entry | LeftOut:
        image = row.cells["md5hash"]
        label = labels.of(row.cells[column], row, image)
        if isinstance(label, LeftOut):
            return label
        if "wronglylabel" in normalise_name(row.cells.get("qc", "")):
            return LeftOut(image, "wrongly labelled by its column qc")
        return Entry(image, label, subgroups=skin_subgroups(row.cells, skin_type="fitzpatrick_scale"))

    def understanding(table: Table) -> tuple[Table, Understand]:
        return table, understand

    return list_table(dataset, wanted, (_TABLE,), ("md5hash", "fitzpatrick_scale", column), understanding)


_LAYOUT: Final = (
    f"{_TABLE}: md5hash, fitzpatrick_scale, label, nine_partition_label, three_partition_label, qc, url, …",
    "<md5hash>.jpg, anywhere below",
)
_LICENCE: Final = "CC BY-NC-SA 3.0 for the annotations; the pictures belong to the atlases"
_CITATION: Final = (
    "M. Groh et al., Evaluating deep neural networks trained on clinical images in dermatology with the Fitzpatrick "
    "17k dataset, CVPR workshops, 2021"
)
_OBTAIN: Final = (
    "take the table from the authors' repository and ask them for the pictures, or fetch each from its url and name it "
    "by md5hash; remove the rows whose picture is gone"
)


def _label(name: str, clinical_name: str, *examples: str) -> ClassLabel:
    first, second, third = examples
    return ClassLabel(
        name=name,
        clinical_name=clinical_name,
        prompts=(f"a clinical photograph of {first}", f"a photograph of skin with {second}", f"{third}, seen close up"),
    )


FITZPATRICK17K: Final = Dataset(
    key="fitzpatrick17k",
    title="Fitzpatrick17k, three groups",
    modality="clinical-photograph",
    classes=(
        _label(
            "benign",
            "Benign neoplasm of the skin",
            "a benign skin tumour",
            "a mole, seborrhoeic keratosis or dermatofibroma",
            "a harmless growth of the skin",
        ),
        _label(
            "malignant",
            "Malignant neoplasm of the skin",
            "a malignant skin tumour",
            "a melanoma, basal cell or squamous cell carcinoma",
            "a skin cancer or cutaneous lymphoma",
        ),
        _label(
            "non-neoplastic",
            "Skin disease that is no tumour",
            "an inflammatory skin disease",
            "eczema, psoriasis, an infection or a rash",
            "a genetic or inflammatory disease of the skin, not a tumour",
        ),
    ),
    layout=_LAYOUT,
    group_key="near-duplicate group",
    site_key="",
    subgroup_columns=("skin_type",),
    licence=_LICENCE,
    citation=_CITATION,
    obtain=_OBTAIN,
    signature=(_TABLE,),
    read=read_fitzpatrick17k,
)

FITZPATRICK17K_NINE: Final = Dataset(
    key="fitzpatrick17k-nine",
    title="Fitzpatrick17k, nine groups",
    modality="clinical-photograph",
    classes=(
        _label(
            "benign dermal",
            "Benign dermal tumour",
            "a benign dermal tumour",
            "a dermatofibroma, keloid or lipoma",
            "a benign nodule of the dermis",
        ),
        _label(
            "benign epidermal",
            "Benign epidermal tumour",
            "a benign epidermal tumour",
            "a seborrhoeic keratosis",
            "a warty, stuck-on benign growth of the epidermis",
        ),
        _label(
            "benign melanocyte",
            "Benign melanocytic lesion",
            "a benign melanocytic lesion",
            "a melanocytic naevus or a common mole",
            "a congenital or halo nevus",
        ),
        _label(
            "genodermatoses",
            "Genodermatosis",
            "a genodermatosis",
            "an inherited disease of the skin such as ichthyosis",
            "a genetic skin disease such as neurofibromatosis",
        ),
        _label(
            "inflammatory",
            "Inflammatory or infectious skin disease",
            "an inflammatory skin disease",
            "psoriasis, eczema, lichen planus or acne",
            "a red, scaly, inflamed rash",
        ),
        _label(
            "malignant cutaneous lymphoma",
            "Cutaneous lymphoma",
            "a cutaneous lymphoma",
            "mycosis fungoides",
            "plaques and nodules of a T-cell lymphoma of the skin",
        ),
        _label(
            "malignant dermal",
            "Malignant dermal tumour",
            "a malignant dermal tumour",
            "Kaposi sarcoma",
            "a malignant, violaceous nodule of the dermis",
        ),
        _label(
            "malignant epidermal",
            "Malignant epidermal tumour",
            "a malignant epidermal tumour",
            "a basal cell carcinoma or a squamous cell carcinoma",
            "an ulcerated carcinoma of the skin",
        ),
        # No code: lentigo maligna, a melanoma in situ, is among them.
        _label(
            "malignant melanoma",
            "Melanoma",
            "a malignant melanoma",
            "a superficial spreading melanoma or lentigo maligna",
            "an asymmetric, many-coloured melanoma",
        ),
    ),
    layout=_LAYOUT,
    group_key="near-duplicate group",
    site_key="",
    subgroup_columns=("skin_type",),
    licence=_LICENCE,
    citation=_CITATION,
    obtain=_OBTAIN,
    # The three groups are recognised; these are asked for by name.
    read=read_fitzpatrick17k,
)
