"""Colour and compressed DICOM: converted exactly once, whatever the syntax, the markers and the installed decoders."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from wardround.medical_datasets.cohort import ImageRef
from wardround.medical_datasets.errors import UnreadableImageError
from wardround.medical_datasets.readers import dicom_gdcm, dicom_pixels
from wardround.medical_datasets.readers.dicom import check_header, read_rgb
from wardround.medical_datasets.readers.dicom_pixels import coded_size

from .dicom_files import dataset, encapsulated, grey, write

SIZE = (32, 40)
TWELVE = grey(SIZE, high=4096, dtype=np.uint16)
SIGNED = grey(SIZE, low=-1000, high=1000, dtype=np.int16)


def smooth(shape: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A colour picture that lossy compression keeps, with a saturated corner in every primary."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]] / (np.array(shape).reshape(2, 1, 1) - 1)
    return np.rint(np.stack([255 * x, 255 * y, 255 * (1 - (x + y) / 2)], axis=2)).astype(np.uint8)


def read(made: Dataset, folder: Path, part: str = "") -> NDArray[np.uint8]:
    ref = ImageRef(write(made, folder / "image.dcm"), part)
    check_header(ref)
    return read_rgb(ref)


def to_ybr(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """ITU-R BT.601 with the full range, as in PS3.3 C.7.6.3.1.2."""
    r, g, b = (rgb[..., k].astype(np.float64) for k in range(3))
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return np.clip(np.rint(np.stack([y, 128 + (b - y) / 1.772, 128 + (r - y) / 1.402], axis=-1)), 0, 255).astype(
        np.uint8
    )


def to_rgb(ybr: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The inverse, not rounded."""
    y, b, r = (ybr[..., k].astype(np.float64) for k in range(3))
    red, blue = y + 1.402 * (r - 128), y + 1.772 * (b - 128)
    return np.clip(np.stack([red, (y - 0.299 * red - 0.114 * blue) / 0.587, blue], axis=-1), 0, 255)


def jpeg(pixels: NDArray[np.uint8], mode: str | None = None, **options: Any) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(pixels)
    if mode:
        image = Image.merge(mode, [Image.fromarray(pixels[:, :, k]) for k in range(pixels.shape[2])])
    image.save(out, "JPEG", quality=97, **options)
    return out.getvalue()


def without_segment(data: bytes, marker: int) -> bytes:
    at = data.index(bytes([0xFF, marker]))
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_rgb_by_pixel_and_by_plane(syntax: Any, planar: int, tmp_path: Path) -> None:
    made = dataset(smooth(), syntax=syntax, PlanarConfiguration=planar)
    if planar:
        made.PixelData = np.ascontiguousarray(smooth().transpose(2, 0, 1)).tobytes()
    assert (read(made, tmp_path) == smooth()).all()


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_rgb_compressed_where_planar_configuration_means_nothing(syntax: Any, planar: int, tmp_path: Path) -> None:
    made = dataset(smooth())
    made.compress(syntax)
    made.PlanarConfiguration = planar
    assert (read(made, tmp_path) == smooth()).all()


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless])
def test_ybr_full_is_converted_once(syntax: Any, tmp_path: Path) -> None:
    ybr = to_ybr(smooth())
    made = dataset(ybr, PhotometricInterpretation="YBR_FULL")
    if syntax:
        made.compress(syntax)
    assert np.abs(read(made, tmp_path) - to_rgb(ybr)).max() <= 0.51


def test_ybr_full_422_uncompressed(tmp_path: Path) -> None:
    ybr = to_ybr(smooth())
    ybr[:, 1::2, 1:] = ybr[:, ::2, 1:]  # two pixels share their colour
    made = dataset(ybr, PhotometricInterpretation="YBR_FULL_422")
    made.PixelData = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], axis=2).tobytes()
    assert np.abs(read(made, tmp_path) - to_rgb(ybr)).max() <= 0.51


