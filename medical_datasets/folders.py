"""Class folders on disk: ``<class>/``, ``Training,Testing/<class>/``, ``<site>/<class>/`` and their mixtures.

A folder is a class folder when the data set knows its name. Folders above it are a split (Training, test, val …) or
a site (anything else); a single folder around everything is a wrapper and means nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final

from .cohort import Dataset, Skipped, normalise_name
from .errors import DatasetLayoutError
from .pixels import IMAGE_SUFFIXES

_SPLITS: Final = {
    "training": "train",
    "train": "train",
    "testing": "test",
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
}
# Tables and papers that belong beside images; anything else is counted and named.
_COMPANIONS: Final = frozenset(
    {".csv", ".tsv", ".txt", ".md", ".json", ".toml", ".yaml", ".yml", ".xlsx", ".xls", ".ods", ".pdf", ".html"}
)
_COMPANION_NAMES: Final = frozenset({"license", "licence", "readme", "thumbs.db", "desktop.ini"})
_OTHER_READERS: Final = {
    ".dcm": "DICOM",
    ".gz": "NIfTI or another compressed file",
    ".nii": "NIfTI",
    ".mat": "MATLAB",
    ".npz": "numpy",
    ".npy": "numpy",
    ".zip": "an archive that is not unpacked",
}
_MAX_DEPTH: Final = 6
LEADS_UP: Final = "a link to a folder that holds it, which is not followed"
TOO_DEEP: Final = f"a folder more than {_MAX_DEPTH} folders deep"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image under a class folder.

    Attributes:
        relative: path relative to the root, with forward slashes.
        label: class index in the data set that was scanned for.
        site: site folder above the class folder, or None.
        split: ``train``, ``validation`` or ``test`` from the folder above, or None.
    """

    relative: str
    label: int
    site: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class UnknownFolder:
    """A folder with images whose name is no class of the data set."""

    relative: str
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FolderScan:
    """What a folder holds, before any file is opened.

    Attributes:
        root: the folder.
        images: sorted by relative path.
        class_folders: relative paths of class folders, by label.
        unknown: folders with images that belong to no class.
        skipped: files that are neither images in a class folder nor known companions.
        top: names of the folders directly in the root, for messages.
    """

    root: Path
    images: tuple[ImageFile, ...]
    class_folders: dict[int, tuple[str, ...]]
    unknown: tuple[UnknownFolder, ...]
    skipped: tuple[Skipped, ...]
    top: tuple[str, ...]


def scan(root: Path, dataset: Dataset) -> FolderScan:
    """Find the class folders and image files under ``root``; nothing is opened or decoded.

    Raises:
        DatasetLayoutError: ``root`` is missing, is no folder or may not be listed, or class folders are nested.
    """
    if not root.is_dir():
        kind = "is a file, not a folder" if root.exists() else "does not exist"
        raise DatasetLayoutError(
            f"the data folder {kind}",
            where=str(root),
            remedy=f"give the folder that holds the class folders of {dataset.title}: {dataset.obtain}",
        )
    walk = _Walk(root, dataset)
    walk.container(PurePosixPath(), 0)
    images = sorted(_without_wrapper(walk.found), key=lambda image: image.relative)
    return FolderScan(
        root=root,
        images=tuple(images),
        class_folders={label: tuple(sorted(names)) for label, names in sorted(walk.class_folders.items())},
        unknown=tuple(sorted(walk.unknown, key=lambda folder: folder.relative)),
        skipped=tuple(sorted(walk.skipped, key=lambda item: str(item.path))),
        top=tuple(entry.name for entry in _entries(root) if entry.is_dir()),
    )


