"""Blocks that cannot overflow, a roster that says what the study says, keys that survive a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wardround.platform.adapters import AttentionAdapter
from wardround.platform.calibration import HIGHEST, LOWEST
from wardround.platform.config import Study
from wardround.platform.consortium import layout_of
from wardround.platform.enrolment import (
    PASSPHRASE_FILE,
    blocks_of,
    draw_roster,
    enrol_together,
    movable,
    open_identity,
    weighting_of,
)
from wardround.platform.methods.adapted_clip import AdaptedClip
from wardround.platform.methods.facmic import Facmic
from wardround.platform.methods.method import SharedInputs
from wardround.platform.methods.table import method_of
from wardround.platform.update import BUFFERS, METRICS, Layout
from wardround.privacy.errors import KeyStoreError, ParameterError, RosterError
from wardround.privacy.identity import Identity
from wardround.privacy.secure_aggregation.roster import Roster

Make = Callable[..., Study]
METHOD = Facmic()
LAYOUT = Layout.of(AdaptedClip(AttentionAdapter(8, seed=0)))
IDENTITIES = {name: Identity.from_seed(bytes([k]) * 32) for k, name in enumerate(("cedar", "ash", "beech"))}
KEYS = {name: identity.public_key for name, identity in IDENTITIES.items()}
SAMPLES = {"ash": 10, "beech": 20, "cedar": 30}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sites=st.integers(3, 100), w_max=st.floats(1.0, 16.0), weighting=st.sampled_from(["weighted", "uniform"]))
def test_our_own_blocks_are_as_fine_as_the_ring_allows(
    toy_study: Make, sites: int, w_max: float, weighting: str
) -> None:
    study = toy_study(secure_aggregation={"w_max": w_max, "weighting": weighting})
    blocks = blocks_of(study, METHOD, LAYOUT, [10] * sites)
    assert [(block.name, block.size) for block in blocks] == list(LAYOUT.sizes().items())
    weight = w_max if weighting == "weighted" else 1.0
    for block, most in zip(blocks[1:], (24, 16), strict=True):
        assert sites * block.limit(weight) < 2**31
        one_finer = int(weight * block.clip * 2 ** (block.fraction_bits + 1)) + 1
        assert block.fraction_bits == most or sites * one_finer >= 2**31


def test_the_delta_block_is_the_studys(toy_study: Make) -> None:
    study = toy_study(secure_aggregation={"clip": 0.5, "fraction_bits": 12})
    block = blocks_of(study, METHOD, LAYOUT, [10, 20, 30])[0]
    assert (block.name, block.clip, block.fraction_bits) == ("adapter", 0.5, 12)
    assert LAYOUT.sizes().keys() == {"adapter", BUFFERS, METRICS}


def test_an_adapter_without_batch_norm_has_no_buffer_block(toy_study: Make) -> None:
    layout = Layout(LAYOUT.blocks, ())
    assert [block.name for block in blocks_of(toy_study(), METHOD, layout, [10, 20, 30])] == ["adapter", METRICS]


@pytest.mark.parametrize("weighting", ["weighted", "uniform"])
@pytest.mark.parametrize("bits", [8, 12, 16, 24])
def test_a_packed_delta_has_the_finest_step_that_its_bits_carry_to_the_clip(
    toy_study: Make, bits: int, weighting: str
) -> None:
    study = toy_study(secure_aggregation={"bits": bits, "clip": 0.01, "weighting": weighting})
    block = blocks_of(study, METHOD, LAYOUT, [10, 20, 30])[0]
    weight = 4.0 if weighting == "weighted" else 1.0
    most = 2 ** (bits - 1) - 1
    assert (block.bits, block.ring(3)) == (bits, bits + 2)
    assert int(weight * 0.01 * 2**block.fraction_bits) <= most
    assert block.fraction_bits == 30 or int(weight * 0.01 * 2 ** (block.fraction_bits + 1)) > most


def test_a_clip_of_nought_is_what_adam_can_move_a_coordinate(toy_study: Make) -> None:
    training = {"lr": 1e-3, "batch_size": 8, "local_epochs": 2}
    plain = toy_study(secure_aggregation={"clip": 0.0}, training={**training, "beta1": 0.0, "beta2": 0.99})
    assert movable(plain, 1e-3, 20) == pytest.approx(1e-3 * 6 * 10 * (1 - 0.99**18) ** 0.5)  # 18 steps in 3 rounds
    assert blocks_of(plain, METHOD, LAYOUT, [20, 60, 30])[0].clip == pytest.approx(
        1e-3 * 16 * 10 * (1 - 0.99**48) ** 0.5
    )
    study = toy_study(rounds=10_000, training=training)
    assert movable(study, 1e-3, 20) == pytest.approx(1e-3 * 6 * 0.1 / (0.02 * (1 - 0.81 / 0.98)) ** 0.5)


@pytest.mark.parametrize("betas", [(0.9, 0.98), (0.9, 0.999), (0.5, 0.9), (0.99, 0.9), (0.0, 0.0)])
@pytest.mark.parametrize("growth", [0.5, 1.0, 1.05, 1.3, 3.0])
def test_no_gradients_move_a_coordinate_further_in_a_round(
    toy_study: Make, betas: tuple[float, float], growth: float
) -> None:
    """Torch's Adam itself, with moments kept over rounds and gradients that grow, shrink or change their sign."""
    training = {"lr": 1e-2, "batch_size": 8, "beta1": betas[0], "beta2": betas[1], "weight_decay": 0.0}
    study = toy_study(rounds=12, training=training)
    steps = 5
    signs = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, 1.0], [1.0, 1.0, 1.0]])
    position = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    adam = torch.optim.Adam([position], lr=1e-2, betas=betas, eps=1e-12)
    for number in range(12):
        before = position.detach().clone()
        for step in range(steps):
            taken = number * steps + step
            position.grad = (signs[:, taken % 3] * growth**taken).double()
            adam.step()
        assert (position.detach() - before).abs().max() <= movable(study, 1e-2, 8 * steps) * (1 + 1e-9)


