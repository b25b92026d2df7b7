"""What both ends work from is the same at both, and follows from study and roster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from wardround.platform.adapter_file import AdapterInfo, dump_adapter
from wardround.platform.terms import terms_of
from wardround.privacy.identity import fingerprint_hex
from wardround.privacy.messages import BY_TAG

from .opened_sides import identity_of, terms_for


@pytest.fixture
def made(toy: Callable[..., Any], tmp_path: Path) -> Any:
    return toy(tmp_path / "run", evaluation={"federated": True})


def test_terms_are_those_of_study_and_roster(made: Any, BACKBONE: str) -> None:
    terms = terms_for(made, BACKBONE)
    assert terms.digest == made.study.digest() == terms.roster.roster.study.hex()
    assert terms.coordinator == fingerprint_hex(identity_of("coordinator").public_key)
    assert terms.facts.model == BACKBONE
    assert terms.facts.method == made.method.name
    assert terms.facts.epsilon is None
    assert terms.limits.sites == 3
    assert set(terms.figures) == set(terms.roster.roster.vectors) - {"update"}
    assert terms.largest == max(terms.limits.of(tag) for tag in BY_TAG)


def test_the_largest_adapter_fits_into_the_limit(made: Any, BACKBONE: str) -> None:
    terms = terms_for(made, BACKBONE)
    info = AdapterInfo(terms.digest, terms.method.name, made.study.rounds, BACKBONE)
    assert len(dump_adapter(dict(terms.start), info)) < terms.limits.adapter_bytes
    assert terms.limits.vector_bytes == max(terms.roster.roster.wire_size(each) for each in terms.roster.roster.vectors)


def test_what_the_roster_does_not_sum_is_not_summed(
    made: Any, toy: Callable[..., Any], tmp_path: Path, BACKBONE: str
) -> None:
    """Whether figures are summed is no part of a study's hash: the roster says it."""
    without = toy(tmp_path / "without", evaluation={"federated": False})
    assert without.study.digest() == made.study.digest()
    pinned = terms_for(without, BACKBONE).roster
    terms = terms_of(made.study, made.method, made.data.shared, pinned, BACKBONE, classes=3)
    assert terms.figures == {}


def test_the_start_does_not_depend_on_the_reference_set(made: Any, BACKBONE: str) -> None:
    terms = terms_for(made, BACKBONE)
    empty = replace(made.data.shared, reference=torch.zeros((0, made.data.shared.text.shape[1])))
    other = terms_of(made.study, made.method, empty, terms.roster, BACKBONE, classes=3)
    assert other.layout == terms.layout
    assert terms.start.keys() == other.start.keys()
    assert all(torch.equal(terms.start[name], other.start[name]) for name in terms.start)
