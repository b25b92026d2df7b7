"""The egress policy: a side's own TOML file, read by nobody else, that says what may leave. Default deny."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from .errors import PolicyError
from .messages import BY_TAG, TO_COORDINATOR, TO_SITE, Limits, tag_of
from .secure_aggregation.session import PURPOSES, Purpose

Role = Literal["site", "coordinator"]
_HASH = re.compile(r"[0-9a-f]{64}")
_COHORT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Studies(_Section):
    """``allow``: SHA-256 of each study that may run, hexadecimal, or the single entry ``*``."""

    allow: list[str] = Field(default_factory=list)

    @field_validator("allow")
    @classmethod
    def _hashes(cls, value: list[str]) -> list[str]:
        for study in value:
            if study != "*" and not _HASH.fullmatch(study):
                raise ValueError(f"{study!r} is neither a study hash (64 hexadecimal digits) nor '*'")
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


class Log(_Section):
    """What every ledger entry says about why, and how long the ledger is kept."""

    purpose: str = ""
    legal_basis: str = ""
    retention_days: Annotated[int, Field(ge=1)] = 2190


class Policy(_Section):
    """What may leave. A message type that ``messages`` does not list, with its largest size in bytes, stays."""

    version: Literal[1]
    role: Role
    studies: Studies = Studies()
    methods: Methods = Methods()
    aggregation: Aggregation = Aggregation()
    budget: Budget = Budget()
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


_EXAMPLE = "0" * 64
_SECTIONS: dict[str, type[BaseModel]] = {
    "": Policy,
    "studies": Studies,
    "methods": Methods,
    "aggregation": Aggregation,
    "budget": Budget,
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


def default_policy_toml(
    role: Role,
    *,
    studies: Sequence[str],
    methods: Sequence[str],
    limits: Limits,
    minimum_cohort: int = 3,
    purposes: Sequence[Purpose] = PURPOSES,
    purpose: str = "federated training of an image adapter",
    legal_basis: str = "",
) -> str:
    """A documented policy that lets exactly these studies run, with the sizes that they need.

    Args:
        role: whose policy it is.
        studies: study hashes, hexadecimal.
        methods: method names.
        limits: sizes of the study's messages.
        minimum_cohort: fewest sites that a sum may be over.
        purposes: sums that may be taken part in.
        purpose: written into every ledger entry.
        legal_basis: written into every ledger entry; the site's own lawyers know it.
    """

    def quoted(items: Sequence[str]) -> str:
        return "[" + ", ".join(_toml_string(item) for item in items) + "]"

    kinds = TO_COORDINATOR if role == "site" else TO_SITE
    sizes = "\n".join(f"{tag_of(kind)} = {limits.of(tag_of(kind))}" for kind in kinds)
    return f"""\
# What may leave this {role}. Read by this {role} only. What is not allowed here does not leave.
version = 1
role = "{role}"

[studies]
# SHA-256 of each study that may run ("*" would allow any).
allow = {quoted(studies)}

[methods]
# Training methods that may run.
allow = {quoted(methods)}

[aggregation]
# Only masked vectors may leave, and only into sums over at least this many sites.
required = true
minimum_cohort = {minimum_cohort}
# Sums that this {role} takes part in.
purposes = {quoted(purposes)}

[budget]
# Uncomment to send nothing from a study without differential privacy, or beyond these. The epsilon also bounds all
# studies of this site together: a patient who is in several of them loses privacy in each.
# maximum_epsilon = 8.0
# maximum_delta = 1e-5

# [budget.disjoint]
# Studies whose cohorts share no patient do not add up. Name each study's cohort before its first release; a study
# without a name counts as overlapping with every other. (The hash of the study, then a name of your own.)
# "{_EXAMPLE}" = "cardiology-2024"

[messages]
# Largest size in bytes of each message type; a type that is not listed does not leave.
{sizes}

[log]
# Written into every ledger entry; how long the ledger is kept.
purpose = {_toml_string(purpose)}
legal_basis = {_toml_string(legal_basis)}
retention_days = 2190
"""


def _toml_string(text: str) -> str:
    """A TOML basic string; JSON escapes all that TOML wants escaped, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
