"""The coordinator, opened from its run folder: it holds no data, and an older checkpoint than its sites' is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from wardround.platform.adapter_file import AdapterInfo
from wardround.platform.coordinator_side import Standing, standing
from wardround.platform.engines.local import carry
from wardround.platform.errors import CheckpointError
from wardround.privacy.errors import LedgerError

from .opened_sides import Parties, terms_for


@pytest.fixture
def parties(toy: Callable[..., Any], tmp_path: Path, BACKBONE: str) -> Parties:
    made = toy(tmp_path / "run")
    return Parties(made, terms_for(made, BACKBONE), tmp_path)


def stands(parties: Parties, **changes: Any) -> Standing:
    terms = parties.terms
    values = {"study": terms.digest, "method": terms.method.name, "round": 0, "backbone": terms.backbone, **changes}
    folder = parties.made.run.coordinator
    return standing(terms.start, terms.layout, AdapterInfo(**values), folder, remembers=False)


def one_round(parties: Parties) -> dict[str, torch.Tensor]:
    with ExitStack() as stack:
        sites = {name: parties.site(stack, name).site for name in parties.terms.roster.roster.names}
        coordinator, _ = parties.coordinator(stack, lambda: 0.0)
        carry(coordinator, sites, coordinator.begin())
        carry(coordinator, sites, coordinator.commit())
        return dict(coordinator.state)


def test_it_begins_at_the_start_and_goes_on_at_its_checkpoint(parties: Parties) -> None:
    at = stands(parties)
    assert (at.found, at.info.round, at.constants, at.memory) == (False, 0, {}, {})
    assert at.state is parties.terms.start
    state = one_round(parties)
    at = stands(parties)
    assert (at.found, at.info.round) == (True, 1)
    assert all(torch.equal(at.state[name], state[name]) for name in state)
    with ExitStack() as stack:
        coordinator, ledger = parties.coordinator(stack, lambda: 0.0, begun=True)
        assert coordinator.info.round == 1
        assert ledger.is_open(parties.terms.digest)


@pytest.mark.parametrize("latest", [0, 1])
def test_a_checkpoint_may_be_one_round_behind(parties: Parties, latest: int) -> None:
    stands(parties).check_not_behind(latest, 3, constants=False)


def test_an_older_checkpoint_is_refused(parties: Parties) -> None:
    with pytest.raises(CheckpointError, match="is gone, but sites have taken part in round 2"):
        stands(parties).check_not_behind(2, 3, constants=False)
    one_round(parties)
    at = stands(parties)
    at.check_not_behind(2, 3, constants=False)
    with pytest.raises(CheckpointError, match="is of round 1, but sites have taken part in round 3"):
        at.check_not_behind(3, 3, constants=False)
    with pytest.raises(CheckpointError, match="the sums after the last round"):
        at.check_not_behind(4, 3, constants=False)
    with pytest.raises(CheckpointError):
        at.check_not_behind(1, 3, constants=True)  # the class means are gone
    replace(at, constants={"class_means": torch.zeros(1)}).check_not_behind(1, 3, constants=True)


@pytest.mark.parametrize("changes", [{"study": "00" * 32}, {"backbone": "cd" * 32}])
def test_a_checkpoint_of_another_study_or_backbone_is_refused(parties: Parties, changes: dict[str, str]) -> None:
    one_round(parties)
    with pytest.raises(CheckpointError):
        stands(parties, **changes)


def test_a_ledger_that_is_gone_is_refused_where_sites_have_begun(parties: Parties) -> None:
    one_round(parties)
    (parties.made.run.coordinator / "ledger.jsonl").unlink()
    shutil.rmtree(parties.made.run.coordinator / "checkpoints", ignore_errors=True)
    with ExitStack() as stack, pytest.raises(LedgerError, match="its ledger does not know it"):
        parties.coordinator(stack, lambda: 0.0, begun=True)
