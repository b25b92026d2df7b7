"""The file of a site's privacy budget: what it says, how it is signed, and what is refused as not being one."""

from __future__ import annotations

import hashlib
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ..atomic import canonical_json
from ..errors import BudgetError, PrivacyError
from ..identity import Identity, SigningContext, verifies
from .releases import Release, Unit

VERSION = 1
LABEL_BUDGET = b"wardround/v1/privacy-budget"
GENESIS = "0" * 64
"""What the first version of a budget names as the one before it."""
VOID = hashlib.sha256(b"wardround/v1/void").hexdigest()
"""What a release that failed is sealed with: no stored bytes have this hash, and nothing of it may leave."""

# One budget serves all studies, so its signature belongs to none.
_CONTEXT = SigningContext(study=bytes(32), roster=bytes(32))
_EVIDENCE = "Nothing is released meanwhile. Keep the file as evidence; restore budget and ledger from one backup."

_KEY_FORM = re.compile("[a-z0-9][a-z0-9-]{0,63}")
_Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Seal = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]
_Key = Annotated[str, msgspec.Meta(pattern=f"^{_KEY_FORM.pattern}$")]
_Positive = Annotated[float, msgspec.Meta(gt=0)]
_Delta = Annotated[float, msgspec.Meta(gt=0, lt=1)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Charge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One release that was paid for.

    Attributes:
        study: the study's SHA-256, hexadecimal.
        key: names the release within its study, such as ``round-7`` or ``class-sums``.
        cohort: by the site's policy when the study began; empty where it was not declared disjoint from others.
        epsilon, delta: the study's own limit.
        release: what was released.
        sealed: SHA-256 of the one result, hexadecimal; empty until it is fixed, and nothing may leave before.
    """

    study: _Hash
    key: _Key
    cohort: str
    epsilon: _Positive
    delta: _Delta
    release: Release
    sealed: _Seal


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place in the ledger: how many entries there were, and the hash of the last one."""

    entries: _Count
    head: _Hash


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a version of the file was written for: a release was charged, or its result was sealed."""

    kind: Literal["charge", "seal"]
    study: _Hash
    key: _Key


class Content(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of a budget.

    Attributes:
        version: of this format.
        site: whose budget it is.
        unit: what one epsilon protects; one for all charges, because epsilons of different units do not add up.
        sequence: number of this version, from 1.
        previous: SHA-256 of the file before it, hexadecimal.
        ledger: the end of the ledger just before this version was written.
        step: what this version was written for.
        charges: in order of time; a study has each key once.
    """

    version: Annotated[int, msgspec.Meta(ge=VERSION, le=VERSION)]
    site: str
    unit: Unit
    sequence: Annotated[int, msgspec.Meta(ge=1)]
    previous: _Hash
    ledger: Place
    step: Step
    charges: tuple[Charge, ...]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    budget: Content
    signature: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{128}$")]


class _AnyVersion(msgspec.Struct, frozen=True):
    version: int


class _AnyFile(msgspec.Struct, frozen=True):
    budget: _AnyVersion


def dump_budget(content: Content, identity: Identity) -> bytes:
    """The file of one version: canonical JSON (RFC 8785) with the site's signature over the canonical content.

    Args:
        content: what it says.
        identity: the site's.

    Returns:
        The whole file, with a newline at its end.
    """
    body = _canonical(content)
    signature = identity.sign(LABEL_BUDGET, _CONTEXT, content.site, body)
    return _file(body, signature.hex())


def load_budget(data: bytes, *, site: str, public_key: bytes, where: str = "budget.json") -> Content:
    """Read a budget; whatever is not exactly one that this site wrote is refused.

    Whether it is the newest one, only the ledger knows (see `budget.Budget.open`).

    Args:
        data: the whole file.
        site: whose budget it must be.
        public_key: of that site's identity, 32 bytes.
        where: for messages.

    Raises:
        BudgetError: it is no such file, of another version, not in canonical form (a key twice, another order of keys,
            more spaces), not signed by this identity, another site's, or holds a charge twice.
    """
    file, body = _parse(data, where)
    content = file.budget
    key = Ed25519PublicKey.from_public_bytes(public_key)
    if not verifies(key, bytes.fromhex(file.signature), LABEL_BUDGET, _CONTEXT, content.site, body):
        raise _broken("is not signed by this site's identity", where)
    if content.site != site:
        raise _broken(f"belongs to {content.site!r}, not to {site!r}", where)
    return content


def parse_budget(data: bytes, where: str) -> Content:
    """What a copy of a budget says, for readers without the site's key: its signature is not looked at.

    Whether it is the site's own and newest one, its hash in the site's ledger tells.

    Args:
        data: the whole file.
        where: for messages.

    Raises:
        BudgetError: it is no such file, of another version, not in canonical form, or holds a charge twice.
    """
    return _parse(data, where)[0].budget


def _parse(data: bytes, where: str) -> tuple[_File, bytes]:
    """The file, and the canonical bytes of its content."""
    try:
        version = msgspec.json.decode(data, type=_AnyFile).budget.version
        if version != VERSION:
            raise BudgetError(
                f"the privacy budget has the unknown version {version}",
                where=where,
                remedy="Use the version of this software that wrote it.",
            )
        file = msgspec.json.decode(data, type=_File)
        body = _canonical(file.budget)
        canonical = _file(body, file.signature) == data
    except BudgetError:
        raise
    except (msgspec.MsgspecError, PrivacyError, ValueError, RecursionError, OverflowError):
        raise _broken("is no privacy budget", where) from None
    if not canonical:
        raise _broken("is not in canonical form", where)
    step, names = file.budget.step, [(charge.study, charge.key) for charge in file.budget.charges]
    if len(set(names)) != len(names) or (step.study, step.key) not in names:
        raise _broken("holds a charge twice, or not the one that it was written for", where)
    return file, body


def read_budget(path: Path) -> bytes | None:
    """The bytes of a budget file; None when there is none.

    Raises:
        BudgetError: it cannot be read, or is a link.
    """
    if path.is_symlink():
        raise _broken("is a link", str(path))
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BudgetError(f"the privacy budget cannot be read: {error.strerror}", where=str(path)) from None


def _broken(what: str, where: str) -> BudgetError:
    return BudgetError(f"the privacy budget {what}", where=where, remedy=_EVIDENCE)


def _file(body: bytes, signature: str) -> bytes:
    return b'{"budget":' + body + b',"signature":"' + signature.encode() + b'"}\n'


def _canonical(content: Content) -> bytes:
    """`canonical_json` of the content, from pieces: of a long study's charges only the newest are new."""
    rest: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(content, charges=()))
    del rest["charges"]  # the first key in canonical order
    return b'{"charges":[' + b",".join(map(_canonical_charge, content.charges)) + b"]," + canonical_json(rest)[1:]


