"""From what sites spent, and what an audit measured, to the words, tables and figures about differential privacy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .comparison_figures import LOOKS
from .page_parts import (
    UNKNOWN,
    Cell,
    Table,
    lower,
    number,
    percent,
    plural,
    scientific,
    upper,
)
from .privacy_figure import epsilon_curve
from .privacy_model import AuditFacts, SitePrivacy, groups_of
from .report_model import PrivacyFacts


@dataclass(frozen=True, slots=True)
class AuditView:
    """The box about an audit.

    Attributes:
        tiles: term and figure. reading: what they mean. fault: whether they disprove the claim.
        facts: term and description of the attacks beside.
    """

    tiles: tuple[tuple[str, str], ...]
    reading: str
    fault: bool
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PrivacyView:
    """The section about differential privacy of a study's front page, in order."""

    reading: str
    uncovered: tuple[str, ...]
    curve: str
    curve_note: str
    table: Table
    audit: AuditView | None


@dataclass(frozen=True, slots=True)
class SitePrivacyView:
    """The section about differential privacy of a site's page, in order."""

    reading: str
    uncovered: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]


def with_spent(facts: PrivacyFacts, sites: Sequence[SitePrivacy]) -> PrivacyFacts:
    """The facts with the largest epsilon of these sites, so that one page never says two things; unchanged for none."""
    if not sites:
        return facts
    worst = max(sites, key=lambda site: site.epsilon)
    return replace(facts, epsilon=worst.epsilon, delta=worst.delta, unit=worst.unit)


def site_privacy_view(site: SitePrivacy | None) -> SitePrivacyView | None:
    """Compute the section of a site's page; None where differential privacy was off."""
    if site is None:
        return None
    return SitePrivacyView(covered(site.unit), uncovered(site.unit), _site_facts(site))


def privacy_view(sites: Sequence[SitePrivacy], audit: AuditFacts | None) -> PrivacyView | None:
    """Compute the section; None where differential privacy was off."""
    if not sites:
        return None
    unit = sites[0].unit
    return PrivacyView(
        reading=covered(unit),
        uncovered=uncovered(unit),
        curve=epsilon_curve("epsilon", "Epsilon spent at each site by round", sites),
        curve_note="Epsilon spent by round, and the limit. "
        + (
            "Noise is chosen for the limit, so lines of sites may lie on one another."
            if len(sites) <= len(LOOKS)
            else "Coloured: the sites that spent most and least; grey: the others."
        ),
        table=_table(sites, unit),
        audit=_audit(audit) if audit else None,
    )


def covered(unit: str) -> str:
    """What is protected, in one sentence."""
    return (
        "Every update that a site sent is differentially private on its own, without trust in anybody: whoever sees "
        "it, the coordinator, the other sites and all who get the model, learns almost the same as if "
        f"{_own(unit)} had not been among the site's training images. A smaller epsilon means more alike; delta is the "
        "probability that it does not hold."
    )


def uncovered(unit: str) -> tuple[str, ...]:
    """What is not protected, a sentence each."""
    several = (
        "An image that lies at k sites spends k epsilons, and a patient with several images spends one for each."
        if unit == "record"
        else f"A {unit} whose images lie at k sites spends k epsilons, and further ones in every other study."
    )
    return (
        several,
        "Images that were used for validation and testing: epsilon does not speak of them.",
        f"The number of a site's {unit}s in training, which is public.",
        "A site's own model, where it has one, and its figures: they are made without noise and stay at the site.",
        "Reference images, which count as public.",
    )


def _own(unit: str) -> str:
    return "any one image" if unit == "record" else f"all images of any one {unit}"


def _site_facts(site: SitePrivacy) -> tuple[tuple[str, str], ...]:
    rows = [
        (f"{site.unit.capitalize()}s in training", UNKNOWN if site.units is None else f"{site.units:,}"),
        ("Epsilon spent", f"{upper(site.epsilon)} of {number(site.limit)}, delta {scientific(site.delta)}"),
        ("Left in this study", lower(site.left)),
        ("By Rényi accounting", f"{upper(site.rdp_epsilon)}, a looser bound on the same"),
    ]
    if site.noise_multiplier is not None and site.sample_rate is not None:
        rate, noise = _share(site.sample_rate), number(site.noise_multiplier)
        said = f"{plural(site.steps, 'step')}; a {site.unit} is in one with probability {rate}; "
        rows.append(("Steps", f"{said}noise of {noise} times what one {site.unit} can change"))
    for group in groups_of(site.releases):
        each = "" if group.count == 1 else " each"
        rows.append(
            (
                f"{group.title[0].upper()}{group.title[1:]}",
                f"epsilon {upper(group.cost, 3)}{each} by itself; {upper(group.epsilon_after)} spent after it",
            )
        )
    return tuple(rows)


