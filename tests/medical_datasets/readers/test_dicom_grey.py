"""The grey pipeline against the formulas of PS3.3 C.11, one pixel at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from wardround.medical_datasets.cohort import ImageRef
from wardround.medical_datasets.errors import UnreadableImageError
from wardround.medical_datasets.readers.dicom import check_header, read_rgb
from wardround.medical_datasets.readers.dicom_lookup import LookupTable

from .dicom_files import dataset, grey, item, write

TWELVE = grey(high=4096, dtype=np.uint16)
SIGNED = grey(low=-1000, high=1000, dtype=np.int16)


def shown(made: Dataset, folder: Path, part: str = "", **options: bool) -> NDArray[np.uint8]:
    """The picture of a data set as one channel, after looking that all three are equal."""
    ref = ImageRef(write(made, folder / "image.dcm", **options), part)
    check_header(ref)
    picture = read_rgb(ref)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert (picture == picture[:, :, :1]).all()
    return picture[:, :, 0]


def linear(x: float, c: float, w: float) -> float:
    """C.11.2.1.2.1 for y from 0 to 1."""
    if x <= c - 0.5 - (w - 1) / 2:
        return 0.0
    if x > c - 0.5 + (w - 1) / 2:
        return 1.0
    return (x - (c - 0.5)) / (w - 1) + 0.5


def linear_exact(x: float, c: float, w: float) -> float:
    """C.11.2.1.3.2."""
    if x <= c - w / 2:
        return 0.0
    return 1.0 if x > c + w / 2 else (x - c) / w + 0.5


def sigmoid(x: float, c: float, w: float) -> float:
    """C.11.2.1.3.1."""
    return 0.5 + 0.5 * math.tanh(2 * (x - c) / w)  # the same function, in a form that does not overflow


def each(values: NDArray[Any], function: Callable[[float], float]) -> NDArray[np.float64]:
    return np.array([[255 * function(float(value)) for value in row] for row in values])


def close(read: NDArray[np.uint8], expected: NDArray[np.float64]) -> bool:
    """Equal after rounding; where the exact value is half way, either side."""
    return bool(np.abs(read - expected).max() <= 0.5 + 1e-9)


def ranged(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255


@pytest.mark.parametrize("function", [linear, linear_exact, sigmoid])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2, -1024), (0.5, 7.25), (-1, 100)])
def test_window_after_rescale(
    function: Callable[[float, float, float], float], slope: float, intercept: float, tmp_path: Path
) -> None:
    made = dataset(
        SIGNED,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=40,
        WindowWidth=400,
        VOILUTFunction=function.__name__.upper(),
    )
    assert close(shown(made, tmp_path), each(SIGNED * slope + intercept, lambda x: function(x, 40, 400)))


def test_window_without_a_named_function_is_linear_and_the_first_of_several_counts(tmp_path: Path) -> None:
    made = dataset(TWELVE, bits=12, WindowCenter=[2000, 50], WindowWidth=[1000, 3])
    assert close(shown(made, tmp_path), each(TWELVE, lambda x: linear(x, 2000, 1000)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    centre=st.integers(-1500, 1500),
    width=st.integers(1, 3000),
    function=st.sampled_from([linear, linear_exact, sigmoid]),
    inverted=st.booleans(),
)
def test_any_window(
    tmp_path: Path, centre: int, width: int, function: Callable[[float, float, float], float], inverted: bool
) -> None:
    if function is linear and width == 1:  # a step, where C.11.2.1.2.1 divides by nothing
        expected = np.where(centre - 0.5 < SIGNED, 255.0, 0.0)
    else:
        expected = each(SIGNED, lambda x: function(x, centre, width))
    made = dataset(
        SIGNED,
        WindowCenter=centre,
        WindowWidth=width,
        VOILUTFunction=function.__name__.upper(),
        PhotometricInterpretation="MONOCHROME1" if inverted else "MONOCHROME2",
    )
    assert close(shown(made, tmp_path), 255 - expected if inverted else expected)


@pytest.mark.parametrize("width", [0, -5])
def test_impossible_window_means_the_range_of_the_picture(width: float, tmp_path: Path) -> None:
    made = dataset(TWELVE, bits=12, WindowCenter=100, WindowWidth=width)
    assert close(shown(made, tmp_path), ranged(TWELVE, int(TWELVE.min()), int(TWELVE.max())))


def test_narrow_linear_window_is_taken_as_exact(tmp_path: Path) -> None:
    made = dataset(TWELVE, bits=12, RescaleSlope=0.0001, RescaleIntercept=0, WindowCenter=0.2, WindowWidth=0.25)
    assert close(shown(made, tmp_path), each(TWELVE * 0.0001, lambda x: linear_exact(x, 0.2, 0.25)))


def test_empty_window_elements_count_as_missing(tmp_path: Path) -> None:
    made = dataset(TWELVE, bits=12, WindowCenter="", WindowWidth="")
    assert close(shown(made, tmp_path), ranged(TWELVE, int(TWELVE.min()), int(TWELVE.max())))


@pytest.mark.parametrize("pixels", [grey(), TWELVE, SIGNED, grey(low=-100, high=100, dtype=np.int8)])
def test_without_window_the_range_of_the_picture_is_shown(pixels: NDArray[Any], tmp_path: Path) -> None:
    assert close(shown(dataset(pixels), tmp_path), ranged(pixels, float(pixels.min()), float(pixels.max())))


def test_integers_of_32_bits(tmp_path: Path) -> None:
    pixels = grey(low=10**6, high=4 * 10**9, dtype=np.uint32)
    assert close(shown(dataset(pixels), tmp_path), ranged(pixels, float(pixels.min()), float(pixels.max())))


def test_a_flat_picture_is_black(tmp_path: Path) -> None:
    assert not shown(dataset(np.full((8, 8), 77, dtype=np.uint8)), tmp_path).any()


@pytest.mark.parametrize(
    "elements",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ],
)
def test_inverted_once(elements: dict[str, str], tmp_path: Path) -> None:
    expected = 255 - ranged(TWELVE, int(TWELVE.min()), int(TWELVE.max()))
    assert close(shown(dataset(TWELVE, bits=12, **elements), tmp_path), expected)


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_left_out_of_the_range_and_black(kind: str, tmp_path: Path) -> None:
    pixels = SIGNED.copy()
    pixels[:5] = -2000
    made = dataset(pixels, PixelPaddingValue=-2000, PhotometricInterpretation=kind)
    expected = ranged(pixels, float(SIGNED[5:].min()), float(SIGNED[5:].max()))
    expected = 255 - expected if kind == "MONOCHROME1" else expected
    expected[:5] = 0
    assert close(shown(made, tmp_path), expected)


def test_padding_range_and_padding_written_with_the_wrong_sign(tmp_path: Path) -> None:
    pixels = SIGNED.copy()
    pixels[0], pixels[1] = -2000, -1990
    made = dataset(pixels)
    made.add_new(0x00280120, "US", 65536 - 2000)
    made.add_new(0x00280121, "US", 65536 - 1990)
    read = shown(made, tmp_path)
    assert not read[:2].any()
    assert close(read[2:], ranged(pixels[2:], float(pixels[2:].min()), float(pixels[2:].max())))


def test_every_pixel_padding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="every pixel is padding"):
        shown(dataset(np.zeros((8, 8), dtype=np.uint8), PixelPaddingValue=0), tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_voi_lut_is_preferred_to_a_window(packed: bool, tmp_path: Path) -> None:
    table = (np.arange(200) ** 2 // 160).astype(np.uint16)  # 10 bits, or 8
    if packed:
        table = table // 4
    lut = item(LUTDescriptor=[200, 30, 8 if packed else 10])
    data = table.astype(np.uint8).tobytes() if packed else table.astype("<u2").tobytes()
    lut[0].add_new(0x00283006, "OW", data)
    pixels = grey()
    made = dataset(pixels, VOILUTSequence=lut, WindowCenter=5, WindowWidth=2)
    expected = [[255 * table[min(max(int(x) - 30, 0), 199)] / (255 if packed else 1023) for x in row] for row in pixels]
    assert close(shown(made, tmp_path), np.array(expected))


def test_modality_lut_with_a_negative_first_value_before_the_window(tmp_path: Path) -> None:
    table = (1000 - np.arange(1500) // 2).astype(np.uint16)
    lut = item(LUTDescriptor=[1500, 0, 16], ModalityLUTType="US")
    lut[0].add_new(0x00283002, "SS", [1500, -700, 16])
    lut[0].add_new(0x00283006, "US", table.tolist())
    made = dataset(SIGNED, ModalityLUTSequence=lut, WindowCenter=600, WindowWidth=500)
    looked = np.array([[table[min(max(int(x) + 700, 0), 1499)] for x in row] for row in SIGNED])
    assert close(shown(made, tmp_path), each(looked, lambda x: linear(x, 600, 500)))


def ramp(keyword: str, first: int, entries: int, kind: str) -> Dataset:
    """An image of 12 bits with a lookup table whose descriptor has the representation ``kind``."""
    made = dataset(TWELVE, bits=12, RescaleSlope=1, RescaleIntercept=-1024)
    lut = item()
    lut[0].add_new(0x00283002, kind, [entries, first, 12])
    lut[0].add_new(0x00283006, "OW", (np.arange(entries) * 4095 // (entries - 1)).astype("<u2").tobytes())
    setattr(made, keyword, lut)
    return made


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("first", [-1024, -30, 0, 100])
def test_voi_lut_of_values_below_nothing_is_the_same_in_implicit_and_explicit_representation(
    syntax: Any, first: int, tmp_path: Path
) -> None:
    made = ramp("VOILUTSequence", first, 3000, "SS")
    made.file_meta.TransferSyntaxUID = syntax
    table = [x * 4095 // 2999 for x in range(3000)]
    expected = each(TWELVE.astype(np.int32) - 1024, lambda x: table[min(max(int(x) - first, 0), 2999)] / 4095)
    assert close(shown(made, tmp_path), expected)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_first_value_follows_the_sign_of_what_goes_into_the_table(syntax: Any, tmp_path: Path) -> None:
    high = grey(low=39000, high=65000, dtype=np.uint16)
    lut = item()
    lut[0].add_new(0x00283002, "US", [20000, 40000, 16])  # not -25536: neither stored nor shown values are negative
    lut[0].add_new(0x00283006, "OW", np.arange(20000, dtype="<u2").tobytes())
    expected = each(high, lambda x: min(max(int(x) - 40000, 0), 19999) / 65535)
    assert close(shown(dataset(high, syntax=syntax, VOILUTSequence=lut), tmp_path), expected)
    made = dataset(high, syntax=syntax, ModalityLUTSequence=lut, WindowCenter=10000, WindowWidth=20000)
    looked = np.clip(high.astype(np.int32) - 40000, 0, 19999)
    assert close(shown(made, tmp_path), each(looked, lambda x: linear(x, 10000, 20000)))


def test_a_table_of_many_entries_whose_number_was_read_as_signed() -> None:
    data = np.arange(40000, dtype="<u2").tobytes()
    written = SimpleNamespace(LUTDescriptor=[40000 - 65536, -20000, 16], LUTData=data, is_little_endian=True)
    table = LookupTable(written, signed=True)  # type: ignore[arg-type]
    values = np.array([-30000.0, -20000.0, 0.0, 19999.0, 30000.0])
    assert table.of(values).tolist() == [0, 0, 20000, 39999, 39999]


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_with_one_entry_for_all_values_is_refused(keyword: str, tmp_path: Path) -> None:
    path = write(ramp(keyword, 20000, 100, "US"), tmp_path / "a.dcm")
    with pytest.raises(UnreadableImageError, match="one entry for all values"):
        read_rgb(ImageRef(path))
    flat = ramp(keyword, 20000, 100, "US")
    flat.PixelData = np.full((24, 32), 7, dtype="<u2").tobytes()
    assert (shown(flat, tmp_path) == shown(flat, tmp_path)[0, 0]).all()  # nothing is lost of a picture of one value


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
@pytest.mark.parametrize("pixels", [TWELVE, SIGNED, grey()])
def test_uncompressed_syntaxes(syntax: Any, pixels: NDArray[Any], tmp_path: Path) -> None:
    made = dataset(pixels, syntax=syntax, WindowCenter=100, WindowWidth=300)
    assert close(shown(made, tmp_path), each(pixels, lambda x: linear(x, 100, 300)))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_old_file_without_preamble(syntax: Any, tmp_path: Path) -> None:
    made = dataset(TWELVE, bits=12, syntax=syntax, WindowCenter=100, WindowWidth=300)
    assert close(shown(made, tmp_path, preamble=False), each(TWELVE, lambda x: linear(x, 100, 300)))


def test_unused_bits_do_not_count(tmp_path: Path) -> None:
    dirty = TWELVE | np.uint16(0xA000)
    assert close(shown(dataset(dirty, bits=12), tmp_path), ranged(TWELVE, int(TWELVE.min()), int(TWELVE.max())))


@pytest.mark.parametrize("signed", [False, True])
def test_values_in_the_upper_bits(signed: bool, tmp_path: Path) -> None:
    values = (TWELVE.astype(np.int32) - 2048).astype(np.int16) if signed else TWELVE
    made = dataset((values << 4) | values.dtype.type(5), bits=12, HighBit=15, WindowCenter=300, WindowWidth=900)
    assert close(shown(made, tmp_path), each(values, lambda x: linear(x, 300, 900)))


@pytest.mark.parametrize(("keyword", "kind"), [("FloatPixelData", np.float32), ("DoubleFloatPixelData", np.float64)])
def test_floating_point_pixels(keyword: str, kind: Any, tmp_path: Path) -> None:
    values = (np.linspace(-2, 5, 24 * 32).reshape(24, 32)).astype(kind)
    values[0, 0], values[0, 1], values[0, 2] = np.nan, np.inf, 1000
    made = dataset(grey(), BitsAllocated=8 * values.itemsize, PixelData=None)
    for needless in ("BitsStored", "HighBit", "PixelRepresentation"):
        delattr(made, needless)
    setattr(made, keyword, values.tobytes())
    setattr(made, keyword.replace("PixelData", "PixelPaddingValue"), 1000.0)
    expected = ranged(np.nan_to_num(values, posinf=0), float(values[0, 3]), 5)
    expected[0, :3] = 0
    assert close(shown(made, tmp_path), expected)


def test_a_mask_of_one_bit_is_black_and_white(tmp_path: Path) -> None:
    mask = np.random.default_rng(1).integers(0, 2, size=(3, 16, 8), dtype=np.uint8)
    made = dataset(mask, BitsAllocated=1, BitsStored=1, HighBit=0)
    made.PixelData = np.packbits(mask.ravel(), bitorder="little").tobytes()
    for frame in range(3):
        assert (shown(made, tmp_path, f"frame={frame}") == 255 * mask[frame]).all()


def test_each_frame_has_its_own_window_and_rescale_in_an_enhanced_image(tmp_path: Path) -> None:
    frames = np.stack([TWELVE, TWELVE[::-1], TWELVE // 2])
    made = dataset(frames, bits=12, WindowCenter=1, WindowWidth=1)
    made.SharedFunctionalGroupsSequence = item(
        PixelValueTransformationSequence=item(RescaleSlope=2, RescaleIntercept=-100, RescaleType="US"),
        FrameVOILUTSequence=item(WindowCenter=900, WindowWidth=800),
    )
    groups = [item()[0] for _ in range(3)]
    groups[1].FrameVOILUTSequence = item(WindowCenter=[2000, 1], WindowWidth=[500, 1], VOILUTFunction="SIGMOID")
    groups[2].PixelValueTransformationSequence = item(RescaleSlope=1, RescaleIntercept=50, RescaleType="US")
    made.PerFrameFunctionalGroupsSequence = groups
    expected = [
        each(frames[0] * 2.0 - 100, lambda x: linear(x, 900, 800)),
        each(frames[1] * 2.0 - 100, lambda x: sigmoid(x, 2000, 500)),
        each(frames[2] + 50.0, lambda x: linear(x, 900, 800)),
    ]
    for frame in range(3):
        assert close(shown(made, tmp_path, f"frame={frame}"), expected[frame])


@pytest.mark.parametrize(
    ("elements", "size"),
    [
        ({"PixelSpacing": [0.5, 0.5]}, (24, 32)),
        ({"PixelSpacing": [0.502, 0.5]}, (24, 32)),
        ({"PixelSpacing": [1.0, 0.5]}, (48, 32)),
        ({"PixelSpacing": [0.5, 1.0]}, (24, 64)),
        ({"ImagerPixelSpacing": [0.15, 0.1]}, (36, 32)),
        ({"PixelAspectRatio": [2, 1]}, (48, 32)),
        ({"PixelAspectRatio": [2, 1], "PixelSpacing": [1, 1]}, (24, 32)),
        ({"PixelSpacing": [0, 1]}, (24, 32)),
        ({"PixelSpacing": [1000, 1]}, (24, 32)),
    ],
)
def test_pixels_become_square(elements: dict[str, list[float]], size: tuple[int, int], tmp_path: Path) -> None:
    made = dataset(grey(), **elements)
    read = shown(made, tmp_path)
    assert read.shape == size
    plain = shown(dataset(grey()), tmp_path)
    if size == (48, 32):  # each new row lies a quarter of an old one from an old one
        between = 0.75 * plain[1:-1] + 0.25 * plain[:-2]
        assert np.abs(read[2:-2:2] - between).max() <= 1
    elif size == (24, 32):
        assert (read == plain).all()


@pytest.mark.parametrize("pixels", [TWELVE, SIGNED])
def test_rescale_agrees_with_monai(pixels: NDArray[Any], tmp_path: Path) -> None:
    monai = pytest.importorskip("monai.data")
    made = dataset(
        pixels,
        RescaleSlope=1.5,
        RescaleIntercept=-20,
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        ImagePositionPatient=[0, 0, 0],
        PixelSpacing=[1, 1],
    )
    read = shown(made, tmp_path)
    reader = monai.PydicomReader()
    values = np.asarray(reader.get_data(reader.read(tmp_path / "image.dcm"))[0], dtype=np.float64).squeeze().T
    assert values.shape == pixels.shape
    assert close(read, ranged(values, float(values.min()), float(values.max())))
