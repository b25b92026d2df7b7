from __future__ import annotations

import io
import itertools
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from wardround.medical_datasets import near_duplicates as module
from wardround.medical_datasets.near_duplicates import (
    HASH_RADIUS,
    MIN_CORRELATION,
    clusters,
    flat,
    near_duplicate_pairs,
    pairs_by_key,
    perceptual_hashes,
)
from wardround.medical_datasets.pixels import grey_thumbnail

from .pictures import pattern


def slow_pairs(thumbnails: NDArray[np.float32]) -> list[tuple[int, int]]:
    """The definition, one pair at a time."""
    hashes = [int(value) for value in perceptual_hashes(thumbnails)]
    found = []
    for i, j in itertools.combinations(range(len(thumbnails)), 2):
        flat = [thumbnails[k].std() < 0.5 for k in (i, j)]
        if any(flat):
            if all(flat):
                found.append((i, j))
        elif (hashes[i] ^ hashes[j]).bit_count() <= HASH_RADIUS:
            correlation = np.corrcoef(thumbnails[i].ravel(), thumbnails[j].ravel())[0, 1]
            if correlation >= MIN_CORRELATION:
                found.append((i, j))
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 14), st.sampled_from([(128, 8192), (4, 8), (2, 6), (1, 1)]))
def test_pairs_equal_the_slow_definition(seed: int, count: int, tile: tuple[int, int]) -> None:
    generator = np.random.default_rng(seed)
    bases = [grey_thumbnail(pattern(int(generator.integers(0, 4)))) for _ in range(count)]
    noisy = [base + generator.normal(0, generator.choice([0, 2, 20]), base.shape) for base in bases]
    noisy += [base * 0.001 + 90 for base in bases[:3]]  # too faint to compare
    noisy += [np.full((32, 32), 7.0), np.full((32, 32), 200.0)]
    thumbnails = np.stack(noisy).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TILE", tile)
        for workers in (1, 3):
            found = [tuple(pair) for pair in near_duplicate_pairs(thumbnails, workers=workers).tolist()]
            assert found == slow_pairs(thumbnails)
    bytes_ = np.clip(np.rint(thumbnails), 0, 255).astype(np.uint8)
    assert near_duplicate_pairs(bytes_).tolist() == near_duplicate_pairs(bytes_.astype(np.float32)).tolist()


def test_flat_thumbnails_are_those_that_show_nothing() -> None:
    generator = np.random.default_rng(0)
    thumbnails = generator.integers(0, 256, (2100, 32, 32), dtype=np.uint8)
    thumbnails[::300] = 77
    assert np.flatnonzero(flat(thumbnails)).tolist() == list(range(0, 2100, 300))
    assert flat(thumbnails.astype(np.float32)).tolist() == [each.std() < 0.5 for each in thumbnails.astype(np.float64)]
    assert flat(thumbnails[:0]).shape == (0,)


def test_twenty_thousand_take_seconds_and_little_memory() -> None:
    generator = np.random.default_rng(0)
    thumbnails = generator.integers(0, 256, size=(20_000, 32, 32), dtype=np.uint8)
    thumbnails[1::20] = thumbnails[::20]
    tracemalloc.start()
    start = time.process_time()
    pairs = near_duplicate_pairs(thumbnails)
    spent, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pairs.tolist() == [[k, k + 1] for k in range(0, 20_000, 20)]
    assert spent < 10
    assert peak < 150e6


def altered(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return [
        np.asarray(Image.open(buffer).convert("RGB")),
        np.asarray(image.resize((60, 60), Image.Resampling.BILINEAR)),
        np.asarray(ImageEnhance.Brightness(image).enhance(0.8)),
    ]


def test_recompressed_resized_and_darker_copies_are_found_and_others_are_not() -> None:
    bases = [pattern(seed) for seed in range(40)]
    pictures = [variant for base in bases for variant in (base, *altered(base))]
    pairs = near_duplicate_pairs(np.stack([grey_thumbnail(picture) for picture in pictures]))
    assert {(i // 4, j // 4) for i, j in pairs.tolist()} == {(k, k) for k in range(40)}
    assert len(pairs) == 40 * 6


def test_blocks_are_joined_without_gaps() -> None:
    thumbnails = np.stack([grey_thumbnail(pattern(seed, 32)) for seed in range(700)] * 2)
    pairs = {tuple(pair) for pair in near_duplicate_pairs(thumbnails, min_correlation=0.9999).tolist()}
    assert {(k, k + 700) for k in range(700)} <= pairs


def test_thousands_are_fast() -> None:
    generator = np.random.default_rng(0)
    thumbnails = generator.uniform(0, 255, size=(6000, 32, 32)).astype(np.float32)
    start = time.process_time()
    near_duplicate_pairs(thumbnails)
    assert time.process_time() - start < 10


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=20))
def test_equal_keys_form_one_cluster_and_none_stays_alone(keys: list[str | None]) -> None:
    numbers = clusters(len(keys), pairs_by_key(keys))
    for i, j in itertools.combinations(range(len(keys)), 2):
        assert (numbers[i] == numbers[j]) == (keys[i] is not None and keys[i] == keys[j])
