"""The mechanism of private training: what it adds, what it divides by, and what it tells the accountant."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from wardround.privacy.differential_privacy.clipping import ClippedSum, clipped_sum
from wardround.privacy.differential_privacy.mechanism import TrainingMechanism
from wardround.privacy.differential_privacy.randomness import SecretStream
from wardround.privacy.differential_privacy.releases import Release
from wardround.privacy.errors import MechanismError

KEY = bytes(range(32))


def mechanism(**changes):
    values = {"noise_multiplier": 1.5, "clip": 0.2, "sample_rate": 0.1, "expected_batch": 40.0, "steps": 30}
    return TrainingMechanism(**{**values, **changes})


def nothing(count=100_000, dtype=torch.float32):
    return ClippedSum({"weight": torch.zeros(count // 2, 2, dtype=dtype), "bias": torch.zeros(3, dtype=dtype)}, 0)


def test_the_release_is_what_was_asked_for():
    assert mechanism().release() == Release("training", 1.5, 0.1, 30)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("multiplier", "clip", "batch"), [(1.5, 0.2, 40.0), (0.3, 10.0, 1.0), (7.0, 1.0, 2.5)])
def test_the_noise_is_normal_with_the_standard_deviation_asked_for(multiplier, clip, batch, dtype):
    own = mechanism(noise_multiplier=multiplier, clip=clip, expected_batch=batch)
    means = own.noisy_mean(nothing(dtype=dtype), SecretStream(KEY))
    assert {name: mean.shape for name, mean in means.items()} == {"weight": (50_000, 2), "bias": (3,)}
    assert all(mean.dtype == dtype for mean in means.values())
    noise = (means["weight"].double() * batch / (multiplier * clip)).flatten().numpy()
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    assert noise.std() == pytest.approx(1.0, abs=4 / math.sqrt(2 * len(noise)))


def test_an_empty_batch_is_noised_like_any_other(cases):
    case = cases.build("attention-5", 3)
    own = mechanism()
    full = clipped_sum(case.module, case.losses, clip=own.clip, trained=case.trained)
    empty = clipped_sum(case.module, case.losses, clip=own.clip, trained=case.trained, units=0)
    noised = {name: mean.clone() for name, mean in own.noisy_mean(full, SecretStream(KEY)).items()}
    plain = own.noisy_mean(empty, SecretStream(KEY))
    assert set(noised) == set(plain) == set(case.trained)
    for name, mean in noised.items():  # the same noise: what is left is the sum
        assert bool((plain[name] != 0).all())
        torch.testing.assert_close(mean - plain[name], full.gradients[name] / 40.0, rtol=1e-4, atol=1e-7)


def test_the_sum_is_divided_by_the_expected_batch_whoever_was_drawn():
    clipped = ClippedSum({"weight": torch.arange(6.0).reshape(2, 3)}, 0)
    means = mechanism(noise_multiplier=0.0).noisy_mean(clipped, SecretStream())
    torch.testing.assert_close(means["weight"], clipped.gradients["weight"] / 40.0)


def test_two_steps_and_two_runs_have_different_noise():
    own, stream = mechanism(), SecretStream()
    draws = [own.noisy_mean(nothing(200), stream)["weight"].clone() for _ in range(2)]
    draws.append(own.noisy_mean(nothing(200), SecretStream())["weight"].clone())
    for one in range(3):
        for other in range(one):
            assert not bool((draws[one] == draws[other]).any())


def test_the_buffer_is_used_again_and_the_sum_is_left_alone():
    own, stream, clipped = mechanism(), SecretStream(), nothing(200)
    first = own.noisy_mean(clipped, stream)["weight"]
    second = own.noisy_mean(clipped, stream)["weight"]
    assert first.data_ptr() == second.data_ptr()
    assert not bool(clipped.gradients["weight"].any())
    assert own == mechanism()


def test_without_noise_there_is_no_release():
    with pytest.raises(MechanismError, match="noise multiplier of 0"):
        mechanism(noise_multiplier=0.0).release()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("noise_multiplier", -1.0),
        ("noise_multiplier", math.nan),
        ("noise_multiplier", math.inf),
        ("clip", 0.0),
        ("clip", math.inf),
        ("sample_rate", 0.0),
        ("sample_rate", 1.01),
        ("expected_batch", 0.0),
        ("expected_batch", math.nan),
        ("steps", 0),
    ],
)
def test_values_outside_their_range_are_refused(key, value):
    with pytest.raises(MechanismError):
        mechanism(**{key: value})
