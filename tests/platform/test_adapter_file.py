"""Adapter files: deterministic bytes, no changed byte accepted, no other study or backbone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import rfc8785
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from wardround.platform.adapter_file import (
    METADATA_KEY,
    AdapterInfo,
    checksum,
    dump_adapter,
    parse_adapter,
    read_adapter,
    write_adapter,
)
from wardround.platform.adapters import AttentionAdapter, state_of
from wardround.platform.errors import CheckpointError

INFO = AdapterInfo("a" * 64, "facmic", 3, "b" * 64)
STATE = state_of(AttentionAdapter(6, seed=1))
DATA = dump_adapter(STATE, INFO)
HEADER = 8 + int.from_bytes(DATA[:8], "little")


def test_what_is_dumped_is_parsed_equal() -> None:
    state, info = parse_adapter(DATA, where="here")
    assert info == INFO
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_equal_content_gives_equal_bytes_whatever_the_order() -> None:
    backwards = dict(reversed(list(STATE.items())))
    assert dump_adapter(backwards, INFO) == DATA
    assert dump_adapter({**STATE, "norm.bias": STATE["norm.bias"] + 1}, INFO) != DATA
    for change in ({"study": "c" * 64}, {"method": "other"}, {"round": 4}, {"backbone": "c" * 64}):
        assert dump_adapter(STATE, replace(INFO, **change)) != DATA  # type: ignore[arg-type]


def test_views_and_transposes_are_written_by_value() -> None:
    square = torch.arange(36, dtype=torch.float32).reshape(6, 6)
    state, _ = parse_adapter(dump_adapter({"w": square.T}, INFO), where="here")
    assert torch.equal(state["w"], square.T)


def test_every_changed_byte_of_the_header_is_refused() -> None:
    for place in range(HEADER):
        for change in (0x01, 0x20, 0x29, 0x80):  # 0x29 makes a tab of a space
            damaged = bytearray(DATA)
            damaged[place] ^= change
            with pytest.raises(CheckpointError) as caught:
                parse_adapter(bytes(damaged), where="here")
            assert caught.value.where == "here"


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(DATA) - 1), change=st.integers(1, 255))
def test_any_changed_byte_is_refused(place: int, change: int) -> None:
    damaged = bytearray(DATA)
    damaged[place] ^= change
    with pytest.raises(CheckpointError):
        parse_adapter(bytes(damaged), where="here")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(DATA) - 1))
def test_any_cut_is_refused(length: int) -> None:
    with pytest.raises(CheckpointError):
        parse_adapter(DATA[:length], where="here")
    with pytest.raises(CheckpointError):
        parse_adapter(DATA + b"\0", where="here")


def header(**changes: object) -> str:
    """A header whose checksum holds, so that only what is changed can be refused."""
    info = asdict(INFO)
    return rfc8785.dumps({**info, "sha256": checksum(STATE, rfc8785.dumps(info)), **changes}).decode()  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {METADATA_KEY: "[]"},
        {METADATA_KEY: "3"},
        {METADATA_KEY: "{}"},
        {METADATA_KEY: "{"},
        {METADATA_KEY: "[" * 100_000},
        {"another": header()},
        {METADATA_KEY: header(more=1)},
        {METADATA_KEY: header(sha256=None)},
        {METADATA_KEY: header(study="c" * 64)},
        {METADATA_KEY: header(round=4)},
    ],
)
def test_foreign_metadata_is_refused(metadata: dict[str, str] | None) -> None:
    assert parse_adapter(save(STATE, metadata={METADATA_KEY: header()}), where="here")[1] == INFO
    with pytest.raises(CheckpointError):
        parse_adapter(save(STATE, metadata=metadata), where="here")


def test_tensor_types_that_numpy_lacks_are_refused() -> None:
    data = save({"a": torch.zeros(4, dtype=torch.bfloat16)}, metadata={METADATA_KEY: header()})
    with pytest.raises(CheckpointError):
        parse_adapter(data, where="here")


def test_the_checksum_sees_names_types_shapes_values_and_info() -> None:
    base = {"a": torch.zeros(4)}
    others = [
        checksum({"b": torch.zeros(4)}),
        checksum({"a": torch.zeros(2, 2)}),
        checksum({"a": torch.zeros(4, dtype=torch.int32)}),
        checksum({"a": torch.tensor([0.0, 0.0, 0.0, -0.0])}),
        checksum(base, b"info"),
    ]
    assert len({checksum(base), *others}) == 6


def test_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    digest = write_adapter(path, STATE, INFO)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    state, info = read_adapter(path, study=INFO.study, backbone=INFO.backbone)
    assert info == INFO
    assert np.array_equal(state["norm.bias"].numpy(), STATE["norm.bias"].numpy())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert load(path.read_bytes()).keys() == STATE.keys()  # an ordinary safetensors file
    assert json.loads(path.read_bytes()[8:HEADER])["norm.bias"]["dtype"] == "F32"


def test_another_study_and_another_backbone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    write_adapter(path, STATE, INFO)
    with pytest.raises(CheckpointError, match="another study") as caught:
        read_adapter(path, study="c" * 64)
    assert caught.value.where == str(path)
    with pytest.raises(CheckpointError, match="fingerprint bbbbbbbbbbbbbbbb") as caught:
        read_adapter(path, backbone="c" * 64)
    assert "model/card.json" in caught.value.remedy
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_adapter(tmp_path / "absent")
