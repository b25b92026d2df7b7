"""What a site's egress policy lets out, in words; what is unwise in it; and whether a study could run under it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..privacy.messages import TO_COORDINATOR, TO_SITE, tag_of
from ..privacy.policy import Policy
from .class_means import FEWEST
from .class_means import PURPOSE as CLASS_MEANS
from .config import Study
from .held_out import held_out_layouts

WITNESS = ("receipt", "cosignature")
ESSENTIAL = {
    "site": ("advert", "sealed-shares", "masked-vector", "agreement", "unmask-answer"),
    "coordinator": ("round-start", "advert-list", "share-delivery", "survivor-set", "unmask-request"),
}


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found.

    Attributes:
        allows: what may leave, one sentence each.
        denied: message types that may not.
        warnings: what is legal and unwise.
        refusals: by rule, why a study's messages would be refused; empty without a study, and for one that can run.
    """

    allows: tuple[str, ...]
    denied: tuple[str, ...]
    warnings: tuple[str, ...]
    refusals: tuple[tuple[str, str], ...]


def check_policy(policy: Policy, study: Study | None = None) -> Checked:
    """Read a policy as its author should.

    Args:
        policy: of a site, or of a coordinator.
        study: to be run under it.
    """
    kinds = TO_COORDINATOR if policy.role == "site" else TO_SITE
    denied = tuple(tag for tag in map(tag_of, kinds) if tag not in policy.messages)
    return Checked(
        allows=tuple(_allows(policy)),
        denied=denied,
        warnings=tuple(_warnings(policy, denied)),
        refusals=tuple(_refusals(policy, study)) if study is not None else (),
    )


def _allows(policy: Policy) -> list[str]:
    budget, sums = policy.budget, policy.aggregation
    private = "with or without differential privacy"
    if budget.maximum_epsilon is not None:
        private = f"differential privacy only, epsilon at most {budget.maximum_epsilon:g} over all studies together"
    rounds = f", up to round {policy.studies.maximum_rounds}" if policy.studies.maximum_rounds else ""
    return [
        f"studies: {_some(policy.studies.allow, 'any', lambda study: study[:12])}{rounds}",
        f"methods: {_some(policy.methods.allow, 'any', str)}",
        f"sums over at least {sums.minimum_cohort} sites, for {_some(sums.purposes, 'any', str)}",
        private,
        "figures about this site's data, masked" if policy.metrics.allow else "no figures about this site's data",
        *(
            [f"coordinators: {_some(policy.coordinator.allow, 'any', lambda key: key[:12])}"]
            if policy.role == "site"
            else []
        ),
        f"{len(policy.messages)} message types, {max(policy.messages.values(), default=0)} bytes at most",
        f"after a refusal: {policy.refusal.then}",
        f"entries are kept {policy.log.retention_days} days",
    ]


def _some(items: Sequence[str], any_: str, show: Callable[[str], str]) -> str:
    if not items:
        return "none"
    return any_ if "*" in items else ", ".join(map(show, items))


def _warnings(policy: Policy, denied: tuple[str, ...]) -> list[str]:
    found = []
    if "*" in policy.studies.allow:
        found.append("any study may run: whoever is the coordinator chooses what is trained here")
    if policy.role == "site" and "*" in policy.coordinator.allow:
        found.append("any coordinator may be sent to: nobody compared a fingerprint")
    if not policy.aggregation.required:
        found.append("secure aggregation is not required: an update may leave as it is, and shows what made it")
    if policy.aggregation.minimum_cohort < 3 and policy.budget.maximum_epsilon is None:
        found.append("sums over two sites show each of them the other's update")
    if policy.budget.maximum_epsilon is not None and policy.budget.maximum_epsilon > 10:
        found.append(f"an epsilon of {policy.budget.maximum_epsilon:g} promises little")
    if policy.metrics.minimum_cell < 5:
        found.append(f"tables may have cells of {policy.metrics.minimum_cell} images: single patients may show")
    if not policy.log.legal_basis:
        found.append("no legal basis is given: ledger entries will name none (log.legal_basis)")
    if policy.role == "site" and set(WITNESS) & set(denied):
        found.append("receipts or cosignatures may not leave: nobody will be able to vouch for this site's ledger")
    if policy.role == "site" and "refusal" in denied:
        found.append("refusals may not leave: the coordinator will wait in vain where this policy stops something")
    return found


def _refusals(policy: Policy, study: Study) -> list[tuple[str, str]]:
    digest, privacy, sums = study.digest(), study.privacy, study.secure_aggregation
    found = []
    if "*" not in policy.studies.allow and digest not in policy.studies.allow:
        found.append(("studies.allow", f"the study's hash is {digest}"))
    if policy.studies.maximum_rounds is not None and study.rounds > policy.studies.maximum_rounds:
        found.append(("studies.maximum_rounds", f"the study has {study.rounds} rounds"))
    if study.method not in policy.methods.allow:
        found.append(("methods.allow", f"the study trains '{study.method}'"))
    least = max(sums.minimum_cohort, sums.threshold)
    if least < policy.aggregation.minimum_cohort:
        found.append(("aggregation.minimum_cohort", f"the study's sums may be over {least} sites"))
    figures = list(held_out_layouts(study, 2, 3, carries=study.calibration.method == "federated-head"))
    purposes = ["update", *([CLASS_MEANS] if study.reference.source == CLASS_MEANS else []), *figures]
    found += [
        ("aggregation.purposes", f"the study sums for {purpose}")
        for purpose in purposes
        if purpose not in policy.aggregation.purposes
    ]
    if not study.private and not policy.metrics.allow:
        found.append(("metrics.allow", "the study sums the training loss" + (" and figures" if figures else "")))
    if figures and policy.metrics.minimum_cell > FEWEST:
        found.append(("metrics.minimum_cell", f"the study publishes cells from {FEWEST} on"))
    for name, limit, value in (
        ("epsilon", policy.budget.maximum_epsilon, privacy.epsilon if study.private else None),
        ("delta", policy.budget.maximum_delta, privacy.delta if study.private else None),
    ):
        if limit is not None and (value is None or value > limit):
            has = "has no differential privacy" if value is None else f"has {name} {value:g}"
            found.append((f"budget.maximum_{name}", f"the study {has}"))
    found += [
        (f"messages.{tag}", "no round can be taken part in")
        for tag in ESSENTIAL[policy.role]
        if tag not in policy.messages
    ]
    return found
