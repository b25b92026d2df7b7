"""Canonical JSON (RFC 8785) of entries, quickly: a ledger of a million lines is read in under a minute.

The serialiser of msgspec, with sorted keys, gives the same bytes for plain ASCII strings and integers. Numbers with a
fraction, escapes and other alphabets are where serialisers differ: what has any of these goes to `rfc8785`.
"""

from __future__ import annotations

import re

import msgspec

from ..atomic import canonical_json

_encoder = msgspec.json.Encoder(order="sorted")
_DIFFERS = re.compile(rb'[^\x20-\x7e]|\\|(":|[\[,])-?[0-9]+([eE]|(?<=[0-9]{16})|\.(?![0-9]{0,14}[1-9][,}\]]))')
"""Where the two may differ: not ASCII, an escape, an exponent, a fraction of zeros, an integer of 16 digits or more.

It may find some of these inside strings too, which costs time and nothing else.
"""


def canonical(value: msgspec.Struct, *, plain: bool = False) -> bytes:
    """The one byte string of a struct of JSON values.

    Args:
        value: what is written.
        plain: whether it is known to hold no infinity and no NaN, which only the slow way refuses.

    Raises:
        ValueError: it has no canonical form (not a number, an integer beyond 2^53).
    """
    if plain:
        quick = _encoder.encode(value)
        if not _DIFFERS.search(quick):
            return quick
    return canonical_json(msgspec.to_builtins(value))