@lru_cache(maxsize=1 << 14)
def _canonical_charge(charge: Charge) -> bytes:
    return canonical_json(msgspec.to_builtins(charge))


def new_charge(
    study: str, key: str, release: Release, *, unit: Unit, limit: tuple[float, float], cohort: str
) -> Charge:
    """A charge that is not sealed yet.

    Raises:
        BudgetError: a malformed study or key, an unknown unit, or a limit that bounds nothing.
    """
    epsilon, delta = limit
    if not is_hash(study) or not _KEY_FORM.fullmatch(key):
        raise BudgetError(f"{key!r} of study {study!r} cannot be charged: that is no release's name")
    if not (0 < delta < 1 and 0 < epsilon < math.inf) or unit not in get_args(Unit):
        raise BudgetError(f"a limit of epsilon {epsilon} and delta {delta} for one {unit} protects nobody")
    # In Python's own numbers, as it will be read back.
    noise, rate = float(release.noise_multiplier), float(release.sample_rate)
    release = Release(kind=release.kind, noise_multiplier=noise, sample_rate=rate, steps=int(release.steps))
    return Charge(
        study=study,
        key=key,
        cohort=cohort,
        epsilon=float(epsilon),
        delta=float(delta),
        release=release,
        sealed="",
    )


def is_hash(text: str) -> bool:
    """Whether it is a SHA-256 in hexadecimal."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def digest_of(data: bytes | None) -> str:
    """SHA-256 of a budget's file, hexadecimal; GENESIS where there is none."""
    return GENESIS if data is None else hashlib.sha256(data).hexdigest()