@dataclass
class _Walk:
    root: Path
    dataset: Dataset
    found: list[tuple[ImageFile, tuple[str, ...]]] = field(default_factory=list)
    class_folders: dict[int, list[str]] = field(default_factory=dict)
    unknown: list[UnknownFolder] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def container(self, folder: PurePosixPath, depth: int) -> bool:
        """Visit a folder above class folders; True if a class folder was found in or below it."""
        loose: list[str] = []
        has_class = False
        for entry in _entries(self.root / folder):
            relative = folder / entry.name
            if not entry.is_dir():
                if self._is_image(entry):
                    loose.append(str(relative))
                else:
                    self._other(relative)
                continue
            if leads_up(self.root, str(folder), entry):
                self.skipped.append(Skipped(self.root / relative, LEADS_UP))
                continue
            label = self.dataset.class_index(entry.name)
            if label is not None:
                has_class = True
                self.class_folders.setdefault(label, []).append(str(relative))
                self._class_folder(relative, label, folder.parts, depth + 1)
            elif depth < _MAX_DEPTH:
                has_class |= self.container(relative, depth + 1)
            else:
                self.skipped.append(Skipped(self.root / relative, TOO_DEEP))
        if loose and (has_class or not folder.parts):
            self.skipped += [Skipped(self.root / name, "outside every class folder") for name in loose]
        elif loose:
            self.unknown.append(UnknownFolder(str(folder), tuple(loose)))
        return has_class

    def _class_folder(self, folder: PurePosixPath, label: int, above: tuple[str, ...], depth: int) -> None:
        for entry in _entries(self.root / folder):
            relative = folder / entry.name
            if entry.is_dir() and leads_up(self.root, str(folder), entry):
                self.skipped.append(Skipped(self.root / relative, LEADS_UP))
            elif entry.is_dir():
                inner = self.dataset.class_index(entry.name)
                if inner is not None and inner != label:
                    raise DatasetLayoutError(
                        f"the class folder {entry.name!r} lies inside the class folder {folder.name!r}",
                        where=str(self.root / relative),
                        remedy="move it out, so that every image has one class",
                    )
                if depth < _MAX_DEPTH:
                    self._class_folder(relative, label, above, depth + 1)
                else:
                    self.skipped.append(Skipped(self.root / relative, TOO_DEEP))
            elif self._is_image(entry):
                self.found.append((ImageFile(str(relative), label), above))
            else:
                self._other(relative)

    @staticmethod
    def _is_image(entry: os.DirEntry[str]) -> bool:
        # A pipe or a link to nowhere can have any name; opening a pipe would wait for ever.
        return entry.is_file() and Path(entry.name).suffix.lower() in IMAGE_SUFFIXES

    def _other(self, relative: PurePosixPath) -> None:
        suffix = relative.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            self.skipped.append(Skipped(self.root / relative, "not a regular file, or a link to nothing"))
            return
        if suffix in _COMPANIONS or normalise_name(relative.stem) in _COMPANION_NAMES:
            return
        if relative.name.lower() in _COMPANION_NAMES:
            return
        kind = _OTHER_READERS.get(suffix)
        reason = f"{kind}: not read by the class-folder loader" if kind else "not an image file"
        self.skipped.append(Skipped(self.root / relative, reason))


def leads_up(root: Path, folder: str, entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is a link to one that holds it, by the way from ``root`` or by links on that way.

    Args:
        root: where the way starts.
        folder: the entry's folder, relative to ``root``; it may lead through links.
        entry: a folder or a link to one.
    """
    if not entry.is_symlink():
        return False
    target = os.path.realpath(entry.path)
    way = PurePosixPath(folder)
    return any(Path(os.path.realpath(root / above)).is_relative_to(target) for above in (way, *way.parents))


def _without_wrapper(found: list[tuple[ImageFile, tuple[str, ...]]]) -> Iterator[ImageFile]:
    """Turn the folders above each class folder into split and site, leaving out what all of them share."""
    shared = 0
    while found and all(
        len(above) > shared and above[shared] == found[0][1][shared] and normalise_name(above[shared]) not in _SPLITS
        for _, above in found
    ):
        shared += 1
    for image, above in found:
        sites: list[str] = []
        split = None
        for name in above[shared:]:
            known = _SPLITS.get(normalise_name(name))
            if known is None:
                sites.append(name)
            else:
                split = known
        yield replace(image, site="-".join(sites) or None, split=split)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Visible entries of a folder by name."""
    try:
        with os.scandir(folder) as listing:
            visible = [entry for entry in listing if not entry.name.startswith((".", "__MACOSX"))]
    except OSError as problem:
        raise DatasetLayoutError(
            f"the folder cannot be listed ({problem.strerror})",
            where=str(folder),
            remedy="check that this user may read it",
        ) from problem
    return sorted(visible, key=lambda entry: entry.name)
