from __future__ import annotations

import gzip
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from wardround.medical_datasets import pixels
from wardround.medical_datasets.cohort import ImageRef
from wardround.medical_datasets.errors import UnreadableImageError
from wardround.medical_datasets.readers import nifti, nifti_header, nifti_slices
from wardround.medical_datasets.readers.intensity import background_value, grey_window, to_grey
from wardround.medical_datasets.readers.nifti_slices import central, choose_slices, in_threads, spread
from wardround.medical_datasets.readers.recent import InUse, Recent

PLANES = ("sagittal", "coronal", "axial")


def body(shape: tuple[int, int, int] = (12, 10, 8), seed: int = 0) -> NDArray[np.int16]:
    """A lopsided volume on RAS+ axes, background 0 at every corner."""
    values = np.random.default_rng(seed).integers(50, 900, size=shape).astype(np.int16)
    for axis in range(3):
        for end in (0, -1):
            values[tuple(end if each == axis else slice(None) for each in range(3))] = 0
    return values


def write(path: Path, values: NDArray[Any], affine: NDArray[Any] | None = None, **fields: Any) -> Path:
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    for name, value in fields.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def slow_picture(values: NDArray[Any], plane: str, index: int) -> NDArray[np.uint8]:
    """A slice of a volume on RAS+ axes, pixel by pixel, with percentiles by numpy."""
    inside = values[np.isfinite(values) & (values != 0)].astype(float)
    low, high = np.percentile(inside, [0.5, 99.5])
    right, front, top = values.shape
    height, width = {"axial": (front, right), "coronal": (top, right), "sagittal": (top, front)}[plane]
    picture = np.zeros((height, width), dtype=np.uint8)
    for row in range(height):
        for column in range(width):
            across, up = width - 1 - column, height - 1 - row
            at = {"axial": (across, up, index), "coronal": (across, index, up), "sagittal": (index, across, up)}[plane]
            share = (float(values[at]) - low) / (high - low)
            picture[row, column] = round(255 * min(max(share, 0.0), 1.0))
    return picture


@pytest.mark.parametrize("plane", PLANES)
def test_slices_are_shown_as_a_radiologist_sees_them(tmp_path: Path, plane: str) -> None:
    values = body()
    path = write(tmp_path / "a.nii.gz", values)
    for index in (1, 5):
        read = nifti.read_rgb(ImageRef(path, f"{plane}={index}"))
        assert read.dtype == np.uint8
        assert (read == slow_picture(values, plane, index)[:, :, None]).all()


def test_right_is_on_the_left_and_front_is_up(tmp_path: Path) -> None:
    values = np.zeros((9, 9, 9), dtype=np.int16)
    values[4, 4, 4] = 1
    values[7, 4, 4], values[4, 7, 4], values[4, 4, 7] = 100, 200, 300  # to the right, the front, the top
    path = write(tmp_path / "a.nii", values)

    def at(part: str, row: int, column: int) -> int:
        return int(nifti.read_rgb(ImageRef(path, part))[row, column, 0])

    assert at("axial=4", 4, 1) > 0  # patient's right, on the picture's left
    assert at("axial=4", 1, 4) > 0  # front, up
    assert at("coronal=4", 4, 1) > 0
    assert at("coronal=4", 1, 4) == 255  # top, up
    assert at("sagittal=4", 4, 1) > 0  # front, on the left
    assert at("sagittal=4", 1, 4) == 255


def orientations() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


