"""Small DICOM files for the tests: every one is written here, none is copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def dataset(pixels: NDArray[Any], *, syntax: UID = ExplicitVRLittleEndian, bits: int = 0, **elements: Any) -> Dataset:
    """An image of integers, shape ([frames,] rows, columns[, 3]); ``elements`` by keyword win, None leaves one out."""
    colour = pixels.shape[-1] == 3 and pixels.ndim > 2
    rows, columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    made.SOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID = generate_uid(), generate_uid()
    made.Modality = "OT"
    made.Rows, made.Columns = rows, columns
    made.SamplesPerPixel = 3 if colour else 1
    made.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        made.PlanarConfiguration = 0
    made.BitsAllocated = 8 * pixels.dtype.itemsize
    made.BitsStored = bits or made.BitsAllocated
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim - colour == 3:
        made.NumberOfFrames = pixels.shape[0]
    order = "<" if syntax.is_little_endian else ">"
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    made.add_new(0x7FE00010, "OW" if made.BitsAllocated > 8 else "OB", data + b"\0" * (len(data) % 2))
    for keyword, value in elements.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return made


def encapsulated(pixels: NDArray[Any], frames: list[bytes], *, syntax: UID, **elements: Any) -> Dataset:
    """The same image with frames that are compressed already."""
    made = dataset(pixels, **elements)
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate(frames)
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return made


def write(made: Dataset, path: Path, *, preamble: bool = True) -> Path:
    """Save a data set; without preamble also without meta information, as old files are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if preamble:
        made.save_as(path, enforce_file_format=True)
    else:
        syntax = made.file_meta.TransferSyntaxUID
        del made.file_meta
        made.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    return path


def item(**elements: Any) -> Sequence:
    """A sequence of one item."""
    inner = Dataset()
    for keyword, value in elements.items():
        setattr(inner, keyword, value)
    return Sequence([inner])


def grey(shape: tuple[int, ...] = (24, 32), *, low: int = 0, high: int = 256, dtype: Any = np.uint8) -> NDArray[Any]:
    """Seeded noise over a ramp, so that every kind of mistake shows."""
    generator = np.random.default_rng(7)
    values = np.linspace(low, high - 1, int(np.prod(shape))).reshape(shape)
    noise = generator.integers(-3, 4, size=shape)
    return np.clip(np.rint(values) + noise, low, high - 1).astype(dtype)
