from __future__ import annotations

import io
import pickle
import struct
import threading
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from wardround.medical_datasets import pixels
from wardround.medical_datasets.cohort import ImageRef
from wardround.medical_datasets.errors import UnreadableImageError
from wardround.medical_datasets.readers import arrays, inflating


def pictures(count: int = 20, side: int = 8, *, colour: bool = False, seed: int = 0) -> NDArray[np.uint8]:
    shape = (count, side, side + 1, 3) if colour else (count, side, side + 1)
    # A small range, so that deflate has something to do.
    return np.random.default_rng(seed).integers(0, 9, size=shape).astype(np.uint8)


def refused(path: Path, part: str, words: str) -> None:
    with pytest.raises(UnreadableImageError, match=words) as caught:
        arrays.read_rgb(ImageRef(path, part))
    assert caught.value.remedy
    assert str(path) in caught.value.where


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("colour", [True, False])
def test_every_picture_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool, colour: bool
) -> None:
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 500)
    monkeypatch.setattr(arrays, "_blocks", arrays.Recent(1500))  # blocks are forgotten and unpacked again
    train, test = pictures(50, colour=colour), pictures(7, 11, colour=colour, seed=1)
    path = tmp_path / "derma mnist.npz"
    (np.savez_compressed if packed else np.savez)(path, train_images=train, test_images=test, train_labels=np.zeros(50))
    order = np.random.default_rng(2).permutation(50).tolist()
    for index in [*range(50), *order]:
        read = arrays.read_rgb(ImageRef(path, f"train_images/{index}"))
        assert read.dtype == np.uint8
        assert (read == (train[index] if colour else train[index][:, :, None])).all()
    assert (arrays.read_rgb(ImageRef(path, "test_images/0006")) == test[6].reshape(11, 12, -1)).all()
    if colour:
        read = arrays.read_rgb(ImageRef(path, "train_images/3"))
        read[0, 0, 0] = 99  # the array is the caller's own
        assert (arrays.read_rgb(ImageRef(path, "train_images/3")) == train[3]).all()


def test_reading_in_order_unpacks_every_byte_twice_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(arrays, "_blocks", arrays.Recent(5000))
    stack = pictures(400)
    np.savez_compressed(tmp_path / "a.npz", train_images=stack)
    unpacked = 0
    exactly = inflating.Inflating.exactly

    def counted(self: inflating.Inflating, size: int) -> bytes:
        nonlocal unpacked
        unpacked += size
        return exactly(self, size)

    monkeypatch.setattr(inflating.Inflating, "exactly", counted)
    for index in range(400):
        arrays.read_rgb(ImageRef(tmp_path / "a.npz", f"train_images/{index}"))
    assert unpacked <= 2 * stack.nbytes + 200
    before = unpacked
    arrays.read_rgb(ImageRef(tmp_path / "a.npz", "train_images/7"))
    assert unpacked - before <= 1100  # a picture out of order costs one block


def test_what_cannot_be_a_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    stack = pictures()
    np.savez_compressed(
        path,
        train_images=stack,
        volumes=np.zeros((3, 28, 28, 28), dtype=np.uint8),
        deep=np.zeros((3, 4, 4, 4, 3), dtype=np.uint8),
        flat=np.zeros(5, dtype=np.uint8),
        thin=np.zeros((2, 0, 4), dtype=np.uint8),
        floats=np.zeros((2, 4, 4), dtype=np.float32),
        turned=np.asfortranarray(stack),
    )
    for name in ("volumes", "deep"):
        refused(path, f"{name}/0", "three-dimensional sets of MedMNIST are not read")
    refused(path, "flat/0", "pictures are")
    refused(path, "thin/0", "pictures are")
    refused(path, "floats/0", "pictures are uint8")
    refused(path, "turned/0", "Fortran order")
    refused(path, "train_images/20", "no picture 20")
    for part in (
        "",
        "train_images",
        "train_images/",
        "train_images/-1",
        "train_images/x",
        "other/0",
        "../a/0",
        "train_images/٣",
    ):
        refused(path, part, "names no picture")
    with pytest.raises(UnreadableImageError, match="no picture 20"):
        arrays.check_header(ImageRef(path, "train_images/20"))
    arrays.check_header(ImageRef(path, "train_images/19"))


