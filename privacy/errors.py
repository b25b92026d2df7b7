"""The errors of ``privacy``: what was wrong, where, and what to do.

PrivacyError
├── ProtocolError          a stage of secure aggregation refused a message (code, stage, site)
├── DecodeError            bytes that are not a message of the expected type
├── DecryptionError        opaque: says nothing about why
├── ParameterError         threshold, cohort, weight or ring bound that does not hold
├── EncodingError          a vector that cannot be brought to fixed point
├── RosterError            a roster that is malformed, unsigned or changed
├── KeyStoreError          an identity file that cannot be made or read
├── HomeError              a site's home that is locked, shared or unwritable
├── LedgerError            a ledger that is broken or cannot be written
├── PolicyError            an egress policy that cannot be read
├── EgressRefusedError     the policy stopped a message (rule)
├── MechanismError         a mechanism that is not what the accountant thinks it is
├── AccountError           an epsilon that cannot be computed or reached
├── BudgetError            a privacy budget that is exceeded, broken, restored or missing
└── AuditError             an audit that cannot be made from what it was given
"""

from __future__ import annotations

import enum


class PrivacyError(Exception):
    """Base of every error that this folder raises on purpose.

    Args:
        what: what was wrong, with the value that was refused.
        where: the file, key, line or record it was found in; empty when there is none.
        remedy: what the reader can do about it; empty when nothing can be done.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(". ".join(part.rstrip(".") for part in (what, where, remedy) if part))


class Refusal(enum.StrEnum):
    """Why a message was refused: the only thing about a refusal that may cross the wire."""

    MALFORMED = "malformed"
    WRONG_SESSION = "wrong-session"
    OUT_OF_ORDER = "out-of-order"
    CHANGED_REQUEST = "changed-request"
    UNKNOWN_SITE = "unknown-site"
    DUPLICATE_SITE = "duplicate-site"
    SELF_MISSING = "self-missing"
    BAD_SIGNATURE = "bad-signature"
    OTHER_ADAPTER = "other-adapter"
    LOW_ORDER_KEY = "low-order-key"
    TOO_FEW = "too-few"
    WRONG_COHORT = "wrong-cohort"
    UNOPENABLE_SHARE = "unopenable-share"
    DISHONEST_SHARE = "dishonest-share"
    DISHONEST_DEALER = "dishonest-dealer"
    WRONG_LENGTH = "wrong-length"
    CORRUPTED = "corrupted"
    SECOND_SURVIVOR_SET = "second-survivor-set"
    OUT_OF_BOUND = "out-of-bound"
    POLICY = "policy"
    LOCAL_FAILURE = "local-failure"


class ProtocolError(PrivacyError):
    """A stage of secure aggregation refused a message; nothing secret left because of it.

    Attributes:
        code: the reason, as it may be told to the other side.
        stage: name of the stage ("advertise", "share", "mask", "agree", "unmask", "finish").
        site: the site that the refused content is about; None when it is about no single site.
    """

    def __init__(self, what: str, *, code: Refusal, stage: str, site: str | None = None) -> None:
        self.code = code
        self.stage = stage
        self.site = site
        place = f"stage {stage}" if site is None else f"stage {stage}, site {site}"
        super().__init__(what, where=place)


class DecodeError(PrivacyError):
    """Bytes that are no message, not of an expected type, too large, or not in canonical form."""


class DecryptionError(PrivacyError):
    """Something could not be decrypted. It does not say why: a reason would be an oracle."""

    def __init__(self) -> None:
        super().__init__("decryption failed")


class ParameterError(PrivacyError):
    """A threshold, cohort, weight, clip or ring bound that does not hold."""


class EncodingError(PrivacyError):
    """A vector that cannot be brought to fixed point, or a sum that cannot be brought back."""


class RosterError(PrivacyError):
    """A roster that is malformed, not signed by every site, or not the one that was pinned."""


class KeyStoreError(PrivacyError):
    """An identity file that cannot be made, read or unlocked."""


class HomeError(PrivacyError):
    """A site's home that another process holds, that others may read, or that cannot be written."""


class LedgerError(PrivacyError):
    """A ledger that is broken or cannot be written; nothing may leave while this lasts."""


class PolicyError(PrivacyError):
    """An egress policy that cannot be read or that contradicts itself."""


class EgressRefusedError(PrivacyError):
    """The site's policy stopped a message before any of its bytes left.

    Attributes:
        rule: the policy key that stopped it, e.g. ``messages.masked-vector``.
    """

    def __init__(self, what: str, *, rule: str, remedy: str = "") -> None:
        self.rule = rule
        super().__init__(what, where=f"policy rule {rule}", remedy=remedy)


class MechanismError(PrivacyError):
    """A mechanism that is not what the accountant thinks it is: an illegal layer, loss, sample or release."""


class AccountError(PrivacyError):
    """An epsilon that cannot be computed, or that no amount of noise reaches."""


class BudgetError(PrivacyError):
    """A privacy budget that would be exceeded, or a budget file that is broken, changed, restored or missing.

    Nothing may be released while this lasts.
    """


class AuditError(PrivacyError):
    """An audit that cannot be made from what it was given; its bound would mean nothing."""
