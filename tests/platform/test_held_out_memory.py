"""What a site remembers of the sums of figures: nothing makes it send a second vector, model, temperature or cohort."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.errors import CheckpointError, MethodError
from wardround.platform.held_out import (
    EVALUATION,
    TEMPERATURE,
    UNSCALED,
    place_of,
    settings_of,
    temperature_at,
)
from wardround.platform.held_out_memory import HELD_OUT_FILE, HeldOutMemory
from wardround.privacy.errors import ProtocolError, Refusal
from wardround.privacy.secure_aggregation.session import SessionId

STUDY = bytes(32)
ROUNDS = 5
A, B, PLAIN, OTHER = "a" * 64, "b" * 64, "1" * 64, "2" * 64


def session(purpose: Any = EVALUATION, number: int = ROUNDS, attempt: int = 0) -> SessionId:
    return SessionId(STUDY, number, purpose, 0, attempt)


@pytest.fixture
def memory(tmp_path: Path) -> HeldOutMemory:
    return HeldOutMemory(tmp_path, True, ROUNDS, tmp_path / "adapter.safetensors")


def entered(memory: HeldOutMemory, purpose: Any, attempt: int = 0, vector: str = "v", validation: str = "x") -> None:
    memory.check_session(session(purpose, attempt=attempt), A, PLAIN)
    memory.same_validation(validation)
    memory.enter(session(purpose, attempt=attempt), A, PLAIN)
    memory.same_vector(session(purpose), vector, validation)


def code(memory: HeldOutMemory, given: SessionId, adapter: str = A, settings: str = PLAIN) -> Refusal:
    before = memory.path.read_bytes() if memory.begun else b""
    with pytest.raises(ProtocolError) as refused:
        memory.check_session(given, adapter, settings)
    assert (memory.path.read_bytes() if memory.begun else b"") == before
    return refused.value.code


def test_both_sums_in_order_and_their_retries(memory: HeldOutMemory) -> None:
    assert not memory.begun
    assert memory.adapter == ""
    entered(memory, TEMPERATURE)
    entered(memory, TEMPERATURE, attempt=2)
    entered(memory, EVALUATION)
    entered(memory, EVALUATION, attempt=1)
    assert memory.begun
    assert memory.adapter == A


def test_a_site_outside_the_cohort_gives_nothing(tmp_path: Path) -> None:
    outside = HeldOutMemory(tmp_path, False, ROUNDS, tmp_path / "adapter.safetensors")
    assert code(outside, session()) is Refusal.WRONG_COHORT


@pytest.mark.parametrize("number", [0, 1, ROUNDS - 1, ROUNDS + 1])
def test_only_after_the_last_round(memory: HeldOutMemory, number: int) -> None:
    assert code(memory, session(number=number)) is Refusal.WRONG_SESSION


def test_not_after_the_end_of_the_study(memory: HeldOutMemory) -> None:
    memory.over.write_bytes(b"the final adapter")
    assert code(memory, session()) is Refusal.WRONG_SESSION


def test_no_attempt_twice(memory: HeldOutMemory) -> None:
    entered(memory, EVALUATION, attempt=3)
    for attempt in (0, 3):
        assert code(memory, session(attempt=attempt)) is Refusal.WRONG_SESSION


def test_no_temperature_after_the_evaluation(memory: HeldOutMemory) -> None:
    entered(memory, EVALUATION)
    assert code(memory, session(TEMPERATURE)) is Refusal.WRONG_SESSION


@pytest.mark.parametrize("first", [TEMPERATURE, EVALUATION])
def test_no_second_model(memory: HeldOutMemory, first: str) -> None:
    entered(memory, first)
    assert code(memory, session(EVALUATION, attempt=1), adapter=B) is Refusal.OTHER_ADAPTER


def test_no_second_temperature(memory: HeldOutMemory) -> None:
    entered(memory, EVALUATION)
    assert code(memory, session(attempt=1), settings=OTHER) is Refusal.OTHER_ADAPTER


def test_no_second_vector(memory: HeldOutMemory) -> None:
    entered(memory, EVALUATION)
    with pytest.raises(MethodError, match="not those of the first attempt"):
        entered(memory, EVALUATION, attempt=1, vector="w")


def test_no_second_validation_part_in_the_other_sum(memory: HeldOutMemory) -> None:
    entered(memory, TEMPERATURE)
    with pytest.raises(MethodError, match="validation images"):
        memory.same_validation("y")
    memory.same_validation("x")


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"adapter": 3}',
        '{"evaluation": {"attempt": 0, "settings": ""}}',
        '{"adapter": "", "evaluation": {"attempt": true, "settings": ""}}',
        '{"adapter": "", "evaluation": {"attempt": 0}}',
        '{"adapter": "", "update": {"attempt": 0, "settings": ""}}',
        '{"adapter": "", "evaluation": {"attempt": 0, "settings": "", "more": 1}}',
    ],
)
def test_a_damaged_file_stops_the_site(memory: HeldOutMemory, content: str) -> None:
    memory.path.write_text(content)
    with pytest.raises(CheckpointError, match="damaged"):
        memory.check_session(session(), A, PLAIN)


def test_the_file_holds_hashes_and_numbers_alone(memory: HeldOutMemory) -> None:
    entered(memory, TEMPERATURE)
    assert memory.path.name == HELD_OUT_FILE
    known = json.loads(memory.path.read_bytes())
    assert known == {
        "adapter": A,
        "validation": "x",
        TEMPERATURE: {"attempt": 0, "settings": PLAIN, "vector": "v"},
    }


@pytest.mark.parametrize("place", [UNSCALED, 0, 17, 63])
def test_settings_name_a_temperature_of_the_grid(place: int) -> None:
    settings = settings_of("ab" * 32, ROUNDS, EVALUATION, temperature_at(place))
    assert place_of(settings) == place


@pytest.mark.parametrize(
    "settings", [b"{}", b"[]", b"{", b'{"temperature": 64}', b'{"temperature": 1.5}', b'{"temperature": true}']
)
def test_settings_that_name_none_are_refused(settings: bytes) -> None:
    with pytest.raises(ValueError, match=r"temperature|Expecting|JSON"):
        place_of(settings)
