"""Earlier studies over the same images: the difference of two sums can show what neither of them does alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ...privacy.errors import ParameterError, RosterError
from ...privacy.ledger.log import Ledger
from ...privacy.ledger.rosters import read_rosters
from ...privacy.policy import Policy
from ...privacy.secure_aggregation.roster import Roster
from ..site_side import LEFT_FILE, ROSTER_FILE, has_begun
from .errors import EnrolmentError
from .site_folder import HASH_PREFIX

_RESTORE = "Restore the home from a backup: without it nobody can say what this site's sums were over"


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier study of this home whose images may be the same ones.

    Attributes:
        roster: of that study.
        again: sums that are made once over all images, and that both studies make.
        came, went: sites of the new study and of the earlier one alone.
        changed: sites in both with another number of samples.
    """

    roster: Roster
    again: tuple[str, ...]
    came: tuple[str, ...]
    went: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def study(self) -> str:
        """Its study's hash, hexadecimal."""
        return self.roster.study.hex()


def earlier_studies(home: Path, roster: Roster, policy: Policy | None, ledger: Ledger) -> list[Earlier]:
    """Every study that this site ever approved, except those that it left before they began and those that its own
    policy declares to be over other patients.

    Args:
        home: the site's. roster: of the new study. policy: the site's; None where it has none. ledger: the home's.

    Raises:
        EnrolmentError: a roster that was kept is damaged.
    """
    cohorts = policy.budget.disjoint if policy is not None else {}
    own = cohorts.get(roster.study.hex(), "")
    found: dict[bytes, Roster] = {}
    for each in _kept(home):
        study = each.study.hex()
        other = cohorts.get(study, "")
        disjoint = bool(own) and bool(other) and own != other
        state = home / "state" / study
        unbegun = (state / LEFT_FILE).exists() and not ledger.knows(study) and not has_begun(state)
        if each.study != roster.study and not disjoint and not unbegun:
            found[each.digest] = each
    return [_compared(roster, each) for each in sorted(found.values(), key=lambda each: each.digest)]


def check_earlier(earlier: Collection[Earlier], accepted: Collection[str], *, private: bool) -> None:
    """Refuse sums over the same images again, unless a person named each earlier study that it is about.

    Args:
        earlier: of `earlier_studies`. accepted: hashes of studies that were named, or beginnings of at least 8 digits.
        private: whether the new study is differentially private; the budget then counts its updates.

    Raises:
        EnrolmentError: says which studies, and what their difference would show.
    """
    short = [each for each in accepted if len(each) < HASH_PREFIX]
    if short:
        raise EnrolmentError(
            f"'{short[0]}' is too short to name a study",
            where="--sum-again",
            remedy=f"Give {HASH_PREFIX} digits or more",
        )
    open_ = [each for each in earlier if needs_consent(each, private=private)]
    missing = [each for each in open_ if not any(each.study.startswith(name) for name in accepted)]
    if missing:
        raise EnrolmentError(
            "\n".join(
                ["this site gave sums over what may be the same images before:", *(in_words(each) for each in missing)]
            ),
            where="--sum-again",
            remedy="Without differential privacy, two sums may be subtracted. If that is acceptable, name each earlier "
            f"study: --sum-again {missing[0].study[:16]}. If they are of other patients, declare it before: "
            "[budget.disjoint] in the policy, wardround site policy edit",
        )


def needs_consent(each: Earlier, *, private: bool) -> bool:
    """Whether an earlier study must be named; under differential privacy, only where sums without noise repeat."""
    return not private or bool(each.again)


def in_words(each: Earlier) -> str:
    """What the difference to an earlier study is, in one line."""
    parts = [f"summed again: {', '.join(each.again)}"] if each.again else []
    for what, names in (("only now", each.came), ("only then", each.went), ("other numbers", each.changed)):
        parts += [f"{what}: {', '.join(names)}"] if names else []
    return f"study {each.study[:16]}: {'; '.join(parts) or 'the same sites with the same numbers'}"


def _kept(home: Path) -> list[Roster]:
    """Rosters of a home, from its ledger's folder and from its states."""
    rosters, problems = read_rosters(home)
    if problems:
        raise EnrolmentError(f"a roster that was kept is damaged: {problems[0]}", where=str(home), remedy=_RESTORE)
    found = list(rosters.values())
    for path in sorted(home.glob(f"state/*/{ROSTER_FILE}")):
        try:
            found.append(Roster.from_bytes(path.read_bytes()))
        except (RosterError, ParameterError, OSError):
            raise EnrolmentError("a roster that was kept is damaged", where=str(path), remedy=_RESTORE) from None
    return found


def _compared(new: Roster, old: Roster) -> Earlier:
    numbers = [{site.name: site.samples for site in roster.sites} for roster in (new, old)]
    both = sorted(set(numbers[0]) & set(numbers[1]))
    return Earlier(
        old,
        tuple(purpose for purpose in new.vectors if purpose != "update" and purpose in old.vectors),
        tuple(sorted(set(numbers[0]) - set(numbers[1]))),
        tuple(sorted(set(numbers[1]) - set(numbers[0]))),
        tuple(name for name in both if numbers[0][name] != numbers[1][name]),
    )
