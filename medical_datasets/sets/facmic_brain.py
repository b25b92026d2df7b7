"""Brain tumour MRI slices in the clients' folders of the FACMIC experiments: ``client_0`` to ``client_3``.

The pictures and classes are those of :mod:`.brain_mri`, and so are the traps: no patient key, near-duplicates stand in
for patients, and may lie in two clients' folders. No file name is peculiar to the set (the same authors' skin set has
client folders too), so nothing recognises it: a folder of it that is not named in a study is read as ``brain-mri``,
with the same sites.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from ..class_folders import list_class_folders
from ..cohort import Dataset
from ..errors import DataError, DatasetLayoutError
from ..listing import Item, Listing, Wanted
from .brain_mri import BRAIN_MRI

UNSEEN: Final = "client_3"
"""The client that trains nothing, by convention: the site to name as unseen."""

_CLIENT: Final = re.compile(r"client[ _-]?(\d+)", re.IGNORECASE)


def list_clients(dataset: Dataset, wanted: Wanted) -> Listing:
    """Find images in the clients' folders; the folder is the site, ``client_0``, also where it is the root itself.

    Raises:
        DatasetLayoutError: the folder is missing or cannot be listed, or class folders are nested.
        UnknownClassError, EmptyClassError: ``wanted.classes`` are no classes of the data set.
    """
    listing = list_class_folders(dataset, wanted)
    root = wanted.root.resolve()
    items = tuple(replace(item, site=_site(item, root.name)) for item in listing.items)
    outside = [item for item in items if item.site is None]
    problems: list[DataError] = []
    if outside:
        problems.append(
            DatasetLayoutError(
                f"{len(outside)} of {len(items)} images lie in no client's folder, the first is {outside[0].name!r}",
                where=str(wanted.root),
                remedy="give the folder that holds client_0 to client_3; or read it as the data set brain-mri",
            )
        )
    return replace(listing, items=items, problems=(*listing.problems, *problems))


def _site(item: Item, root: str) -> str | None:
    above = item.relative.split("/")[:-1]
    # The nearest folder first: an archive may be unpacked into a folder that is called after a client as well.
    for name in (*reversed(above), root):
        found = _CLIENT.fullmatch(name)
        if found is not None:
            return f"client_{int(found.group(1))}"
    return None


FACMIC_BRAIN: Final = Dataset(
    key="facmic-brain",
    title="Brain tumour MRI slices in four clients' folders (FACMIC)",
    modality="brain-mri",
    classes=BRAIN_MRI.classes,
    layout=(
        "client_0/<class>/*.jpg … client_3/<class>/*.jpg",
        "client_0/Training/<class>/*.jpg, client_0/Testing/<class>/*.jpg …",
        "<class>: glioma_tumor, meningioma_tumor, no_tumor, pituitary_tumor, or without _tumor",
        "optional groups.csv: path, near_duplicate_group",
    ),
    group_key="near-duplicate group",
    site_key=f"the client's folder; {UNSEEN} is the unseen site by convention",
    subgroup_columns=(),
    licence="as the public brain MRI collections it was made from: read the page that your copy came from",
    citation=(
        "Y. Wu, C. Desrosiers, A. Chaddad, FACMIC: Federated adaptative CLIP model for medical image classification, "
        "MICCAI 2024; " + BRAIN_MRI.citation
    ),
    obtain=(
        "follow the download link on the page of the FACMIC code in a browser and unpack the brain tumour archive; "
        "the folder that holds client_0 to client_3 is the path to give"
    ),
    read=list_clients,
)
