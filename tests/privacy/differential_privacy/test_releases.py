"""A release says only what the accountant understands, and cannot be changed afterwards."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from wardround.privacy.differential_privacy.releases import Relation, Release
from wardround.privacy.errors import MechanismError, PrivacyError


def test_a_release_survives_json_and_rejects_what_it_does_not_know():
    release = Release("class-sums", 5 / math.sqrt(2), 1.0, 1)
    assert msgspec.json.decode(msgspec.json.encode(release), type=Release) == release
    with pytest.raises(msgspec.ValidationError, match="epsilon"):
        msgspec.json.decode(
            b'{"kind":"training","noise_multiplier":1,"sample_rate":1,"steps":1,"epsilon":0}', type=Release
        )
    with pytest.raises(msgspec.ValidationError, match="kind"):
        msgspec.json.decode(b'{"kind":"gift","noise_multiplier":1,"sample_rate":1,"steps":1}', type=Release)


def test_a_release_is_frozen_and_hashable():
    release = Release("training", 1.0, 0.03, 33)
    with pytest.raises(AttributeError):
        release.noise_multiplier = 2.0  # type: ignore[misc]
    assert len({release, Release("training", 1.0, 0.03, 33)}) == 1


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("kind", "gift", "kind"),
        ("noise_multiplier", 0.0, "noise multiplier"),
        ("noise_multiplier", -1.0, "noise multiplier"),
        ("noise_multiplier", math.nan, "noise multiplier"),
        ("noise_multiplier", math.inf, "noise multiplier"),
        ("noise_multiplier", True, "noise multiplier"),
        ("noise_multiplier", "1", "noise multiplier"),
        ("sample_rate", 0.0, "sample rate"),
        ("sample_rate", 1.0000001, "sample rate"),
        ("sample_rate", math.nan, "sample rate"),
        ("sample_rate", None, "sample rate"),
        ("steps", 0, "steps"),
        ("steps", 1.0, "steps"),
        ("steps", True, "steps"),
    ],
)
def test_a_release_outside_its_ranges_is_refused(field: str, value: Any, says: str):
    values: dict[str, Any] = {"kind": "training", "noise_multiplier": 1.0, "sample_rate": 0.5, "steps": 1}
    with pytest.raises(MechanismError, match=says) as refused:
        Release(**(values | {field: value}))
    assert refused.value.remedy


def test_values_read_from_a_file_are_checked_too():
    with pytest.raises(PrivacyError, match="sample rate"):
        msgspec.json.decode(b'{"kind":"training","noise_multiplier":1,"sample_rate":2,"steps":1}', type=Release)


def test_there_is_one_relation():
    assert list(Relation) == ["zero-out"]