class Program:
    """What a malicious file would run."""

    ran = False

    def __reduce__(self) -> Any:
        return (setattr, (Program, "ran", True))


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=np.array([Program(), Program()], dtype=object))
    refused(tmp_path / "a.npz", "train_images/0", "pickled Python objects")
    with pytest.raises(UnreadableImageError, match="pickled objects"):
        arrays.small_array(tmp_path / "a.npz", "train_images")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("train_images.npy", pickle.dumps(Program()))
    refused(tmp_path / "b.npz", "train_images/0", "no whole npz")
    assert not Program.ran


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    stack = pictures(400)
    np.savez_compressed(tmp_path / "whole.npz", train_images=stack)
    whole = (tmp_path / "whole.npz").read_bytes()
    half = tmp_path / "half.npz"
    half.write_bytes(whole[: len(whole) // 2])
    refused(half, "train_images/0", "no whole npz")
    (tmp_path / "text.npz").write_text("no zip")
    refused(tmp_path / "text.npz", "train_images/0", "no whole npz")
    refused(tmp_path / "gone.npz", "train_images/0", "cannot be read")
    np.save(tmp_path / "single.npy", stack)
    refused(tmp_path / "single.npy", "train_images/0", "single array")
    np.savez(tmp_path / "stored.npz", train_images=stack)
    stored = bytearray((tmp_path / "stored.npz").read_bytes())
    stored[-400] ^= 1  # a pixel; nothing but the checksum knows
    (tmp_path / "stored.npz").write_bytes(stored)
    refused(tmp_path / "stored.npz", "train_images/0", "checksum")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": (999, 8, 9), "fortran_order": False, "descr": "|u1"})
    with zipfile.ZipFile(tmp_path / "short.npz", "w") as archive:
        archive.writestr("train_images.npy", header.getvalue() + stack.tobytes())
    refused(tmp_path / "short.npz", "train_images/0", "it is damaged")
    with zipfile.ZipFile(tmp_path / "bz.npz", "w", zipfile.ZIP_BZIP2) as archive:
        plain = io.BytesIO()
        np.save(plain, stack)
        archive.writestr("train_images.npy", plain.getvalue())
    refused(tmp_path / "bz.npz", "train_images/0", "another method")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_give_the_picture_or_our_error_only(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    stack = pictures(6)
    buffer = io.BytesIO()
    (np.savez_compressed if data.draw(st.booleans()) else np.savez)(buffer, train_images=stack)
    raw = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        read = arrays.read_rgb(ImageRef(path, "train_images/3"))
    except UnreadableImageError:
        return
    assert (read == stack[3][:, :, None]).all()  # the checksum stands for every byte


def test_small_arrays(tmp_path: Path) -> None:
    labels = np.arange(6, dtype=np.uint8)[:, None]
    np.savez_compressed(tmp_path / "a.npz", train_labels=labels, train_images=pictures(6))
    assert (arrays.small_array(tmp_path / "a.npz", "train_labels") == labels).all()
    assert arrays.members(tmp_path / "a.npz")["train_images"].shape == (6, 8, 9)
    with pytest.raises(UnreadableImageError, match="no array 'val_labels'"):
        arrays.small_array(tmp_path / "a.npz", "val_labels")
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        buffer = io.BytesIO()
        np.save(buffer, np.zeros((1 << 26) + 1, dtype=np.uint8))
        archive.writestr("train_labels.npy", buffer.getvalue())
    with pytest.raises(UnreadableImageError, match="and is not read"):
        arrays.small_array(tmp_path / "b.npz", "train_labels")


def test_names_and_extra_fields_of_the_local_header_may_have_another_length(tmp_path: Path) -> None:
    stack = pictures(6)
    buffer = io.BytesIO()
    np.save(buffer, stack)
    info = zipfile.ZipInfo("train_images.npy")
    info.extra = struct.pack("<HH8s", 0x7777, 8, b"8 bytes.")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"a comment after the directory"
        archive.writestr("readme.txt", "nothing")
        archive.writestr(info, buffer.getvalue(), zipfile.ZIP_DEFLATED)
    for index in range(6):
        read = arrays.read_rgb(ImageRef(tmp_path / "a.npz", f"train_images/{index}"))
        assert (read == stack[index][:, :, None]).all()


def test_threads_share_what_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 700)
    stack = pictures(60, colour=True)
    np.savez_compressed(tmp_path / "a.npz", train_images=stack)
    wrong: list[object] = []

    def work(start: int) -> None:
        try:
            for step in range(60):
                index = (start + 7 * step) % 60
                if (arrays.read_rgb(ImageRef(tmp_path / "a.npz", f"train_images/{index}")) != stack[index]).any():
                    wrong.append(index)
        except Exception as problem:
            wrong.append(problem)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_front_door_reads_npz(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", train_images=pictures())
    first, other = (ImageRef(tmp_path / "a.npz", f"train_images/{index}") for index in (0, 1))
    pixels.check_header(first)
    assert (pixels.read_rgb(first) == arrays.read_rgb(first)).all()
    assert pixels.content_hash(first) != pixels.content_hash(other)


def one_header(path: Path, text: bytes, *, claimed: int | None = None) -> Path:
    """An npz of one array that is nothing but its header; ``claimed`` is the header's length as written."""
    length = struct.pack("<I", len(text) if claimed is None else claimed)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_images.npy", b"\x93NUMPY\x02\x00" + length + text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        b"-" * 9000 + b"1\n",  # MemoryError
        b"(" * 5000 + b"\n",  # tokenize.TokenError
        b"(" * 150 + b")" * 150,
        b"1" + b"+1" * 4000,  # RecursionError
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 28.5, 28), }",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, " + b"9" * 4400 + b", 28), }",
        b"{'descr': [('a', '<f4', (2,) * 300)], 'fortran_order': False, 'shape': (1, 28, 28), }",
        b"\xff\xfe\n\0(",
        b"",
    ],
    ids=lambda text: repr(text[:8]),
)
def test_headers_that_stop_a_parser_are_refused(tmp_path: Path, text: bytes) -> None:
    path = one_header(tmp_path / "a.npz", text)
    refused(path, "train_images/0", "no whole npz")
    with pytest.raises(UnreadableImageError, match="no whole npz"):
        arrays.small_array(path, "train_images")


