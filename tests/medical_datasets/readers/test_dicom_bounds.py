"""Small files that would become large, or slow, are refused before they do."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels.processing import _expand_segmented_lut
from pydicom.uid import DeflatedExplicitVRLittleEndian
from wardround.medical_datasets.cohort import ImageRef
from wardround.medical_datasets.errors import UnreadableImageError
from wardround.medical_datasets.readers import dicom_file
from wardround.medical_datasets.readers.dicom import check_header, facts, read_rgb
from wardround.medical_datasets.readers.dicom_file import RefusedError
from wardround.medical_datasets.readers.dicom_lookup import refuse_false_segments

from .dicom_files import dataset, grey, write

EMPTY = b"\x41\x00\x01\x10LO\x00\x00"  # an element without a value
PIXELS = b"\xe0\x7f\x10\x00"
MANY = "more elements before its pixels than any image"


def refused(path: Path, words: str) -> None:
    for entrance in (check_header, read_rgb):
        with pytest.raises(UnreadableImageError, match=words) as caught:
            entrance(ImageRef(path))
        assert caught.value.remedy


def widened(path: Path, extra: bytes) -> Path:
    """An image with something more before its pixels."""
    raw = write(dataset(grey((16, 16))), path).read_bytes()
    at = raw.rindex(PIXELS)
    path.write_bytes(raw[:at] + extra + raw[at:])
    return path


def deflated(path: Path, before: bytes = b"", after: bytes = b"", side: int = 16) -> Path:
    """A deflated image with something more before its pixels and behind them."""
    raw = write(dataset(grey((side, side)), syntax=DeflatedExplicitVRLittleEndian), path).read_bytes()
    begin = 144 + struct.unpack_from("<L", raw, 140)[0]
    body = zlib.decompress(raw[begin:], -zlib.MAX_WBITS)
    at = body.rindex(PIXELS)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = deflate.compress(body[:at] + before + body[at:] + after) + deflate.flush()
    path.write_bytes(raw[:begin] + packed)
    return path


@pytest.mark.parametrize("wide", [True, False])
def test_a_segmented_palette_that_unfolds_to_more_than_it_states_is_refused(wide: bool, tmp_path: Path) -> None:
    made = dataset(grey(), PhotometricInterpretation="PALETTE COLOR")
    most = 65535 if wide else 255
    data = np.array([0, 1, 0] + [1, most, 100] * 400, dtype="<u2" if wide else "u1").tobytes()
    for name in ("Red", "Green", "Blue"):
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16 if wide else 8])
        setattr(made, f"Segmented{name}PaletteColorLookupTableData", data)
    path = write(made, tmp_path / "a.dcm")
    tracemalloc.start()
    with pytest.raises(UnreadableImageError, match="another number of entries"):
        read_rgb(ImageRef(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 21  # pydicom would make 26 million entries of the wide one


def test_segments_that_pydicom_cannot_unfold_end_in_one_error(tmp_path: Path) -> None:
    made = dataset(grey(), PhotometricInterpretation="PALETTE COLOR")
    # Two indirect segments that point into the middle of others: counted as 56 entries, and refused by pydicom.
    data = bytes([0, 1, 50, 2, 1, 5, 0, 0, 0, 2, 1, 1, 0, 0, 0, 0])
    for name in ("Red", "Green", "Blue"):
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [56, 0, 8])
        setattr(made, f"Segmented{name}PaletteColorLookupTableData", data)
    with pytest.raises(UnreadableImageError) as caught:
        read_rgb(ImageRef(write(made, tmp_path / "a.dcm")))
    assert caught.value.remedy


def segment(wide: bool, little: bool) -> st.SearchStrategy[list[int]]:
    """One segment as words: discrete, linear or indirect (PS3.3 C.7.9.2)."""
    place = (lambda low: [low, 0]) if wide else (lambda low: [low, 0, 0, 0] if little else [0, low, 0, 0])
    return st.one_of(
        st.lists(st.integers(0, 255), max_size=4).map(lambda values: [0, len(values), *values]),
        st.builds(lambda length, end: [1, length, end], st.integers(1, 9), st.integers(0, 255)),
        st.builds(lambda count, low: [2, count, *place(low)], st.integers(1, 3), st.integers(0, 12)),
    )


@settings(max_examples=200, deadline=None)
@given(data=st.data(), wide=st.booleans(), little=st.booleans())
def test_segments_are_counted_as_pydicom_unfolds_them(data: st.DataObject, wide: bool, little: bool) -> None:
    segments = data.draw(st.lists(segment(wide, little), max_size=8))
    words = [0, 1, 50, *(word for each in segments for word in each)]
    written = np.array(words, dtype="u1" if not wide else "<u2" if little else ">u2").tobytes()
    unfolded: int | None = None
    with contextlib.suppress(ValueError, IndexError, ZeroDivisionError, RecursionError):
        unfolded = len(_expand_segmented_lut(tuple(words), ("<" if little else ">") + ("H" if wide else "B")))
    accepted = []
    for stated in range(1, 80):
        with contextlib.suppress(RefusedError):
            refuse_false_segments(written, stated, wide=wide, little=little)
            accepted.append(stated)
    # pydicom takes a last value of 0 for none, and then refuses a linear segment that the standard allows: no oracle
    # there. The reader refuses such a file with it (test above); whatever it holds, one number of entries is accepted.
    assert accepted in ([], [unfolded]) if unfolded is not None else len(accepted) <= 1
    if unfolded is not None and not any(each[0] == 2 for each in segments):
        assert accepted == [unfolded]


def test_indirect_segments_count_what_they_repeat() -> None:
    words = np.array([0, 2, 7, 8, 1, 3, 20, 2, 2, 0, 0], dtype="<u2")  # 2 + 3 entries, and both again
    refuse_false_segments(words.tobytes(), 10, wide=True, little=True)
    for entries in (5, 9, 11):
        with pytest.raises(RefusedError):
            refuse_false_segments(words.tobytes(), entries, wide=True, little=True)
    itself = np.array([0, 1, 7, 2, 1, 3, 0], dtype="<u2")
    many = np.array([0, 1, 7] + [2, 1, 0, 0] * 300, dtype="<u2")
    empty = np.array([0, 1, 7, 0, 0, 2, 1, 3, 0], dtype="<u2")
    for data, entries in ((itself, 2), (many, 301), (empty, 1)):
        with pytest.raises(RefusedError):
            refuse_false_segments(data.tobytes(), entries, wide=True, little=True)
    with pytest.raises(RefusedError):
        refuse_false_segments(bytes(100_000), 256, wide=True, little=True)


def test_a_deflated_file_inflates_to_what_its_pixels_justify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_file, "_MAX_INFLATED_HEADER", 4000)
    path = deflated(tmp_path / "a.dcm", side=256)
    plain = write(dataset(grey((256, 256))), tmp_path / "plain.dcm")
    assert (read_rgb(ImageRef(path)) == read_rgb(ImageRef(plain))).all()
    behind = b"\xfc\xff\xfc\xffOB\0\0" + struct.pack("<L", 8000) + bytes(8000)  # padding
    refused(deflated(tmp_path / "b.dcm", after=behind), "inflates to more than 4256 bytes")
    before = b"\x41\x00\x02\x10OB\0\0" + struct.pack("<L", 8000) + bytes(8000)
    refused(deflated(tmp_path / "c.dcm", before=before), "inflates to more than 4256 bytes")
    monkeypatch.setattr(dicom_file, "_MAX_INFLATED", 50_000)
    refused(deflated(path, side=256), "inflates to more than 50000 bytes")


def test_a_deflated_file_of_zeros_is_refused_after_few_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_file, "_MAX_READS", 5000)
    path = write(dataset(grey((16, 16)), syntax=DeflatedExplicitVRLittleEndian), tmp_path / "a.dcm")
    raw = path.read_bytes()
    begin = 144 + struct.unpack_from("<L", raw, 140)[0]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = b"".join(deflate.compress(bytes(1 << 20)) for _ in range(64)) + deflate.flush()
    path.write_bytes(raw[:begin] + packed)
    tracemalloc.start()
    refused(path, MANY)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 25  # half of the zeros
    with pytest.raises(UnreadableImageError, match=MANY):
        facts(path)


def test_elements_before_the_pixels_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = widened(tmp_path / "a.dcm", EMPTY * 40_000)
    refused(path, MANY)
    with pytest.raises(UnreadableImageError, match=MANY):
        facts(path)
    read_rgb(ImageRef(widened(tmp_path / "b.dcm", EMPTY * 10_000)))
    # Within a sequence of undefined length, which pydicom reads whether it is asked for or not.
    begin = b"\x41\x00\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    nested = widened(tmp_path / "c.dcm", begin + EMPTY * 20_000 + end)
    read_rgb(ImageRef(nested))
    monkeypatch.setattr(dicom_file, "_MAX_READS", 5000)
    refused(nested, MANY)


def test_an_element_that_is_asked_for_is_not_read_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b"\xfe\xff\x00\xe0" + struct.pack("<L", 8000) + EMPTY * 1000
    path = widened(tmp_path / "a.dcm", b"\x28\x00\x10\x30SQ\0\0" + struct.pack("<L", len(body)) + body)
    monkeypatch.setattr(dicom_file, "_MAX_VALUE", 8007)
    with pytest.raises(UnreadableImageError, match="more than 8007 bytes"):
        read_rgb(ImageRef(path))
    check_header(ImageRef(path))  # which does not ask for it
