"""A folder of domains: PACS, VLCS, Office-Home, or any ``<site>/<class>/`` tree, with the classes that a study names.

Each first-level folder is a site. Groups: what a ``metadata.csv`` or ``groups.csv`` says, else near-duplicates. Domains
of one benchmark often share a source, so near-duplicates are looked for across sites, too.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..class_folders import list_class_folders
from ..classes import nearest_class
from ..cohort import ClassLabel, Dataset, Skipped, normalise_name
from ..errors import DataError, DatasetLayoutError, UnknownClassError
from ..listing import Item, Listing, Wanted
from ..source_labels import labels_there
from ..study_classes import with_classes
from ..written import misspelt_class

_SPLITS: Final = frozenset({"training", "train", "testing", "test", "validation", "valid", "val"})


def list_domains(dataset: Dataset, wanted: Wanted) -> Listing:
    """Find images in the class folders of each site; folders of other classes are left out and named.

    A site's name is its folder's in lower case and without accents, with ``_`` for what cannot be in a site's name:
    ``Real World`` is ``real_world``, ``Klinik Süd`` is ``klinik_sud``. Without classes in the study, those of the
    folders are taken, and the first problem says that it must name them.

    Raises:
        DatasetLayoutError: the folder is missing or cannot be listed, or class folders are nested.
        EmptyClassError: the study names one class.
        UnknownClassError: it names one twice.
    """
    root = wanted.root
    top = _folders(root, dataset)
    below = {name: _class_folders(root / name, dataset) for name in top}
    there = list(dict.fromkeys(name for names in below.values() for name in names))
    if wanted.classes is None:  # which of the folders are classes
        there = list(labels_there(dataset, wanted, ()))
    named, unnamed = with_classes(dataset, wanted, there)
    if not named.classes:
        return Listing(root, named, (), problems=unnamed)
    # Folders of other classes are made classes for the scan, so that they are told from intermediate folders and from
    # misspelt names by where they lie and not by how alike two names are: grade_2 and grade_3 are both right.
    asked = {normalise_name(name) for name in named.class_names}
    sites_too = {normalise_name(name) for name in top}
    others: dict[str, str] = {}
    for name, names in below.items():
        for folder in names:
            plain = normalise_name(folder)
            if plain and plain not in asked | sites_too | others.keys() and not asked & _all_below(root / name, folder):
                others[plain] = folder
    every = replace(named, classes=(*named.classes, *(ClassLabel(name, name, (name,)) for name in others.values())))
    listing = list_class_folders(every, Wanted(root))

    kept: list[Item] = []
    skipped = list(listing.skipped)
    sites: dict[str, str] = {}
    misspelt: dict[str, Item] = {}
    for item in listing.items:
        if item.label < len(named.classes):
            folder = item.relative.split("/")[0]
            kept.append(replace(item, site=sites.setdefault(folder, _site_name(folder))))
        elif misspelt_class(every.class_names[item.label], named) is not None:
            misspelt.setdefault(every.class_names[item.label], item)
        else:
            skipped.append(Skipped(root / item.relative, _reason(every.class_names[item.label], named)))
    return replace(
        listing,
        dataset=named,
        items=tuple(kept),
        skipped=tuple(sorted(skipped, key=lambda each: str(each.path))),
        problems=(
            *unnamed,
            *_misplaced(root, listing, sites, asked),
            *listing.problems,
            *(_misspelt(root, name, item, named) for name, item in misspelt.items()),
        ),
        folders={label: names for label, names in listing.folders.items() if label < len(named.classes)},
    )


def _misplaced(root: Path, listing: Listing, sites: dict[str, str], asked: set[str]) -> list[DataError]:
    """What shows that the folder given is not the one that holds the sites, or that two sites are one."""
    classes = sorted({name for name in sites if normalise_name(name) in asked})
    splits = sorted({name for name in sites if normalise_name(name) in _SPLITS})
    if classes:
        return [
            DatasetLayoutError(
                f"the class folder {classes[0]!r} lies in no site's folder",
                where=str(root),
                remedy="give the folder that holds one folder a site, each with its class folders",
            )
        ]
    if splits:
        return [
            DatasetLayoutError(
                f"the folder {splits[0]!r} is a part of a split and no site",
                where=str(root),
                remedy="put it inside the folder of its site: <site>/train/<class>/",
            )
        ]
    inner = sorted({item.site for item in listing.items if item.site is not None})
    outer = sorted({item.relative.split("/")[0] for item in listing.items})
    if len(outer) == 1 and len(inner) > 1:
        only = outer[0]
        return [
            DatasetLayoutError(
                f"all sites lie in the folder {only!r}: {', '.join(inner[:6])}",
                where=str(root),
                remedy=f"give {root / only}",
            )
        ]
    if not sites:
        there = ", ".join(sorted(label.name for label in listing.dataset.classes[len(asked) :])[:12])
        return [
            DatasetLayoutError(
                f"no site has a folder of a class that the study names; their folders are {there or 'none'}",
                where=str(root),
                remedy="correct the key classes, or give the folder that holds one folder a site",
            )
        ]
    names = list(sites.values())
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        folders = [folder for folder, name in sites.items() if name == twice]
        return [
            DatasetLayoutError(
                f"the folders {', '.join(repr(folder) for folder in folders)} are one site's name, {twice!r}",
                where=str(root),
                remedy="rename one of them",
            )
        ]
    return []


def _reason(name: str, named: Dataset) -> str:
    near = nearest_class(name, named, cutoff=0.8)
    hint = f" (is it {near!r}?)" if near is not None else ""
    return f"the folder {name!r} is none of the classes asked for{hint}"


def _misspelt(root: Path, name: str, item: Item, named: Dataset) -> UnknownClassError:
    return UnknownClassError(
        f"the folder {name!r} is no class of the study",
        where=str(root / item.relative.rpartition("/")[0]),
        remedy=f"did you mean {misspelt_class(name, named)!r}? rename the folder, or move it away",
    )


def _site_name(folder: str) -> str:
    """A folder's name as a site's; the folder's own where no letter or digit of it can be kept."""
    apart = unicodedata.normalize("NFKD", folder.lower().replace("ß", "ss"))
    plain = "".join(character for character in apart if not unicodedata.combining(character))
    name = re.sub(r"[^a-z0-9]*_[^a-z0-9]*", "_", re.sub(r"[^a-z0-9._-]+", "_", plain))
    return name.strip("._-") or folder


