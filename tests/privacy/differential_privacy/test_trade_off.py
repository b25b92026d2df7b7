"""The table of plans: its arithmetic, and that more units buy less noise."""

from __future__ import annotations

import math

import pytest
from wardround.privacy.differential_privacy.accountant import epsilon_of
from wardround.privacy.differential_privacy.releases import Release
from wardround.privacy.differential_privacy.trade_off import trade_off
from wardround.privacy.errors import AccountError

CLASS_SUMS = Release("class-sums", 5 / math.sqrt(2), 1.0, 1)
PLAN = {"rounds": 3, "expected_batch": 32, "local_epochs": 2, "delta": 1e-5}


def test_rows_say_what_a_study_will_do():
    rows = trade_off([20, 300], [2.0, 8.0], **PLAN, others=[CLASS_SUMS])
    assert [(row.units, row.epsilon) for row in rows] == [(20, 2.0), (20, 8.0), (300, 2.0), (300, 8.0)]
    assert (rows[0].sample_rate, rows[0].steps) == (1.0, 6)  # fewer units than a batch: all of them, once an epoch
    assert (rows[3].sample_rate, rows[3].steps) == (32 / 300, 3 * 2 * 10)
    for row in rows:
        training = Release("training", row.noise_multiplier, row.sample_rate, row.steps)
        assert 0.99 * row.epsilon < epsilon_of([CLASS_SUMS, training], 1e-5) <= row.epsilon
        assert row.noise_to_signal == row.noise_multiplier / min(32, row.units)


def test_more_units_and_more_epsilon_need_less_noise():
    rows = trade_off([100, 1000], [1.0, 8.0], **PLAN)
    noise = {(row.units, row.epsilon): row.noise_to_signal for row in rows}
    assert noise[100, 1.0] > noise[1000, 1.0] > noise[1000, 8.0]
    assert noise[100, 1.0] > noise[100, 8.0] > noise[1000, 8.0]


def test_an_epsilon_that_other_releases_use_up_has_no_noise():
    rows = trade_off([1000], [0.5, 8.0], **PLAN, others=[CLASS_SUMS])
    assert (rows[0].noise_multiplier, rows[0].noise_to_signal) == (None, None)
    assert rows[1].noise_multiplier is not None


@pytest.mark.parametrize(
    ("name", "value"), [("rounds", 0), ("expected_batch", -1), ("local_epochs", 1.5), ("delta", 0), ("rounds", True)]
)
def test_numbers_out_of_range_are_refused(name: str, value: float):
    with pytest.raises(AccountError, match=name):
        trade_off([100], [8.0], **(PLAN | {name: value}))


def test_units_and_epsilons_out_of_range_are_refused():
    with pytest.raises(AccountError, match="units"):
        trade_off([0], [8.0], **PLAN)
    for epsilon in (0, -1.0, math.nan):
        with pytest.raises(AccountError, match="epsilon"):
            trade_off([100], [epsilon], **PLAN)
