from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from wardround.medical_datasets import pixels
from wardround.medical_datasets.cohort import ImageRef
from wardround.medical_datasets.errors import UnreadableImageError
from wardround.medical_datasets.readers import matlab


def picture(seed: int = 0, height: int = 7, width: int = 5) -> NDArray[np.int16]:
    """A picture of rows and columns as a person sees it, unlike its transpose."""
    return np.random.default_rng(seed).integers(-50, 3000, size=(height, width)).astype(np.int16)


def write_mat(path: Path, image: NDArray[Any], label: float = 1, patient: str = "100360", **options: Any) -> Path:
    """A file as MATLAB writes it: a user block of 512 bytes, and every array column by column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("cjdata")
        group.create_dataset("image", data=image.T, compression="gzip", **options)
        group.create_dataset("label", data=np.array([[float(label)]]))
        if patient:
            units = np.array([[ord(letter)] for letter in patient], dtype=np.uint16)
            group.create_dataset("PID", data=units).attrs["MATLAB_class"] = np.bytes_("char")
        else:
            group.create_dataset("PID", data=np.zeros((1, 2), dtype=np.uint64)).attrs["MATLAB_empty"] = np.uint8(1)
        group.create_dataset("tumorBorder", data=np.arange(8.0)[:, None])
        group.create_dataset("tumorMask", data=(image > 1000).T.astype(np.uint8))
    with open(path, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: PCWIN64".ljust(128))
    return path


def test_the_picture_is_not_transposed(tmp_path: Path) -> None:
    image = picture()
    path = write_mat(tmp_path / "1.mat", image)
    with h5py.File(path) as file:
        assert file["cjdata/image"].shape == (5, 7)  # as HDF5 has it
    read = matlab.read_rgb(ImageRef(path))
    assert read.dtype == np.uint8
    assert read.shape == (7, 5, 3)
    low, high = int(image.min()), int(image.max())
    for row in range(7):
        for column in range(5):
            assert read[row, column].tolist() == [round(255 * (int(image[row, column]) - low) / (high - low))] * 3
    corner = np.zeros((4, 6), dtype=np.int16)
    corner[0, 5] = 9  # the upper right
    assert matlab.read_rgb(ImageRef(write_mat(tmp_path / "2.mat", corner)))[0, 5, 0] == 255


def test_constant_and_not_finite_pictures(tmp_path: Path) -> None:
    assert not matlab.read_rgb(ImageRef(write_mat(tmp_path / "1.mat", np.full((4, 4), 9, dtype=np.int16)))).any()
    broken = write_mat(tmp_path / "2.mat", np.array([[1.0, np.nan]]))
    with pytest.raises(UnreadableImageError, match="not finite"):
        matlab.read_rgb(ImageRef(broken))


@pytest.mark.parametrize("patient", ["100360", "MR025463A", "größe 1", "x"])
def test_facts(tmp_path: Path, patient: str) -> None:
    found = matlab.facts(write_mat(tmp_path / "1.mat", picture(), 3, patient))
    assert (found.label, found.patient) == (3, patient)
    assert patient not in repr(found).replace("label=3", "").replace("Facts(", "")


def test_facts_of_odd_files(tmp_path: Path) -> None:
    assert matlab.facts(write_mat(tmp_path / "1.mat", picture(), patient="")).patient is None
    assert matlab.facts(write_mat(tmp_path / "2.mat", picture(), 7)).label == 7
    with pytest.raises(UnreadableImageError, match="no whole number"):
        matlab.facts(write_mat(tmp_path / "3.mat", picture(), 1.5))
    long = write_mat(tmp_path / "5.mat", picture(), patient="1" * 300)
    with pytest.raises(UnreadableImageError, match="not a short text"):
        matlab.facts(long)


def test_other_files_are_refused(tmp_path: Path) -> None:
    whole = write_mat(tmp_path / "whole.mat", picture(1, 60, 50)).read_bytes()
    scipy.io.savemat(tmp_path / "v5.mat", {"cjdata": {"image": picture()}})
    with h5py.File(tmp_path / "cvind.mat", "w") as file:
        file["cvind"] = np.ones((1, 3064))
    (tmp_path / "text.mat").write_text("patient Jane Doe")
    (tmp_path / "half.mat").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "nothing.mat").write_bytes(b"")
    cases = {
        "v5.mat": "no whole MATLAB v7.3 file",
        "cvind.mat": "no 'cjdata'",
        "text.mat": "no whole MATLAB v7.3 file",
        "half.mat": "no whole MATLAB v7.3 file",
        "nothing.mat": "empty",
        "gone.mat": "cannot be read",
    }
    for name, words in cases.items():
        for read in (matlab.read_rgb, matlab.check_header):
            with pytest.raises(UnreadableImageError, match=words) as caught:
                read(ImageRef(tmp_path / name))
            assert name.split(".")[0] not in caught.value.what.replace("v7.3", "")
    with pytest.raises(UnreadableImageError, match="no part 'frame=1'"):
        matlab.read_rgb(ImageRef(tmp_path / "whole.mat", "frame=1"))


def test_links_and_data_elsewhere_are_refused(tmp_path: Path) -> None:
    secret = write_mat(tmp_path / "secret.mat", picture())
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(70))
    kinds = {
        # Were it looked up, a link to nowhere would count as missing.
        "nowhere": lambda group: group.__setitem__("image", h5py.ExternalLink("nowhere.mat", "/cjdata/image")),
        "external": lambda group: group.__setitem__("image", h5py.ExternalLink(str(secret), "/cjdata/image")),
        "soft": lambda group: group.__setitem__("image", h5py.SoftLink("/cjdata/tumorMask")),
        "storage": lambda group: group.create_dataset("image", (5, 7), "i2", external=[(str(raw), 0, 70)]),
    }
    for name, make in kinds.items():
        path = write_mat(tmp_path / f"{name}.mat", picture())
        with h5py.File(path, "r+") as file:
            del file["cjdata/image"]
            make(file["cjdata"])
        with pytest.raises(UnreadableImageError, match=r"link|another file"):
            matlab.read_rgb(ImageRef(path))
    virtual = write_mat(tmp_path / "virtual.mat", picture())
    with h5py.File(virtual, "r+") as file:
        del file["cjdata/image"]
        layout = h5py.VirtualLayout((5, 7), "i2")
        layout[:] = h5py.VirtualSource(str(secret), "/cjdata/image", (5, 7))
        file.create_virtual_dataset("cjdata/image", layout)
    masked = write_mat(tmp_path / "masked.mat", picture())
    with h5py.File(masked, "r+") as file:
        del file["cjdata/tumorMask"]
        file["cjdata/tumorMask"] = h5py.ExternalLink("nowhere.mat", "/cjdata/image")
    assert matlab.facts(masked).label == 1  # nobody asks for the mask
    labelled = write_mat(tmp_path / "labelled.mat", picture())
    with h5py.File(labelled, "r+") as file:
        del file["cjdata/label"]
        file["cjdata/label"] = h5py.ExternalLink("nowhere.mat", "/cjdata/image")
    with pytest.raises(UnreadableImageError, match="is a link to another place"):
        matlab.facts(labelled)
    whole = tmp_path / "whole.mat"
    with h5py.File(whole, "w") as file:
        file["cjdata"] = h5py.ExternalLink(str(secret), "/cjdata")
    for path in (virtual, whole):
        with pytest.raises(UnreadableImageError, match=r"link|another file"):
            matlab.read_rgb(ImageRef(path))
    assert matlab.read_rgb(ImageRef(secret)).shape == (7, 5, 3)


def test_foreign_filters_sizes_and_types_are_refused(tmp_path: Path) -> None:
    def replaced(name: str, **options: Any) -> ImageRef:
        path = write_mat(tmp_path / f"{name}.mat", picture())
        with h5py.File(path, "r+") as file:
            del file["cjdata/image"]
            file.create_dataset("cjdata/image", **options)
        return ImageRef(path)

    cases = {
        "foreign filter": replaced("lzf", data=picture().T, compression="lzf"),
        "more than the limit": replaced("large", shape=(1 << 20, 1 << 10), dtype="i2", chunks=(1024, 1024)),
        "not numbers in rows": replaced("deep", data=np.zeros((3, 4, 5))),
        "numbers in rows": replaced("words", data=np.array([[b"a", b"b"]])),
    }
    for words, ref in cases.items():
        with pytest.raises(UnreadableImageError, match=words):
            matlab.check_header(ref)
    named = write_mat(tmp_path / "group.mat", picture())
    with h5py.File(named, "r+") as file:
        del file["cjdata/image"]
        file.create_group("cjdata/image")
    with pytest.raises(UnreadableImageError, match="not a dataset"):
        matlab.check_header(ImageRef(named))


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_damaged_bytes_give_a_picture_or_our_error_only(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    raw = bytearray(write_mat(folder / "1.mat", picture()).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(512, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (folder / "damaged.mat").write_bytes(raw)
    try:
        read = matlab.read_rgb(ImageRef(folder / "damaged.mat"))
        matlab.facts(folder / "damaged.mat")
    except UnreadableImageError:
        return
    assert read.shape[2] == 3


def test_threads_may_read_one_file_and_many(tmp_path: Path) -> None:
    paths = [write_mat(tmp_path / f"{seed}.mat", picture(seed, 40, 30), patient=str(seed)) for seed in range(3)]
    expected = [matlab.read_rgb(ImageRef(path)) for path in paths]
    wrong: list[object] = []

    def work(start: int) -> None:
        try:
            for step in range(12):
                at = (start + step) % 3
                if (matlab.read_rgb(ImageRef(paths[at])) != expected[at]).any():
                    wrong.append(at)
                if matlab.facts(paths[at]).patient != str(at):
                    wrong.append(at)
        except Exception as problem:
            wrong.append(problem)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_front_door_reads_matlab(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "1.mat", picture())
    pixels.check_header(path)
    assert (pixels.read_rgb(path) == matlab.read_rgb(ImageRef(path))).all()
    assert pixels.content_hash(path) != pixels.content_hash(write_mat(tmp_path / "2.mat", picture(1)))
