from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from wardround.medical_datasets import pixels
from wardround.medical_datasets.catalog import DATASETS, list_images
from wardround.medical_datasets.listing import Listing, Wanted
from wardround.medical_datasets.pixels import grey_thumbnail, read_rgb
from wardround.medical_datasets.quality import looks as looks_module
from wardround.medical_datasets.quality.looks import Looks, is_colour, look_at

from ..pictures import brain_tree, pattern, save


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    """Pictures of all sorts, two of them damaged."""
    brain_tree(tmp_path, per_class=3)
    folder = tmp_path / "Training" / "glioma"
    save(folder / "colour.jpg", pattern(100, colour=True))
    save(folder / "alpha.png", np.dstack([pattern(101), np.full((96, 96), 128, np.uint8)]))
    Image.fromarray(pattern(102)[:, :, 0]).save(folder / "grey.png")
    Image.fromarray(pattern(103)[:, :, 0].astype(np.uint16) * 200).save(folder / "deep.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pattern(104)[:40]).save(folder / "turned.jpg", exif=turned)
    whole = (folder / "image(0).jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    return list_images(DATASETS["brain-mri"], Wanted(tmp_path))


def slow_looks(listing: Listing) -> dict[str, tuple[str, int, int, bool, bytes]]:
    """Each file read on its own, several times over, as nobody would."""
    found = {}
    for item in listing.items:
        path = listing.root / item.relative
        if path.name in ("cut.jpg", "empty.jpg"):
            continue
        rgb = read_rgb(path)
        sample = rgb[::3, ::3].astype(int)
        colour = bool(((sample.max(axis=2) - sample.min(axis=2)) > 24).mean() > 0.02)
        thumbnail = grey_thumbnail(rgb).astype(np.uint8).tobytes()
        found[item.name] = (hashlib.sha256(path.read_bytes()).hexdigest(), *rgb.shape[:2], colour, thumbnail)
    return found


def told(looks: Looks) -> dict[str, tuple[str, int, int, bool, bytes]]:
    return {
        look.name: (look.digest, look.height, look.width, look.colour, thumbnail.tobytes())
        for look, thumbnail in zip(looks.readable, looks.thumbnails, strict=True)
    }


@pytest.mark.parametrize("workers", [1, 3])
def test_one_look_tells_what_many_readings_tell(listing: Listing, workers: int) -> None:
    seen: list[tuple[int, int]] = []
    looks = look_at(listing, listing.items, workers=workers, progress=lambda done, total: seen.append((done, total)))
    assert told(looks) == slow_looks(listing)
    assert [look.item for look in looks.readable] == [
        item for item in listing.items if "cut" not in item.name and "empty" not in item.name
    ]
    assert [name for name, _ in looks.unreadable] == ["Training/glioma/cut.jpg", "Training/glioma/empty.jpg"]
    assert all(str(listing.root) not in reason for _, reason in looks.unreadable)
    assert seen == [(k, len(listing.items)) for k in range(1, len(listing.items) + 1)]


def test_every_file_is_read_once(listing: Listing, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    lock = threading.Lock()
    read = pixels.read_bytes

    def counting(path: Path) -> bytes:
        with lock:
            opened.append(path)
        return read(path)

    monkeypatch.setattr(looks_module, "read_bytes", counting)
    look_at(listing, listing.items)
    assert sorted(opened) == sorted(listing.root / item.relative for item in listing.items)


def test_a_large_jpeg_is_seen_as_it_would_be_in_full(tmp_path: Path) -> None:
    for number in range(4):
        picture = pattern(number, 1200, colour=number % 2 == 0)[:, : 1024 + 50 * number]
        save(tmp_path / "glioma" / f"{number}.jpg", picture, quality=90)
    whole = (tmp_path / "glioma" / "0.jpg").read_bytes()
    (tmp_path / "glioma" / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    listing = list_images(DATASETS["brain-mri"], Wanted(tmp_path))
    looks = look_at(listing, listing.items)
    assert [name for name, _ in looks.unreadable] == ["glioma/cut.jpg"]
    for look, thumbnail in zip(looks.readable, looks.thumbnails, strict=True):
        rgb = read_rgb(tmp_path / look.item.relative)
        assert (look.height, look.width) == rgb.shape[:2]
        assert look.colour == is_colour(rgb)
        assert np.abs(thumbnail - grey_thumbnail(rgb)).max() <= 2  # grey levels: too few to change a correlation


def test_an_interruption_ends_the_work(listing: Listing) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look_at(listing, listing.items, progress=stop)


def test_no_images_are_no_looks(listing: Listing) -> None:
    looks = look_at(listing, ())
    assert (looks.readable, looks.unreadable, looks.thumbnails.shape) == ((), (), (0, 32, 32))
