"""What was left out is named one by one to a file, and in few lines to a person."""

from __future__ import annotations

from pathlib import Path

from wardround.platform.watching import MANY, left_out

FEW = [(Path(f"few-{at}"), "few") for at in range(MANY)]
MANY_FILES = [(Path(f"many-{at}"), "many") for at in range(MANY + 1)]


def test_every_file_is_named_in_its_order_where_nobody_looks_on() -> None:
    skipped = [MANY_FILES[0], *FEW, *MANY_FILES[1:]]
    told = list(left_out(skipped, brief=False))
    assert told == [f"left out: {path}: {reason}" for path, reason in skipped]


def test_a_person_sees_a_reason_that_many_files_have_once() -> None:
    told = list(left_out([MANY_FILES[0], *FEW, *MANY_FILES[1:]], brief=True))
    assert told[0] == f"left out: {MANY + 1} files: many; the first is many-0"
    assert told[1:] == [f"left out: {path}: few" for path, _ in FEW]
