"""What a site's charges come to, and whether one more may be added to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ..errors import BudgetError
from ..policy import Budget as BudgetRules
from . import accountant
from .budget_file import Charge
from .releases import Release, Unit

_KEEP = "Nothing was computed and nothing left; the last good model stays as it is."


def overlapping(charges: Sequence[Charge], cohort: str = "") -> list[list[Charge]]:
    """Charges that one patient may be in all of: those of undeclared studies, with each cohort's in turn.

    Args:
        charges: in order of time.
        cohort: only this one's; empty for every cohort's.
    """
    cohorts = [cohort] if cohort else sorted({charge.cohort for charge in charges if charge.cohort}) or [""]
    return [[charge for charge in charges if charge.cohort in ("", name)] for name in cohorts]


def common_delta(rules: BudgetRules, charges: Sequence[Charge]) -> float | None:
    """The delta at which all studies together are looked at: the policy's maximum, else the smallest charged.

    Epsilons at different deltas do not compose, so a sum over studies needs one for all. None when there is none.
    """
    if rules.maximum_delta is not None:
        return rules.maximum_delta
    return min((charge.delta for charge in charges), default=None)


def study_epsilon(charges: Iterable[Charge], of: Charge, plan: Sequence[Release] = ()) -> float:
    """An upper bound of epsilon of one charge's study, at its own delta.

    The figure of the accountant takes a good part of a second for every new number of steps. So where a plan is known
    and all that was charged is in it, this is the smaller of the quick Renyi bound (5 to 10 % higher) and of the figure
    of the whole plan, which is computed once; it never falls from one round to the next, and after the last it is the
    figure. Where that is beyond the study's limit, and without a plan, it is the figure.
    """
    done = [each.release for each in charges if each.study == of.study]
    if within(done, plan):
        quick = min(accountant.rdp_epsilon_of(done, of.delta), accountant.epsilon_of(plan, of.delta))
        if quick <= of.epsilon:
            return quick
    return accountant.epsilon_of(done, of.delta)


def within(done: Iterable[Release], plan: Iterable[Release]) -> bool:
    """Whether everything done is part of the plan: of each noise and rate no more steps than it has."""
    left: defaultdict[tuple[float, float], int] = defaultdict(int)
    for release in plan:
        left[release.noise_multiplier, release.sample_rate] += release.steps
    for release in done:
        left[release.noise_multiplier, release.sample_rate] -= release.steps
    return all(steps >= 0 for steps in left.values())


def check_unit(budget: Unit | None, asked: Unit) -> None:
    """Refuse a charge for another unit than the budget's.

    Raises:
        BudgetError: the units differ.
    """
    if budget is not None and asked != budget:
        raise BudgetError(
            f"this site's privacy budget protects one {budget}, the study asks for one {asked}",
            remedy="Epsilons of different units do not add up. Plan the study with the budget's unit.",
        )


def check_unchanged(charges: Sequence[Charge], new: Charge) -> None:
    """Refuse a charge that is not what its study, or the same charge before a crash, began with.

    Raises:
        BudgetError: another limit, cohort or release than before.
    """
    name = new.study[:12]
    earlier = next((charge for charge in charges if charge.study == new.study), None)
    if earlier is not None and (earlier.epsilon, earlier.delta) != (new.epsilon, new.delta):
        raise BudgetError(
            f"study {name} began with epsilon {earlier.epsilon} and delta {earlier.delta}, and now asks for "
            f"{new.epsilon} and {new.delta}",
            remedy="A study keeps its limit.",
        )
    if earlier is not None and earlier.cohort != new.cohort:
        raise BudgetError(
            f"study {name} began in {_named(earlier.cohort)}, the policy now says {_named(new.cohort)}",
            where="policy key budget.disjoint",
            remedy="A declaration counts from a study's first release on: put it back as it was.",
        )
    before = next((charge for charge in charges if (charge.study, charge.key) == (new.study, new.key)), None)
    if before is not None and before.release != new.release:
        raise BudgetError(
            f"{new.key} of study {name} was charged as {before.release}, not as {new.release}",
            remedy="Resume with the settings and the number of records that it was charged with.",
        )


def check_study(charges: Sequence[Charge], new: Charge, plan: Sequence[Release] = ()) -> None:
    """Refuse a charge that would take its study beyond the study's own limit.

    Raises:
        BudgetError: with what is spent, asked for and left.
    """
    after = study_epsilon([*charges, new], new, plan)
    if not after <= new.epsilon:
        raise BudgetError(
            f"{new.key} of study {new.study[:12]} would exceed the study's privacy budget: "
            + _figures(study_epsilon(charges, new), after, new.epsilon, new.delta),
            remedy=f"{_KEEP} End the study here, or plan a new one with more noise or fewer rounds.",
        )


def check_site(charges: Sequence[Charge], new: Charge, rules: BudgetRules, plan: Sequence[Release] = ()) -> None:
    """Refuse a charge that would take all of the site's studies together beyond the policy's maximum.

    A study that was fixed beforehand is looked at whole, so that it is refused before its first release. One alone is
    measured by the figure. Several are measured by the larger of both figures: later ones are chosen after earlier
    results were seen, and for such a filter the Renyi sum holds (Feldman and Zrnic 2021, arXiv 2008.11193).

    Raises:
        BudgetError: with what is spent, asked for and left.
    """
    if rules.maximum_delta is not None and new.delta > rules.maximum_delta:
        raise BudgetError(
            f"study {new.study[:12]} has a delta of {new.delta}, the most that this site allows is "
            f"{rules.maximum_delta}",
            where="policy key budget.maximum_delta",
            remedy=_KEEP,
        )
    after_all = [*charges, new]
    delta = common_delta(rules, after_all)
    if rules.maximum_epsilon is None or delta is None:
        return
    planned = within((each.release for each in after_all if each.study == new.study), plan)
    for group in overlapping(after_all, new.cohort):
        own = [charge.release for charge in group if charge.study == new.study]
        others = [charge.release for charge in group if charge.study != new.study]
        after = _together(others, list(plan) if planned else own, delta)
        if not after <= rules.maximum_epsilon:
            spent = _together(others, own[:-1], delta)  # the new one is the last
            raise BudgetError(
                f"{new.key} of study {new.study[:12]} would exceed the privacy budget of this site over all its "
                f"studies: {_figures(spent, after, rules.maximum_epsilon, delta)}",
                where="policy key budget.maximum_epsilon",
                remedy=f"{_KEEP} The maximum is this site's own; it protects those who are in several studies.",
            )


def _together(others: Sequence[Release], own: Sequence[Release], delta: float) -> float:
    """Epsilon of one study, or of several of which the later ones were chosen with the earlier ones' results known."""
    everything = [*others, *own]
    figure = accountant.epsilon_of(everything, delta)
    return max(figure, accountant.rdp_epsilon_of(everything, delta)) if others else figure


def _named(cohort: str) -> str:
    return f"cohort {cohort!r}" if cohort else "no declared cohort"


def _figures(spent: float, after: float, limit: float, delta: float) -> str:
    """What a refusal must say."""
    return (
        f"epsilon {spent:.4f} is spent (delta {delta:g}), {after - spent:.4f} more is asked for, "
        f"{max(0.0, limit - spent):.4f} of {limit:g} is left"
    )
