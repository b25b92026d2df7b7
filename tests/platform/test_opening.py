"""A side's ledger, policy and gate: opened under one roster, and on a machine of its own never without consent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.opening import LEDGER_FILE, POLICY_FILE, open_gate, policy_for
from wardround.privacy.egress import COORDINATOR
from wardround.privacy.errors import LedgerError, PolicyError
from wardround.privacy.ledger.log import verify
from wardround.privacy.ledger.reading import read_entries
from wardround.privacy.policy import Policy

from .opened_sides import identity_of, terms_for


@pytest.fixture
def made(toy: Callable[..., Any], tmp_path: Path) -> Any:
    return toy(tmp_path / "run")


def opened(folder: Path, terms: Any, owner: str = "site-1", *, begun: bool = False, **options: Any) -> Any:
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        return open_gate(stack, terms, owner, identity_of(owner), folder, begun=begun, **options)


def kinds(folder: Path) -> list[str]:
    return [entry.kind for entry in read_entries(folder / LEDGER_FILE)]


def test_a_simulation_consents_for_its_sites(made: Any, BACKBONE: str, tmp_path: Path) -> None:
    terms = terms_for(made, BACKBONE)
    opened(tmp_path / "a", terms)
    assert (tmp_path / "a" / POLICY_FILE).read_text() == policy_for(terms, "site-1")
    assert kinds(tmp_path / "a") == ["key", "open"]
    opened(tmp_path / "a", terms, begun=True)
    assert kinds(tmp_path / "a") == ["key", "open"]


def test_without_consent_no_policy_is_made_and_nothing_is_opened(made: Any, BACKBONE: str, tmp_path: Path) -> None:
    terms = terms_for(made, BACKBONE)
    with pytest.raises(PolicyError, match="site-1 has no policy, so nothing may leave") as refused:
        opened(tmp_path / "a", terms, consents=False)
    assert refused.value.where == str(tmp_path / "a" / POLICY_FILE)
    assert not (tmp_path / "a" / POLICY_FILE).exists()
    assert kinds(tmp_path / "a") == []
    (tmp_path / "a" / POLICY_FILE).write_text(policy_for(terms, "site-1"))
    opened(tmp_path / "a", terms, consents=False)
    assert kinds(tmp_path / "a") == ["key", "open"]


def test_another_roster_than_the_ledgers_is_refused(made: Any, BACKBONE: str, tmp_path: Path) -> None:
    terms = terms_for(made, BACKBONE)
    other = terms_for(made, BACKBONE, **{"site-2": 7})
    assert other.digest == terms.digest
    opened(tmp_path / "a", terms)
    before = (tmp_path / "a" / LEDGER_FILE).read_bytes()
    for begun in (False, True):
        for consents in (False, True):
            with pytest.raises(LedgerError, match="opened this study under another roster"):
                opened(tmp_path / "a", other, begun=begun, consents=consents)
    assert (tmp_path / "a" / LEDGER_FILE).read_bytes() == before
    assert len(list((tmp_path / "a" / "rosters").iterdir())) == 1


def test_a_closed_study_stays_closed_on_a_machine_of_its_own(made: Any, BACKBONE: str, tmp_path: Path) -> None:
    terms, folder = terms_for(made, BACKBONE), tmp_path / "a"
    with ExitStack() as stack:
        folder.mkdir()
        gate = open_gate(stack, terms, "site-1", identity_of("site-1"), folder, begun=False)
        gate.ledger.close_study(terms.digest)
    opened(folder, terms, begun=True, consents=False, reopens=False)
    assert verify(folder / LEDGER_FILE).open_studies == ()
    opened(folder, terms, begun=True)  # a simulation goes on
    assert verify(folder / LEDGER_FILE).open_studies == (terms.digest,)


def test_a_ledger_that_does_not_know_what_was_begun_is_refused(made: Any, BACKBONE: str, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="its ledger does not know it"):
        opened(tmp_path / "a", terms_for(made, BACKBONE), begun=True)
    assert not (tmp_path / "a" / POLICY_FILE).exists()


@pytest.mark.parametrize("owner", ["site-1", COORDINATOR])
def test_the_policy_lets_this_study_run_and_names_its_coordinator(made: Any, BACKBONE: str, owner: str) -> None:
    terms = terms_for(made, BACKBONE)
    text = policy_for(terms, owner)
    Policy.parse(text.encode())
    assert terms.digest in text
    assert f'role = "{"coordinator" if owner == COORDINATOR else "site"}"' in text
    if owner != COORDINATOR:
        assert terms.coordinator in text
    assert policy_for(terms, owner, 2) != text
