"""``wardround site approve``: all that consent is about is put together first; then the roster is pinned and signed.

The order holds whatever is killed: consent, the roster pinned, the policy, the ledger, the approval. So no second
roster of a study can ever be signed, and no approval is given out that the ledger does not know.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ...privacy.atomic import write_atomic
from ...privacy.differential_privacy.budget import Budget
from ...privacy.differential_privacy.budget_file import new_charge
from ...privacy.differential_privacy.limits import check_site, check_unit
from ...privacy.home import SiteHome
from ...privacy.identity import Identity
from ...privacy.ledger.log import Ledger
from ...privacy.messages import sha256_hex
from ...privacy.policy import Policy
from ..config import Study
from ..opening import policy_for
from ..policy_check import ESSENTIAL, check_policy
from ..private_plan import PrivatePlan, plan_of
from ..private_training import private_form
from ..site_side import pin_roster
from ..study_parts import federated_method
from .before_counting import refused_coordinator
from .documents import Approval, Signed, sign_document
from .earlier import Earlier, check_earlier, earlier_studies, needs_consent
from .errors import EnrolmentError
from .installing import Installed, installed
from .noting import note_step
from .outflow import largest_share
from .releasing import release_file
from .site_folder import SiteFolder


@dataclass(frozen=True)
class Spending:
    """What a differentially private study asks of the site's budget.

    Attributes:
        plan: of all its releases. spent: epsilon of all studies so far. maximum: the policy's, over all; None: none.
        delta: at which these are looked at; None where nothing was ever charged and the policy names none.
    """

    plan: PrivatePlan
    spent: float
    maximum: float | None
    delta: float | None


@dataclass(frozen=True)
class Proposal:
    """All that a person consents to.

    Attributes:
        study: with this machine's paths. installed: the kit, checked again.
        samples: this site's own number. share: largest part of a sum that this site can be.
        earlier: studies over what may be the same images.
        policy: in force, or to be written. policy_text: of one to be written; None where the site has one.
        refusals: rules of the policy that would stop the study, and why.
        spending: under differential privacy; else None.
    """

    study: Study
    installed: Installed
    samples: int
    share: float
    earlier: list[Earlier]
    policy: Policy
    policy_text: str | None
    refusals: tuple[tuple[str, str], ...]
    spending: Spending | None


def propose(home: SiteHome, folder: SiteFolder, identity: Identity, ledger: Ledger) -> Proposal:
    """Put together what a person consents to; nothing is changed.

    Args:
        home: held. folder: of the consortium. identity: the site's. ledger: of the home, open.

    Raises:
        EnrolmentError: the kit does not hold, the identity is another one, or the site has left.
        StudyFileError, AccountError, BudgetError, MethodError: the study's differential privacy cannot be had here.
        PolicyError: the policy is damaged.
    """
    folder.check_not_left()
    home.check_whole()
    request = folder.read_request().document
    if request.public_key != identity.public_key.hex():
        raise EnrolmentError(
            "this site's identity is not the one that it joined with",
            where=str(home.identity),
            remedy="Restore the home from a backup",
        )
    study = folder.study()
    kit = installed(folder, study)
    text = None if home.policy.exists() else policy_for(kit.terms, home.site)
    policy = Policy.load(home.policy) if text is None else Policy.parse(text.encode(), where=str(home.policy))
    refusals = [*check_policy(policy, study).refusals, *refused_coordinator(policy, folder.coordinator_key())]
    refusals += _too_small(policy, kit)
    spending = _spending(home, study, request.samples, policy, identity, ledger) if study.private else None
    return Proposal(
        study=study,
        installed=kit,
        samples=request.samples,
        share=largest_share(kit.roster, home.site),
        earlier=earlier_studies(home.folder, kit.roster, None if text is not None else policy, ledger),
        policy=policy,
        policy_text=text,
        refusals=tuple(refusals),
        spending=spending,
    )


def check_proposal(proposal: Proposal, accepted: Collection[str]) -> None:
    """Refuse what no consent may allow: what the policy stops, and sums again of which nobody was told.

    Args:
        proposal: what is proposed. accepted: earlier studies that the person named.

    Raises:
        EnrolmentError: says what, and what to do.
    """
    if proposal.refusals:
        raise EnrolmentError(
            "this site's policy refuses the study:\n" + "\n".join(f"{rule}: {why}" for rule, why in proposal.refusals),
            where="policy.toml",
            remedy="Do not approve it; or, if the policy is to allow it, edit it: wardround site policy edit",
        )
    check_earlier(proposal.earlier, accepted, private=proposal.study.private)


def given(folder: SiteFolder, proposal: Proposal, identity: Identity) -> Signed[Approval] | None:
    """The approval that this site gave before, checked against the roster; None where it gave none.

    Raises:
        EnrolmentError: it is of another roster.
    """
    if not folder.approval.exists():
        return None
    signed = folder.read_approval(identity.public_key)
    if signed.document.roster_sha256 != proposal.installed.roster.digest.hex():
        raise EnrolmentError(
            "this site approved another roster of this study before",
            where=str(folder.approval),
            remedy="A roster is fixed for a study. Restore the home from a backup, or ask the coordinator",
        )
    return signed


def approve(
    home: SiteHome, folder: SiteFolder, proposal: Proposal, identity: Identity, ledger: Ledger
) -> Signed[Approval]:
    """Pin the roster, sign it, and let the approval be given out; a person has consented, and `check_proposal` was
    called.

    Args:
        home: held. folder: of the consortium. proposal: what was consented to. identity: the site's. ledger: open.

    Raises:
        CheckpointError: this site pinned another roster before.
        RosterError, MethodError: the roster claims noise that this site's training does not add.
        LedgerError: the ledger cannot be written. OSError: as the file system reports it.
    """
    roster, study = proposal.installed.roster, proposal.study
    home.state(folder.digest)
    pin_roster(folder.state_roster, roster.to_bytes())
    if proposal.policy_text is not None and not home.policy.exists():
        write_atomic(home.policy, proposal.policy_text.encode())
    signature = roster.sign(identity, home.site, private=trains_privately(study))
    digest = roster.digest.hex()
    signed = sign_document(Approval(folder.digest, home.site, digest, signature.hex()), identity)
    for each in proposal.earlier:
        if needs_consent(each, private=study.private):
            note_step(ledger, "sum-again", folder.digest, roster=each.roster.digest.hex())
    release_file(
        folder.approval,
        signed.data,
        lambda: note_step(ledger, "approval", folder.digest, document=sha256_hex(signed.data), roster=digest),
    )
    return signed


def trains_privately(study: Study) -> bool:
    """Whether the trainer that would run here adds the noise that makes each update private on its own.

    Raises:
        MethodError: the study says so, and its method has no such form.
    """
    if study.private:
        private_form(federated_method(study), study)
    return study.private


def _spending(home: SiteHome, study: Study, units: int, policy: Policy, identity: Identity, ledger: Ledger) -> Spending:
    """Rehearse the first charge: the whole plan is looked at then, with all that was spent before."""
    trains_privately(study)
    plan, privacy = plan_of(study, units), study.privacy
    budget = Budget.open(home.budget, site=home.site, identity=identity, ledger=ledger, policy_budget=policy.budget)
    check_unit(budget.unit, privacy.unit)
    cohort = policy.budget.disjoint.get(study.digest(), "")
    limit = (privacy.epsilon, privacy.delta)
    first = new_charge(study.digest(), "round-1", plan.round, unit=privacy.unit, limit=limit, cohort=cohort)
    check_site(budget.charges, first, policy.budget, plan.planned)
    delta = budget.common_delta
    spent = budget.spent(delta).epsilon if delta is not None and budget.charges else 0.0
    return Spending(plan, spent, policy.budget.maximum_epsilon, delta)


def _too_small(policy: Policy, kit: Installed) -> list[tuple[str, str]]:
    """Sizes that the policy allows and that the study's messages exceed."""
    limits = kit.terms.limits
    return [
        (f"messages.{tag}", f"the study's may have {limits.of(tag)} bytes, the policy allows {policy.messages[tag]}")
        for tag in ESSENTIAL["site"]
        if tag in policy.messages and policy.messages[tag] < limits.of(tag)
    ]