def _class_folders(site: Path, dataset: Dataset) -> list[str]:
    """Folders of a site that may be classes: those in it, and those in its folders for parts of a split."""
    found: list[str] = []
    for name in _folders(site, dataset):
        if normalise_name(name) in _SPLITS:
            found += _folders(site / name, dataset)
        else:
            found.append(name)
    return found


def _all_below(site: Path, folder: str) -> set[str]:
    """Plain names of all folders below a site's folder, to whatever part of a split it belongs."""
    parts = [site, *(site / name for name in os.listdir(site) if normalise_name(name) in _SPLITS)]
    return {normalise_name(name) for part in parts for _, names, _ in os.walk(part / folder) for name in names}


def _folders(folder: Path, dataset: Dataset) -> list[str]:
    """Visible folders in a folder, by name."""
    try:
        return sorted(
            entry.name
            for entry in os.scandir(folder)
            if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
        )
    except OSError as problem:
        raise DatasetLayoutError(
            f"the folder cannot be listed ({problem.strerror or problem})",
            where=str(folder),
            remedy=f"give the folder that holds one folder a site: {'; '.join(dataset.layout)}",
        ) from problem


DOMAINS: Final = Dataset(
    key="domains",
    title="Folder of domains",
    modality="any",
    classes=(),
    layout=(
        "<site>/<class>/*.jpg",
        "<site>/train/<class>/*.jpg, <site>/val/<class>/*.jpg",
        "optional metadata.csv: path, label, patient_id, lesion_id, sex, age",
        "or groups.csv: path, near_duplicate_group",
    ),
    group_key="patient or lesion of the table, else near-duplicate group",
    site_key="the first-level folder, in lower case without accents and with _ for spaces",
    subgroup_columns=("sex", "age_band", "source"),
    licence="that of the collection: read the page that your copy came from",
    citation=(
        "D. Li et al., Deeper, broader and artier domain generalization, ICCV 2017 (PACS); C. Fang, Y. Xu, "
        "D. N. Rockmore, Unbiased metric learning, ICCV 2013 (VLCS); H. Venkateswara et al., Deep hashing network for "
        "unsupervised domain adaptation, CVPR 2017 (Office-Home)"
    ),
    obtain=(
        "unpack the collection, or sort your images into a folder a site with a folder a class in each; name the "
        "classes in the study"
    ),
    read=list_domains,
)