def _table(sites: Sequence[SitePrivacy], unit: str) -> Table:
    return Table(
        f"Of each site, in this study. Noise: its standard deviation over the most that one {unit} can change in a "
        f"step. Drawn: probability that a {unit} is in a step. Rényi bound: the same releases, accounted for in "
        "another, looser way.",
        (
            "Site",
            f"{unit.capitalize()}s",
            "Epsilon spent",
            "Limit",
            "Left",
            "Rényi bound",
            "Delta",
            "Noise",
            "Drawn",
            "Steps",
        ),
        tuple(
            (
                Cell(site.site),
                Cell(UNKNOWN if site.units is None else f"{site.units:,}"),
                Cell(upper(site.epsilon), strong=True),
                Cell(number(site.limit)),
                Cell(lower(site.left)),
                Cell(upper(site.rdp_epsilon)),
                Cell(scientific(site.delta)),
                Cell(number(site.noise_multiplier)),
                Cell(UNKNOWN if site.sample_rate is None else _share(site.sample_rate)),
                Cell(f"{site.steps:,}"),
            )
            for site in sites
        ),
    )


def _share(rate: float) -> str:
    return f"{100 * rate:.3g}\N{NO-BREAK SPACE}%"


def _audit(audit: AuditFacts) -> AuditView:
    claimed = audit.claimed_epsilon
    return AuditView(
        tiles=(
            ("Claimed epsilon", "none: no noise" if claimed is None else number(claimed)),
            ("Measured: at least", f"{lower(audit.lower_bound)}, {percent(audit.confidence)} sure"),
            ("The most it could show", number(audit.ceiling)),
            ("Guesses that were right", f"{audit.right:,} of {audit.guesses:,}"),
        ),
        reading=_verdict(audit),
        fault=claimed is not None and audit.lower_bound > claimed,
        facts=tuple(_attacks(audit)),
    )


def _verdict(audit: AuditFacts) -> str:
    how = (
        f"Of {audit.canaries:,} planted records each was in training or not by the toss of a coin, and an auditor who "
        f"saw all that training released guessed {audit.guesses:,} of the tosses."
    )
    if audit.claimed_epsilon is None:
        return f"{how} Training ran without noise, so there is no claim to test: this is what noise has to hide."
    if audit.lower_bound > audit.claimed_epsilon:
        return (
            f"{how} The measured bound lies above the claimed epsilon, so at this confidence the claim is wrong: there "
            "is a fault in the noise, the sampling or the accounting, and the claimed figure must not be relied on."
        )
    said = (
        f"{how} A bound far below the claim proves nothing by itself, because a better attack may find more; one above "
        "it would have proved a fault."
    )
    if audit.ceiling < audit.claimed_epsilon:
        said += " With so few guesses even a perfect attack would have stayed below this claim."
    return said


def _attacks(audit: AuditFacts) -> list[tuple[str, str]]:
    rows = []
    if audit.membership_auc is not None:
        said = (
            f"Told a trained record from another in {percent(audit.membership_auc)} of pairs; chance is {percent(0.5)}."
        )
        if audit.membership_tpr is not None:
            said += f" Found {_share(audit.membership_tpr)} of them at {percent(0.01)} of false alarms."
        if audit.membership_lower_bound is not None:
            said += f" Epsilon by its error rates: at least {lower(audit.membership_lower_bound)}."
        rows.append(("Membership, from the final model alone", said))
    for term, cosine, rank in (
        ("An image read off one plain update", audit.leak_unmasked_cosine, audit.leak_unmasked_rank),
        ("The same, from the masked update", audit.leak_masked_cosine, audit.leak_masked_rank),
    ):
        if cosine is not None:
            rows.append((term, _leak(cosine, rank, audit.gallery)))
    return rows


def _leak(cosine: float, rank: int | None, gallery: int | None) -> str:
    said = f"Cosine {number(cosine)} with the true image's features"
    if rank is None or gallery is None:
        return f"{said}."
    place = f"{said}; the true image comes {_ordinal(rank)} of {gallery:,}"
    return f"{place}." if rank == 1 else f"{place}, where chance would put it {_ordinal((gallery + 1) // 2)}."


def _ordinal(place: int) -> str:
    ending = "th" if 10 <= place % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place:,}{ending}"
