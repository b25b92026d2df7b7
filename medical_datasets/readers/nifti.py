"""NIfTI volumes: slices as a radiologist sees them, whatever way the voxels lie in the file.

Voxel indices are those of the closest canonical orientation (RAS+): they rise from the patient's left to the right,
from posterior to anterior and from inferior to superior. Slices are shown in the radiological convention:

    axial      anterior up, the patient's right on the left of the picture
    coronal    superior up, the patient's right on the left of the picture
    sagittal   superior up, anterior on the left of the picture

The grey scale is that of the whole volume (:func:`..intensity.grey_window`), so that the slices of one volume compare.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..cohort import ImageRef
from ..errors import UnreadableImageError
from .intensity import grey_window, three_equal, to_grey
from .nifti_header import DECODING_ERRORS, NIBABEL, Grid, open_unpacked, read_grid, refused
from .pillow_pictures import MAX_PIXELS
from .recent import FileState, InUse, Recent, file_state

RULES: Final = "nifti ras+ radiological p0.5-p99.5 1"

Plane = Literal["sagittal", "coronal", "axial"]
AXES: Final[dict[Plane, int]] = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The canonical axis that each plane is perpendicular to."""

CACHE_BYTES: Final = 1 << 28  # some 14 volumes of BraTS; a larger volume is kept alone
_MAX_STRETCH: Final = 1.01  # voxels closer to square than this are shown as they are
_PART: Final = re.compile(r"(?:(sagittal|coronal|axial)=(\d{1,9}))?(?:(?:^|(?<=\d),)volume=(\d{1,9}))?", re.ASCII)
_READ: Final = 1 << 20
_WORK: Final = 2  # a volume and, unless it is large, the copy of it that its window is found in


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One volume in memory.

    Attributes:
        grid: what its header says.
        voxels: stored values on the canonical axes, not yet scaled by slope and intercept.
        window: intensities that become black and white.
    """

    grid: Grid
    voxels: NDArray[Any]
    window: tuple[float, float]

    def cut(self, plane: Plane, index: int) -> NDArray[np.float64]:
        """Intensities of a slice, the two other canonical axes in rising order."""
        at: list[int | slice] = [slice(None)] * 3
        at[AXES[plane]] = index
        stored = self.voxels[tuple(at)].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite then is shown black
            return stored * self.grid.slope + self.grid.inter


_recent: Final[Recent[tuple[FileState, int], Volume]] = Recent(CACHE_BYTES)
_in_use: Final[InUse[tuple[FileState, int]]] = InUse(CACHE_BYTES)


def read_rgb(ref: ImageRef) -> NDArray[np.uint8]:
    """One slice.

    In-plane spacings that differ by more than 1 % are made equal to the finer one, by linear interpolation along the
    coarser axis.

    Args:
        ref: its part is ``"axial=K"``, ``"coronal=K"`` or ``"sagittal=K"``, K from 0 in canonical voxels; of a
            four-dimensional file with ``",volume=V"``, else its first volume is read. Without a plane the file must be
            one slice thick, and that slice is read in whatever plane it lies.

    Returns:
        uint8 array of shape (height, width, 3), a read-only view of one grey channel; black where a value is not
        finite, and everywhere if all values are equal.

    Raises:
        UnreadableImageError: as :func:`..nifti_header.read_grid`; truncated or damaged further in; no such part; no
            finite voxel; or over ``MAX_PIXELS``.
    """
    plane, index, volume = _locate(ref, read_grid(ref.path))
    with loaded_volume(ref.path, volume) as shown:
        grey = to_grey(shown.cut(plane, index), shown.window)
        height, width = _square(shown.grid, plane)
    # Both axes rise away from where a radiologist begins to read: to the right hand and up, or forward and up.
    grey = grey[::-1, ::-1].T
    if (height, width) != grey.shape:
        picture = Image.fromarray(np.ascontiguousarray(grey)).resize((width, height), Image.Resampling.BILINEAR)
        grey = np.asarray(picture, dtype=np.uint8)
    return three_equal(np.ascontiguousarray(grey))


def check_header(ref: ImageRef) -> None:
    """Refuse a file or part that cannot be a picture; no voxel is read. Raises as :func:`read_rgb`, as far as known."""
    _locate(ref, read_grid(ref.path))


@contextmanager
def loaded_volume(path: Path, volume: int = 0, *, remember: bool = True) -> Iterator[Volume]:
    """A volume, unpacked once while it is among the last that were read (``CACHE_BYTES`` of them); safe for threads.

    Threads that would together work on more than ``CACHE_BYTES`` wait for each other. A thread may hold one at a time.

    Args:
        path: the file.
        volume: which one of a four-dimensional file, from 0.
        remember: keep it; False for a volume that is looked at once.

    Raises:
        UnreadableImageError: as :func:`read_rgb`.
    """

    def make() -> tuple[Volume, int]:
        loaded = _load(path, volume)
        return loaded, loaded.grid.volume_bytes

    key = (file_state(path), volume)
    with _in_use.holding(key, _WORK * read_grid(path).volume_bytes):
        yield _recent.get(key, make) if remember else make()[0]


def _load(path: Path, volume: int) -> Volume:
    grid = read_grid(path)
    if not 0 <= volume < grid.volumes:
        raise refused(path, f"there is no volume {volume}; the file has {grid.volumes}", "count from 0")
    held = np.empty(grid.volume_bytes, dtype=np.uint8)
    view, filled = held.data, 0
    try:
        with open_unpacked(path) as stream:
            stream.seek(grid.offset + volume * grid.volume_bytes)
            while filled < len(view):
                got = stream.readinto(view[filled : filled + _READ])  # type: ignore[attr-defined]
                if not got:
                    raise refused(path, f"the file is truncated: {filled} of {len(view)} bytes of the volume are there")
                filled += got
            if volume == grid.volumes - 1:
                stream.read(1)  # gzip compares its checksum when the end is met
    except DECODING_ERRORS as problem:
        raise refused(path, f"the volume cannot be unpacked ({type(problem).__name__})") from problem
    voxels = NIBABEL.orientations.apply_orientation(
        held.view(grid.dtype).reshape(grid.stored, order="F"), grid.orientation
    )
    window = grey_window(voxels)
    if window is None:
        raise refused(path, "the volume has no finite voxel", "export it again")
    low, high = sorted(end * grid.slope + grid.inter for end in window)  # a negative slope turns them round
    return Volume(grid, voxels, (low, high))


def _locate(ref: ImageRef, grid: Grid) -> tuple[Plane, int, int]:
    found = _PART.fullmatch(ref.part)
    if found is None:
        raise UnreadableImageError(
            f"{ref.part!r} names no slice", where=str(ref), remedy="write axial=K, coronal=K or sagittal=K, K from 0"
        )
    named, number, which = found.groups()
    plane: Plane | None = next((name for name in AXES if name == named), None)
    if plane is None:
        plane = thin_plane(grid)
        if plane is None:
            raise UnreadableImageError(
                f"the file holds a volume of {' x '.join(map(str, grid.shape))} voxels, and no slice is named",
                where=str(ref),
                remedy="write axial=K, coronal=K or sagittal=K, K from 0",
            )
    index, volume = int(number or 0), int(which or 0)
    for word, at, size in ((plane + " slice", index, grid.shape[AXES[plane]]), ("volume", volume, grid.volumes)):
        if at >= size:
            raise UnreadableImageError(
                f"there is no {word} {at}; there are {size}", where=str(ref), remedy="count from 0"
            )
    height, width = _square(grid, plane)
    if height * width > MAX_PIXELS:
        raise UnreadableImageError(
            f"the slice would be {width} x {height} pixels, more than the limit of {MAX_PIXELS}",
            where=str(ref),
            remedy="look at the voxel sizes in its header; a slice this large is usually damaged",
        )
    return plane, index, volume


def thin_plane(grid: Grid) -> Plane | None:
    """The plane of a file that is one slice thick, axial before coronal before sagittal; None of any other."""
    return next((plane for plane in ("axial", "coronal", "sagittal") if grid.shape[AXES[plane]] == 1), None)


def _square(grid: Grid, plane: Plane) -> tuple[int, int]:
    """Height and width of a slice whose pixels are square."""
    across, up = (axis for axis in range(3) if axis != AXES[plane])
    width, height = grid.shape[across], grid.shape[up]
    fine = min(grid.spacing[across], grid.spacing[up])
    if max(grid.spacing[across], grid.spacing[up]) <= _MAX_STRETCH * fine:
        return height, width
    return max(1, round(height * grid.spacing[up] / fine)), max(1, round(width * grid.spacing[across] / fine))