@pytest.mark.parametrize(("colluding", "t", "m"), [(0, 2, 3), (1, 2, 3)])
def test_a_collusion_bound_is_reached_or_refused(toy_study: Make, colluding: int, t: int, m: int) -> None:
    roster = draw_roster(toy_study(secure_aggregation={"colluding": colluding}), METHOD, LAYOUT, KEYS, SAMPLES)
    assert (roster.thresholds.t, roster.thresholds.m) == (t, m)
    with pytest.raises(ParameterError, match="cannot withstand 2"):
        draw_roster(toy_study(secure_aggregation={"colluding": 2}), METHOD, LAYOUT, KEYS, SAMPLES)


def test_the_roster_says_what_the_study_says(toy_study: Make) -> None:
    study = toy_study(secure_aggregation={"w_max": 1.2, "threshold": 3})
    roster = draw_roster(study, METHOD, LAYOUT, KEYS, SAMPLES)
    assert roster.study.hex() == study.digest()
    assert roster.names == ("ash", "beech", "cedar")
    assert [site.samples for site in roster.sites] == [10, 20, 30]
    assert roster.thresholds.t == 3
    assert [roster.weight_of(name) for name in roster.names] == pytest.approx([0.5, 1.0, 1.2])
    uniform = draw_roster(toy_study(secure_aggregation={"weighting": "uniform"}), METHOD, LAYOUT, KEYS, SAMPLES)
    assert [uniform.weight_of(name) for name in uniform.names] == [1.0, 1.0, 1.0]


def test_bounds_that_do_not_hold_are_refused_with_a_remedy(toy_study: Make) -> None:
    wide = toy_study(secure_aggregation={"clip": 64.0, "fraction_bits": 24})
    with pytest.raises(ParameterError, match="overflow") as caught:
        draw_roster(wide, METHOD, LAYOUT, KEYS, SAMPLES)
    assert "clip of at most" in caught.value.remedy
    with pytest.raises(ParameterError):
        draw_roster(toy_study(secure_aggregation={"threshold": 4}), METHOD, LAYOUT, KEYS, SAMPLES)
    with pytest.raises(ParameterError):
        draw_roster(toy_study(secure_aggregation={"minimum_cohort": 4}), METHOD, LAYOUT, KEYS, SAMPLES)
    two = {name: KEYS[name] for name in ("ash", "beech")}
    with pytest.raises((ParameterError, RosterError)):
        draw_roster(toy_study(), METHOD, LAYOUT, two, SAMPLES)


def test_all_sites_sign_and_a_foreign_signature_is_refused(toy_study: Make) -> None:
    roster = draw_roster(toy_study(), METHOD, LAYOUT, KEYS, SAMPLES)
    pinned = enrol_together(roster, IDENTITIES)
    assert pinned.roster == roster
    assert pinned.confirmed == set(KEYS)
    with pytest.raises(RosterError):
        enrol_together(roster, {**IDENTITIES, "ash": Identity.from_seed(b"x" * 32)})
    with pytest.raises(RosterError):
        enrol_together(roster, {name: IDENTITIES[name] for name in ("ash", "beech")})


