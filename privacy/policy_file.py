"""A documented policy file that lets exactly the named studies run."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .messages import TO_COORDINATOR, TO_SITE, Limits, tag_of
from .policy import Role
from .secure_aggregation.session import PURPOSES, Purpose

_EXAMPLE = "0" * 64


def default_policy_toml(
    role: Role,
    *,
    studies: Sequence[str],
    methods: Sequence[str],
    limits: Limits,
    minimum_cohort: int = 3,
    purposes: Sequence[Purpose] = PURPOSES,
    coordinators: Sequence[str] = (),
    metrics: bool = True,
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
        coordinators: fingerprints of the coordinators that may be sent to; a coordinator's own policy names none.
        metrics: whether figures about the site's data may leave in masked sums.
        purpose: written into the entry of every message.
        legal_basis: written into the entry of every message; the site's own lawyers know it.
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
# Uncomment to send nothing in a later round.
# maximum_rounds = 100
{_coordinator_section(role, quoted(coordinators))}
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

[metrics]
# Figures about this side's data, such as the training loss and counts of a test: whether they may leave, in masked sums
# only, and how many images a cell of a published table must be about at least.
allow = {"true" if metrics else "false"}
minimum_cell = 11

[refusal]
# What follows a refusal by this policy: "continue" sits that message out, "stop" sends nothing more of the study.
then = "continue"

[messages]
# Largest size in bytes of each message type; a type that is not listed does not leave.
{sizes}

[log]
# Written into the entry of every message; how long the ledger is kept.
purpose = {_toml_string(purpose)}
legal_basis = {_toml_string(legal_basis)}
retention_days = 2190
"""


def _coordinator_section(role: Role, allowed: str) -> str:
    if role == "coordinator":
        return ""
    return f"""
[coordinator]
# Fingerprints (SHA-256 of the public key) of the coordinators that may be sent to; compare yours by telephone.
allow = {allowed}
"""


def _toml_string(text: str) -> str:
    """A TOML basic string; JSON escapes all that TOML wants escaped, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
