"""The policy's rules: what they ask of a message before any byte of it exists outside the gate."""

from __future__ import annotations

from typing import NoReturn

from .accounted import Accounted, check_accounted
from .errors import EgressRefusedError
from .identity import fingerprint_hex
from .messages import (
    TO_COORDINATOR,
    TO_SITE,
    Limits,
    MaskedVector,
    Message,
    SurvivorSet,
    UnmaskAnswer,
    UnmaskRequest,
    tag_of,
)
from .policy import Policy
from .secure_aggregation.session import SessionId
from .study_facts import COORDINATOR, StudyFacts

METRICS_BLOCK = "metrics"
FIGURES = ("evaluation", "temperature")
"""Purposes whose sums are figures of a site's held-out images."""


def check(message: Message, peer: str, policy: Policy, facts: StudyFacts, budget: Accounted | None) -> None:
    """Refuse what the policy does not allow to leave for a peer.

    A refusal passes where everything else may not, if the policy lists it: its code says nothing about data.

    Raises:
        EgressRefusedError: names the rule.
    """
    _check_parties(message, peer, policy, facts)
    if tag_of(message) != "refusal":
        _check_study(message, policy, facts)
        _check_sums(message, policy, facts)
        _check_budget(message, policy, facts, budget)


def check_size(message: Message, size: int, policy: Policy, limits: Limits) -> None:
    """Refuse a message that is larger than the policy, or the study, lets its type be.

    Raises:
        EgressRefusedError: names the type.
    """
    tag = tag_of(message)
    limit = min(policy.messages[tag], limits.of(tag))
    if size > limit:
        refuse(f"a message of type {tag} has {size} bytes, more than the {limit} allowed", f"messages.{tag}")


def study_of(message: Message) -> bytes:
    """SHA-256 of the study that a message is about."""
    session = getattr(message, "session", None)
    if isinstance(session, SessionId):
        return session.study
    study = getattr(message, "study", None)
    if isinstance(study, bytes):
        return study
    raise TypeError(f"a {tag_of(message)} names no study")


def round_of(message: Message) -> int:
    """The round that a message is about; -1 where it is about none."""
    session = getattr(message, "session", None)
    return session.round if isinstance(session, SessionId) else int(getattr(message, "round", -1))


def refuse(what: str, rule: str) -> NoReturn:
    """Refuse under a rule."""
    raise EgressRefusedError(
        what, rule=rule, remedy="The policy is this side's own file; change it there if you mean to."
    )


def _check_parties(message: Message, peer: str, policy: Policy, facts: StudyFacts) -> None:
    tag, is_site = tag_of(message), policy.role == "site"
    if not isinstance(message, TO_COORDINATOR if is_site else TO_SITE):
        refuse(f"a {policy.role} does not send {tag}", "messages")
    known = {COORDINATOR} if is_site else set(facts.roster.roster.names)
    if peer not in known:
        refuse(f"{peer!r} is no peer of this study", "studies")
    if tag not in policy.messages:
        refuse(f"messages of type {tag} may not leave", f"messages.{tag}")
    if study_of(message) != facts.study:
        refuse("a message of another study", "studies.allow")


def _check_study(message: Message, policy: Policy, facts: StudyFacts) -> None:
    if "*" not in policy.studies.allow and facts.study.hex() not in policy.studies.allow:
        refuse("the study is not allowed", "studies.allow")
    most = policy.studies.maximum_rounds
    if most is not None and round_of(message) > most:
        refuse(f"round {round_of(message)} of at most {most}", "studies.maximum_rounds")
    key = facts.coordinator_key
    named = {"*", fingerprint_hex(key)} if key else {"*"}  # a coordinator without a key is nobody in particular
    if policy.role == "site" and not named & set(policy.coordinator.allow):
        refuse("the study's coordinator is not allowed", "coordinator.allow")
    if facts.method not in policy.methods.allow:
        refuse(f"the method {facts.method!r} is not allowed", "methods.allow")


def _check_sums(message: Message, policy: Policy, facts: StudyFacts) -> None:
    thresholds, rules = facts.roster.roster.thresholds, policy.aggregation
    if rules.required and not facts.secure_aggregation:
        refuse("secure aggregation is off in this study", "aggregation.required")
    if thresholds.least < rules.minimum_cohort:
        refuse(f"the study's sums may be over {thresholds.least} sites", "aggregation.minimum_cohort")
    session = getattr(message, "session", None)
    if isinstance(session, SessionId) and session.purpose not in rules.purposes:
        refuse(f"sums for {session.purpose} are not allowed", "aggregation.purposes")
    if isinstance(session, SessionId) and session.purpose in FIGURES:
        _check_figures(policy, facts)
    survivors = _survivors_of(message)
    if survivors is not None and survivors < rules.minimum_cohort:
        refuse(f"a sum over {survivors} sites", "aggregation.minimum_cohort")
    if isinstance(message, MaskedVector):
        _check_vector(message, policy, facts)


def _check_vector(message: MaskedVector, policy: Policy, facts: StudyFacts) -> None:
    """A vector has exactly the size that the roster describes, and figures of a site only where metrics may leave."""
    roster, purpose = facts.roster.roster, message.session.purpose
    if purpose not in roster.vectors:
        refuse(f"the study sums nothing for {purpose}", "aggregation.purposes")
    size = roster.wire_size(purpose)
    if len(message.vector) != size:
        refuse(f"a masked vector of {len(message.vector)} bytes instead of {size}", "messages.masked-vector")
    if METRICS_BLOCK in {block.name for block in roster.blocks(purpose)} and not policy.metrics.allow:
        refuse("figures of this site may not leave, masked or not", "metrics.allow")


def _check_figures(policy: Policy, facts: StudyFacts) -> None:
    """Figures of held-out images: asked of every message of their sums, so that nobody masks for one that will fail."""
    if not policy.metrics.allow:
        refuse("figures of this site may not leave, masked or not", "metrics.allow")
    if facts.minimum_cell < policy.metrics.minimum_cell:
        refuse(f"the study publishes cells from {facts.minimum_cell} on", "metrics.minimum_cell")


def _check_budget(message: Message, policy: Policy, facts: StudyFacts, accounted: Accounted | None) -> None:
    for name, limit, value in (
        ("epsilon", policy.budget.maximum_epsilon, facts.epsilon),
        ("delta", policy.budget.maximum_delta, facts.delta),
    ):
        if limit is not None and (value is None or not value <= limit):
            refuse(f"the study's {name} is {value}, the most allowed {limit}", f"budget.maximum_{name}")
    if facts.roster.roster.thresholds.private and facts.epsilon is None:
        refuse("the roster says that updates are differentially private, the study does not", "budget.unaccounted")
    if isinstance(message, MaskedVector) and facts.epsilon is not None:
        check_accounted(accounted, message.session, epsilon=facts.epsilon, delta=facts.delta)


def _survivors_of(message: Message) -> int | None:
    """Over how many sites the sum would be that this message helps to release; None where it does not say."""
    if isinstance(message, UnmaskAnswer):
        return sum(1 for opened in message.shares if opened.kind == "b")
    if isinstance(message, SurvivorSet | UnmaskRequest):
        return len(message.survivors)
    return None
