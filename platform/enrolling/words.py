"""Fingerprints over the telephone: what a person heard is compared whole, and never shown beforehand."""

from __future__ import annotations

import hmac
import re

from ...privacy.identity import fingerprint

CALL = (
    "Call them at a number that you had before this file came, and ask for the eight words of their own fingerprint. "
    "Never read words out to them first"
)
"""What a person is told to do; a number or words that came with the file prove nothing."""


def same_words(typed: str, public_key: bytes) -> bool:
    """Whether the words are the fingerprint of this key, all of them; which one is wrong is not told.

    Args:
        typed: as a person wrote them: any case, with dashes, blanks or commas between.
        public_key: raw Ed25519 public key, 32 bytes.
    """
    heard = "-".join(re.findall(r"[^\W_]+", typed.lower()))
    return hmac.compare_digest(heard.encode(), fingerprint(public_key).encode())
