"""Consortia that are enrolled once, and copied by each test; whatever a test starts is ended after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("nvflare")

from .harness import RealConsortium, study_text

THREE = ("amber", "birch", "cedar")
FOUR = (*THREE, "dune")
Enrolled = Callable[[str, str, tuple[str, ...]], RealConsortium]


@pytest.fixture(scope="session")
def _enrolled(tmp_path_factory: pytest.TempPathFactory) -> Enrolled:
    """Enrols each study once."""
    root, known = tmp_path_factory.mktemp("enrolled"), dict[str, RealConsortium]()

    def enrol(name: str, text: str, sites: tuple[str, ...]) -> RealConsortium:
        if name not in known:
            known[name] = RealConsortium.found(root / name, text, sites, root / "cache")
        return known[name]

    return enrol


@pytest.fixture
def opened(tmp_path: Path, _enrolled: Enrolled) -> Iterator[Enrolled]:
    """``opened(name, study, sites)``: a consortium that this test may do anything with."""
    made: list[RealConsortium] = []

    def copy(name: str, text: str, sites: tuple[str, ...]) -> RealConsortium:
        made.append(_enrolled(name, text, sites).copied(tmp_path / name))
        return made[-1]

    yield copy
    for each in made:
        each.close()


@pytest.fixture
def three(opened: Enrolled) -> RealConsortium:
    """Three hospitals, all of which are needed; figures are summed at the end."""
    return opened("three", study_text(figures=True), THREE)


@pytest.fixture(scope="session")
def same_as_three(_enrolled: Enrolled, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The adapter of the same study in one process."""
    master = _enrolled("three", study_text(figures=True), THREE)
    return master.in_process(tmp_path_factory.mktemp("in-process") / "run")
