"""What earlier studies spent counts before a study is started."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from wardround.platform.service.study_readiness import budget_check
from wardround.privacy.differential_privacy.budget import Budget
from wardround.privacy.differential_privacy.releases import Release
from wardround.privacy.errors import BudgetError
from wardround.privacy.identity import Identity
from wardround.privacy.ledger.log import Ledger

THIS, EARLIER = "ab" * 32, "cd" * 32


@pytest.fixture
def home(tmp_path: Path) -> Path:
    identity = Identity.from_seed(bytes(range(32)))
    with Ledger.open(tmp_path / "ledger.jsonl", owner="amber", clock=lambda: datetime.now(UTC)) as ledger:
        budget = Budget.open(tmp_path / "budget.json", site="amber", identity=identity, ledger=ledger)
        release = Release(kind="training", noise_multiplier=1.0, sample_rate=0.1, steps=100)
        budget.charge(EARLIER, "round-1", release, unit="patient", limit=(20.0, 1e-5))
    return tmp_path


def look(home: Path, limit: str, epsilon: float = 2.0) -> Any:
    policy = (home / "policy.toml").write_text
    from wardround.privacy.messages import Limits
    from wardround.privacy.policy_file import default_policy_toml

    text = default_policy_toml("site", studies=[THIS], methods=["facmic"], limits=Limits(3, 10_000, 10_000))
    head, _, tail = text.partition("[budget]")
    policy(f"{head}[budget]\n{limit}\n{tail}")
    key = Identity.from_seed(bytes(range(32))).public_key.hex()
    request = SimpleNamespace(document=SimpleNamespace(public_key=key))
    folder = SimpleNamespace(home=home, site="amber", digest=THIS, read_request=lambda: request)
    study = SimpleNamespace(privacy=SimpleNamespace(epsilon=epsilon, delta=1e-5))
    return budget_check(folder, study)  # type: ignore[arg-type]


def test_enough_is_left(home: Path) -> None:
    check = look(home, "maximum_epsilon = 30.0\nmaximum_delta = 1e-5")
    assert check.sound
    assert "this one may take 2, the limit is 30" in check.found


def test_not_enough_is_left(home: Path) -> None:
    check = look(home, "maximum_epsilon = 3.0\nmaximum_delta = 1e-5")
    assert not check.sound
    assert "was spent by earlier studies" in check.found
    assert "responsible for privacy" in check.remedy


def test_studies_over_other_patients_do_not_count(home: Path) -> None:
    check = look(home, 'maximum_epsilon = 30.0\nmaximum_delta = 1e-5\ndisjoint = { "' + THIS + '" = "children" }')
    assert check.sound


def test_no_limit_and_nothing_spent(home: Path, tmp_path: Path) -> None:
    assert "no limit" in look(home, "").found
    (home / "budget.json").unlink()
    assert "nothing was spent" in look(home, "maximum_epsilon = 3.0").found


@pytest.mark.parametrize("spoil", [lambda data: data[:-9], lambda data: data.replace(b'"amber"', b'"birch"')])
def test_a_budget_that_was_edited(home: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = home / "budget.json"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(BudgetError):
        look(home, "maximum_epsilon = 30.0")