def test_no_more_of_a_header_is_unpacked_than_one_can_have(tmp_path: Path) -> None:
    path = one_header(tmp_path / "a.npz", bytes(1 << 25), claimed=1 << 25)
    tracemalloc.start()
    refused(path, "train_images/0", "no whole npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 22


def test_sizes_that_a_file_only_claims_are_refused(tmp_path: Path) -> None:
    text = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }"
    with pytest.raises(UnreadableImageError, match="it is damaged"):  # before its eight terabytes are asked for
        arrays.small_array(one_header(tmp_path / "a.npz", text), "train_images")
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 28, 28), }"
    path = one_header(tmp_path / "b.npz", text)
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"PK\1\2")
    struct.pack_into("<I", raw, entry + 24, 12 + len(text) + 100000 * 28 * 28)  # what the zip's directory says
    path.write_bytes(raw)
    refused(path, "train_images/0", "claims 78400081 bytes, more than its [0-9]+ packed bytes can hold")
    with pytest.raises(UnreadableImageError, match="packed bytes can hold"):
        arrays.check_header(ImageRef(path, "train_images/0"))


def test_messages_name_few_arrays_and_quote_them(tmp_path: Path) -> None:
    names = ["two\nlines \u202e", "n" * 500, *(f"part{index}" for index in range(28))]
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in names:
            buffer = io.BytesIO()
            np.save(buffer, np.zeros(1, dtype=np.uint8))
            archive.writestr(f"{name}.npy", buffer.getvalue())
    with pytest.raises(UnreadableImageError) as caught:
        arrays.read_rgb(ImageRef(tmp_path / "a.npz", "train_images/0"))
    said = caught.value.what.split("the arrays are ")[1]
    assert said == ", ".join(
        [r"'two\nlines \u202e'", f"'{'n' * 40}...'", *(f"'part{index}'" for index in range(10)), "and 18 more"]
    )
    assert arrays.names_of([]) == "none"