def stored_as(
    values: NDArray[Any], order: tuple[int, ...], signs: tuple[int, ...]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """RAS+ values in another voxel order, and the affine that says so: stored axis i is order[i], by signs[i]."""
    stored = values.transpose(order)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign
        if sign < 0:
            stored = np.flip(stored, axis)
            affine[world, 3] = values.shape[world] - 1
    return np.ascontiguousarray(stored), affine


@pytest.mark.parametrize("form", ["sform", "qform"])
def test_all_48_orientations_give_the_same_pictures(tmp_path: Path, form: str) -> None:
    values = body((7, 6, 5))
    expected = [slow_picture(values, plane, 2) for plane in PLANES]
    assert len(orientations()) == 48
    for number, (order, signs) in enumerate(orientations()):
        path = tmp_path / f"{number}.nii"
        image = nibabel.Nifti1Image(*stored_as(values, order, signs))
        if form == "qform":  # a quaternion, and a sign for the mirrored ones
            image.set_qform(image.affine, 1)
            image.set_sform(None, 0)
        nibabel.save(image, path)
        for plane, picture in zip(PLANES, expected, strict=True):
            assert (nifti.read_rgb(ImageRef(path, f"{plane}=2"))[:, :, 0] == picture).all(), (order, signs, plane)


def test_an_oblique_affine_takes_the_closest_axes(tmp_path: Path) -> None:
    values = body((7, 6, 5))
    stored, affine = stored_as(values, (1, 0, 2), (-1, 1, -1))
    turn = np.radians(20)
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    path = write(tmp_path / "a.nii", stored, tilt @ affine)
    assert (nifti.read_rgb(ImageRef(path, "axial=2"))[:, :, 0] == slow_picture(values, "axial", 2)).all()


def test_monai_sees_the_same_voxels(tmp_path: Path) -> None:
    from monai.data import MetaTensor, NibabelReader
    from monai.transforms import Orientation

    values = body((9, 7, 6))
    path = write(tmp_path / "a.nii.gz", *stored_as(values, (2, 0, 1), (-1, -1, 1)))
    reader = NibabelReader()
    array, meta = reader.get_data(reader.read(str(path)))
    tensor = Orientation("RAS", labels=None)(MetaTensor(array[None], affine=meta["affine"]))
    theirs = np.asarray(tensor)[0]
    assert (theirs == values).all()
    with nifti.loaded_volume(path) as volume:
        assert (volume.voxels == theirs).all()


def test_square_pixels_where_spacing_differs(tmp_path: Path) -> None:
    values = body((8, 9, 7))
    path = write(tmp_path / "a.nii.gz", values, np.diag([1.0, 1.0, 3.0, 1.0]))
    assert nifti.read_rgb(ImageRef(path, "axial=3")).shape == (9, 8, 3)
    read = nifti.read_rgb(ImageRef(path, "coronal=4"))[:, :, 0]
    assert read.shape == (21, 8)
    flat = slow_picture(values, "coronal", 4).astype(float)
    for row in range(21):
        place = min(max((row + 0.5) / 3 - 0.5, 0.0), 6.0)
        below = min(int(place), 5)
        expected = flat[below] * (below + 1 - place) + flat[below + 1] * (place - below)
        assert np.abs(read[row] - expected).max() <= 1
    for spacing, height in ((1.009, 120), (1.02, 122)):
        nearly = write(tmp_path / f"{height}.nii.gz", np.ones((8, 120, 7)), np.diag([1.0, spacing, 3.0, 1.0]))
        assert nifti.read_rgb(ImageRef(nearly, "axial=3")).shape == (height, 8, 3)
    stored, affine = stored_as(values, (2, 0, 1), (-1, 1, -1))
    turned = write(tmp_path / "t.nii.gz", stored, np.diag([1.0, 1.0, 3.0, 1.0]) @ affine)
    assert (nifti.read_rgb(ImageRef(turned, "coronal=4"))[:, :, 0] == read).all()
    wide = write(tmp_path / "c.nii", values, np.diag([1.0, 1e6, 1e6, 1.0]))
    nifti.check_header(ImageRef(wide, "sagittal=3"))
    with pytest.raises(UnreadableImageError, match="more than the limit"):
        nifti.check_header(ImageRef(wide, "axial=3"))


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    values = body()
    path = write(tmp_path / "a.nii", values)
    raw = bytearray(path.read_bytes())
    plain = nifti.read_rgb(ImageRef(path, "axial=4"))[:, :, 0]
    raw[112:120] = np.array([-2.0, 1000.0], dtype="<f4").tobytes()
    (tmp_path / "b.nii").write_bytes(raw)
    ref = ImageRef(tmp_path / "b.nii", "axial=4")
    with nifti.loaded_volume(ref.path) as volume:
        assert volume.cut("axial", 4)[3, 3] == 1000.0 - 2.0 * values[3, 3, 4]
    turned = nifti.read_rgb(ref)[:, :, 0]
    inside = plain[1:-1, 1:-1].astype(int)
    assert np.abs(255 - inside - turned[1:-1, 1:-1]).max() <= 1
    assert (turned[0] == 255).all()


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<u2", "<i4", "<f4", ">f4", "<f8", "<i8"])
def test_number_types_and_byte_orders(tmp_path: Path, dtype: str) -> None:
    values = (body() // 10).astype(dtype)
    header = nibabel.Nifti1Header(endianness=">" if ">" in dtype else "<")
    image = nibabel.Nifti1Image(values, np.eye(4), header, dtype=dtype)
    nibabel.save(image, tmp_path / "a.nii")
    read = nifti.read_rgb(ImageRef(tmp_path / "a.nii", "axial=4"))[:, :, 0]
    assert (read == slow_picture(values, "axial", 4)).all()


def test_nifti_2_is_read(tmp_path: Path) -> None:
    values = body()
    nibabel.save(nibabel.Nifti2Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    read = nifti.read_rgb(ImageRef(tmp_path / "a.nii.gz", "axial=4"))[:, :, 0]
    assert (read == slow_picture(values, "axial", 4)).all()


def test_the_scale_is_that_of_the_volume(tmp_path: Path) -> None:
    values = body()
    values[:, :, 2] //= 10
    path = write(tmp_path / "a.nii", values)
    assert nifti.read_rgb(ImageRef(path, "axial=2")).max() < 60
    assert nifti.read_rgb(ImageRef(path, "axial=4")).max() > 240


def test_not_finite_constant_and_two_valued_volumes(tmp_path: Path) -> None:
    values = body().astype(np.float32)
    values[3, 3, 4], values[3, 4, 4] = np.nan, np.inf
    read = nifti.read_rgb(ImageRef(write(tmp_path / "a.nii", values), "axial=4"))[:, :, 0]
    values[3, 3, 4] = values[3, 4, 4] = 0  # black, and no part of the scale
    assert (read == slow_picture(values, "axial", 4)).all()
    for constant in (0, 7):
        path = write(tmp_path / f"{constant}.nii", np.full((4, 4, 4), constant, dtype=np.int16))
        assert not nifti.read_rgb(ImageRef(path, "axial=0")).any()
    mask = (body() > 400).astype(np.uint8)
    read = nifti.read_rgb(ImageRef(write(tmp_path / "m.nii", mask), "axial=4"))
    assert set(np.unique(read)) == {0, 255}
    with pytest.raises(UnreadableImageError, match="no finite voxel"):
        nifti.read_rgb(ImageRef(write(tmp_path / "n.nii", np.full((4, 4, 4), np.nan, dtype=np.float32)), "axial=0"))
    huge = np.array([-1.7e308, 0.0, 1.7e308, np.nan])
    assert to_grey(huge, (-1.7e308, 1.7e308)).tolist() == [0, 128, 255, 0]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["i1", "u1", "i2", "f4"]),
    st.lists(st.integers(-128, 127), min_size=8, max_size=8 * 12).map(lambda each: each[: len(each) // 8 * 8]),
)
def test_window_agrees_with_numpy(dtype: str, numbers: list[int]) -> None:
    values = np.array(numbers).astype(np.int8).astype(dtype).reshape(2, 2, -1)
    corners = sorted(float(value) for value in values[:, :, [0, -1]].ravel())
    ground = next((value for value in corners if corners.count(value) > 4), None)
    assert background_value(values) == ground
    inside = np.array([float(value) for value in values.ravel() if value != ground])
    expected = np.percentile(inside, [0.5, 99.5]) if inside.size else np.zeros(2)
    if not expected[0] < expected[1]:
        expected = np.array([values.min(), values.max()], dtype=float)
    assert grey_window(values) == pytest.approx(tuple(expected))


def test_single_slices_need_no_part(tmp_path: Path) -> None:
    values = body((7, 6, 5))
    flat = write(tmp_path / "flat.nii", values[:, :, 2])
    for size, path in (("z", write(tmp_path / "z.nii.gz", values[:, :, 2:3])), ("2-D", flat)):
        read = nifti.read_rgb(ImageRef(path))[:, :, 0]
        assert read.shape == (6, 7), size
    coronal = nifti.read_rgb(ImageRef(write(tmp_path / "y.nii", values[:, 2:3])))
    assert coronal.shape == (5, 7, 3)
    with pytest.raises(UnreadableImageError, match="no slice is named"):
        nifti.check_header(ImageRef(write(tmp_path / "a.nii", values)))


def test_a_two_dimensional_file_without_any_affine(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((6, 5))
    header.set_data_dtype(np.uint8)
    header["magic"], header["vox_offset"] = b"n+1", 352
    values = np.arange(30, dtype=np.uint8).reshape(6, 5)
    (tmp_path / "a.nii").write_bytes(header.binaryblock + b"\0" * 4 + values.tobytes(order="F"))
    read = nifti.read_rgb(ImageRef(tmp_path / "a.nii"))[:, :, 0]
    assert read.shape == (5, 6)
    assert read[-1].tolist() == sorted(read[-1].tolist())  # x runs to the left of the patient, right in the picture


def test_four_dimensions_by_volume(tmp_path: Path) -> None:
    volumes = np.stack([body(seed=seed) for seed in range(3)], axis=3)
    path = write(tmp_path / "a.nii.gz", volumes)
    for which, part in ((0, "axial=4"), (1, "axial=4,volume=1"), (2, "axial=4,volume=2")):
        expected = slow_picture(volumes[..., which], "axial", 4)
        assert (nifti.read_rgb(ImageRef(path, part))[:, :, 0] == expected).all()
    for part in (
        "axial=4,volume=3",
        "axial=8",
        "axial=-1",
        "axial=4volume=1",
        ",volume=1",
        "oblique=3",
        "axial=4,",
        "4",
    ):
        for read in (nifti.read_rgb, nifti.check_header):
            with pytest.raises(UnreadableImageError) as caught:
                read(ImageRef(path, part))
            assert caught.value.remedy
    alone = write(tmp_path / "b.nii", volumes[..., :1])
    assert (nifti.read_rgb(ImageRef(alone, "axial=4"))[:, :, 0] == slow_picture(volumes[..., 0], "axial", 4)).all()


def test_five_dimensions_colours_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    colours = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    cases: dict[str, NDArray[Any]] = {
        "5 dimensions": np.zeros((4, 4, 4, 1, 3), dtype=np.float32),
        r"colours \(RGB\)": colours,
        "complex numbers": np.zeros((4, 4, 4), dtype=np.complex64),
    }
    for number, (words, values) in enumerate(cases.items()):
        path = write(tmp_path / f"{number}.nii", values)
        with pytest.raises(UnreadableImageError, match=words):
            nifti.check_header(ImageRef(path, "axial=0"))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.nii.gz", body()).read_bytes()
    plain = gzip.decompress(whole)
    flipped = bytearray(whole)
    flipped[-6] ^= 0xFF  # the checksum
    pair, analyze, dims, far = (bytearray(plain) for _ in range(4))
    pair[344:348] = b"ni1\0"
    analyze[344:348] = b"\0\0\0\0"
    dims[40:42] = (9).to_bytes(2, "little")
    far[108:112] = np.array([10.0], dtype="<f4").tobytes()
    cases = {
        b"": "empty",
        b"no header at all": "does not begin",
        whole[: len(whole) // 2]: "unpacked",
        bytes(flipped): "unpacked",
        plain[:300]: "inside its header",
        plain[:-1]: "truncated",
        bytes(pair): "pair of files",
        bytes(analyze): "no NIfTI magic",
        bytes(dims): "header",
        bytes(far): "header",
    }
    for number, (content, words) in enumerate(cases.items()):
        path = tmp_path / f"patient-{number}.nii.gz"
        path.write_bytes(content)
        with pytest.raises(UnreadableImageError, match=words) as caught:
            nifti.read_rgb(ImageRef(path, "axial=4"))
        assert "patient" not in caught.value.what
    with pytest.raises(UnreadableImageError, match="cannot be read"):
        nifti.read_rgb(ImageRef(tmp_path / "gone.nii", "axial=4"))
    with pytest.raises(UnreadableImageError, match="not a regular file"):
        nifti.read_rgb(ImageRef(tmp_path, "axial=4"))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=6))
@example([(111, 95)])  # voxels that begin at 2^63, where no file can be sought
def test_a_damaged_header_gives_a_picture_or_our_error_only(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    raw = bytearray(write(folder / "whole.nii", body((5, 4, 3))).read_bytes())
    for place, value in damage:
        raw[place] = value
    (folder / "damaged.nii").write_bytes(raw)
    try:
        read = nifti.read_rgb(ImageRef(folder / "damaged.nii", "axial=1"))
    except UnreadableImageError:
        return
    assert read.dtype == np.uint8
    assert read.shape[2] == 3


def test_a_volume_over_the_limit_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    raw = bytearray(write(tmp_path / "a.nii", body()).read_bytes())
    raw[42:48] = np.array([30000, 30000, 2], dtype="<i2").tobytes()
    (tmp_path / "b.nii").write_bytes(raw)
    with pytest.raises(UnreadableImageError, match="more than the limit of 1073741824"):
        nifti.check_header(ImageRef(tmp_path / "b.nii", "axial=0"))


def test_a_volume_is_unpacked_once_for_all_its_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.nii.gz", body())
    loaded: list[Path] = []
    load = nifti._load

    def counted(path: Path, volume: int) -> nifti.Volume:
        loaded.append(path)
        return load(path, volume)

    monkeypatch.setattr(nifti, "_load", counted)
    first = nifti.read_rgb(ImageRef(path, "axial=4"))
    threads = [
        threading.Thread(target=nifti.read_rgb, args=(ImageRef(path, f"coronal={index}"),)) for index in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == [path]
    write(path, body(seed=9))  # another state of the file is another file
    assert (nifti.read_rgb(ImageRef(path, "axial=4")) != first).any()
    assert len(loaded) == 2


def test_what_is_remembered_is_bounded() -> None:
    recent: Recent[int, bytes] = Recent(100)
    made: list[int] = []

    def make(key: int, size: int) -> bytes:
        def value() -> tuple[bytes, int]:
            made.append(key)
            return bytes(size), size

        return recent.get(key, value)

    for key in (1, 2, 1, 3, 1):
        make(key, 40)
    assert made == [1, 2, 3]
    make(2, 40)
    assert made == [1, 2, 3, 2]  # 2 had been forgotten, the least recently used
    make(4, 1000)
    make(4, 1000)
    assert made == [1, 2, 3, 2, 4]  # it is over the bound, and the last one is kept
    make(2, 40)
    assert made[-1] == 2  # alone
    with pytest.raises(ZeroDivisionError):
        recent.get(5, lambda: (bytes(1 // 0), 1))
    make(5, 10)
    assert made[-1] == 5


def test_the_front_door_reads_nifti(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", body())
    first, other = ImageRef(path, "axial=4"), ImageRef(path, "axial=5")
    pixels.check_header(first)
    assert (pixels.read_rgb(first) == nifti.read_rgb(first)).all()
    assert pixels.read_grey_thumbnail(first).shape == (32, 32)
    assert pixels.content_hash(first) != pixels.content_hash(other)


def slow_areas(values: NDArray[Any], axis: int) -> list[int]:
    areas = [0] * values.shape[axis]
    for at, value in np.ndenumerate(values):
        areas[at[axis]] += value > 0
    return areas


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=25), st.integers(1, 8))
def test_spread_by_brute_force(areas: list[int], count: int) -> None:
    chosen = spread(areas, count)
    there = [index for index, area in enumerate(areas) if area]
    assert len(chosen) == min(count, len(there))
    assert list(chosen) == sorted(set(chosen))
    if not there:
        return
    largest = max(areas)
    good = {index for index in there if 2 * areas[index] >= largest}
    assert areas.index(largest) in chosen
    if len(good) >= count:
        assert set(chosen) <= good
        # The first two are as far apart as two slices with the largest one can be.
        if count == 2:
            top = areas.index(largest)
            assert max(abs(top - each) for each in chosen) == max(abs(top - each) for each in good)
        # No slice that was passed over is further from all the chosen ones than two of these are from each other.
        gap = min((abs(a - b) for a, b in itertools.combinations(chosen, 2)), default=len(areas))
        assert all(min(abs(each - other) for other in chosen) <= gap for each in good - set(chosen))
    else:
        assert good <= set(chosen)
        least = min((areas[index] for index in set(chosen) - good), default=0)
        assert all(areas[index] <= least for index in set(there) - set(chosen)) or not set(chosen) - good


def test_neighbours_are_avoided_where_the_lesion_is_large_enough() -> None:
    assert spread([0, 5, 9, 10, 9, 8, 6, 5, 0], 3) == (3, 5, 7)
    assert spread([0, 10, 10, 10, 1], 1) == (1,)
    assert spread([1, 10, 2, 3], 3) == (1, 2, 3)
    assert spread([0, 0], 3) == ()


@given(st.integers(0, 40), st.integers(1, 12))
def test_central_slices(held: int, count: int) -> None:
    holding = list(range(100, 100 + held))
    chosen = central(holding, count)
    assert len(chosen) == min(count, held)
    assert list(chosen) == sorted(set(chosen))
    middle = holding[held // 4 : held - held // 4]
    if len(middle) >= count:
        assert set(chosen) <= set(middle)
    steps = np.diff(chosen)
    assert steps.size == 0 or steps.max() - steps.min() <= 1


@pytest.mark.parametrize("plane", PLANES)
def test_slices_are_chosen_by_the_mask_in_any_orientation(tmp_path: Path, plane: Any) -> None:
    values, mask = body((12, 14, 16)), np.zeros((12, 14, 16), dtype=np.uint8)
    mask[3:7, 4:9, 5:13] = 4
    mask[4, 5, 2] = 1
    areas = slow_areas(mask, PLANES.index(plane))
    volume = write(tmp_path / "v.nii.gz", values)
    seg = write(tmp_path / "s.nii.gz", mask)
    assert choose_slices(volume, seg, 3, plane=plane) == spread(areas, 3)
    turned = write(tmp_path / "tv.nii.gz", *stored_as(values, (2, 0, 1), (-1, 1, -1)))
    turned_seg = write(tmp_path / "ts.nii.gz", *stored_as(mask, (1, 2, 0), (1, -1, -1)))
    assert choose_slices(turned, turned_seg, 3, plane=plane) == spread(areas, 3)


def test_slices_are_chosen_without_a_mask(tmp_path: Path) -> None:
    values = np.zeros((6, 6, 20), dtype=np.float32)
    values[2:4, 2:4, 4:16] = 5
    values[2, 2, 17] = np.nan
    path = write(tmp_path / "a.nii", values)
    held = [index for index in range(20) if any(np.isfinite(v) and v != 0 for v in values[:, :, index].ravel())]
    assert held == list(range(4, 16))
    assert choose_slices(path, None, 1) == (10,)
    assert choose_slices(path, None, 2) == central(held, 2) == (8, 11)
    assert choose_slices(path, None, 99) == tuple(held)
    assert choose_slices(write(tmp_path / "b.nii", np.full((4, 4, 4), 3, dtype=np.int16)), None, 2) == ()
    with pytest.raises(ValueError, match="count is 0"):
        choose_slices(path, None, 0)
    with pytest.raises(UnreadableImageError, match="no volume 1"):
        choose_slices(path, None, 1, volume=1)


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    volume = write(tmp_path / "v.nii", body())
    mask = np.ones((12, 10, 8), dtype=np.uint8)
    beside = np.eye(4)
    beside[0, 3] = 0.4  # within half a voxel
    assert choose_slices(volume, write(tmp_path / "near.nii", mask, beside), 1) == (0,)
    flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
    for name, seg, words in (
        ("flipped", write(tmp_path / "f.nii", mask, flipped), "mm beside its volume"),
        ("shape", write(tmp_path / "s.nii", mask[1:]), "the mask has"),
        ("4-D", write(tmp_path / "d.nii", np.stack([mask, mask], axis=3)), "2 volumes"),
    ):
        with pytest.raises(UnreadableImageError, match=words):
            choose_slices(volume, seg, 1)
        assert name
    assert nifti_header.read_grid(volume).shape == (12, 10, 8)


def test_volumes_in_use_stay_within_the_bound() -> None:
    in_use: InUse[int] = InUse(100)
    lock = threading.Lock()
    now: dict[int, int] = {}
    largest: list[int] = []

    def work(key: int, size: int) -> None:
        with in_use.holding(key, size):
            with lock:
                now[threading.get_ident()] = key
                largest.append(sum({each: 40 if each < 9 else 500 for each in now.values()}.values()))
                assert 9 not in now.values() or set(now.values()) == {9}  # one over the bound is alone
            time.sleep(0.002)
            with lock:
                del now[threading.get_ident()]

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, key, 500 if key == 9 else 40) for key in [1, 2, 3, 3, 4, 9, 2, 2] * 5]:
            done.result()
    assert max(each for each in largest if each != 500) == 80
    assert not in_use._held


def test_choosing_slices_in_threads_unpacks_few_volumes_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = body().nbytes
    monkeypatch.setattr(nifti, "_in_use", InUse(5 * size))  # two of them, each with its working copy
    monkeypatch.setattr(nifti_slices.os, "cpu_count", lambda: 8)
    pairs = [(write(tmp_path / f"{k}.nii", body()), write(tmp_path / f"{k}-seg.nii", body(seed=k))) for k in range(8)]
    running = 0
    most = 0
    lock = threading.Lock()
    load = nifti._load

    def counted(path: Path, volume: int) -> nifti.Volume:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        try:
            return load(path, volume)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(nifti, "_load", counted)
    chosen = in_threads(lambda pair: choose_slices(pair[0], pair[1], 2), pairs)
    assert [len(each) for each in chosen] == [2] * 8
    assert most == 2