def test_a_simulated_key_is_made_once_encrypted_and_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "identity.pem"
    first = open_identity(tmp_path, path)
    assert open_identity(tmp_path, path).public_key == first.public_key
    assert b"ENCRYPTED" in path.read_bytes()
    for name in (PASSPHRASE_FILE, "identity.pem"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    (tmp_path / PASSPHRASE_FILE).write_text("another passphrase")
    with pytest.raises(KeyStoreError):
        open_identity(tmp_path, path)


def roster_of(study: Study) -> Roster:
    method = method_of(study)
    shared = SharedInputs(torch.eye(3, 8), 10.0, torch.zeros((0, 8)))
    return draw_roster(study, method, layout_of(method, shared), KEYS, SAMPLES)


@pytest.mark.parametrize(
    ("method", "chosen", "weighting"),
    [
        ("fedclip", "paper", "weighted"),
        ("facmic", "paper", "weighted"),
        ("faa-clip", "paper", "uniform"),
        ("fedclip", "uniform", "uniform"),
        ("facmic", "uniform", "uniform"),
        ("faa-clip", "weighted", "weighted"),
    ],
)
def test_sites_are_weighted_as_the_methods_paper_or_the_study_says(
    toy_study: Make, method: str, chosen: str, weighting: str
) -> None:
    study = toy_study(method=method, secure_aggregation={"weighting": chosen})
    assert weighting_of(study, method_of(study)) == weighting
    roster = roster_of(study)
    assert roster.weighting == weighting
    expected = [0.5, 1.0, 1.5] if weighting == "weighted" else [1.0, 1.0, 1.0]
    assert [roster.weight_of(name) for name in roster.names] == pytest.approx(expected)


def test_the_roster_has_a_block_for_each_child_of_the_module(toy_study: Make) -> None:
    study = toy_study(
        method="faa-clip",
        faa_clip={"domain_classifier": "shared", "text_adapter": True},
        calibration={"method": "federated-head"},
    )
    blocks = {block.name: block for block in roster_of(study).blocks("update")}
    assert list(blocks) == ["log_temperature", "adapter", "text_adapter", "domain", BUFFERS, METRICS]
    assert {blocks[name].clip for name in ("adapter", "text_adapter", "domain")} == {1.0}
    head = blocks["log_temperature"]
    assert (head.size, head.bits, head.fraction_bits) == (1, 32, 24)
    assert head.clip >= HIGHEST - LOWEST  # from one end of its range to the other


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_packing_is_for_what_is_trained_and_not_for_a_temperature(toy_study: Make, bits: int) -> None:
    study = toy_study(
        method="fedclip", calibration={"method": "federated-head"}, secure_aggregation={"bits": bits, "clip": 0.01}
    )
    blocks = {block.name: block.bits for block in roster_of(study).blocks("update")}
    assert blocks == {"log_temperature": 32, "adapter": bits, METRICS: 32}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sites=st.integers(3, 100), w_max=st.floats(1.0, 16.0), weighting=st.sampled_from(["weighted", "uniform"]))
def test_a_temperature_is_as_fine_as_the_ring_allows(toy_study: Make, sites: int, w_max: float, weighting: str) -> None:
    study = toy_study(secure_aggregation={"w_max": w_max, "weighting": weighting})
    layout = Layout.of(AdaptedClip(AttentionAdapter(8, seed=0), head=True))
    block = next(b for b in blocks_of(study, METHOD, layout, [10] * sites) if b.name == "log_temperature")
    weight = w_max if weighting == "weighted" else 1.0
    assert sites * block.limit(weight) < 2**31
    one_finer = int(weight * block.clip * 2 ** (block.fraction_bits + 1)) + 1
    assert block.fraction_bits == 24 or sites * one_finer >= 2**31


def test_a_clip_of_nought_goes_by_the_methods_own_step_size(toy_study: Make) -> None:
    study = toy_study(secure_aggregation={"clip": 0.0}, training={"lr": 1e-3})
    plain, own = Facmic(), Facmic(lr=4e-3)
    clips = [blocks_of(study, method, LAYOUT, [10, 20, 30])[0].clip for method in (plain, own)]
    assert clips[0] == pytest.approx(movable(study, 1e-3, 30))
    assert clips[1] == pytest.approx(4 * clips[0])
