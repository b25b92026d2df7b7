"""Which slices of a volume a study takes: those with most of the lesion, spread over its extent."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from .intensity import background_value
from .nifti import AXES, Plane, loaded_volume
from .nifti_header import Grid, read_grid, refused
from .recent import FileState, file_state

_ENOUGH: Final = 0.5  # of the largest area: a slice with less shows the rim of the lesion
_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def choose_slices(
    volume_path: Path, mask_path: Path | None, count: int, *, plane: Plane = "axial", volume: int = 0
) -> tuple[int, ...]:
    """The slices of a volume that are taken; the same for the same files.

    With a mask: first the slice with most mask voxels (the lowest of several). Then, of the slices with at least half
    as many, again and again the one that is furthest from all taken ones (of several the one with most mask voxels,
    then the lowest), so that neighbours come last. If these are too few, the others by falling area.

    Without a mask: evenly over the central half of the slices that hold anything but background; over all of these if
    that half is too short.

    Args:
        volume_path: the volume.
        mask_path: a volume on the same grid; what is above 0 is the lesion.
        count: slices wanted, >= 1.
        plane: which way it is cut.
        volume: which volume of a four-dimensional file, from 0.

    Returns:
        At most ``count`` indices on the canonical axis, rising; empty if the mask or the volume is.

    Raises:
        UnreadableImageError: a file cannot be read, there is no such volume, or the mask lies on another grid.
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}; it must be at least 1")
    mask_state = None if mask_path is None else file_state(mask_path)
    return _chosen(file_state(volume_path), mask_state, count, plane, volume)


def in_threads(work: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> list[_Result]:
    """Results in the order of the tasks; unpacking gives the other threads time to run.

    The volumes that they hold stay within a bound (:func:`.nifti.loaded_volume`).
    """
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, tasks))


@functools.lru_cache(maxsize=8192)
def _chosen(volume: FileState, mask: FileState | None, count: int, plane: Plane, which: int) -> tuple[int, ...]:
    path = Path(volume[0])
    if mask is not None:
        _check_same_grid(read_grid(path), read_grid(Path(mask[0])), Path(mask[0]))
        return spread(_areas(Path(mask[0]), plane), count)
    with loaded_volume(path, which) as loaded:
        size = loaded.grid.shape[AXES[plane]]
        ground = background_value(loaded.voxels)
        slices = (np.take(loaded.voxels, index, axis=AXES[plane]) for index in range(size))
        return central([index for index, values in enumerate(slices) if _holds(values, ground)], count)


def spread(areas: Sequence[int], count: int) -> tuple[int, ...]:
    """Slices by lesion area, as :func:`choose_slices` takes them; ``areas`` are mask voxels by slice."""
    largest = max(areas, default=0)
    if largest == 0:
        return ()
    taken = [areas.index(largest)]
    good = [index for index, area in enumerate(areas) if area >= _ENOUGH * largest and index != taken[0]]
    while good and len(taken) < count:
        best = max(good, key=lambda index: (min(abs(index - other) for other in taken), areas[index], -index))
        good.remove(best)
        taken.append(best)
    rest = [index for index, area in enumerate(areas) if area and index not in taken]
    taken += sorted(rest, key=lambda index: (-areas[index], index))[: count - len(taken)]
    return tuple(sorted(taken))


def central(holding: Sequence[int], count: int) -> tuple[int, ...]:
    """Evenly over the central half of some slices, or over all of them where that half has fewer than ``count``."""
    cut = len(holding) // 4
    middle = holding[cut : len(holding) - cut]
    room = middle if len(middle) >= count else holding
    taken = min(count, len(room))
    return tuple(room[(2 * step + 1) * len(room) // (2 * taken)] for step in range(taken))


def _areas(path: Path, plane: Plane) -> list[int]:
    with loaded_volume(path, remember=False) as mask:
        return [int(np.count_nonzero(mask.cut(plane, index) > 0)) for index in range(mask.grid.shape[AXES[plane]])]


def _holds(values: NDArray[Any], ground: float | None) -> bool:
    finite = np.isfinite(values)
    return bool(finite.any() if ground is None else (finite & (values != ground)).any())


def _check_same_grid(volume: Grid, mask: Grid, path: Path) -> None:
    """Every corner of the mask is within half a voxel of the volume's: careless tools round an affine."""
    if mask.volumes != 1:
        raise refused(path, f"the mask has {mask.volumes} volumes", "export it as one volume")
    if volume.shape != mask.shape:
        raise refused(path, f"the mask has {mask.shape} voxels, its volume {volume.shape}", "resample the mask")
    corners = np.array([[*corner, 1] for corner in itertools.product(*((0, size - 1) for size in volume.shape))])
    apart = np.linalg.norm(((volume.affine - mask.affine) @ corners.T)[:3], axis=0).max()
    if not apart <= 0.5 * min(volume.spacing):
        raise refused(
            path,
            f"the mask lies up to {apart:.3g} mm beside its volume",
            "export it with the volume's affine",
        )
