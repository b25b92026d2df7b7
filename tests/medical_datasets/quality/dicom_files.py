"""DICOM files for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, SecondaryCaptureImageStorage, generate_uid
from wardround.medical_datasets.cohort import ImageRef


def dicom(path: Path, pixels: NDArray[np.uint8] | None = None, **elements: str) -> ImageRef:
    """Write a DICOM file of 8-bit grey, black without ``pixels``; ``secondary`` makes it a screen capture."""
    grey = np.zeros((2, 2), np.uint8) if pixels is None else np.ascontiguousarray(pixels)
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID = SecondaryCaptureImageStorage if elements.pop("secondary", "") else MRImageStorage
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.Rows, file.Columns = grey.shape
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.PixelRepresentation, file.SamplesPerPixel = 7, 0, 1
    file.PhotometricInterpretation = "MONOCHROME2"
    file.PixelData = grey.tobytes()
    for name, value in elements.items():
        setattr(file, name, value)
    pydicom.dcmwrite(path, file, enforce_file_format=True)
    return ImageRef(path)