def test_colour_of_sixteen_bits_is_scaled(tmp_path: Path) -> None:
    pixels = smooth().astype(np.uint16) * 257
    assert (read(dataset(pixels), tmp_path) == smooth()).all()
    ten = smooth().astype(np.uint16) * 4
    assert np.abs(read(dataset(ten, bits=10), tmp_path) - ten * (255 / 1023)).max() <= 0.5


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_FULL", "RGB"])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_baseline_jpeg_in_ybr_whatever_the_header_says(photometric: str, subsampling: int, tmp_path: Path) -> None:
    frame = jpeg(smooth(), subsampling=subsampling)  # Pillow writes a JFIF marker: the components are YBR
    made = encapsulated(smooth(), [frame], syntax=JPEGBaseline8Bit, PhotometricInterpretation=photometric)
    picture = read(made, tmp_path)
    assert np.abs(picture.astype(int) - smooth()).mean() < 2.5
    assert (picture == np.asarray(Image.open(io.BytesIO(frame)).convert("RGB"))).all()


def test_jpeg_without_markers_is_what_the_header_says(tmp_path: Path) -> None:
    """The same components, once labelled RGB and once YBR; neither JFIF nor Adobe says what they are."""
    raw = without_segment(jpeg(to_ybr(smooth()), "YCbCr", subsampling=0), 0xE0)
    as_ybr = read(
        encapsulated(smooth(), [raw], syntax=JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL"), tmp_path
    )
    as_rgb = read(encapsulated(smooth(), [raw], syntax=JPEGBaseline8Bit, PhotometricInterpretation="RGB"), tmp_path)
    assert np.abs(as_ybr.astype(int) - smooth()).mean() < 2.5
    assert np.abs(as_rgb.astype(int) - to_ybr(smooth())).mean() < 2.5


def test_jpeg_with_an_adobe_marker_is_converted_once(tmp_path: Path) -> None:
    plain = without_segment(jpeg(smooth(), subsampling=0), 0xE0)
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"
    made = encapsulated(
        smooth(), [plain[:2] + adobe + plain[2:]], syntax=JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422"
    )
    assert np.abs(read(made, tmp_path).astype(int) - smooth()).mean() < 2.5


def test_an_adobe_marker_too_short_to_say_anything_does_not_count(tmp_path: Path) -> None:
    raw = without_segment(jpeg(smooth(), "YCbCr", subsampling=0), 0xE0)
    short = b"\xff\xee\x00\x0cAdobe\x00\x00\x00\x00\x00"
    made = encapsulated(smooth(), [raw[:2] + short + raw[2:]], syntax=JPEGBaseline8Bit, PhotometricInterpretation="RGB")
    assert np.abs(read(made, tmp_path).astype(int) - smooth()).mean() < 2.5


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
def test_grey_jpeg_of_several_frames_and_fragments(syntax: Any, tmp_path: Path) -> None:
    flat = [np.full(SIZE, value, dtype=np.uint8) for value in (20, 120, 220)]
    for values in flat:
        values[:16] = 70
    frames = [jpeg(values) for values in flat]
    made = encapsulated(np.stack(flat), frames, syntax=syntax, WindowCenter=128, WindowWidth=256)
    for number, values in enumerate(flat):
        assert np.abs(read(made, tmp_path, f"frame={number}")[:, :, 0].astype(int) - values).max() <= 4
    single = encapsulated(flat[1], [], syntax=syntax, WindowCenter=128, WindowWidth=256)
    single.PixelData = encapsulate([frames[1]], fragments_per_frame=3)
    assert np.abs(read(single, tmp_path)[:, :, 0].astype(int) - flat[1]).max() <= 4


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize(("pixels", "bits"), [(grey(SIZE), 8), (TWELVE, 12), (SIGNED, 16)])
def test_lossless_grey_equals_uncompressed(
    syntax: Any, pixels: NDArray[Any], bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elements = {"WindowCenter": 100, "WindowWidth": 900, "RescaleSlope": 1, "RescaleIntercept": -7}
    plain = read(dataset(pixels, bits=bits, **elements), tmp_path)
    made = dataset(pixels, bits=bits, **elements)
    made.compress(syntax)
    assert (read(made, tmp_path) == plain).all()
    # Every decoder that may be the only one on a machine gives the same.
    for name in dicom_pixels.decoders_of(syntax):
        with monkeypatch.context() as only:
            only.setitem(dicom_pixels._DECODERS, syntax, (name,))
            assert (read(made, tmp_path) == plain).all(), name


def test_jpeg_ls_near_lossless_stays_within_its_error(tmp_path: Path) -> None:
    made = dataset(TWELVE, bits=12, WindowCenter=2048, WindowWidth=4096)
    plain = read(made, tmp_path).astype(int)
    made.compress(JPEGLSNearLossless, jls_error=32)
    error = np.abs(read(made, tmp_path).astype(int) - plain)
    assert 0 < error.max() <= 3  # 32 of 4096 values are 2 of 256


@pytest.mark.parametrize("label", ["YBR_RCT", "RGB"])
def test_reversible_jpeg_2000_colour_is_exact(label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset(smooth(), PhotometricInterpretation="RGB")
    if label == "YBR_RCT":
        made.PhotometricInterpretation = "YBR_RCT"
    made.compress(JPEG2000Lossless)
    for name in dicom_pixels.decoders_of(JPEG2000Lossless):
        with monkeypatch.context() as only:
            only.setitem(dicom_pixels._DECODERS, JPEG2000Lossless, (name,))
            assert (read(made, tmp_path) == smooth()).all(), name


def test_lossy_jpeg_2000_colour_whatever_the_header_says(tmp_path: Path) -> None:
    made = dataset(smooth(), PhotometricInterpretation="YBR_ICT")
    made.compress(JPEG2000, j2k_psnr=[45])
    for label in ("YBR_ICT", "RGB", "YBR_FULL"):  # the codestream's own transform was undone already
        made.PhotometricInterpretation = label
        assert np.abs(read(made, tmp_path).astype(int) - smooth()).mean() < 2.5, label


def test_jpeg_2000_without_a_transform_in_ybr_is_converted(tmp_path: Path) -> None:
    ybr = to_ybr(smooth())
    made = dataset(ybr, PhotometricInterpretation="RGB")
    made.compress(JPEG2000Lossless)
    made.PhotometricInterpretation = "YBR_FULL"
    assert np.abs(read(made, tmp_path) - to_rgb(ybr)).max() <= 0.51


def lossless(made: Dataset, path: Path, syntax: Any = JPEGLosslessSV1) -> Path:
    """The image as gdcm writes it in a lossless JPEG syntax; the same image uncompressed lies beside it."""
    gdcm = pytest.importorskip("gdcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(write(made, path.with_suffix(".plain.dcm"))))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1])
@pytest.mark.parametrize("pixels", [grey(SIZE), TWELVE, SIGNED, smooth()])
def test_lossless_jpeg_by_gdcm(syntax: Any, pixels: NDArray[Any], tmp_path: Path) -> None:
    elements = {} if pixels.ndim == 3 else {"WindowCenter": 100, "WindowWidth": 900}
    path = lossless(dataset(pixels, **elements), tmp_path / "a.dcm", syntax)
    assert (read_rgb(ImageRef(path)) == read_rgb(ImageRef(path.with_suffix(".plain.dcm")))).all()


def test_damage_that_ends_gdcm_does_not_end_us(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    good = lossless(dataset(TWELVE, bits=12), tmp_path / "a.dcm")
    expected = read_rgb(ImageRef(good))
    data = good.read_bytes()
    at = data.index(b"\xff\xd8\xff")
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(data[:at] + data[at:].replace(b"\xff\xc4", b"\x5b\xc4", 1))  # no Huffman table
    for _ in range(2):
        with pytest.raises(UnreadableImageError, match="the compressed frame is damaged"):
            read_rgb(ImageRef(bad))
        assert (read_rgb(ImageRef(good)) == expected).all()
    assert capfd.readouterr() == ("", "")


def test_lossless_jpeg_in_threads(tmp_path: Path) -> None:
    paths = [lossless(dataset(TWELVE + number, bits=13), tmp_path / f"{number}.dcm") for number in range(3)]
    expected = [read_rgb(ImageRef(path)).tobytes() for path in paths]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda number: read_rgb(ImageRef(paths[number % 3])).tobytes(), range(30)))
    assert found == expected * 10
    assert len(dicom_gdcm._IDLE[os.getpid()]) <= 4


def test_gdcm_that_never_answers_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lossless(dataset(TWELVE, bits=12), tmp_path / "a.dcm")
    started = []
    popen = subprocess.Popen

    def silent(command: list[str], **pipes: Any) -> Any:
        started.append(popen([command[0], "-c", "import time; time.sleep(600)"], **pipes))
        return started[-1]

    monkeypatch.setattr(dicom_gdcm, "_IDLE", {})
    monkeypatch.setattr(dicom_gdcm, "DEADLINE", 0.3)
    with monkeypatch.context() as patched:
        patched.setattr(dicom_gdcm.subprocess, "Popen", silent)
        with pytest.raises(UnreadableImageError, match=r"did not answer within 0\.3 seconds"):
            read_rgb(ImageRef(path))
    (process,) = started
    assert process.returncode == -signal.SIGKILL
    assert process not in dicom_gdcm._ALL[os.getpid()]
    monkeypatch.setattr(dicom_gdcm, "DEADLINE", 60.0)
    assert read_rgb(ImageRef(path)).shape == (*SIZE, 3)


def test_an_interrupted_decoder_and_one_that_ended_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lossless(dataset(TWELVE, bits=12), tmp_path / "a.dcm")
    expected = read_rgb(ImageRef(path))
    (*_, process) = dicom_gdcm._IDLE[os.getpid()]

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(dicom_gdcm, "_receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read_rgb(ImageRef(path))
    assert process.poll() is not None
    assert (read_rgb(ImageRef(path)) == expected).all()
    for waiting in dicom_gdcm._IDLE[os.getpid()]:
        waiting.kill()
        waiting.wait()
    assert (read_rgb(ImageRef(path)) == expected).all()


def test_no_decoder_is_left_behind(tmp_path: Path) -> None:
    path = lossless(dataset(TWELVE, bits=12), tmp_path / "a.dcm")
    script = """
import os, sys
from pathlib import Path
from wardround.medical_datasets.cohort import ImageRef
from wardround.medical_datasets.readers import dicom_gdcm
from wardround.medical_datasets.readers.dicom import read_rgb
read_rgb(ImageRef(Path(sys.argv[1])))
busy = dicom_gdcm._start()  # as one that a thread has not got back
print(*(process.pid for process in dicom_gdcm._ALL[os.getpid()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    left = [int(word) for word in done.stdout.split()]
    assert len(left) == 2
    for process in left:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_gdcm_that_does_not_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lossless(dataset(TWELVE, bits=12), tmp_path / "a.dcm")
    monkeypatch.setattr(dicom_gdcm, "_IDLE", {})
    monkeypatch.setattr(dicom_gdcm.sys, "executable", "/bin/false")
    with pytest.raises(UnreadableImageError, match="gave up"):
        read_rgb(ImageRef(path))
    monkeypatch.setattr(dicom_gdcm.sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(UnreadableImageError, match="cannot be started"):
        read_rgb(ImageRef(path))


@pytest.mark.parametrize(("bits", "wide"), [(8, False), (8, True), (16, True)])
def test_palette_is_looked_up(bits: int, wide: bool, tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    colours = generator.integers(0, 256, size=(100, 3))
    first = 20
    made = dataset(grey(), PhotometricInterpretation="PALETTE COLOR", WindowCenter=1, WindowWidth=1)
    for k, name in enumerate(("Red", "Green", "Blue")):
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [100, first, bits])
        entries = colours[:, k] * (257 if bits == 16 else 1)
        data = entries.astype("<u2" if wide else "u1").tobytes()
        setattr(made, f"{name}PaletteColorLookupTableData", data)
    expected = [[colours[min(max(int(x) - first, 0), 99)] for x in row] for row in grey()]
    assert (read(made, tmp_path) == np.array(expected)).all()


def test_segmented_palette_is_unfolded(tmp_path: Path) -> None:
    made = dataset(grey(), PhotometricInterpretation="PALETTE COLOR")
    for name, end in (("Red", 255), ("Green", 128), ("Blue", 55)):
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
        # One entry of 0, then 255 entries in a straight line to `end` (PS3.3 C.7.9.2).
        setattr(made, f"Segmented{name}PaletteColorLookupTableData", bytes([0, 1, 0, 1, 255, end]))
    expected = np.stack([np.rint(grey() * (end / 255)) for end in (255, 128, 55)], axis=2)
    assert np.abs(read(made, tmp_path) - expected).max() <= 1


def test_a_missing_decoder_is_named_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset(TWELVE, bits=12)
    made.compress(JPEGLSLossless)
    path = write(made, tmp_path / "image.dcm")
    monkeypatch.setattr(dicom_pixels, "get_decoder", lambda _: SimpleNamespace(available_plugins=("other",)))
    for look in (check_header, read_rgb):
        with pytest.raises(UnreadableImageError, match=r"JPEG-LS Lossless") as refused:
            look(ImageRef(path))
        assert "1.2.840.10008.1.2.4.80" in refused.value.what
        assert "pip install 'wardround[dicom]'" in refused.value.remedy


def test_jpeg_of_twelve_bits_and_unknown_syntaxes_are_refused(tmp_path: Path) -> None:
    made = encapsulated(TWELVE, [jpeg(grey(SIZE))], syntax=JPEGExtended12Bit, bits=12)
    with pytest.raises(UnreadableImageError, match="JPEG of 12 bits"):
        read(made, tmp_path)
    made = encapsulated(grey(SIZE), [b"abcd"], syntax=RLELossless)
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
    with pytest.raises(UnreadableImageError, match="MPEG2 Main Profile"):
        read(made, tmp_path)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("left", [0.5, 0.9, 0.99])
def test_a_truncated_frame_is_refused(syntax: Any, left: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(4).integers(0, 256, size=SIZE, dtype=np.uint8)
    if syntax == JPEGBaseline8Bit:
        frame = jpeg(noise)
    else:
        whole = dataset(noise)
        whole.compress(syntax)
        frame = next(generate_frames(whole.PixelData, number_of_frames=1))
    cut = frame[: int(left * len(frame))]
    for file in (encapsulated(noise, [cut], syntax=syntax), None):
        path = tmp_path / "image.dcm"
        if file is not None:
            write(file, path)
        else:
            write(encapsulated(noise, [frame], syntax=syntax), path)
            path.write_bytes(path.read_bytes()[: -int((1 - left) * len(frame)) - 16])
        with pytest.raises(UnreadableImageError):
            read_rgb(ImageRef(path))


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless])
def test_a_frame_of_another_size_is_refused_before_it_is_decoded(
    syntax: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = np.zeros((64, 80), dtype=np.uint8)
    if syntax == JPEGBaseline8Bit:
        frame = jpeg(large)
    else:
        whole = dataset(large)
        whole.compress(syntax)
        frame = next(generate_frames(whole.PixelData, number_of_frames=1))
    assert coded_size(frame) == (64, 80)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(dicom_pixels, "_by_pydicom", never)
    monkeypatch.setattr(dicom_pixels, "_jpeg", never)
    with pytest.raises(UnreadableImageError, match="another size"):
        read(encapsulated(grey(SIZE), [frame], syntax=syntax), tmp_path)
