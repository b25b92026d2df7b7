"""What a NIfTI file says of its voxels before any is read: where they are, how many, and how they lie in the body."""

from __future__ import annotations

import gzip
import io
import logging
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from ..errors import UnreadableImageError
from .recent import file_state

# One volume: 512 x 512 x 1024 of 32 bits. Whole-body CT stays below half of it.
MAX_BYTES: Final = 1 << 30
DECODING_ERRORS: Final = (OSError, EOFError, zlib.error)
_HEADER_ERRORS: Final = (HeaderDataError, ValueError, TypeError, KeyError, IndexError, OverflowError)
_FARTHEST: Final = 1 << 30  # bytes before the voxels; extensions are kilobytes, and a file cannot be sought at 2^63
_COPY: Final = "copy it again from its source, or remove it"
_SINGLE: Final = {348: (b"n+1\0", b"ni1\0"), 540: (b"n+2\0", b"ni2\0")}

# Most functions of nibabel have no types yet.
NIBABEL: Final[Any] = nibabel
# nibabel reports what it mends in a header; the mended values are used, and what cannot be mended is raised.
_SILENT: Final = logging.Logger("wardround.nifti")
_SILENT.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The voxels of a file.

    Attributes:
        stored: sizes of the three axes as they lie in the file; a missing axis has the size 1.
        volumes: number of volumes; 1 unless the file is four-dimensional.
        dtype: of a stored value, with its byte order.
        offset: of the first voxel, in bytes.
        slope, inter: a stored value v means v * slope + inter.
        orientation: nibabel's, float array of shape (3, 2), from stored to closest canonical axes (RAS+).
        shape: sizes of the canonical axes: from left to right, from posterior to anterior, from inferior to superior.
        affine: float array of shape (4, 4), from canonical voxel indices to millimetres.
        spacing: of the canonical axes, in millimetres.
    """

    stored: tuple[int, int, int]
    volumes: int
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    orientation: NDArray[np.float64]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    spacing: tuple[float, float, float]

    @property
    def volume_bytes(self) -> int:
        """Bytes of one volume."""
        return self.stored[0] * self.stored[1] * self.stored[2] * self.dtype.itemsize


def open_unpacked(path: Path) -> BinaryIO:
    """The bytes of a file, unpacked if it is gzip by its first two, whatever its name says."""
    raw = open(path, "rb")  # noqa: SIM115 - the caller closes it
    if raw.peek(2)[:2] == b"\x1f\x8b":
        return cast(BinaryIO, _OwnedGzip(raw))
    return raw


class _OwnedGzip(gzip.GzipFile):
    """A gzip stream that closes the file below it."""

    def __init__(self, raw: io.BufferedReader) -> None:
        super().__init__(fileobj=raw, mode="rb")
        self._raw = raw

    def close(self) -> None:
        super().close()
        self._raw.close()


def read_grid(path: Path) -> Grid:
    """The header of a single-file NIfTI-1 or NIfTI-2; no voxel is read.

    The affine is the sform, else the qform, else the voxel sizes alone with x running from right to left, as nibabel
    takes it (and Analyze before).

    Raises:
        UnreadableImageError: missing, truncated or no NIfTI; a pair of header and image; colour or complex values;
            more than four dimensions; no orientation; or a volume over ``MAX_BYTES``.
    """
    file_state(path)
    try:
        with open_unpacked(path) as stream:
            block = stream.read(540)
    except DECODING_ERRORS as problem:
        raise refused(path, f"the header cannot be unpacked ({type(problem).__name__})") from problem
    header = _header(block, path)
    try:
        shape, dtype = tuple(int(size) for size in header.get_data_shape()), header.get_data_dtype()
        slope, inter = header.get_slope_inter()
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
        offset = int(header.get_data_offset())
    except _HEADER_ERRORS as problem:
        raise refused(path, f"the header contradicts itself ({type(problem).__name__})") from problem
    if not 1 <= int(header["dim"][0]) <= 7:
        raise refused(path, f"the header states {header['dim'][0]} dimensions; there are 1 to 7")
    stored, volumes = _sizes(shape, path)
    _check_type(dtype, path)
    if offset < len(header.binaryblock):
        raise refused(path, f"the voxels would begin at byte {offset}, inside the header")
    if offset > _FARTHEST:
        raise refused(path, "the voxels would begin far behind any header extension")
    orientation = _orientation(affine, stored, path)
    order = [int(axis) for axis in np.argsort(orientation[:, 0])]  # stored axis of each canonical one
    sizes = NIBABEL.affines.voxel_sizes(affine)
    grid = Grid(
        stored=stored,
        volumes=volumes,
        dtype=dtype,
        offset=offset,
        slope=1.0 if slope is None else float(slope),
        inter=0.0 if inter is None else float(inter),
        orientation=orientation,
        shape=(stored[order[0]], stored[order[1]], stored[order[2]]),
        affine=affine @ NIBABEL.orientations.inv_ornt_aff(orientation, stored),
        spacing=cast("tuple[float, float, float]", tuple(float(sizes[axis]) or 1.0 for axis in order)),
    )
    if grid.volume_bytes > MAX_BYTES:
        raise refused(
            path,
            f"a volume of {' x '.join(map(str, stored))} voxels has {grid.volume_bytes} bytes, more than the limit of "
            f"{MAX_BYTES}",
            "crop it or reduce it before use; a volume this large is usually damaged or an attack",
        )
    return grid


def refused(path: Path, what: str, remedy: str = _COPY) -> UnreadableImageError:
    """The error for a file of this kind."""
    return UnreadableImageError(what, where=str(path), remedy=remedy)


def _header(block: bytes, path: Path) -> Any:
    for length, make in ((348, NIBABEL.Nifti1Header), (540, NIBABEL.Nifti2Header)):
        for order in ("<", ">"):
            if block[:4] != length.to_bytes(4, "little" if order == "<" else "big"):
                continue
            if len(block) < length:
                raise refused(path, f"the file ends inside its header, after {len(block)} bytes")
            header = make(block[:length], endianness=order, check=False)
            single, pair = _SINGLE[length]
            magic = block[344:348] if length == 348 else block[4:8]
            if magic == pair:
                raise refused(
                    path,
                    "this is the header of a pair of files (.hdr and .img)",
                    "convert the pair to one .nii file",
                )
            if magic != single:
                raise refused(path, "the file has no NIfTI magic: it is Analyze or something else", "convert it")
            try:
                header.check_fix(logger=_SILENT, error_level=40)
            except _HEADER_ERRORS as problem:
                raise refused(path, f"the header is damaged ({type(problem).__name__})") from problem
            return header
    raise refused(path, "the file does not begin with a NIfTI header")


def _sizes(shape: tuple[int, ...], path: Path) -> tuple[tuple[int, int, int], int]:
    if any(size < 1 for size in shape):
        raise refused(path, f"the header states the shape {shape}")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not 2 <= len(shape) <= 4:
        raise refused(
            path,
            f"the file has {len(shape)} dimensions {shape}; read are 2, 3 and 4",
            "export the volumes as one three-dimensional file each",
        )
    x, y, z, volumes = (*shape, 1, 1)[:4]
    return (x, y, z), volumes


def _check_type(dtype: np.dtype[Any], path: Path) -> None:
    if dtype.kind in "iuf" and dtype.itemsize <= 8:
        return
    if dtype.names:
        kind = "colours (RGB)"
    elif dtype.kind == "c":
        kind = "complex numbers"
    else:
        kind = f"values of type {dtype}"
    raise refused(
        path, f"the voxels are {kind}; read are integers and real numbers up to 64 bits", "export one grey volume"
    )


def _orientation(affine: NDArray[np.float64], stored: tuple[int, int, int], path: Path) -> NDArray[np.float64]:
    """nibabel's orientation; an axis without direction takes the place that is left, if it has one voxel only."""
    if not np.isfinite(affine).all():
        raise refused(path, "the orientation in the header is not finite", "set its sform or qform")
    orientation = np.asarray(NIBABEL.orientations.io_orientation(affine), dtype=np.float64)
    free = sorted(set(range(3)) - {int(axis) for axis in orientation[:, 0] if np.isfinite(axis)})
    for axis in range(3):
        if np.isfinite(orientation[axis, 0]):
            continue
        if stored[axis] != 1:
            raise refused(path, "the orientation in the header leaves an axis without direction", "set its sform")
        orientation[axis] = (free.pop(0), 1)
    return orientation
