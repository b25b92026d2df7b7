"""Class maps between data sets, as data: what each class means, and where each meaning belongs in another data set.

Every class of a data set has one meaning (``MEANINGS``); a data set takes some meanings into its classes (``INTO``). A
map from one set to another is the one followed by the other, so that a new data set adds two short tables and no pairs.
Where a class is wider or narrower than the class it is taken into, the note says so. A meaning that a data set does not
list is left out: :func:`..class_maps.map_classes` then asks the study to name it.

HAM10000's 327 images of ``akiec`` are 130 actinic keratoses and 197 squamous cell carcinomas in ISIC 2019 and in the
class folders of the ISIC archive: there, AK is without Bowen's disease and SCC holds it (of BCN20000 come 737 more AK
and 431 more SCC, which makes the 867 and 628 of ISIC 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Into:
    """Where a meaning belongs.

    Attributes:
        name: class of the target; None: it is left out.
        note: why it is left out, or in what the two classes differ; empty: they are the same.
    """

    name: str | None
    note: str = ""


_HAM: Final = {
    "akiec": "akiec",
    "bcc": "bcc",
    "bkl": "bkl",
    "df": "df",
    "mel": "mel",
    "nv": "nv",
    "vasc": "vasc",
}
_ISIC_2019: Final = {
    "AK": "ak",
    "BCC": "bcc",
    "BKL": "bkl",
    "DF": "df",
    "MEL": "mel",
    "NV": "nv",
    "SCC": "scc-bowen",
    "VASC": "vasc",
}
_BRAIN: Final = {name: name for name in ("glioma", "meningioma", "notumor", "pituitary")}

MEANINGS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "ham10000": _HAM,
        "dermamnist": _HAM,
        "isic-2018": {name.upper(): meaning for name, meaning in _HAM.items()},
        "isic": {
            "actinic keratosis": "ak",
            "basal cell carcinoma": "bcc",
            "dermatofibroma": "df",
            "melanoma": "mel",
            "nevus": "nv",
            "pigmented benign keratosis": "pbk",
            "seborrheic keratosis": "sk",
            "squamous cell carcinoma": "scc-bowen",
            "vascular lesion": "vasc",
        },
        "isic-2019": _ISIC_2019,
        "bcn20000": {**_ISIC_2019, "SCC": "scc"},
        "pad-ufes-20": {"ACK": "ak", "BCC": "bcc", "MEL": "mel", "NEV": "nv", "SCC": "scc-bowen", "SEK": "sk"},
        "derm7pt": {"BCC": "bcc", "NEV": "nv", "MEL": "mel", "MISC": "derm7pt-misc", "SK": "sk"},
        "isic-2020": {"benign": "benign", "malignant": "malignant-melanoma-only"},
        "fitzpatrick17k": {"benign": "benign", "malignant": "malignant", "non-neoplastic": "non-neoplastic"},
        "fitzpatrick17k-nine": {
            name: name
            for name in (
                "benign dermal",
                "benign epidermal",
                "benign melanocyte",
                "genodermatoses",
                "inflammatory",
                "malignant cutaneous lymphoma",
                "malignant dermal",
                "malignant epidermal",
                "malignant melanoma",
            )
        },
        "brain-mri": _BRAIN,
        "facmic-brain": _BRAIN,
        "figshare-brain": {name: name for name in ("glioma", "meningioma", "pituitary")},
        "brats": {"glioma": "glioma"},
    }
)
"""Data set -> class -> meaning."""

_ONLY_MELANOMA: Final = "every malignant image of ISIC 2020 is a melanoma"
_PART_OF_BKL: Final = "one of several kinds of benign keratosis in the class"
_SOURCE_WITH_BOWEN: Final = "the source also holds Bowen's disease, a carcinoma in situ"
_TARGET_WITH_BOWEN: Final = "the class also holds Bowen's disease, a carcinoma in situ"
_AKIEC: Final = "the source also holds Bowen's disease, which is squamous cell carcinoma in the target"
_MORE_THAN_NAEVI: Final = "the source holds other benign melanocytic lesions beside naevi"

_SAME: Final = {name: Into(name) for name in _HAM}
_MELANOCYTIC: Final = {
    "malignant-melanoma-only": Into("mel", _ONLY_MELANOMA),
    "malignant melanoma": Into("mel"),
    "benign melanocyte": Into("nv", _MORE_THAN_NAEVI),
}
_INTO_HAM: Final = {
    **_SAME,
    **_MELANOCYTIC,
    "ak": Into("akiec", _TARGET_WITH_BOWEN),
    "pbk": Into("bkl", "the ISIC archive calls HAM10000's benign keratoses so"),
    "sk": Into("bkl", _PART_OF_BKL),
    "scc": Into(None, "there is no class for invasive squamous cell carcinoma"),
    "scc-bowen": Into(None, "invasive carcinoma has no class here, and Bowen's disease belongs to akiec"),
    "derm7pt-misc": Into(None, "dermatofibroma, lentigo, melanosis and vascular lesions in one class"),
}
_INTO_ISIC_2019: Final = {
    **_INTO_HAM,
    "akiec": Into("AK", _AKIEC),
    "ak": Into("AK"),
    "scc": Into("SCC", _TARGET_WITH_BOWEN),
    "scc-bowen": Into("SCC"),
}
_MALIGNANCY: Final = {
    "akiec": Into(None, "a precursor and a carcinoma in situ in one class: the study must say"),
    "ak": Into(None, "a precursor of carcinoma, neither benign nor malignant: the study must say"),
    "bcc": Into("malignant"),
    "bkl": Into("benign"),
    "pbk": Into("benign"),
    "sk": Into("benign"),
    "df": Into("benign"),
    "mel": Into("malignant"),
    "nv": Into("benign"),
    "scc": Into("malignant"),
    "scc-bowen": Into("malignant", "Bowen's disease is malignant in situ only"),
    "vasc": Into("benign"),
    "derm7pt-misc": Into("benign", "the diagnosis 'miscellaneous' does not say so itself"),
    "benign": Into("benign"),
    "malignant": Into("malignant"),
    "malignant-melanoma-only": Into("malignant"),
    "benign dermal": Into("benign"),
    "benign epidermal": Into("benign"),
    "benign melanocyte": Into("benign"),
    "malignant cutaneous lymphoma": Into("malignant"),
    "malignant dermal": Into("malignant"),
    "malignant epidermal": Into("malignant"),
    "malignant melanoma": Into("malignant"),
}


def _renamed(table: Mapping[str, Into], names: Mapping[str, str]) -> dict[str, Into]:
    return {
        meaning: replace(into, name=None if into.name is None else names.get(into.name, into.name))
        for meaning, into in table.items()
    }


_UPPER: Final = {name: name.upper() for name in _HAM}
_NO_TUMOUR: Final = Into(None, "every image of the target shows a tumour")

INTO: Final[Mapping[str, Mapping[str, Into]]] = MappingProxyType(
    {
        "ham10000": _INTO_HAM,
        "dermamnist": _INTO_HAM,
        "isic-2018": _renamed(_INTO_HAM, _UPPER),
        "isic": _renamed(
            {
                **_SAME,
                **_MELANOCYTIC,
                "akiec": Into("ak", _AKIEC),
                "ak": Into("ak"),
                "bkl": Into("pbk", "seborrhoeic keratoses are among the source's, and have a class of their own here"),
                "pbk": Into("pbk"),
                "sk": Into("sk"),
                "scc": Into("scc-bowen", _TARGET_WITH_BOWEN),
                "scc-bowen": Into("scc-bowen"),
                "derm7pt-misc": _INTO_HAM["derm7pt-misc"],
            },
            {meaning: name for name, meaning in MEANINGS["isic"].items()},
        ),
        "isic-2019": _renamed(_INTO_ISIC_2019, _UPPER),
        "bcn20000": {
            **_renamed(_INTO_ISIC_2019, _UPPER),
            "akiec": Into("AK", _SOURCE_WITH_BOWEN),
            "scc": Into("SCC"),
            "scc-bowen": Into("SCC", _SOURCE_WITH_BOWEN),
        },
        "pad-ufes-20": {
            "ak": Into("ACK"),
            "akiec": Into("ACK", _AKIEC),
            "bcc": Into("BCC"),
            "mel": Into("MEL"),
            "nv": Into("NEV"),
            "sk": Into("SEK"),
            "scc": Into("SCC", _TARGET_WITH_BOWEN),
            "scc-bowen": Into("SCC"),
            "bkl": Into(None, "only a part of the source's benign keratoses are seborrhoeic"),
            "pbk": Into(None, "only a part of the source's benign keratoses are seborrhoeic"),
            **_renamed(_MELANOCYTIC, {"mel": "MEL", "nv": "NEV"}),
        },
        "derm7pt": {
            "bcc": Into("BCC"),
            "mel": Into("MEL"),
            "nv": Into("NEV"),
            "sk": Into("SK"),
            "df": Into("MISC", "one of several lesions in the class"),
            "vasc": Into("MISC", "one of several lesions in the class"),
            "derm7pt-misc": Into("MISC"),
            "bkl": Into(None, "seborrhoeic keratosis is SK here, and lentigo MISC"),
            "pbk": Into(None, "seborrhoeic keratosis is SK here, and lentigo MISC"),
            **_renamed(_MELANOCYTIC, {"mel": "MEL", "nv": "NEV"}),
        },
        "isic-2020": {**_MALIGNANCY, "non-neoplastic": Into(None, "no tumour, neither benign nor malignant")},
        "fitzpatrick17k": {
            **_MALIGNANCY,
            "non-neoplastic": Into("non-neoplastic"),
            "genodermatoses": Into("non-neoplastic"),
            "inflammatory": Into("non-neoplastic"),
        },
        "fitzpatrick17k-nine": {
            **{meaning: Into(meaning) for meaning in MEANINGS["fitzpatrick17k-nine"]},
            "bcc": Into("malignant epidermal", "one of several carcinomas in the class"),
            "scc": Into("malignant epidermal", "one of several carcinomas in the class"),
            "scc-bowen": Into("malignant epidermal", "one of several carcinomas in the class"),
            "mel": Into("malignant melanoma"),
            "malignant-melanoma-only": Into("malignant melanoma", _ONLY_MELANOMA),
            "nv": Into("benign melanocyte", "one of several lesions in the class"),
            "sk": Into("benign epidermal", "one of several lesions in the class"),
            "bkl": Into("benign epidermal", "solar lentigo is among the source's"),
            "pbk": Into("benign epidermal", "solar lentigo is among the source's"),
            "df": Into("benign dermal", "one of several tumours in the class"),
            "vasc": Into("benign dermal", "one of several tumours in the class; haemorrhages are among the source's"),
        },
        "brain-mri": {name: Into(name) for name in _BRAIN},
        "facmic-brain": {name: Into(name) for name in _BRAIN},
        "figshare-brain": {
            **{name: Into(name) for name in ("glioma", "meningioma", "pituitary")},
            "notumor": _NO_TUMOUR,
        },
        "brats": {"glioma": Into("glioma"), "notumor": _NO_TUMOUR},
    }
)
"""Data set -> meaning -> class of it."""

_FAMILIES: Final = (
    frozenset({"brain-mri", "facmic-brain", "figshare-brain", "brats"}),
    frozenset(INTO) - {"brain-mri", "facmic-brain", "figshare-brain", "brats"},
)


def _pair(source: str, target: str) -> Mapping[str, Into]:
    nowhere = Into(None, "the target has no class for it")
    return MappingProxyType({name: INTO[target].get(meaning, nowhere) for name, meaning in MEANINGS[source].items()})


CLASS_MAPS: Final[Mapping[tuple[str, str], Mapping[str, Into]]] = MappingProxyType(
    {
        (source, target): _pair(source, target)
        for family in _FAMILIES
        for source in sorted(family)
        for target in sorted(family)
        if source != target
    }
)
"""(source, target) -> class of the source -> where it belongs; every class of the source is in it."""
