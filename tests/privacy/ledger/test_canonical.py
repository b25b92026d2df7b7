"""The quick canonical form against RFC 8785's own library, for entries of every kind of content."""

from __future__ import annotations

import math

import msgspec
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.ledger.canonical import canonical


class Held(msgspec.Struct):
    """Fields as entries have them, declared in another order than that of their names."""

    wire: int
    name: str
    dp: dict[str, object] | None
    schema: list[object]


TEXT = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
    st.sampled_from(
        ['":1.5', "[1e5", ",12345678901234567", "\x7f", "\u2028", "\U0001f600", "\ue000", "0.0", "\\", '"']
    ),
)
FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1.0, 0.0315, 1e-5, 1e-6, 1e-7, 1.5e300, 123456789.125, 0.1 + 0.2, -0.0, 5e-324, 1e21, 1e15, 0.5]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), FLOATS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=8,
)
HELD = st.builds(
    Held,
    wire=st.integers(-(2**53) + 1, 2**53 - 1),
    name=TEXT,
    dp=st.one_of(st.none(), st.dictionaries(TEXT, VALUES, max_size=4)),
    schema=st.lists(VALUES, max_size=4),
)


@settings(max_examples=400, deadline=None)
@given(HELD)
def test_it_is_rfc_8785(held: Held) -> None:
    expected = rfc8785.dumps(msgspec.to_builtins(held))
    assert canonical(held, plain=True) == expected
    assert canonical(held) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_has_no_form(value: float) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the library's own
        canonical(Held(1, "a", {"epsilon": value}, []))


def test_integers_that_json_readers_round_are_refused() -> None:
    for plain in (True, False):
        with pytest.raises(ValueError):  # noqa: PT011 - the library's own
            canonical(Held(2**53 + 1, "a", None, []), plain=plain)
