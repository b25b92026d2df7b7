"""Many files asked at once: the same answers in the same order as one after the other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.medical_datasets import pixels
from wardround.medical_datasets.cohort import ImageRef, Picture
from wardround.medical_datasets.errors import UnreadableImageError
from wardround.medical_datasets.reading import DIRECT, each


def images(count: int) -> list[ImageRef]:
    return [ImageRef(Path("a"), f"frame={number}") for number in range(count)]


def one_after_the_other(asked: Sequence[ImageRef], bad: set[int]) -> list[str]:
    return ["refused" if number in bad else image.part for number, image in enumerate(asked)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 700), st.sets(st.integers(0, 700), max_size=9))
def test_answers_come_in_the_order_of_the_images(count: int, bad: set[int]) -> None:
    asked = images(count)

    def ask(image: Picture) -> str:
        assert isinstance(image, ImageRef)
        if int(image.part.partition("=")[2]) in bad:
            raise UnreadableImageError("refused")
        return image.part

    answers = [each_answer if isinstance(each_answer, str) else each_answer.what for each_answer in each(asked, ask)]
    assert answers == one_after_the_other(asked, bad)


def test_other_errors_are_raised_and_leave_no_thread() -> None:
    threads = threading.active_count()

    def ask(image: Picture) -> str:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(each(images(500), ask))
    assert threading.active_count() == threads


def test_only_some_images_are_asked_ahead_of_the_caller() -> None:
    asked: list[Picture] = []
    answers = each(images(20_000), asked.append)
    next(answers)
    answers.close()
    assert 1 <= len(asked) < 10_000


def test_the_direct_reader_is_the_one_reader_of_pixels() -> None:
    assert DIRECT is pixels
