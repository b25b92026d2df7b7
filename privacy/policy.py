"""The egress policy: a side's own TOML file, read by nobody else, that says what may leave. Default deny."""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from .errors import PolicyError
from .messages import BY_TAG, TO_COORDINATOR, TO_SITE, tag_of
from .secure_aggregation.session import Purpose

Role = Literal["site", "coordinator"]
_HASH = re.compile(r"[0-9a-f]{64}")
_COHORT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Studies(_Section):
    """``allow``: SHA-256 of each study that may run, hexadecimal, or the single entry ``*``.

    ``maximum_rounds``: in no later round anything leaves; without it, the study decides.
    """

    allow: list[str] = Field(default_factory=list)
    maximum_rounds: Annotated[int, Field(ge=1)] | None = None

    @field_validator("allow")
    @classmethod
    def _hashes(cls, value: list[str]) -> list[str]:
        for study in value:
            if study != "*" and not _HASH.fullmatch(study):
                raise ValueError(f"{study!r} is neither a study hash (64 hexadecimal digits) nor '*'")
        return value


class Coordinator(_Section):
    """``allow``: fingerprint (SHA-256, hexadecimal) of each coordinator that may be sent to, or the single ``*``."""

    allow: list[str] = Field(default_factory=list)

    @field_validator("allow")
    @classmethod
    def _hashes(cls, value: list[str]) -> list[str]:
        for key in value:
            if key != "*" and not _HASH.fullmatch(key):
                raise ValueError(f"{key!r} is neither a key's fingerprint (64 hexadecimal digits) nor '*'")
        return value


class Methods(_Section):
    """``allow``: names of the methods that may train here."""

    allow: list[str] = Field(default_factory=list)


class Aggregation(_Section):
    """Secure aggregation: whether it is required, over how many sites at least, and for which sums."""

    required: bool = True
    minimum_cohort: Annotated[int, Field(ge=2)] = 3
    purposes: list[Purpose] = Field(default_factory=list)


class Budget(_Section):
    """Differential privacy: where a maximum is given, a study without it, or beyond it, sends nothing.

    ``maximum_epsilon`` bounds each study by itself, at the gate, and all studies of this site together, before
    anything is released. All studies together are looked at with one delta, because epsilons at different deltas do not
    compose: ``maximum_delta``, else the smallest that a study was charged at.

    ``disjoint`` is this site's own declaration that cohorts share no patient: the study's hash to the name of its
    cohort. Studies of different cohorts do not add up; those of one cohort do; a study without a name overlaps with
    everything. It counts from a study's first release on, so it must be there before that.
    """

    maximum_epsilon: Annotated[float, Field(gt=0)] | None = None
    maximum_delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    disjoint: dict[str, str] = Field(default_factory=dict)

    @field_validator("disjoint")
    @classmethod
    def _cohorts(cls, value: dict[str, str]) -> dict[str, str]:
        for study, cohort in value.items():
            if not _HASH.fullmatch(study):
                raise ValueError(f"{study!r} is no study hash (64 hexadecimal digits)")
            if not _COHORT.fullmatch(cohort):
                raise ValueError(f"{cohort!r} is no cohort name (a-z, 0-9, '.', '_', '-', at most 64)")
        return value


class Metrics(_Section):
    """Figures about this site's data, such as losses and counts: whether they may leave, masked like all else.

    ``minimum_cell``: fewest images that a cell of a published table may be about, by the study's own rule.
    """

    allow: bool = False
    minimum_cell: Annotated[int, Field(ge=1)] = 11


class AfterRefusal(_Section):
    """What follows when this policy has refused a message: ``continue``, or ``stop``.

    With ``continue`` the side sits that message out and goes on. With ``stop`` nothing more of the study leaves in this
    process but the notice that it refuses.
    """

    then: Literal["continue", "stop"] = "continue"


class Log(_Section):
    """What the entry of every message says about why, and how long the ledger is kept."""

    purpose: str = ""
    legal_basis: str = ""
    retention_days: Annotated[int, Field(ge=1, le=36_500)] = 2190


class Policy(_Section):
    """What may leave. A message type that ``messages`` does not list, with its largest size in bytes, stays."""

    version: Literal[1]
    role: Role
    studies: Studies = Studies()
    coordinator: Coordinator = Coordinator()
    methods: Methods = Methods()
    aggregation: Aggregation = Aggregation()
    budget: Budget = Budget()
    metrics: Metrics = Metrics()
    refusal: AfterRefusal = AfterRefusal()
    messages: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    log: Log = Log()
    _digest: str = PrivateAttr(default="")

    @property
    def digest(self) -> str:
        """SHA-256 of the policy's file as it lies on disk, hexadecimal; ``sha256sum`` gives the same."""
        return self._digest

    @classmethod
    def parse(cls, text: bytes, *, where: str = "policy") -> Policy:
        """Read a policy.

        Raises:
            PolicyError: for bad TOML, an unknown key (the nearest valid one is named), a wrong type or value.
        """
        try:
            data = tomllib.loads(text.decode("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise PolicyError(f"the policy is no valid TOML: {error}", where=where) from None
        try:
            policy = cls.model_validate(data)
        except ValidationError as error:
            raise _explain(error, where) from None
        allowed = TO_COORDINATOR if policy.role == "site" else TO_SITE
        known = [tag_of(kind) for kind in allowed]
        for tag in policy.messages:
            if tag not in known:
                whose = f"a {policy.role} never sends it" if tag in BY_TAG else "there is no such message"
                raise PolicyError(
                    f"unknown message type {tag!r}: {whose}",
                    where=f"{where}, key messages.{tag}",
                    remedy=_near(tag, known),
                )
        policy._digest = hashlib.sha256(text).hexdigest()
        return policy

    @classmethod
    def load(cls, path: Path) -> Policy:
        """Read a policy file.

        Raises:
            PolicyError: when it cannot be read, or as `parse`.
        """
        try:
            text = path.read_bytes()
        except OSError as error:
            raise PolicyError(f"the policy cannot be read: {error.strerror}", where=str(path)) from None
        return cls.parse(text, where=str(path))


_SECTIONS: dict[str, type[BaseModel]] = {
    "": Policy,
    "studies": Studies,
    "coordinator": Coordinator,
    "methods": Methods,
    "aggregation": Aggregation,
    "budget": Budget,
    "metrics": Metrics,
    "refusal": AfterRefusal,
    "log": Log,
}


def _near(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."


def _explain(error: ValidationError, where: str) -> PolicyError:
    """The first of pydantic's complaints, in this project's form."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    remedy = ""
    if first["type"] == "extra_forbidden":
        section = _SECTIONS.get(".".join(place[:-1]))
        remedy = _near(place[-1], list(section.model_fields)) if section else ""
        what = f"unknown key {place[-1]!r}"
    else:
        what = first["msg"]
    return PolicyError(what, where=f"{where}, key {'.'.join(place)}", remedy=remedy)
